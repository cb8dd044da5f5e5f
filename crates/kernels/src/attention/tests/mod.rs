//! Tiled attention against the reference and against finite differences, over shapes, masks and padding.

mod properties;

use super::*;
use crate::{
    blocks::{self, Format},
    testing::*,
};
use std::sync::Arc;

/// One attention; every layout differs so that a mixed-up stride fails.
#[derive(Clone)]
struct Case<T> {
    shape: Shape,
    rows: Vec<Row>,
    rule: fn() -> &'static dyn Rule,
    cap: Option<SoftCap<T>>,
    bias: Option<Arc<Table<T>>>,
    sinks: Option<Vec<T>>,
    dropout: Option<Dropout>,
    /// Keys and values in blocks, instead of `k` and `v`.
    blocks: Option<(Format, [Vec<u8>; 2])>,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    dout: Vec<T>,
}

/// A bias that is looked up, and the gradient of one head of it: `[h, SPAN, SPAN]` by position.
#[derive(Clone, Debug, PartialEq)]
struct Table<T>(Vec<T>);
const SPAN: usize = 300;

impl<T: Element> Bias<T> for Table<T> {
    fn score(&self, head: usize, query: usize, key: usize) -> T {
        self.0[(head * SPAN + query) * SPAN + key]
    }
}

impl<T: Element> BiasAdjoint<T> for Table<T> {
    fn add(&mut self, query: usize, key: usize, dscore: T) {
        self.0[query * SPAN + key] += dscore;
    }
}

/// Sees itself and two before, but position 6 sees nothing: leaves rows without keys and every kind of tile.
struct Window;

impl Rule for Window {
    fn allows(&self, query: usize, key: usize) -> bool {
        query != 6 && key <= query && key + 2 >= query
    }
}

fn causal() -> &'static dyn Rule {
    &Causal
}
fn everything() -> &'static dyn Rule {
    &Everything
}
fn window() -> &'static dyn Rule {
    &Window
}

impl<T: Element> Case<T> {
    fn new(
        [batch, heads, kv_heads, queries, keys, head_dim]: [usize; 6],
        rule: fn() -> &'static dyn Rule,
    ) -> Self {
        let shape = Shape { batch, heads, kv_heads, queries, keys, head_dim };
        let (q, k) = (batch * heads * queries * head_dim, batch * kv_heads * keys * head_dim);
        let rows = vec![Row::whole(queries, keys); batch];
        Case {
            shape,
            rows,
            rule,
            cap: None,
            bias: None,
            sinks: None,
            dropout: None,
            blocks: None,
            q: numbers(1, q),
            k: numbers(2, k),
            v: numbers(3, k),
            dout: numbers(4, q),
        }
    }

    fn rows(mut self, rows: &[(Range<usize>, Range<usize>, usize)]) -> Self {
        self.rows =
            rows.iter().map(|(q, k, first)| Row { q: q.clone(), k: k.clone(), first: *first }).collect();
        self
    }

    fn biased(mut self) -> Self {
        self.bias = Some(Arc::new(Table(numbers(5, self.shape.heads * SPAN * SPAN))));
        self
    }

    fn capped(mut self) -> Self {
        self.cap = Some(SoftCap(T::of(1.5)));
        self
    }

    fn sunk(mut self) -> Self {
        self.sinks = Some(numbers(6, self.shape.heads));
        self
    }

