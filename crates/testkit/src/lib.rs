//! What the tests of the workspace share: one table that drives every check of an op, comparisons, data, allocations.
//!
//! An op is described once, as an [`OpCase`]: its inputs' shapes with named axes, how to call it, a naive reference,
//! and the wrong inputs it must refuse. [`check`] then runs everything that must hold for any op:
//!
//! - **values** against the reference, in f32 and f64, on every instruction set of this machine, over many sizes:
//!   primes, each axis 1, each axis 0, all axes 1, and an axis wider than a vector register;
//! - **gradients** against central finite differences in f64 (step 1e-6, relative 1e-5) with random cotangents, with
//!   outputs unused, with one input tracked at a time, and with two contributions to one gradient;
//! - **layouts**: permuted, cut out of a larger tensor, and broadcast inputs give the same;
//! - **NaN and infinities** arrive where the reference has them;
//! - **bits** are the same for 1, 2 and 3 threads;
//! - **memory** comes from the pool of the inputs, a second run takes nothing from the system, and junk in reused
//!   memory is never read;
//! - **wrong input** gives an error with the expected words, and never a panic.
//!
//! A whole test file of another crate can be this short:
//!
//! ```
//! use formwork_tensor::Tensor;
//! use formwork_testkit::{Domain, OpCase, check};
//!
//! check(&[
//!     OpCase::new("mul", &["b t d", "d"], |x| Ok(vec![x[0].mul(&x[1])?]), |x| vec![&x[0] * &x[1]])
//!         .refuses("widths that differ", &[&[2, 3], &[5]], "broadcasts with [2, 3]"),
//!     OpCase::new("ln", &["t d"], |x| Ok(vec![x[0].ln()?]), |x| vec![x[0].ln()]).domain(0, Domain::Positive),
//! ]);
//! ```
//!
//! Axes are named as in the style guide (`b t s d f h g e n`) and have unequal prime sizes unless [`OpCase::dim`] says
//! otherwise. [`failures`] returns what [`check`] would panic with.
#![deny(unsafe_code)]

mod allocator;
mod case;
mod check;
mod close;
mod contract;
mod peak;
mod sample;
mod sizes;

pub use allocator::{Allocated, CountingAllocator, Tally};
pub use case::{NonFinite, OpCase};
pub use check::{check, failures};
pub use close::{F32, F32_GRADIENT, F64, Numbers, SLOPE, assert_close, difference};
pub use contract::{Contract, gradients};
pub use peak::{Cost, FILE_SLACK, PeakAllocator, mutations};
pub use sample::{Domain, normals, sample, tensor};
