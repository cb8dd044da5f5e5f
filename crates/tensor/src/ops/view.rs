//! Other views of the same memory: reshape, permute, narrow, expand. None of them copies, except a reshape of a strided view.

use formwork_kernels::Write;

use super::{
    arithmetic::{copy_permuted, give_sum},
    exactly, shaped,
};
use crate::{Axes, Error, GradSink, Op, Outputs, Result, Saved, Shape, Tensor, dispatch, few::MAX_RANK};

/// Another view of a tensor's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// The same elements in row-major order under another shape.
    Reshape(Shape),
    /// The axes in another order: output axis `i` is input axis `axes[i]`.
    Permute(Axes),
    /// A range of one axis.
    Narrow {
        /// The axis to cut.
        axis: usize,
        /// The first index kept.
        from: usize,
        /// How many are kept.
        len: usize,
    },
    /// Axes of length 1, or missing in front, repeated.
    Expand(Shape),
}

impl Op for View {
    fn name(&self) -> &'static str {
        match self {
            View::Reshape(_) => "reshape",
            View::Permute(_) => "permute",
            View::Narrow { .. } => "narrow",
            View::Expand(_) => "expand",
        }
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let [x] = exactly(self.name(), inputs)?;
        let y = match self {
            View::Reshape(to) => {
                if to.len() != x.len() {
                    return Err(Error::shape(
                        "reshape",
                        format_args!("{} elements for {to}", to.len()),
                        x.shape(),
                    ));
                }
                let x = x.compact()?;
                x.with_layout(crate::layout::Layout::row_major(*to, x.layout().start))
            }
            View::Permute(axes) => x.with_layout(x.layout().permuted(axes)?),
            View::Narrow { axis, from, len } => x.with_layout(x.layout().narrowed(*axis, *from, *len)?),
            View::Expand(to) => x.with_layout(x.layout().expanded(to)?),
        };
        Ok(y.into())
    }

    /// The inverse view of dy: reshaped or permuted back, into its range of zeros, or summed over what was repeated.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let shape = into.shape(0)?;
        dispatch!(dy.dtype(), T => match self {
            View::Reshape(_) => into.add(0, &dy.with_layout(crate::layout::Layout::row_major(shape, dy.layout().start))),
            View::Permute(axes) => {
                let mut inverse = [0; MAX_RANK];
                for (i, &a) in axes.iter().enumerate() {
                    inverse[a] = i;
                }
                let view = dy.view::<T>()?;
                into.give::<T>(0, |dx, write| copy_permuted(dx, write, &view, &inverse[..axes.len()]))
            }
            View::Narrow { axis, from, len } => {
                let (range, view) = (*from..*from + *len, dy.view::<T>()?);
                into.give::<T>(0, |dx, write| {
                    if write == Write::Store {
                        dx.fill(<T as num_traits::Zero>::zero());
                    }
                    let mut dx = shaped(dx, &shape);
                    let mut part = dx.slice_axis_mut(ndarray::Axis(*axis), range.into());
                    part += &view;
                })
            }
            View::Expand(_) => give_sum::<T>(into, 0, dy),
        })
    }
}

impl Tensor {
    /// The same elements, row-major, under another shape.
    ///
    /// # Errors
    /// Another number of elements.
    pub fn reshape(&self, dims: &[usize]) -> Result<Tensor> {
        Tensor::apply1(View::Reshape(Shape::new(dims)?), &[self])
    }

    /// The axes in another order, without a copy: output axis `i` is input axis `axes[i]`.
    ///
    /// # Errors
    /// Anything but each axis once.
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor> {
        Tensor::apply1(View::Permute(Axes::new(axes)?), &[self])
    }

    /// Two axes exchanged, without a copy.
    ///
    /// # Errors
    /// An axis that does not exist.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Tensor> {
        let rank = self.shape().rank();
        if a >= rank || b >= rank {
            return Err(Error::invalid(
                "transpose",
                format_args!("two axes of {}", self.shape()),
                format_args!("{a} and {b}"),
            ));
        }
        Tensor::apply1(View::Permute(Axes::exchanged(rank, a, b)), &[self])
    }

    /// Indices `from .. from + len` of one axis, without a copy.
    ///
    /// # Errors
    /// A range that the axis does not have.
    pub fn narrow(&self, axis: usize, from: usize, len: usize) -> Result<Tensor> {
        Tensor::apply1(View::Narrow { axis, from, len }, &[self])
    }

    /// Axes of length 1, or missing in front, repeated without a copy.
    ///
    /// # Errors
    /// A shape that this one does not broadcast to.
    pub fn expand(&self, dims: &[usize]) -> Result<Tensor> {
        Tensor::apply1(View::Expand(Shape::new(dims)?), &[self])
    }
}