    /// Keys and values rounded to blocks, rows filled up with junk.
    fn stored(mut self, format: Format) -> Self {
        let (e, whole) = (self.shape.head_dim, self.shape.head_dim.next_multiple_of(format.block()));
        let encode = |x: &[T]| {
            let mut numbers = vec![7.0; x.len() / e * whole];
            for (to, from) in numbers.chunks_mut(whole).zip(x.chunks(e)) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from.f64() as f32);
            }
            let mut bytes = vec![0; numbers.len() / format.block() * format.block_bytes()];
            blocks::encode(format, &numbers, &mut bytes);
            bytes
        };
        self.blocks = Some((format, [encode(&self.k), encode(&self.v)]));
        self
    }

    /// Keys lie heads first, values tokens first.
    fn keys(&self) -> [Stored<'_, T>; 2] {
        let Shape { kv_heads, keys, head_dim, .. } = self.shape;
        let strides =
            |row| [Strides::heads_first(kv_heads, keys, row), Strides::tokens_first(keys, kv_heads, row)];
        match &self.blocks {
            None => {
                let [k, v] = strides(head_dim);
                [View::new(&self.k, k).into(), View::new(&self.v, v).into()]
            }
            Some((format, [k, v])) => {
                let [k_strides, v_strides] = strides(Blocks::row_bytes(*format, head_dim));
                [(k, k_strides), (v, v_strides)].map(|(x, s)| Stored::Blocks(Blocks::new(x, *format, s)))
            }
        }
    }

    fn dropped(mut self, probability: f64) -> Self {
        self.dropout = Some(Dropout { key: 11, probability });
        self
    }

    fn inputs(&self) -> Inputs<'_, T> {
        let (s, [k, v]) = (self.shape, self.keys());
        Inputs {
            shape: s,
            q: View::new(&self.q, Strides::tokens_first(s.queries, s.heads, s.head_dim)),
            k,
            v,
            rows: &self.rows,
            rule: (self.rule)(),
            scale: T::of(0.6),
            transform: self.cap.as_ref().map(|cap| cap as &dyn Transform<T>),
            bias: self.bias.as_deref().map(|b| b as &dyn Bias<T>),
            sinks: self.sinks.as_deref(),
            dropout: self.dropout,
        }
    }

    fn queries(&self) -> Strides {
        Strides::tokens_first(self.shape.queries, self.shape.heads, self.shape.head_dim)
    }

    /// Output and lse, over junk.
    fn forward(&self, naive: bool) -> [Vec<T>; 2] {
        let s = self.shape;
        let (mut out, mut lse) = (junk(self.q.len()), junk(s.batch * s.heads * s.queries));
        let mut view = ViewMut::new(&mut out, self.queries());
        let f = if naive { reference::attention } else { attention };
        f(&self.inputs(), &mut view, &mut lse);
        [out, lse]
    }

    /// dq, dk, dv and the gradients of the biases and sinks: stored over junk, then added once more where `twice`.
    fn backward(&self, naive: bool, twice: bool) -> Vec<Vec<T>> {
        let s = self.shape;
        let [out, lse] = self.forward(naive);
        let adjoint = Adjoint {
            out: View::new(&out, self.queries()),
            lse: &lse,
            dout: View::new(&self.dout, self.queries()),
        };
        let (mut dq, mut dk, mut dv) = (junk(self.q.len()), junk(self.k.len()), junk(self.v.len()));
        let mut tables =
            vec![Table(vec![T::zero(); SPAN * SPAN]); if self.bias.is_some() { s.heads } else { 0 }];
        let mut dsinks = self.sinks.as_ref().map(|sinks| junk(sinks.len()));
        for write in if twice { &[Write::Store, Write::Add][..] } else { &[Write::Store] } {
            let mut biases: Vec<&mut dyn BiasAdjoint<T>> = tables.iter_mut().map(|t| t as _).collect();
            let mut into = Gradients {
                dq: ViewMut::new(&mut dq, self.queries()),
                dk: ViewMut::new(&mut dk, Strides::tokens_first(s.keys, s.kv_heads, s.head_dim)),
                dv: ViewMut::new(&mut dv, Strides::heads_first(s.kv_heads, s.keys, s.head_dim)),
                dsinks: dsinks.as_deref_mut(),
                write: *write,
            };
            let f = if naive { reference::attention_adjoint } else { attention_adjoint_with_bias };
            f(&self.inputs(), &adjoint, &mut into, &mut biases);
        }
        let tables = tables.into_iter().flat_map(|t| t.0).collect();
        vec![dq, dk, dv, tables, dsinks.unwrap_or_default()]
    }
}

