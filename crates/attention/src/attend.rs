//! The arithmetic between the projections, for use without a module: tiled attention with its adjoint.
//!
//! `P = softmax(scale · q·kᵀ + bias)` over the keys that a query sees, `y = P·v`, head by head. `q`, `y`: `[b, t, h, e]`;
//! `k`, `v`: `[b, s, g, e]` with `h` a multiple of `g`, in any strides whose last is 1.
//!
//! Dao et al. 2022, <https://arxiv.org/abs/2205.14135>: of the scores only the logarithm of their exponentials' sum is
//! kept, so memory is linear in the context.
//!
//! ```
//! use formwork_attention::{Attend, Row};
//! use formwork_module::{Mask, Tensor};
//!
//! let q = Tensor::from_vec(vec![1.0f64, 1.0], &[1, 2, 1, 1])?;
//! let k = Tensor::from_vec(vec![0.0, 3.0f64.ln()], &[1, 2, 1, 1])?;
//! let v = Tensor::from_vec(vec![4.0f64, 8.0], &[1, 2, 1, 1])?;
//! let attend = Attend { rows: vec![Row::whole(2, 2)], mask: Mask::Causal, scale: 1.0, dropout: None };
//! let y = attend.run([&q, &k, &v], None)?.to_vec::<f64>()?;
//! assert!((y[0] - 4.0).abs() < 1e-12); // the first query sees the first key alone
//! assert!((y[1] - 7.0).abs() < 1e-12); // the second weighs them 1 : 3
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::ops::Range;

use formwork_kernels::attention::{
    Adjoint, Bias, BiasAdjoint, Dropout, Gradients, Inputs, Row, Shape, Strides, View, ViewMut, attention,
    attention_adjoint_with_bias,
};
use formwork_module::{Error, Kind, Mask, Result, ScoreBias, Tensor};
use formwork_tensor::{GradSink, Op, Outputs, Saved, Scalar, Write, dispatch};

use crate::bias::{Gather, Term, join};

/// One attention apart from its numbers; see the [module](self).
#[derive(Clone, Debug)]
pub struct Attend {
    /// What counts in each batch row: `[b]`.
    pub rows: Vec<Row>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// What products of queries and keys are multiplied with; usually `1/√e`.
    pub scale: f64,
    /// Dropout on the probabilities, after the softmax.
    pub dropout: Option<Dropout>,
}

impl Attend {
    /// `q [b, t, h, e]` over `k, v [b, s, g, e]`: `[b, t, h, e]`.
    ///
    /// A query that counts not, or sees no key, gives 0.
    ///
    /// # Errors
    /// Shapes, ranges or types of numbers that do not fit, or a bias whose index is past its table.
    pub fn run(self, [q, k, v]: [&Tensor; 3], bias: Option<ScoreBias>) -> Result<Tensor> {
        let (term, table) = match bias.map(Term::split).transpose()? {
            Some((term, table)) => (Some(term), table),
            None => (None, None),
        };
        let inputs: Vec<&Tensor> = [q, k, v].into_iter().chain(&table).collect();
        Tensor::apply1(AttentionOp { attend: self, term }, &inputs)
    }

    fn rows_fit(&self, queries: usize, keys: usize) -> bool {
        let fits = |range: &Range<usize>, len| range.start <= range.end && range.end <= len;
        self.rows.iter().all(|row| fits(&row.q, queries) && fits(&row.k, keys))
    }
}

/// Inputs `q [b, t, h, e]`, `k [b, s, g, e]`, `v [b, s, g, e]`, and perhaps the table of a bias; output `[b, t, h, e]`.
#[derive(Debug)]
struct AttentionOp {
    attend: Attend,
    term: Option<Term>,
}

impl AttentionOp {
    fn shape(&self, inputs: &[&Tensor]) -> Result<Shape> {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
        let [batch, queries, heads, head_dim] = q.dims()?;
        let [_, keys, kv_heads, _] = k.dims()?;
        let fits = kv_heads > 0
            && heads.is_multiple_of(kv_heads)
            && **k.shape() == [batch, keys, kv_heads, head_dim];
        if !fits || k.shape() != v.shape() {
            let expected =
                format!("k and v [{batch}, s, a divisor of {heads}, {head_dim}] for q {}", q.shape());
            return Err(Error::shape("attention", expected, format_args!("{} and {}", k.shape(), v.shape())));
        }
        if head_dim == 0 {
            return Err(Error::shape("attention", "heads of width 1 or more", q.shape()));
        }
        if self.attend.rows.len() != batch {
            let expected = format!("one row range for each of {batch} batch rows");
            return Err(Error::shape("attention", expected, self.attend.rows.len()));
        }
        if let Some(Dropout { probability, .. }) = self.attend.dropout
            && !(0.0..=1.0).contains(&probability)
        {
            return Err(Error::invalid("attention", "a dropout probability in [0, 1]", probability));
        }
        match inputs.iter().find(|t| t.dtype() != q.dtype()) {
            _ if !self.attend.rows_fit(queries, keys) => {
                let expected = format!("ranges inside {queries} queries and {keys} keys");
                Err(Error::shape("attention", expected, format_args!("{:?}", self.attend.rows)))
            }
            Some(t) => Err(Kind::DType { op: "attention", expected: q.dtype(), found: t.dtype() }.into()),
            None => Ok(Shape { batch, heads, kv_heads, queries, keys, head_dim }),
        }
    }

