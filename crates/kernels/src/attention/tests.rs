//! Tiled attention against the reference and against finite differences, over shapes, masks and padding.

use super::*;
use crate::testing::*;
use std::sync::Arc;

/// One attention; every layout differs so that a mixed-up stride fails.
#[derive(Clone)]
struct Case<T> {
    shape: Shape,
    rows: Vec<Row>,
    rule: fn() -> &'static dyn Rule,
    bias: Option<Arc<Table<T>>>,
    dropout: Option<Dropout>,
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
            bias: None,
            dropout: None,
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

    fn dropped(mut self, probability: f64) -> Self {
        self.dropout = Some(Dropout { key: 11, probability });
        self
    }

    fn inputs(&self) -> Inputs<'_, T> {
        let s = self.shape;
        Inputs {
            shape: s,
            q: View::new(&self.q, Strides::tokens_first(s.queries, s.heads, s.head_dim)),
            k: View::new(&self.k, Strides::heads_first(s.kv_heads, s.keys, s.head_dim)),
            v: View::new(&self.v, Strides::tokens_first(s.keys, s.kv_heads, s.head_dim)),
            rows: &self.rows,
            rule: (self.rule)(),
            bias: self.bias.as_deref().map(|b| b as &dyn Bias<T>),
            scale: T::of(0.6),
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

    /// dq, dk, dv and the gradients of the biases: stored over junk, then added once more where `twice`.
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
        for write in if twice { &[Write::Store, Write::Add][..] } else { &[Write::Store] } {
            let mut sinks: Vec<&mut dyn BiasAdjoint<T>> = tables.iter_mut().map(|t| t as _).collect();
            let mut into = Gradients {
                dq: ViewMut::new(&mut dq, self.queries()),
                dk: ViewMut::new(&mut dk, Strides::tokens_first(s.keys, s.kv_heads, s.head_dim)),
                dv: ViewMut::new(&mut dv, Strides::heads_first(s.kv_heads, s.keys, s.head_dim)),
                write: *write,
            };
            let f = if naive { reference::attention_adjoint } else { attention_adjoint_with_bias };
            f(&self.inputs(), &adjoint, &mut into, &mut sinks);
        }
        let tables = tables.into_iter().flat_map(|t| t.0).collect();
        vec![dq, dk, dv, tables]
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
        ("no queries", Case::new([2, 2, 1, 0, 3, 2], causal)),
        ("no keys", Case::new([1, 2, 1, 3, 0, 2], everything)),
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
        for (part, (got, want)) in ["dq", "dk", "dv", "dbias"]
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
    for (name, case) in cases::<f64>().into_iter().filter(|(_, c)| c.q.len() + c.k.len() < 1000) {
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

#[test]
fn the_gradient_of_a_bias_agrees_with_finite_differences() {
    let case = Case::<f64>::new([2, 2, 1, 3, 5, 2], everything).biased();
    let grads = case.backward(false, false);
    for (head, query, key) in [(0, 2, 0), (1, 4, 3), (0, 3, 4), (1, 2, 2)] {
        let at = (head * SPAN + query) * SPAN + key;
        let loss = |step: f64| {
            let mut c = case.clone();
            Arc::make_mut(c.bias.as_mut().unwrap()).0[at] += step;
            c.forward(false)[0].iter().zip(&c.dout).map(|(a, b)| a * b).sum::<f64>()
        };
        let slope = (loss(1e-6) - loss(-1e-6)) / 2e-6;
        assert!((slope - grads[3][at]).abs() < 1e-8, "head {head}, query {query}, key {key}");
    }
}

#[test]
fn a_masked_future_does_not_change_the_past() {
    let mut case = Case::<f32>::new([1, 2, 1, 37, 37, 7], causal);
    let before = case.forward(false)[0].clone();
    let last = (36 * 7)..(37 * 7);
    case.k[last.clone()].fill(9.0); // one key head, so token 36 is the last row in either layout
    case.v[last].fill(-9.0);
    let after = case.forward(false)[0].clone();
    assert_eq!(before[..36 * 14], after[..36 * 14]);
    assert_ne!(before[36 * 14..], after[36 * 14..]);
}

#[test]
fn decoding_one_query_at_a_time_equals_all_at_once() {
    let all = Case::<f64>::new([1, 4, 2, 40, 40, 8], causal);
    let [out, _] = all.forward(false);
    for t in 0..40 {
        let mut one = all.clone();
        one.shape.queries = 1;
        one.rows = vec![Row { q: 0..1, k: 0..t + 1, first: t }];
        let width = 4 * 8;
        one.q = all.q[t * width..(t + 1) * width].to_vec();
        close("token", &one.forward(false)[0], &out[t * width..(t + 1) * width], F64);
    }
}

#[test]
fn a_token_may_be_repeated_by_a_stride_of_zero() {
    for queries in [1, 5] {
        let repeated = Case::<f64>::new([1, 4, 2, queries, 11, 35], everything);
        let width = 2 * 35; // of a token's values
        let mut whole = repeated.clone();
        for token in whole.v.chunks_exact_mut(width) {
            token.copy_from_slice(&repeated.v[..width]);
        }
        let once = View::new(&repeated.v[..width], Strides { batch: 0, head: 35, token: 0 });
        let mut out = junk(repeated.q.len());
        let inputs = Inputs { v: once, ..repeated.inputs() };
        attention(&inputs, &mut ViewMut::new(&mut out, repeated.queries()), &mut junk(4 * queries));
        close("out", &out, &whole.forward(true)[0], F64);
    }
}

#[test]
fn junk_in_padding_is_never_read() {
    let mut case = Case::<f32>::new([1, 2, 1, 5, 41, 3], causal).rows(&[(0..5, 3..38, 30)]);
    let (out, grads) = (case.forward(false), case.backward(false, false));
    for key in [0, 1, 2, 38, 39, 40] {
        case.k[key * 3..][..3].fill(f32::NAN);
        case.v[key * 3..][..3].fill(f32::NAN);
    }
    assert_eq!(case.forward(false), out);
    assert_eq!(case.backward(false, false), grads);
}

#[test]
fn a_fused_buffer_gives_what_separate_ones_give() {
    let (b, h, g, t, e) = (2, 4, 2, 5, 3);
    let shape = Shape { batch: b, heads: h, kv_heads: g, queries: t, keys: t, head_dim: e };
    let n = b * t * (h + 2 * g) * e;
    let (data, dout) = (numbers::<f64>(1, n), numbers::<f64>(2, b * t * h * e));
    let [q, k, v] = View::fused(&data, &shape);
    let rows = vec![Row::whole(t, t); b];
    let fused = Inputs { shape, q, k, v, rows: &rows, rule: &Causal, bias: None, scale: 0.5, dropout: None };
    let strides = Strides::tokens_first(t, h, e);
    let (mut out, mut lse) = (junk(dout.len()), junk(b * h * t));
    attention(&fused, &mut ViewMut::new(&mut out, strides), &mut lse);
    let adjoint = Adjoint { out: View::new(&out, strides), lse: &lse, dout: View::new(&dout, strides) };
    let mut grad = junk(n);
    let [dq, dk, dv] = ViewMut::fused(&mut grad, &shape);
    attention_adjoint(&fused, &adjoint, &mut Gradients { dq, dk, dv, write: Write::Store });
    check_gradient("fused", &data, &grad, |data| {
        let [q, k, v] = View::fused(data, &shape);
        let mut out = junk(dout.len());
        attention(&Inputs { q, k, v, ..fused }, &mut ViewMut::new(&mut out, strides), &mut lse.clone());
        out.iter().zip(&dout).map(|(a, b)| a * b).sum()
    });
}

#[test]
fn an_infinite_score_spoils_its_own_query_only() {
    let mut case = Case::<f32>::new([1, 1, 1, 5, 5, 2], everything);
    case.q[4] = f32::INFINITY;
    let [out, _] = case.forward(false);
    assert!(out[4..6].iter().all(|v| v.is_nan()));
    assert!(out[..4].iter().chain(&out[6..]).all(|v| v.is_finite()));
}

#[test]
#[should_panic(expected = "5 heads are no multiple of 2 key heads")]
fn heads_that_do_not_divide_are_refused() {
    Case::<f32>::new([1, 5, 2, 1, 1, 1], causal).forward(false);
}
