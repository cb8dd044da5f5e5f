//! `a·b` of two tensors with any strides, batched over leading axes that broadcast.

use formwork_kernels::{
    Write,
    matmul::{Batch, Mat, MatMut, matmul, matmul_batched},
};

use super::{arithmetic::same_dtype, exactly, fresh, pool_of};
use crate::{Error, GradSink, Op, Outputs, Result, Saved, Scalar, Shape, Tensor, dispatch};

/// Inputs `a [.., m, k]` and `b [.., k, n]`; output `[.., m, n]`.
#[derive(Clone, Copy, Debug)]
pub struct MatMul;

/// One operand: where each matrix of the batch starts, and how a matrix is strided.
struct Operand<'a, T> {
    memory: &'a [T],
    starts: Vec<usize>,
    size: [usize; 2],
    strides: [usize; 2],
}

impl<'a, T: Scalar> Operand<'a, T> {
    /// `tensor` repeated over the batch axes `batch`.
    fn new(tensor: &'a Tensor, batch: &[usize]) -> Result<Self> {
        let rank = tensor.shape().rank();
        let (size, strides) = (&tensor.shape()[rank - 2..], &tensor.strides()[rank - 2..]);
        let starts = starts(tensor.shape(), tensor.strides(), batch);
        Ok(Self {
            memory: tensor.reach::<T>()?,
            starts,
            size: [size[0], size[1]],
            strides: [strides[0], strides[1]],
        })
    }

    fn mat(&self, i: usize) -> Mat<'a, T> {
        Mat {
            data: &self.memory[self.starts[i].min(self.memory.len())..],
            rows: self.size[0],
            cols: self.size[1],
            row_stride: self.strides[0],
            col_stride: self.strides[1],
        }
    }

    fn turned(mut self) -> Self {
        self.size.swap(0, 1);
        self.strides.swap(0, 1);
        self
    }

    /// The distance from one matrix to the next, where it is always the same.
    fn step(&self) -> Option<usize> {
        let step = self.starts.get(1)?.checked_sub(self.starts[0])?;
        self.starts.windows(2).all(|w| w[1].checked_sub(w[0]) == Some(step)).then_some(step)
    }
}

/// The first element of each matrix of the batch, for a tensor that is repeated over the axes it lacks.
fn starts(shape: &[usize], strides: &[usize], batch: &[usize]) -> Vec<usize> {
    let own = shape.len() - 2;
    let mut starts = vec![0];
    for (axis, &len) in batch.iter().enumerate() {
        let stride = match (axis + own).checked_sub(batch.len()) {
            Some(i) if shape[i] != 1 => strides[i],
            _ => 0,
        };
        starts = starts.iter().flat_map(|s| (0..len).map(move |i| s + i * stride)).collect();
    }
    starts
}

/// The batch axes of two operands.
fn batch(a: &Tensor, b: &Tensor) -> Result<Shape> {
    let leading = |t: &Tensor| Shape::new(&t.shape()[..t.shape().rank() - 2]);
    Shape::broadcast("matmul", &leading(a)?, &leading(b)?)
}

/// `to[i] = a[i]·b[i]`, where `places[i]` says which matrix of `to` that is; a place met again is added to.
fn products<T: Scalar>(to: &mut [T], write: Write, a: &Operand<'_, T>, b: &Operand<'_, T>, places: &[usize]) {
    let (m, n) = (a.size[0], b.size[1]);
    if places.is_empty() {
        // An empty batch adds nothing, but a gradient that is stored must not stay junk.
        if write == Write::Store {
            to.fill(T::zero());
        }
        return;
    }
    let one_each = places.iter().enumerate().all(|(i, &p)| i * m * n == p);
    if let (true, Some(a_step), Some(b_step)) = (one_each, a.step(), b.step()) {
        let batch = Batch { count: places.len(), a_step, b_step, out_step: m * n };
        let out = MatMut { data: to, rows: m, cols: n, row_stride: n };
        return matmul_batched(out, a.mat(0), b.mat(0), T::one(), write, batch);
    }
    let mut written = std::collections::HashSet::new();
    for (i, &place) in places.iter().enumerate() {
        let write = if written.insert(place) { write } else { Write::Add };
        matmul(MatMut::row_major(&mut to[place..place + m * n], m, n), a.mat(i), b.mat(i), T::one(), write);
    }
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let [a, b] = exactly("matmul", inputs)?;
        same_dtype("matmul", a, b)?;
        let (sa, sb) = (a.shape(), b.shape());
        let fits = sa.rank() >= 2 && sb.rank() >= 2 && sa[sa.rank() - 1] == sb[sb.rank() - 2];
        if !fits {
            return Err(Error::shape("matmul", "[.., m, k] and [.., k, n]", format_args!("{sa} and {sb}")));
        }
        let batch = batch(a, b)?;
        let mut dims = batch.to_vec();
        dims.extend([sa[sa.rank() - 2], sb[sb.rank() - 1]]);
        let y = dispatch!(a.dtype(), T => {
            let (x, w) = (Operand::<T>::new(a, &batch)?, Operand::<T>::new(b, &batch)?);
            let size = x.size[0] * w.size[1];
            let places: Vec<_> = (0..batch.len()).map(|i| i * size).collect();
            fresh::<T>(&dims, pool_of(inputs), |y| products(y, Write::Store, &x, &w, &places))?
        });
        saved.keep([a.detached(), b.detached()]);
        Ok(y.into())
    }

    /// da = dy·bᵀ and db = aᵀ·dy, each summed over the batch axes along which the input was broadcast.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let batch = batch(&saved[0], &saved[1])?;
        dispatch!(dy.dtype(), T => {
            let (a, b) = (Operand::<T>::new(&saved[0], &batch)?.turned(), Operand::<T>::new(&saved[1], &batch)?.turned());
            let d = Operand::<T>::new(dy, &batch)?;
            let places = |t: &Tensor| starts(t.shape(), &t.shape().strides(), &batch);
            let (to_a, to_b) = (places(&saved[0]), places(&saved[1]));
            into.give::<T>(0, |da, write| products(da, write, &d, &b, &to_a))?;
            into.give::<T>(1, |db, write| products(db, write, &a, &d, &to_b))
        })
    }
}

impl Tensor {
    /// `self·other` over the last two axes, batched over leading axes that broadcast.
    ///
    /// # Errors
    /// Shapes or types of numbers that do not fit.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        Tensor::apply1(MatMul, &[self, other])
    }
}
