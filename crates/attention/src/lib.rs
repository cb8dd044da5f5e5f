//! Attention over heads: multi-head, grouped-query and multi-query in one struct.
//!
//! How many heads share a key is a number ([`Settings::kv_heads`]), causal or bidirectional is the mask, and the
//! position encoding is whatever implements [`Position`](formwork_module::Position). Scores exist a tile at a time, so
//! memory is linear in the context, in training as well.
//!
//! ```
//! use formwork_attention::{Attention, Settings};
//! use formwork_module::{Acts, Module, Pass, Position, Scope, Seed, Tensor};
//!
//! /// A position encoding of our own: none at all.
//! #[derive(Debug)]
//! struct Unordered;
//! impl Position for Unordered {
//!     fn acts(&self) -> Acts {
//!         Acts::Nowhere
//!     }
//! }
//!
//! let settings = Settings { kv_heads: Some(2), ..Settings::new(12, 4) }; // grouped: two query heads share a key
//! let attention = Attention::new(&Scope::root(&Seed::new(1)), &settings, std::sync::Arc::new(Unordered))?;
//! let x = Tensor::from_vec((0..60).map(|i| (i as f32).sin()).collect(), &[1, 5, 12])?;
//! let y = attention.forward(&x, &mut Pass::infer())?; // [1, 5, 12]
//!
//! // The first token sees only itself, so the rest of the text cannot change what becomes of it.
//! let alone = attention.forward(&x.narrow(1, 0, 1)?, &mut Pass::infer())?;
//! let difference = y.narrow(1, 0, 1)?.sub(&alone)?.to_vec::<f32>()?;
//! assert!(difference.iter().all(|d| d.abs() < 1e-6));
//! # Ok::<(), formwork_module::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod attend;
pub mod attention;
mod bias;
mod call;
mod settings;

pub use attend::{Attend, Scores};
pub use attention::Attention;
pub use formwork_kernels::attention::{Dropout as ProbabilityDropout, Row};
pub use settings::{Biases, Settings, Sizes};
