//! Next-token loss with the head inside: the mean of `−log softmax(x·Wᵀ + b)[target]` over the rows that count.
//!
//! `x`: `[rows, d]`, `W`: `[n, d]`, `b`: `[n]`. Rows go through the head in chunks, so that the logits `[rows, n]` of a
//! whole batch are never in memory at once. Where gradients will be wanted, a chunk's logits become their own gradient
//! at once and then its share of `dx`, `dW` and `db`: the head is multiplied three times a step, not four, and the
//! backward only scales what is there. That holds a second `[n, d]` beside the gradient until the backward begins.
//!
//! [`head_loss`] takes any [`Weight`]: one that is no dense parameter and does not learn, such as a matrix in blocks, is
//! applied to one chunk after the other and never decoded whole.

use std::{ops::Range, sync::Arc};

use formwork_kernels::{
    Dest, Element, Write,
    cross_entropy::{IGNORE, cross_entropy, cross_entropy_with_adjoint},
    elementwise::{column_sums, scale},
    matmul::{Mat, MatMut},
};
use formwork_tensor::{
    Buffer, GradSink, Op, Outputs, Owns, Saved, Scalar, Variable, dispatch, ops::Operands,
};

use crate::{Error, Pass, Record, Result, Tensor, Weight};

/// The result of a loss: what is minimised, and over how many targets it is the mean.
#[derive(Clone, Debug)]
pub struct Loss {
    /// A scalar, in nats per target.
    pub mean: Tensor,
    /// How many targets count.
    pub count: usize,
}

/// Inputs `x [rows, d]`, `w [n, d]` and optionally `bias [n]`; output the mean loss, a scalar.
#[derive(Clone, Debug)]
pub struct HeadLoss {
    targets: Arc<[u32]>,
    vocab: usize,
    count: usize,
    chunk: Option<usize>,
    operands: Operands,
}

impl HeadLoss {
    /// A target that does not count.
    pub const IGNORE: u32 = IGNORE;

    /// Numbers of logits that may be in memory at once in any case: 16 MiB of f32.
    const CHUNK: usize = 4 << 20;

    /// The loss for one target per row; rows with [`IGNORE`](Self::IGNORE) do not count.
    ///
    /// # Errors
    /// A target of `vocab` or more, or none that counts.
    pub fn new(targets: &[u32], vocab: usize) -> Result<Self> {
        if let Some((row, id)) =
            targets.iter().enumerate().find(|&(_, &id)| id != Self::IGNORE && id as usize >= vocab)
        {
            return Err(Error::invalid(
                "loss",
                format_args!("targets below the vocabulary of {vocab}"),
                format_args!("{id} in row {row}"),
            ));
        }
        let count = targets.iter().filter(|&&id| id != Self::IGNORE).count();
        if count == 0 {
            return Err(Error::invalid("loss", "at least one target that counts", "none"));
        }
        Ok(Self { targets: targets.into(), vocab, count, chunk: None, operands: Operands::Own })
    }

    /// Another number of rows per chunk; the result differs in rounding only.
    #[must_use]
    pub fn chunked(mut self, rows: usize) -> Self {
        self.chunk = Some(rows.max(1));
        self
    }

    /// Sets in which numbers the products with a dense head are computed.
    #[must_use]
    pub fn with_operands(mut self, operands: Operands) -> Self {
        self.operands = operands;
        self
    }

    /// How many targets count.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of `rows` rows go through a head `[n, d]` at once.
    ///
    /// A chunk's logits take up to a third of the memory of the head itself: then reading the head once per chunk costs
    /// little beside multiplying with it.
    pub fn chunk_rows(rows: usize, [n, d]: [usize; 2]) -> usize {
        let most = (Self::CHUNK / n.max(1)).max(d / 3).clamp(1, rows.max(1));
        rows.max(1).div_ceil(rows.max(1).div_ceil(most)) // of equal length, or the last might be a row or two
    }

    fn chunks(&self, head: [usize; 2]) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.targets.len();
        let chunk = self.chunk.unwrap_or_else(|| Self::chunk_rows(rows, head));
        (0..rows).step_by(chunk).map(move |start| start..(start + chunk).min(rows))
    }

    /// The mean over the rows that count.
    fn mean(&self, losses: &[f64]) -> f64 {
        losses.iter().sum::<f64>() / self.count as f64
    }

    /// Refuses inputs that do not fit.
    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        let (2 | 3, Some(x), Some(w)) = (inputs.len(), inputs.first(), inputs.get(1)) else {
            return Err(Error::invalid("cross_entropy", "2 or 3 inputs", inputs.len()));
        };
        let ([rows, d], [n, inner]) = (x.dims()?, w.dims()?);
        if n < self.vocab {
            let expected = format!("a weight [{}, {inner}], one row for each id", self.vocab);
            return Err(Error::shape("cross_entropy", expected, w.shape()));
        }
        if let Some(bias) = inputs.get(2)
            && **bias.shape() != [n]
        {
            return Err(Error::shape("cross_entropy", format_args!("bias [{n}]"), bias.shape()));
        }
        if inner != d || rows != self.targets.len() {
            let expected = format!("x [{}, {inner}] for weight [{n}, {inner}]", self.targets.len());
            return Err(Error::shape("cross_entropy", expected, inputs[0].shape()));
        }
        Ok(())
    }
}

