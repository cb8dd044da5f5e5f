//! The waist of Formwork: what every part, model, trainer and generator agrees on.
//!
//! - [`Module`] computes, and shows its parameters in the order in which they were built ([`Visit`], [`VisitMut`]).
//! - [`TokenModel`] is what training and generation ask of any model: tokens in, hidden states, logits or a loss out.
//! - [`Param`] is a shared handle to numbers; [`Flat`] is the memory of a run, into which parameters move to be trained.
//! - [`Weight`] is a matrix that knows its own layout; [`Linear`] and [`Embedding`] stand on one, and [`linears`] runs
//!   several over one input.
//! - [`Pass`] carries what a forward needs beside its input: mode, padding, cache, tap, auxiliary losses.
//! - [`Scope`] builds: it names each parameter by its path and asks a [`Source`] for its numbers.
//! - [`Norm`], [`Activation`], [`Position`], [`Mask`] and [`KvCache`] are the joints between parts.
//!
//! A block of your own needs nothing but this crate:
//!
//! ```
//! use formwork_module::{children, Linear, Module, Pass, Result, Scope, Seed, Tensor};
//!
//! #[derive(Debug)]
//! struct Twice { inner: Linear }
//!
//! impl Module for Twice {
//!     fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
//!         self.inner.forward(&self.inner.forward(x, pass)?, pass)
//!     }
//!     children!(inner);
//! }
//!
//! let source = Seed::new(7);
//! let scope = Scope::root(&source);
//! let twice = Twice { inner: Linear::new(&scope.child("inner"), 3, 3)? };
//! let x = Tensor::from_vec(vec![1.0f32; 6], &[2, 3])?;
//! let y = twice.forward(&x, &mut Pass::infer())?;
//! assert_eq!(**y.shape(), [2, 3]);
//! assert_eq!(formwork_module::params(&twice)[0].0, "inner.weight");
//! # Ok::<(), formwork_module::Error>(())
//! ```
#![forbid(unsafe_code)]

mod activation;
mod bias;
mod blocks;
mod cache;
pub mod config;
mod dropout;
mod embedding;
mod flat;
mod linear;
mod linears;
mod loss;
mod mask;
mod module;
mod norm;
mod param;
mod pass;
mod position;
mod rows;
mod scope;
mod sequence;
mod source;
mod state;
mod token_model;
mod weight;

pub use activation::Activation;
pub use bias::Bias;
pub use blocks::Blocks;
pub use cache::{CacheBlocks, CacheTensor, CacheType, DenseCache, KvCache};
pub use dropout::{Dropout, dropout};
pub use embedding::Embedding;
pub use flat::Flat;
pub use formwork_tensor::{At, Buffer, DType, Error, Kind, Pool, Result, Shape, Tensor};
pub use linear::Linear;
pub use linears::{linears, may_pack, packed_products};
pub use loss::{HeadLoss, Loss, head_loss};
pub use mask::Mask;
pub use module::{Held, Module, Replace, Visit, VisitMut, held, params, weights_mut};
pub use norm::Norm;
pub use param::{Param, Stored};
pub use pass::{Mode, Pass, Precision, Record, Tap};
pub use position::{Acts, GrowingKeys, Keys, Position, ScoreBias};
pub use rows::{RowSpan, Rows};
pub use scope::{Scope, Site};
pub use sequence::Sequence;
pub use source::{Given, Init, Outline, Seed, Source, Spec};
pub use state::State;
pub use token_model::{Positions, TokenModel};
pub use weight::{Tied, Weight};