/// Heads, groups, padding on either side, caches, windows, rows that see nothing, and sizes around the tile's.
fn cases<T: Element>() -> Vec<(&'static str, Case<T>)> {
    vec![
        ("one", Case::new([1, 1, 1, 1, 1, 1], causal)),
        ("mha", Case::new([2, 3, 3, 5, 5, 7], causal)),
        ("gqa", Case::new([2, 6, 2, 5, 5, 7], causal)),
        ("mqa", Case::new([2, 5, 1, 3, 3, 2], causal)),
        ("bidirectional", Case::new([2, 2, 1, 5, 11, 7], everything)),
        ("two tiles", Case::new([1, 2, 1, 37, 37, 32], causal)),
        ("many tiles", Case::new([1, 2, 2, 131, 131, 33], causal)),
        ("enough heads", Case::new([4, 4, 4, 33, 35, 3], causal)),
        ("cache", Case::new([2, 4, 2, 5, 71, 7], causal)),
        (
            "unequal cache",
            Case::new([2, 2, 2, 5, 71, 7], causal).rows(&[(0..5, 0..71, 66), (1..5, 3..40, 33)]),
        ),
        ("window", Case::new([1, 2, 1, 45, 45, 5], window)),
        ("right padding", Case::new([2, 3, 3, 5, 5, 7], causal).rows(&[(0..5, 0..5, 0), (0..2, 0..2, 0)])),
        (
            "left padding",
            Case::new([2, 2, 1, 41, 41, 7], causal).rows(&[(0..41, 0..41, 0), (9..41, 9..41, 0)]),
        ),
        (
            "empty rows",
            Case::new([3, 2, 1, 5, 5, 7], everything).rows(&[
                (0..0, 0..5, 0),
                (0..5, 2..2, 0),
                (1..3, 0..5, 0),
            ]),
        ),
        ("decode", Case::new([2, 6, 1, 1, 11, 7], causal)),
        ("decode, long", Case::new([1, 5, 1, 1, 290, 35], causal)),
        (
            "decode, window",
            Case::new([2, 2, 2, 1, 290, 33], window).rows(&[(0..1, 0..290, 258), (0..1, 5..20, 6)]),
        ),
        (
            "decode, empty",
            Case::new([3, 2, 2, 1, 3, 4], causal).rows(&[(0..0, 0..3, 0), (0..1, 1..1, 0), (0..1, 0..3, 2)]),
        ),
        ("decode, bias", Case::new([1, 2, 1, 1, 270, 5], causal).biased()),
        ("bias", Case::new([2, 4, 2, 5, 7, 3], causal).biased()),
        ("bias over tiles", Case::new([2, 2, 1, 35, 40, 3], everything).biased()),
        ("dropout", Case::new([2, 6, 2, 5, 5, 7], causal).dropped(0.3)),
        ("dropout over tiles", Case::new([1, 4, 2, 67, 71, 3], causal).dropped(0.5)),
        (
            "dropout, bias, padding",
            Case::new([2, 2, 1, 41, 41, 3], everything)
                .rows(&[(0..41, 0..41, 0), (9..41, 9..41, 0)])
                .biased()
                .dropped(0.1),
        ),
        ("dropout, decode", Case::new([2, 4, 1, 1, 290, 5], causal).dropped(0.3)),
        ("dropout of everything", Case::new([1, 2, 1, 5, 5, 3], causal).dropped(1.0)),
        ("soft cap", Case::new([2, 4, 2, 5, 7, 3], causal).capped()),
        ("soft cap over tiles", Case::new([1, 2, 1, 35, 131, 3], window).capped().biased().sunk()),
        ("sinks", Case::new([2, 6, 3, 11, 11, 7], causal).sunk()),
        (
            "sinks, padding, rows without keys",
            Case::new([2, 2, 1, 41, 41, 3], window).rows(&[(0..41, 0..41, 0), (9..41, 9..41, 0)]).sunk(),
        ),
        (
            "decode, everything",
            Case::new([2, 4, 2, 1, 290, 16], causal).capped().biased().sunk().dropped(0.2),
        ),
        ("few queries", Case::new([2, 6, 2, 2, 290, 48], causal).sunk()),
        ("few queries, window", Case::new([1, 3, 1, 2, 71, 80], window)),
        (
            "few queries, padding",
            Case::new([2, 2, 1, 3, 71, 7], causal).rows(&[(1..3, 0..71, 69), (0..2, 3..40, 33)]).biased(),
        ),
        ("many ranges", Case::new([1, 2, 1, 1, 9001, 16], causal)),
        ("bf16", Case::new([2, 6, 2, 37, 71, 48], causal).stored(Format::Bf16)),
        ("bf16, odd width", Case::new([1, 3, 1, 9, 9, 7], causal).stored(Format::Bf16)),
        ("q8_0", Case::new([2, 4, 2, 37, 71, 64], causal).stored(Format::Q8_0)),
        ("q8_0, part of a block", Case::new([1, 4, 2, 11, 71, 48], window).stored(Format::Q8_0).sunk()),
        ("decode, bf16", Case::new([2, 6, 2, 1, 290, 80], causal).stored(Format::Bf16)),
        ("decode, bf16, odd width", Case::new([1, 2, 1, 1, 71, 7], causal).stored(Format::Bf16)),
        ("decode, q8_0", Case::new([2, 10, 2, 1, 290, 64], causal).stored(Format::Q8_0)),
        ("decode, q8_0, part of a block", Case::new([1, 2, 2, 2, 71, 48], causal).stored(Format::Q8_0)),
        ("decode, q4_0", Case::new([1, 2, 2, 1, 71, 64], causal).stored(Format::Q4_0)),
        ("no queries", Case::new([2, 2, 1, 0, 3, 2], causal)),
        ("no keys", Case::new([1, 2, 1, 3, 0, 2], everything)),
        ("no keys of several heads", Case::new([2, 4, 2, 9, 0, 2], everything)),
        ("no blocks", Case::new([2, 4, 2, 9, 0, 32], everything).stored(Format::Q8_0)),
        ("no batch", Case::new([0, 2, 1, 3, 3, 2], causal)),
    ]
}

