//! Feed-forward layers: [`Mlp`] and [`GatedMlp`].
//!
//! Both take any [`Activation`](formwork_module::Activation) and work on each token alone.
//!
//! ```
//! use formwork_feedforward::{Mlp, Settings};
//! use formwork_module::{Activation, Module, Pass, Result, Scope, Seed, Tensor};
//!
//! #[derive(Debug)]
//! struct Square;
//! impl Activation for Square {
//!     fn apply(&self, x: &Tensor) -> Result<Tensor> {
//!         x.mul(x)
//!     }
//! }
//!
//! let mlp = Mlp::new(&Scope::root(&Seed::new(1)), &Settings::new(3, 12), Box::new(Square))?;
//! let x = Tensor::from_vec(vec![1.0f32; 6], &[1, 2, 3])?;
//! assert_eq!(**mlp.forward(&x, &mut Pass::infer())?.shape(), [1, 2, 3]);
//! assert_eq!(formwork_module::params(&mlp).iter().map(|(_, p)| p.shape().len()).sum::<usize>(), 2 * 3 * 12);
//! # Ok::<(), formwork_module::Error>(())
//! ```
#![forbid(unsafe_code)]

mod down;
pub mod gated;
pub mod mlp;
mod settings;

pub use gated::GatedMlp;
pub use mlp::Mlp;
pub use settings::Settings;
