//! Sums, differences, products and quotients, broadcasting; and `a + scale · b`.

use formwork_kernels::{Element, Write};
use ndarray::{ArrayViewD, Axis, IxDyn, Zip};

use super::{exactly, fresh, map, map2, pool_of, shaped};
use crate::{
    Error, GradSink, Kind, Op, Outputs, Result, Saved, Scalar, Shape, Tensor, dispatch, few::MAX_RANK,
};

/// An elementwise op of two tensors whose shapes broadcast, axes aligned at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a − b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
}

impl Binary {
    fn of<T: Scalar>(self, a: T, b: T) -> T {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
        }
    }

    /// `combine(a, b)` for every element of the broadcast shape, row-major.
    fn combine<T: Scalar>(
        shape: &Shape,
        a: &Tensor,
        b: &Tensor,
        f: impl Fn(T, T) -> T + Sync,
    ) -> Result<Tensor> {
        let pool = pool_of(&[a, b]);
        if a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous() {
            let (a, b) = (a.slice::<T>()?, b.slice::<T>()?);
            return fresh(shape, pool, |to| map2(to, Write::Store, a, b, f));
        }
        let (a, b) = (a.detached().expand(shape)?, b.detached().expand(shape)?);
        let (a, b) = (a.view::<T>()?, b.view::<T>()?);
        fresh(shape, pool, |to| {
            Zip::from(shaped(to, shape)).and(&a).and(&b).for_each(|to, a, b| *to = f(*a, *b));
        })
    }
}

impl Op for Binary {
    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
        }
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let [a, b] = exactly(self.name(), inputs)?;
        same_dtype(self.name(), a, b)?;
        let shape = Shape::broadcast(self.name(), a.shape(), b.shape())?;
        // The arm is chosen outside the loop, or the loop would not vectorise.
        let y = dispatch!(a.dtype(), T => match self {
            Binary::Add => Self::combine::<T>(&shape, a, b, |a, b| Binary::Add.of(a, b)),
            Binary::Sub => Self::combine::<T>(&shape, a, b, |a, b| Binary::Sub.of(a, b)),
            Binary::Mul => Self::combine::<T>(&shape, a, b, |a, b| Binary::Mul.of(a, b)),
            Binary::Div => Self::combine::<T>(&shape, a, b, |a, b| Binary::Div.of(a, b)),
        })?;
        if let Binary::Mul | Binary::Div = self {
            saved.keep([a.detached(), b.detached()]);
        }
        Ok(y.into())
    }

    /// add: da = dy, db = dy. sub: db = −dy. mul: da = dy·b, db = dy·a. div: da = dy/b, db = −dy·a/b².
    /// An input that was broadcast gets the sum over the axes it was spread along.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        dispatch!(dy.dtype(), T => match (self, &saved[..]) {
            (Binary::Mul, [a, b]) => {
                if into.wants(0) {
                    give_sum::<T>(into, 0, &Self::combine::<T>(dy.shape(), dy, b, |d, b| d * b)?)?;
                }
                if into.wants(1) {
                    give_sum::<T>(into, 1, &Self::combine::<T>(dy.shape(), dy, a, |d, a| d * a)?)?;
                }
                Ok(())
            }
            (Binary::Div, [a, b]) => {
                let da = Self::combine::<T>(dy.shape(), dy, b, |d, b| d / b)?;
                give_sum::<T>(into, 0, &da)?;
                if into.wants(1) {
                    let minus_quotient = Self::combine::<T>(dy.shape(), a, b, |a, b| -a / b)?;
                    give_sum::<T>(into, 1, &Self::combine::<T>(dy.shape(), &da, &minus_quotient, |d, q| d * q)?)?;
                }
                Ok(())
            }
            _ => {
                give_sum::<T>(into, 0, dy)?;
                match self {
                    Binary::Sub if into.wants(1) => give_sum::<T>(into, 1, &negated::<T>(dy)?),
                    _ => give_sum::<T>(into, 1, dy),
                }
            }
        })
    }
}

/// `a + scale · b` for tensors of one shape: the residual connection.
#[derive(Clone, Copy, Debug)]
pub struct AddScaled {
    /// What `b` is multiplied with.
    pub scale: f64,
}

