//! Tensors joined along an axis.

use std::ops::AddAssign;

use formwork_kernels::Write;
use ndarray::Axis;

use super::{arithmetic::same_dtype, fresh, pool_of, shaped};
use crate::{Error, GradSink, Op, Outputs, Result, Saved, Shape, Tensor, dispatch};

/// Any number of inputs that differ in one axis only, joined along it.
#[derive(Clone, Copy, Debug)]
pub struct Cat {
    /// The axis along which they are joined.
    pub axis: usize,
}

impl Op for Cat {
    fn name(&self) -> &'static str {
        "cat"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let first = *inputs.first().ok_or_else(|| Error::invalid("cat", "at least one tensor", "none"))?;
        let mut dims = first.shape().to_vec();
        if self.axis >= dims.len() {
            return Err(Error::invalid("cat", format_args!("an axis of {}", first.shape()), self.axis));
        }
        dims[self.axis] = 0;
        for t in inputs {
            same_dtype("cat", first, t)?;
            let rest = |s: &Shape| {
                s.iter().enumerate().map(|(i, &d)| if i == self.axis { 0 } else { d }).collect::<Vec<_>>()
            };
            if rest(t.shape()) != rest(first.shape()) {
                let expected = format!("{} but for axis {}", first.shape(), self.axis);
                return Err(Error::shape("cat", expected, t.shape()));
            }
            dims[self.axis] += t.shape()[self.axis];
        }
        let y = dispatch!(first.dtype(), T => {
            let views = inputs.iter().map(|t| t.view::<T>()).collect::<Result<Vec<_>>>()?;
            fresh::<T>(&dims, pool_of(inputs), |y| {
                let mut y = shaped(y, &dims);
                let mut from = 0;
                for view in &views {
                    let len = view.shape()[self.axis];
                    y.slice_axis_mut(Axis(self.axis), (from..from + len).into()).assign(view);
                    from += len;
                }
            })?
        });
        Ok(y.into())
    }

    /// Each input gets its own range of dy.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let mut from = 0;
        for i in 0..into.inputs() {
            let len = into.shape(i)?[self.axis];
            let part = dy.detached().narrow(self.axis, from, len)?;
            dispatch!(dy.dtype(), T => {
                let part = part.view::<T>()?;
                into.give::<T>(i, |dx, write| match write {
                    Write::Store => shaped(dx, part.shape()).assign(&part),
                    Write::Add => shaped(dx, part.shape()).add_assign(&part),
                })?;
            });
            from += len;
        }
        Ok(())
    }
}

impl Tensor {
    /// Tensors that differ in one axis only, joined along it.
    ///
    /// # Errors
    /// No tensor, or one that differs in another axis or type of numbers.
    pub fn cat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
        Tensor::apply1(Cat { axis }, tensors)
    }
}
