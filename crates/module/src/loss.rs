//! Next-token loss with the head inside: the mean of `−log softmax(x·Wᵀ + b)[target]` over the rows that count.
//!
//! Rows go through the head in chunks, forward and again in backward, so that the logits `[b·t, n]` of a whole batch
//! are never in memory at once.

use std::{ops::Range, sync::Arc};

use formwork_kernels::{
    Dest, Element, Write,
    cross_entropy::{IGNORE, cross_entropy, cross_entropy_adjoint},
    elementwise::column_sums,
    matmul::{Mat, MatMut, matmul},
};
use formwork_tensor::{Buffer, GradSink, Op, Outputs, Saved, Scalar, dispatch};

use crate::{Error, Result, Tensor};

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
    chunk: usize,
}

impl HeadLoss {
    /// A target that does not count.
    pub const IGNORE: u32 = IGNORE;

    /// Numbers of logits that are in memory at once, about: 16 MiB of f32.
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
        Ok(Self { targets: targets.into(), vocab, count, chunk: (Self::CHUNK / vocab.max(1)).max(1) })
    }

    /// Another number of rows per chunk; the result differs in rounding only.
    #[must_use]
    pub fn chunked(mut self, rows: usize) -> Self {
        self.chunk = rows.max(1);
        self
    }

    /// How many targets count.
    pub fn count(&self) -> usize {
        self.count
    }

    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, chunk) = (self.targets.len(), self.chunk);
        (0..rows).step_by(chunk).map(move |start| start..(start + chunk).min(rows))
    }
}

/// The head seen by one chunk.
struct Head<'a, T> {
    x: &'a [T],
    w: &'a [T],
    bias: Option<&'a [T]>,
    d: usize,
    n: usize,
}

impl<'a, T: Scalar> Head<'a, T> {
    fn new(tensors: &'a [Tensor]) -> Result<Self> {
        let bias = tensors.get(2).map(Tensor::slice::<T>).transpose()?;
        let (n, d) = tensors[1].shape().rows();
        Ok(Self { x: tensors[0].slice()?, w: tensors[1].slice()?, bias, d, n })
    }

    fn rows(&self, rows: &Range<usize>) -> Mat<'a, T> {
        Mat::row_major(&self.x[rows.start * self.d..rows.end * self.d], rows.len(), self.d)
    }

    fn table(&self) -> Mat<'a, T> {
        Mat::row_major(self.w, self.n, self.d)
    }

    fn logits(&self, rows: &Range<usize>, to: &mut [T]) {
        let write = match self.bias {
            Some(bias) => {
                to.chunks_exact_mut(self.n).for_each(|row| row.copy_from_slice(bias));
                Write::Add
            }
            None => Write::Store,
        };
        matmul(
            MatMut::row_major(to, rows.len(), self.n),
            self.rows(rows),
            self.table().transposed(),
            T::one(),
            write,
        );
    }
}

impl Op for HeadLoss {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<(Outputs, Saved)> {
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
        let saved = inputs.iter().map(|t| t.compact()).collect::<Result<Vec<_>>>()?;
        dispatch!(inputs[0].dtype(), T => {
            let head = Head::<T>::new(&saved)?;
            let pool = inputs[0].pool();
            let (mut lse, mut losses) = (Buffer::<T>::new(rows, pool), Buffer::<T>::new(rows, pool));
            let mut logits = Buffer::<T>::new(self.chunk.min(rows) * n, pool);
            for chunk in self.chunks() {
                let logits = &mut logits[..chunk.len() * n];
                head.logits(&chunk, logits);
                cross_entropy(logits, &self.targets[chunk.clone()], &mut lse[chunk.clone()], &mut losses[chunk]);
            }
            let sum: f64 = losses.iter().map(|loss| loss.f64()).sum();
            let mut mean = Buffer::<T>::new(1, pool);
            mean[0] = <T as Element>::of(sum / self.count as f64);
            let mut saved = saved;
            saved.push(Tensor::from_buffer(lse, &[rows])?);
            Ok((vec![Tensor::from_buffer(mean, &[])?], saved))
        })
    }

    /// dlogits = (softmax − one-hot)·dy/count for rows that count; dx = dlogits·W, dW = dlogitsᵀ·x, db = Σ dlogits.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let (lse, inputs) = saved.split_last().ok_or_else(|| Error::missing("the saved log-sum-exp"))?;
        dispatch!(dy.dtype(), T => {
            let head = Head::<T>::new(inputs)?;
            let (rows, d, n) = (self.targets.len(), head.d, head.n);
            let (lse, pool) = (lse.slice::<T>()?, inputs[0].pool());
            let scale = dy.slice::<T>()?[0] / <T as Element>::of(self.count as f64);
            // Nothing is computed for what is frozen: the trunk under a head that learns alone, or the head.
            let mut dx = Buffer::<T>::new(if into.wants(0) { rows * d } else { 0 }, pool);
            let mut db = Buffer::<T>::new(if into.wants(2) { n } else { 0 }, pool);
            let mut logits = Buffer::<T>::new(self.chunk.min(rows) * n, pool);
            let mut each = |mut dw: Option<(&mut [T], Write)>| {
                for chunk in self.chunks() {
                    let logits = &mut logits[..chunk.len() * n];
                    head.logits(&chunk, logits);
                    cross_entropy_adjoint(logits, &self.targets[chunk.clone()], &lse[chunk.clone()], scale);
                    let dlogits = Mat::row_major(&*logits, chunk.len(), n);
                    if !dx.is_empty() {
                        let to = MatMut::row_major(&mut dx[chunk.start * d..chunk.end * d], chunk.len(), d);
                        matmul(to, dlogits, head.table(), <T as Element>::of(1.0), Write::Store);
                    }
                    if let Some((dw, write)) = &mut dw {
                        let to = MatMut::row_major(dw, n, d);
                        matmul(to, dlogits.transposed(), head.rows(&chunk), <T as Element>::of(1.0), *write);
                        *write = Write::Add;
                    }
                    if !db.is_empty() {
                        let write = if chunk.start == 0 { Write::Store } else { Write::Add };
                        column_sums(logits, Dest { data: &mut db, write });
                    }
                }
            };
            match into.wants(1) {
                true => into.give::<T>(1, |dw, write| each(Some((dw, write))))?,
                false => each(None),
            }
            if into.wants(0) {
                into.add(0, &Tensor::from_buffer(dx, &[rows, d])?)?;
            }
            if into.wants(2) {
                into.add(2, &Tensor::from_buffer(db, &[n])?)?;
            }
            Ok(())
        })
    }
}
