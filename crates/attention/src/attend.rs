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
//! let attend = Attend { rows: vec![Row::whole(2, 2)].into(), mask: Mask::Causal, scale: 1.0, dropout: None };
//! let y = attend.run([&q, &k, &v], None)?.to_vec::<f64>()?;
//! assert!((y[0] - 4.0).abs() < 1e-12); // the first query sees the first key alone
//! assert!((y[1] - 7.0).abs() < 1e-12); // the second weighs them 1 : 3
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::attention::{
    Adjoint, BiasAdjoint, Dropout, Gradients, Inputs, Row, Shape, Strides, ViewMut, attention,
    attention_adjoint_with_bias,
};
use formwork_kernels::scratch::List;
use formwork_module::{CacheTensor, Error, Mask, Result, ScoreBias, Tensor};
use formwork_tensor::{GradSink, Op, Outputs, Saved, Scalar, Write, dispatch};

use crate::{
    bias::{Gather, Term, join},
    call::{Call, Numbers, alike, one_for_each_head, rowwise, stored, view},
};

/// One attention apart from its numbers; see the [module](self).
#[derive(Clone, Debug)]
pub struct Attend {
    /// What counts in each batch row: `[b]`.
    pub rows: List<Row>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// What products of queries and keys are multiplied with; usually `1/√e`.
    pub scale: f64,
    /// Dropout on the probabilities, after the softmax.
    pub dropout: Option<Dropout>,
}

/// What else is done to scores between the product and the softmax, in this order.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// `cap · tanh(s / cap)`: Gemma 2, <https://arxiv.org/abs/2408.00118>.
    pub soft_cap: Option<f64>,
    /// What is added.
    pub bias: Option<ScoreBias>,
    /// A further logit of each head, `[h]`, which takes its part of the probability and adds nothing to the output; it
    /// learns if it is tracked. Xiao et al. 2023, <https://arxiv.org/abs/2309.17453>, and gpt-oss.
    pub sinks: Option<Tensor>,
}

impl From<Option<ScoreBias>> for Scores {
    fn from(bias: Option<ScoreBias>) -> Self {
        Scores { bias, ..Scores::default() }
    }
}

impl Attend {
    /// `q [b, t, h, e]` over `k, v [b, s, g, e]`: `[b, t, h, e]`.
    ///
    /// A query that counts not, or sees no key, gives 0.
    ///
    /// # Errors
    /// Shapes, ranges or types of numbers that do not fit, or a bias whose index is past its table.
    pub fn run(self, qkv: [&Tensor; 3], bias: Option<ScoreBias>) -> Result<Tensor> {
        self.run_with(qkv, bias.into())
    }

    /// [`run`](Self::run) with more done to the scores.
    ///
    /// # Errors
    /// As for `run`, a soft cap that is not above 0, or sinks that are not `[h]`.
    pub fn run_with(self, [q, k, v]: [&Tensor; 3], scores: Scores) -> Result<Tensor> {
        let Split { soft_cap, term, table, sinks } = Split::of(scores)?;
        let table_at = table.as_ref().map(|_| 3);
        let sinks_at = sinks.as_ref().map(|_| 3 + table.iter().len());
        let op = AttentionOp { attend: self, soft_cap, term, table_at, sinks_at };
        match (&table, &sinks) {
            (None, None) => Tensor::apply1(op, &[q, k, v]),
            (Some(extra), None) | (None, Some(extra)) => Tensor::apply1(op, &[q, k, v, extra]),
            (Some(table), Some(sinks)) => Tensor::apply1(op, &[q, k, v, table, sinks]),
        }
    }