    /// Calls `f` with what the kernel reads; `tensors` are `q`, `k`, `v` and perhaps a table.
    fn with<T: Scalar, R>(&self, tensors: &[Tensor], f: impl FnOnce(&Inputs<'_, T>) -> R) -> Result<R> {
        let shape = self.shape(&tensors.iter().collect::<Vec<_>>())?;
        let table = tensors.get(3).map_or(Ok(&[][..]), |table| table.slice::<T>())?;
        let added = self.term.as_ref().map(|term| term.over(table));
        let inputs = Inputs {
            shape,
            q: view(&tensors[0])?,
            k: view(&tensors[1])?,
            v: view(&tensors[2])?,
            rows: &self.attend.rows,
            rule: &self.attend.mask,
            bias: added.as_ref().map(|added| added as &dyn Bias<T>),
            scale: T::of(self.attend.scale),
            dropout: self.attend.dropout,
        };
        let result = f(&inputs);
        added.map_or(Ok(()), |added| added.check())?;
        Ok(result)
    }

    fn adjoint<T: Scalar>(&self, saved: &Saved, dout: &Tensor, into: &mut GradSink<'_>) -> Result<()> {
        let Some(([out, lse], tensors)) = saved.split_first_chunk() else {
            return Err(Error::missing("the saved tensors of attention"));
        };
        let [[_, t, h, e], [_, s, g, _]] = [tensors[0].dims()?, tensors[1].dims()?];
        let [mut dq, mut dk, mut dv] = [0, 1, 2].map(|i| tensors[i].buffer::<T>(tensors[i].len()));
        let n = tensors.get(3).map_or(0, |table| table.len());
        let mut sums = out.buffer::<T>(if into.inputs() > 3 && into.wants(3) { h * n } else { 0 });
        sums.fill(T::zero());
        let mut gathers: Vec<_> = match &self.term {
            Some(Term::Table(index)) => {
                let parts = sums.chunks_exact_mut(n.max(1)).enumerate();
                parts.map(|(head, sums)| Gather { head, index, sums }).collect()
            }
            _ => vec![],
        };
        let mut sinks: Vec<_> = gathers.iter_mut().map(|gather| gather as &mut dyn BiasAdjoint<T>).collect();
        let adjoint = Adjoint { out: view(out)?, lse: lse.slice()?, dout: view(dout)? };
        let mut gradients = Gradients {
            dq: ViewMut::new(&mut dq, Strides::tokens_first(t, h, e)),
            dk: ViewMut::new(&mut dk, Strides::tokens_first(s, g, e)),
            dv: ViewMut::new(&mut dv, Strides::tokens_first(s, g, e)),
            write: Write::Store,
        };
        self.with::<T, _>(tensors, |inputs| {
            attention_adjoint_with_bias(inputs, &adjoint, &mut gradients, &mut sinks);
        })?;
        for (i, grad) in [dq, dk, dv].into_iter().enumerate() {
            into.add(i, &Tensor::from_buffer(grad, tensors[i].shape())?)?;
        }
        match sums.is_empty() {
            true => Ok(()),
            false => into.give::<T>(3, |to, write| join(&sums, to, write)),
        }
    }
}

impl Op for AttentionOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<(Outputs, Saved)> {
        let Shape { batch, heads, queries, head_dim, .. } = self.shape(inputs)?;
        let mut tensors = inputs[..3].iter().map(|t| rowwise(t)).collect::<Result<Vec<_>>>()?;
        tensors.extend(inputs.get(3).map(|table| table.compact()).transpose()?);
        let q = &tensors[0];
        let (out, lse) = dispatch!(q.dtype(), T => {
            let (mut out, mut lse) = (q.buffer::<T>(q.len()), q.buffer::<T>(batch * heads * queries));
            let strides = Strides::tokens_first(queries, heads, head_dim);
            self.with::<T, _>(&tensors, |inputs| attention(inputs, &mut ViewMut::new(&mut out, strides), &mut lse))?;
            (Tensor::from_buffer(out, q.shape())?, Tensor::from_buffer(lse, &[batch, heads, queries])?)
        });
        tensors.splice(0..0, [out.clone(), lse]);
        Ok((vec![out], tensors))
    }

    /// With `P` recomputed from the saved log-sum-exp and `D = Σ_e dy · y`: dv = Pᵀ·dy, dS = P ⊙ (dy·vᵀ − D),
    /// dq = scale · dS·k, dk = scale · dSᵀ·q, dtable[i] = the sum of dS where index i was added.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dout = into.grad(grads, 0)?;
        dispatch!(dout.dtype(), T => self.adjoint::<T>(saved, dout, into))
    }
}

/// The tensor with its last axis contiguous, which is all that the kernel asks for.
fn rowwise(x: &Tensor) -> Result<Tensor> {
    let [.., width] = x.dims::<4>()?;
    if x.strides()[3] == 1 || width == 1 { Ok(x.detached()) } else { x.compact() }
}

/// `[b, tokens, heads, e]` as the kernel sees it.
fn view<T: Scalar>(x: &Tensor) -> Result<View<'_, T>> {
    let &[batch, token, head, _] = x.strides() else {
        return Err(Error::shape("attention", "[b, tokens, heads, e]", x.shape()));
    };
    Ok(View::new(x.reach::<T>()?, Strides { batch, head, token }))
}