/// A dense head and what is computed through it, chunk by chunk.
struct Dense<'a, T: Scalar> {
    x: &'a [T],
    w: &'a [T],
    bias: Option<&'a [T]>,
    head: [usize; 2],
    operands: Operands,
}

/// Gradients in the making; empty where none is wanted, so that nothing is computed for what is frozen.
struct Shares<T: Scalar> {
    dx: Buffer<T>,
    dw: Buffer<T>,
    db: Buffer<T>,
}

impl<T: Scalar> Dense<'_, T> {
    fn rows(&self, rows: &Range<usize>) -> Mat<'_, T> {
        let d = self.head[1];
        Mat::row_major(&self.x[rows.start * d..rows.end * d], rows.len(), d)
    }

    fn table(&self) -> Mat<'_, T> {
        Mat::row_major(self.w, self.head[0], self.head[1])
    }

    fn logits(&self, rows: &Range<usize>, to: &mut [T]) {
        let n = self.head[0];
        let write = match self.bias {
            Some(bias) => {
                to.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias));
                Write::Add
            }
            None => Write::Store,
        };
        let to = MatMut::row_major(to, rows.len(), n);
        self.operands.matmul(to, self.rows(rows), self.table().transposed(), write);
    }

    /// `dx = dlogits·W`, `dW += dlogitsᵀ·x`, `db += Σ dlogits`.
    fn share(&self, rows: &Range<usize>, dlogits: &[T], to: &mut Shares<T>) {
        let [n, d] = self.head;
        let write = if rows.start == 0 { Write::Store } else { Write::Add };
        let grad = Mat::row_major(dlogits, rows.len(), n);
        if !to.dx.is_empty() {
            let dx = MatMut::row_major(&mut to.dx[rows.start * d..rows.end * d], rows.len(), d);
            self.operands.matmul(dx, grad, self.table(), Write::Store);
        }
        if !to.dw.is_empty() {
            let dw = MatMut::row_major(&mut to.dw, n, d);
            self.operands.matmul(dw, grad.transposed(), self.rows(rows), write);
        }
        if !to.db.is_empty() {
            column_sums(dlogits, Dest { data: &mut to.db, write });
        }
    }
}

impl HeadLoss {
    /// The mean loss, and the gradients of the inputs where they are wanted.
    fn run<T: Scalar>(&self, inputs: &[Tensor], wants: [bool; 3]) -> Result<(Tensor, Shares<T>)> {
        let (rows, d) = inputs[0].shape().rows();
        let (n, pool) = (inputs[1].shape().rows().0, inputs[0].pool());
        let dense = Dense::<T> {
            x: inputs[0].slice()?,
            w: inputs[1].slice()?,
            bias: inputs.get(2).map(Tensor::slice::<T>).transpose()?,
            head: [n, d],
            operands: self.operands,
        };
        let sized = |wanted: bool, len: usize| Buffer::<T>::new(if wanted { len } else { 0 }, pool);
        let mut shares =
            Shares { dx: sized(wants[0], rows * d), dw: sized(wants[1], n * d), db: sized(wants[2], n) };
        let longest = self.chunks([n, d]).map(|chunk| chunk.len()).max().unwrap_or(0);
        let (mut logits, mut losses) = (Buffer::<T>::new(longest * n, pool), Buffer::<T>::new(rows, pool));
        let mut lse = Buffer::<T>::new(longest, pool);
        for chunk in self.chunks([n, d]) {
            let (logits, targets) = (&mut logits[..chunk.len() * n], &self.targets[chunk.clone()]);
            dense.logits(&chunk, logits);
            if wants.contains(&true) {
                let scale = T::of(1.0 / self.count as f64);
                cross_entropy_with_adjoint(logits, targets, scale, &mut losses[chunk.clone()]);
                dense.share(&chunk, logits, &mut shares);
            } else {
                cross_entropy(logits, targets, &mut lse[..chunk.len()], &mut losses[chunk]);
            }
        }
        let losses: Vec<f64> = losses.iter().map(|loss| loss.f64()).collect();
        Ok((scalar::<T>(self.mean(&losses), inputs)?, shares))
    }
}

