//! What an operation is: forward and backward, side by side.
//!
//! A new op is a type that implements [`Op`], used through [`Tensor::apply`]; nothing is registered anywhere.
//! This one doubles:
//!
//! ```
//! use formwork_tensor::{GradSink, Op, Outputs, Result, Saved, Tensor, Variable, Write, dispatch};
//!
//! #[derive(Debug)]
//! struct Double;
//!
//! impl Op for Double {
//!     fn name(&self) -> &'static str {
//!         "double"
//!     }
//!     fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
//!         let x = inputs[0].compact()?;
//!         let y = dispatch!(x.dtype(), T => {
//!             let mut y = x.buffer::<T>(x.len());
//!             for (y, x) in y.iter_mut().zip(x.slice::<T>()?) { *y = *x + *x; }
//!             Tensor::from_buffer(y, x.shape())?
//!         });
//!         Ok(y.into())
//!     }
//!     fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
//!         let dy = into.grad(grads, 0)?;
//!         dispatch!(dy.dtype(), T => {
//!             let dy = dy.slice::<T>()?;
//!             into.give::<T>(0, |dx, write| {
//!                 for (dx, dy) in dx.iter_mut().zip(dy) { *dx = write.combine(*dx, *dy + *dy); }
//!             })
//!         })
//!     }
//! }
//!
//! let x = Variable::new(Tensor::from_vec(vec![1.0f64, 2.0], &[2])?);
//! Tensor::apply1(Double, &[&x.tensor()])?.sum()?.backward()?;
//! assert_eq!(x.grad().expect("used").to_vec::<f64>()?, [2.0, 2.0]);
//! # Ok::<(), formwork_tensor::Error>(())
//! ```

use std::fmt::Debug;

use crate::{GradSink, Outputs, Result, Saved, Tensor};

/// An operation with its adjoint.
pub trait Op: Debug + Send + Sync {
    /// The name in error messages, in lower case.
    fn name(&self) -> &'static str;

    /// Computes the outputs, and keeps what [`backward`](Op::backward) will want to see again; in inference nothing is
    /// wanted, and [`Saved::keep`] keeps nothing.
    ///
    /// Inputs may be strided; [`Tensor::compact`] gives a row-major copy where one is needed.
    ///
    /// # Errors
    /// Inputs whose number, shape or type does not fit.
    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs>;

    /// Sends each input's gradient into the sink.
    ///
    /// `grads` has one entry per output, `None` where nothing depends on that output; those there are row-major.
    ///
    /// # Errors
    /// Only those of the arithmetic it calls.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()>;
}