fn check_against_the_reference<T: Element>() {
    // Sums over hundreds of keys, in another order.
    let tolerance = 4.0 * tolerance::<T>();
    for (name, case) in cases::<T>() {
        let [out, lse] = case.forward(true);
        let got = case.forward(false);
        close(&format!("{name}: out"), &got[0], &out, tolerance);
        close(&format!("{name}: lse"), &got[1], &lse, tolerance);
        for (part, (got, want)) in ["dq", "dk", "dv", "dbias", "dsinks"]
            .iter()
            .zip(case.backward(false, false).iter().zip(&case.backward(true, false)))
        {
            close(&format!("{name}: {part}"), got, want, 4.0 * tolerance);
        }
    }
}

#[test]
fn tiles_agree_with_the_reference_on_every_path() {
    on_every_isa(check_against_the_reference::<f32>);
    on_every_isa(check_against_the_reference::<f64>);
}

#[test]
fn every_case_has_the_same_bits_on_any_threads() {
    for (_, case) in cases::<f32>() {
        same_bits_on_any_threads(|| case.forward(false).concat());
        same_bits_on_any_threads(|| case.backward(false, false).concat());
    }
}

#[test]
fn adjoints_agree_with_finite_differences() {
    for (name, case) in
        cases::<f64>().into_iter().filter(|(_, c)| c.blocks.is_none() && c.q.len() + c.k.len() < 1000)
    {
        let loss =
            |c: &Case<f64>| 2.0 * c.forward(false)[0].iter().zip(&c.dout).map(|(a, b)| a * b).sum::<f64>();
        let grads = case.backward(false, true);
        let with = |change: &dyn Fn(&mut Case<f64>)| {
            let mut c = case.clone();
            change(&mut c);
            loss(&c)
        };
        check_gradient(&format!("{name}: dq"), &case.q, &grads[0], |x| with(&|c| c.q = x.to_vec()));
        // The gradients of k and v are laid out as v and k are: the other way round.
        let swap = |x: &[f64], to_tokens_first: bool| {
            let s = case.shape;
            let (from, to) = (
                Strides::heads_first(s.kv_heads, s.keys, s.head_dim),
                Strides::tokens_first(s.keys, s.kv_heads, s.head_dim),
            );
            let (from, to) = if to_tokens_first { (from, to) } else { (to, from) };
            let mut out = vec![0.0; x.len()];
            let mut view = ViewMut::new(&mut out, to);
            for i in 0..s.batch * s.kv_heads * s.keys {
                let at = [i / (s.kv_heads * s.keys), i / s.keys % s.kv_heads, i % s.keys];
                // SAFETY: serial, and the layout is that of `x`.
                unsafe { view_row(&mut view, at, s.head_dim) }
                    .copy_from_slice(View::new(x, from).row(at, s.head_dim));
            }
            out
        };
        check_gradient(&format!("{name}: dk"), &swap(&case.k, true), &grads[1], |x| {
            with(&|c| c.k = swap(x, false))
        });
        check_gradient(&format!("{name}: dv"), &swap(&case.v, false), &grads[2], |x| {
            with(&|c| c.v = swap(x, true))
        });
    }
}

/// # Safety
/// As [`ViewMut::row`].
unsafe fn view_row<'v>(view: &'v mut ViewMut<'_, f64>, at: [usize; 3], e: usize) -> &'v mut [f64] {
    // SAFETY: the caller's promise.
    unsafe { view.row(at, e) }
}