impl Op for HeadLoss {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        self.check(inputs)?;
        let wants = [0, 1, 2].map(|i| saved.wanted() && inputs.get(i).is_some_and(|t| t.is_tracked()));
        let inputs = inputs.iter().map(|t| t.compact()).collect::<Result<Vec<_>>>()?;
        dispatch!(inputs[0].dtype(), T => {
            let (mean, Shares { dx, dw, db }) = self.run::<T>(&inputs, wants)?;
            for (grad, like) in [dx, dw, db].into_iter().zip(&inputs) {
                let shape = if grad.is_empty() { formwork_tensor::Shape::new(&[0])? } else { *like.shape() };
                saved.keep([Tensor::from_buffer(grad, &shape)?]);
            }
            Ok(mean.into())
        })
    }

    /// dlogits = (softmax − one-hot)·dy/count for rows that count; dx = dlogits·W, dW = dlogitsᵀ·x, db = Σ dlogits:
    /// computed in the forward, but for the factor dy.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        dispatch!(dy.dtype(), T => {
            let factor = dy.slice::<T>()?[0];
            for (i, grad) in saved.iter().enumerate() {
                if !into.wants(i) {
                    continue;
                }
                if factor == 1.0 {
                    into.add(i, grad)?;
                } else {
                    let grad = grad.slice::<T>()?;
                    into.give::<T>(i, |data, write| scale(grad, factor, Dest { data, write }))?;
                }
            }
            Ok(())
        })
    }
}

fn scalar<T: Scalar>(value: f64, like: &[Tensor]) -> Result<Tensor> {
    let mut scalar = Buffer::<T>::new(1, like.iter().find_map(Tensor::pool));
    scalar[0] = T::of(value);
    Tensor::from_buffer(scalar, &[])
}

/// The mean loss of hidden states `x [rows, d]` under any head `[n, d]`.
///
/// A dense parameter enters one op with the loss. A head that learns without being a parameter, an adapter say, is made
/// dense first. Any other is applied chunk by chunk as it is.
///
/// # Errors
/// Shapes that do not fit, and those of the head.
pub fn head_loss(loss: HeadLoss, x: &Tensor, head: &dyn Weight, pass: &mut Pass<'_>) -> Result<Tensor> {
    if head.dense().is_some() || (pass.record() == Record::Tape && learns(x, head, pass)?) {
        let loss = loss.with_operands(pass.operands());
        let w = head.to_dense(pass)?;
        return Tensor::apply1(loss, &[x, &w]);
    }
    through(loss, x, head, pass)
}

/// Whether something in a weight would get a gradient: then a product with a constant leaves a history.
fn learns(x: &Tensor, head: &dyn Weight, pass: &mut Pass<'_>) -> Result<bool> {
    Ok(head.apply(&x.detached().narrow(0, 0, 1)?, None, pass)?.is_tracked())
}

/// The loss through a head that does not learn, one chunk of rows after the other, with the gradient of `x`.
fn through(loss: HeadLoss, x: &Tensor, head: &dyn Weight, pass: &mut Pass<'_>) -> Result<Tensor> {
    let ([rows, d], [n, inner]) = (x.dims()?, head.shape());
    if inner != d || rows != loss.targets.len() || n < loss.vocab {
        let expected = format!("x [{}, {inner}] and at least {} classes", loss.targets.len(), loss.vocab);
        return Err(Error::shape(
            "cross_entropy",
            expected,
            format_args!("{} for [{n}, {inner}]", x.shape()),
        ));
    }
    let mut saved = Saved::of(&[x], Owns::Nothing);
    let mut losses = Vec::with_capacity(rows);
    dispatch!(x.dtype(), T => {
        let mut dx = Buffer::<T>::new(if saved.wanted() { rows * d } else { 0 }, x.pool());
        for chunk in loss.chunks([n, d]) {
            let part = Variable::new(x.detached().narrow(0, chunk.start, chunk.len())?);
            let input = if saved.wanted() { part.tensor() } else { part.tensor().detached() };
            let logits = head.apply(&input, None, pass)?; // [chunk, n]
            let targets = &loss.targets[chunk.clone()];
            let mut own = Buffer::<T>::new(logits.len(), logits.pool());
            let (mut of_rows, mut lse) = (vec![<T as Element>::of(0.0); chunk.len()], vec![<T as Element>::of(0.0); chunk.len()]);
            if saved.wanted() {
                own.copy_from_slice(logits.slice::<T>()?);
                cross_entropy_with_adjoint(&mut own, targets, <T as Element>::of(1.0 / loss.count as f64), &mut of_rows);
                logits.backward_from(&Tensor::from_buffer(own, logits.shape())?)?;
                let grad = part.grad().ok_or_else(|| Error::missing("the gradient through the head"))?;
                dx[chunk.start * d..chunk.end * d].copy_from_slice(grad.slice::<T>()?);
            } else {
                cross_entropy(logits.slice::<T>()?, targets, &mut lse, &mut of_rows);
            }
            losses.extend(of_rows.iter().map(|loss| loss.f64()));
        }
        let mean = scalar::<T>(loss.mean(&losses), std::slice::from_ref(x))?;
        if saved.wanted() {
            saved.keep([Tensor::from_buffer(dx, x.shape())?]);
        }
        Tensor::record(loss, &[x], mean.into(), saved, Owns::Nothing).one()
    })
}