    /// `q [b, t, h, e]` over what a cache holds, `[b, g, s, e]` as numbers or in blocks: `[b, t, h, e]`.
    ///
    /// No gradient flows through a cache, so none is recorded.
    ///
    /// # Errors
    /// As for [`run_with`](Self::run_with).
    pub fn over(self, q: &Tensor, kv: [&CacheTensor; 2], scores: Scores) -> Result<Tensor> {
        let Split { soft_cap, term, table, sinks } = Split::of(scores)?;
        let call = self.call(soft_cap, term.as_ref());
        let dims = |x: &CacheTensor| x.dims().map(|[b, g, s, e]| [b, s, g, e]);
        let shape = call.shape(q, [dims(kv[0])?, dims(kv[1])?])?;
        let plain = kv.into_iter().filter_map(CacheTensor::plain);
        alike(q, plain.chain(&table).chain(&sinks))?;
        sinks.as_ref().map_or(Ok(()), |sinks| one_for_each_head(sinks, shape.heads))?;
        let q = rowwise(q)?;
        let table = table.map(|table| table.compact()).transpose()?;
        let sinks = sinks.map(|sinks| sinks.compact()).transpose()?;
        dispatch!(q.dtype(), T => {
            let numbers = Numbers {
                q: view(&q)?,
                k: stored(kv[0])?,
                v: stored(kv[1])?,
                table: table.as_ref().map_or(Ok(&[][..]), |table| table.slice::<T>())?,
                sinks: sinks.as_ref().map(|sinks| sinks.slice::<T>()).transpose()?,
            };
            let [out, _] = call.with(shape, &numbers, |inputs| forward(inputs, &q))??;
            Ok(out)
        })
    }

    fn call<'a>(&'a self, soft_cap: Option<f64>, term: Option<&'a Term>) -> Call<'a> {
        let &Attend { ref rows, mask, scale, dropout } = self;
        Call { rows, mask, scale, dropout, soft_cap, term }
    }
}

/// Output `[b, t, h, e]` and the log-sum-exp of each row of scores, `[b, h, t]`.
fn forward<T: Scalar>(inputs: &Inputs<'_, T>, q: &Tensor) -> Result<[Tensor; 2]> {
    let Shape { batch, heads, queries, head_dim, .. } = inputs.shape;
    let (mut out, mut lse) = (q.buffer::<T>(q.len()), q.buffer::<T>(batch * heads * queries));
    let strides = Strides::tokens_first(queries, heads, head_dim);
    attention(inputs, &mut ViewMut::new(&mut out, strides), &mut lse);
    Ok([Tensor::from_buffer(out, q.shape())?, Tensor::from_buffer(lse, &[batch, heads, queries])?])
}

/// [`Scores`] with what may learn apart.
struct Split {
    soft_cap: Option<f64>,
    term: Option<Term>,
    table: Option<Tensor>,
    sinks: Option<Tensor>,
}

impl Split {
    fn of(Scores { soft_cap, bias, sinks }: Scores) -> Result<Self> {
        let (term, table) = match bias.map(Term::split).transpose()? {
            Some((term, table)) => (Some(term), table),
            None => (None, None),
        };
        Ok(Self { soft_cap, term, table, sinks })
    }
}

/// Inputs `q [b, t, h, e]`, `k [b, s, g, e]`, `v [b, s, g, e]`, and perhaps the table of a bias and sinks `[h]`; output
/// `[b, t, h, e]`.
#[derive(Debug)]
struct AttentionOp {
    attend: Attend,
    soft_cap: Option<f64>,
    term: Option<Term>,
    /// Which input is the table.
    table_at: Option<usize>,
    /// Which input are the sinks.
    sinks_at: Option<usize>,
}