impl Op for AddScaled {
    fn name(&self) -> &'static str {
        "add_scaled"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let [a, b] = exactly(self.name(), inputs)?;
        same_dtype(self.name(), a, b)?;
        if a.shape() != b.shape() {
            return Err(Error::shape(self.name(), format_args!("two of {}", a.shape()), b.shape()));
        }
        let (a, b) = (a.compact()?, b.compact()?);
        let y = dispatch!(a.dtype(), T => {
            let scale = <T as Element>::of(self.scale);
            let (x, y) = (a.slice::<T>()?, b.slice::<T>()?);
            fresh(a.shape(), pool_of(&[&a, &b]), |to| map2(to, Write::Store, x, y, |a, b| a + scale * b))?
        });
        Ok(y.into())
    }

    /// da = dy, db = scale · dy.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        into.add(0, dy)?;
        if self.scale == 1.0 {
            return into.add(1, dy);
        }
        dispatch!(dy.dtype(), T => {
            let (scale, dy) = (<T as Element>::of(self.scale), dy.slice::<T>()?);
            into.give::<T>(1, |db, write| map(db, write, dy, |d| scale * d))
        })
    }
}

pub(crate) fn same_dtype(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    match a.dtype() == b.dtype() {
        true => Ok(()),
        false => Err(Kind::DType { op, expected: a.dtype(), found: b.dtype() }.into()),
    }
}

fn negated<T: Scalar>(x: &Tensor) -> Result<Tensor> {
    let values = x.slice::<T>()?;
    fresh(x.shape(), x.pool(), |to| map(to, Write::Store, values, |v| -v))
}

/// Sends `grad`, summed over the axes along which input `i` was broadcast.
pub(crate) fn give_sum<T: Scalar>(into: &mut GradSink<'_>, i: usize, grad: &Tensor) -> Result<()> {
    let shape = into.shape(i)?;
    if *grad.shape() == shape {
        return into.add(i, grad);
    }
    let view = grad.view::<T>()?;
    // The destination with every axis of the gradient: stride 0 along those that were broadcast.
    let mut strides = [0; MAX_RANK];
    let added = view.ndim() - shape.rank();
    for (axis, (&d, stride)) in shape.iter().zip(shape.strides()).enumerate() {
        strides[added + axis] = if d == 1 { 0 } else { stride };
    }
    into.give::<T>(i, |to, write| {
        if write == Write::Store {
            to.fill(T::zero());
        }
        add_strided(to, &strides[..view.ndim()], view);
    })
}

fn add_strided<T: Scalar>(to: &mut [T], strides: &[usize], from: ArrayViewD<'_, T>) {
    match strides.split_first() {
        None => to[0] += from.first().copied().unwrap_or_else(T::zero),
        Some((&1, [])) => {
            let row = from.into_dimensionality::<ndarray::Ix1>().expect("one stride is one axis");
            Zip::from(&mut to[..row.len()]).and(row).for_each(|to, from| *to += *from);
        }
        Some((&stride, rest)) => {
            for (i, inner) in from.axis_iter(Axis(0)).enumerate() {
                add_strided(&mut to[i * stride..], rest, inner);
            }
        }
    }
}

/// The elements of `from` in the order of `axes`, written to `to`.
pub(crate) fn copy_permuted<T: Scalar>(to: &mut [T], write: Write, from: &ArrayViewD<'_, T>, axes: &[usize]) {
    let from = from.view().permuted_axes(IxDyn(axes));
    let to = shaped(to, from.shape());
    Zip::from(to).and(&from).for_each(|to, from| *to = write.combine(*to, *from));
}

impl Tensor {
    /// `self + other`, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different types of numbers.
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        Tensor::apply1(Binary::Add, &[self, other])
    }

    /// `self − other`, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different types of numbers.
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        Tensor::apply1(Binary::Sub, &[self, other])
    }

    /// `self · other`, elementwise, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different types of numbers.
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        Tensor::apply1(Binary::Mul, &[self, other])
    }

    /// `self / other`, elementwise, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different types of numbers.
    pub fn div(&self, other: &Tensor) -> Result<Tensor> {
        Tensor::apply1(Binary::Div, &[self, other])
    }

    /// `self + scale · other` for equal shapes.
    ///
    /// # Errors
    /// Shapes or types of numbers that differ.
    pub fn add_scaled(&self, other: &Tensor, scale: f64) -> Result<Tensor> {
        Tensor::apply1(AddScaled { scale }, &[self, other])
    }
}
