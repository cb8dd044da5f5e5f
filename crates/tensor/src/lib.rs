//! Tensors with run-time shapes and a reverse pass.
//!
//! A [`Tensor`] is a cheap handle: a shape, strides, shared memory, and, where a gradient is wanted, a history.
//! Its numbers are `f32` or `f64` ([`DType`]), chosen at run time, so that no module carries a type parameter.
//! An [`Op`] keeps its forward and its backward side by side; one without a backward does not compile.
//! Ops from another crate stand exactly where ours do: see [`Tensor::apply`].
//!
//! ```
//! use formwork_tensor::{Tensor, Variable};
//! let x = Variable::new(Tensor::from_vec(vec![1.0f64, 2.0, 3.0], &[3])?);
//! let y = x.tensor();
//! y.mul(&y)?.sum()?.backward()?;
//! assert_eq!(x.grad().expect("x was used").to_vec::<f64>()?, [2.0, 4.0, 6.0]);
//! # Ok::<(), formwork_tensor::Error>(())
//! ```
#![forbid(unsafe_code)]

mod array;
mod dtype;
mod error;
mod few;
mod layout;
mod op;
pub mod ops;
mod outputs;
mod pool;
mod saved;
mod scalar;
mod shape;
mod storage;
mod tape;
mod tensor;
mod variable;

pub use dtype::DType;
pub use error::{At, Error, Kind, Result};
pub use formwork_kernels::Write;
pub use layout::Axes;
pub use op::Op;
pub use outputs::Outputs;
pub use pool::{Buffer, Pool, PoolStats};
pub use saved::Saved;
pub use scalar::Scalar;
pub use shape::Shape;
pub use storage::{Memory, Shared, Storage};
pub use tape::{Destination, GradSink, Leaf};
pub use tensor::{Owns, Tensor};
pub use variable::{GradSum, Variable};