impl AttentionOp {
    /// Calls `f` with what the kernel reads; `tensors` are the inputs.
    fn with<T: Scalar, R>(&self, tensors: &[Tensor], f: impl FnOnce(&Inputs<'_, T>) -> R) -> Result<R> {
        let call = self.attend.call(self.soft_cap, self.term.as_ref());
        let [q, k, v] = [&tensors[0], &tensors[1], &tensors[2]];
        let shape = call.shape(q, [k.dims()?, v.dims()?])?;
        alike(q, tensors)?;
        self.sinks_at.map_or(Ok(()), |at| one_for_each_head(&tensors[at], shape.heads))?;
        let numbers = Numbers {
            q: view(q)?,
            k: view(k)?.into(),
            v: view(v)?.into(),
            table: self.table_at.map_or(Ok(&[][..]), |at| tensors[at].slice::<T>())?,
            sinks: self.sinks_at.map(|at| tensors[at].slice::<T>()).transpose()?,
        };
        call.with(shape, &numbers, f)
    }

    fn adjoint<T: Scalar>(&self, saved: &Saved, dout: &Tensor, into: &mut GradSink<'_>) -> Result<()> {
        let Some(([out, lse], tensors)) = saved.split_first_chunk() else {
            return Err(Error::missing("the saved tensors of attention"));
        };
        let [[_, t, h, e], [_, s, g, _]] = [tensors[0].dims()?, tensors[1].dims()?];
        let [mut dq, mut dk, mut dv] = [0, 1, 2].map(|i| tensors[i].buffer::<T>(tensors[i].len()));
        let wanted = |at: Option<usize>| at.filter(|&at| into.wants(at));
        let (table_at, sinks_at) = (wanted(self.table_at), wanted(self.sinks_at));
        let n = table_at.map_or(0, |at| tensors[at].len());
        let mut sums = out.buffer::<T>(h * n);
        sums.fill(T::zero());
        let mut gathers: Vec<_> = match &self.term {
            Some(Term::Table(index)) if n > 0 => {
                let parts = sums.chunks_exact_mut(n).enumerate();
                parts.map(|(head, sums)| Gather { head, index, sums }).collect()
            }
            _ => vec![],
        };
        let mut biases: Vec<_> = gathers.iter_mut().map(|gather| gather as &mut dyn BiasAdjoint<T>).collect();
        let mut dsinks = sinks_at.map(|_| out.buffer::<T>(h));
        let adjoint = Adjoint { out: view(out)?, lse: lse.slice()?, dout: view(dout)? };
        let mut gradients = Gradients {
            dq: ViewMut::new(&mut dq, Strides::tokens_first(t, h, e)),
            dk: ViewMut::new(&mut dk, Strides::tokens_first(s, g, e)),
            dv: ViewMut::new(&mut dv, Strides::tokens_first(s, g, e)),
            dsinks: dsinks.as_mut().map(|dsinks| &mut dsinks[..]),
            write: Write::Store,
        };
        self.with::<T, _>(tensors, |inputs| {
            attention_adjoint_with_bias(inputs, &adjoint, &mut gradients, &mut biases);
        })?;
        for (i, grad) in [dq, dk, dv].into_iter().enumerate() {
            into.add(i, &Tensor::from_buffer(grad, tensors[i].shape())?)?;
        }
        if let Some(at) = table_at {
            into.give::<T>(at, |to, write| join(&sums, to, write))?;
        }
        match sinks_at.zip(dsinks) {
            Some((at, grad)) => into.add(at, &Tensor::from_buffer(grad, &[h])?),
            None => Ok(()),
        }
    }
}

impl Op for AttentionOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let (qkv, extra) = inputs.split_at(3);
        let mut tensors = qkv.iter().map(|x| rowwise(x)).collect::<Result<List<_>>>()?;
        for x in extra {
            tensors.push(x.compact()?);
        }
        let q = &tensors[0];
        let [out, lse] =
            dispatch!(q.dtype(), T => self.with::<T, _>(&tensors, |inputs| forward(inputs, q))??);
        saved.keep([out.clone(), lse]);
        saved.keep(tensors.drain(..));
        Ok(out.into())
    }

    /// With `P` recomputed from the saved log-sum-exp and `D = Σ_e dy · y`: dv = Pᵀ·dy, dS = P ⊙ (dy·vᵀ − D),
    /// dtable[i] = the sum of dS where index i was added; then dS times the slope of the soft cap, dq = scale · dS·k,
    /// dk = scale · dSᵀ·q; dsink = −Σ exp(sink − lse) · D.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dout = into.grad(grads, 0)?;
        dispatch!(dout.dtype(), T => self.adjoint::<T>(saved, dout, into))
    }
}
