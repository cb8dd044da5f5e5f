//! Weights that stay in the blocks of a quantised file, and quantising.
//!
//! - [`Quantised`] is a [`Weight`](formwork_module::Weight): a linear layer, an embedding or a head computes with it,
//!   and gradients flow through it to what is before it, but it does not learn. [`weight`] makes one from the bytes
//!   of a file.
//! - [`quantise`] replaces the weights of any module by quantised ones, in place, and says what each lost.
//! - [`encode`] turns one matrix into blocks, for a converter.
//! - [`Recipe`] says which tensor gets which format, and what to take where a row is no whole number of its blocks, as
//!   llama.cpp does.
//!
//! Formats are those of [`Format`](formwork_kernels::blocks::Format). Memory holds the blocks and nothing else; a
//! product decodes a few rows at a time into a cache. What normal numbers lose, as the root mean square of the error
//! relative to theirs:
//!
//! | | bits a number | error | | bits a number | error |
//! |---|---|---|---|---|---|
//! | `f16` | 16 | 0.02% | `q5_0` | 5.5 | 4.3% |
//! | `bf16` | 16 | 0.17% | `q4_1` | 5 | 7.8% |
//! | `q8_0` | 8.5 | 0.53% | `q4_k` | 4.5 | 7.1% |
//! | `q6_k` | 6.56 | 1.8% | `q4_0` | 4.5 | 8.5% |
//! | `q5_1` | 6 | 3.8% | `q3_k` | 3.44 | 15% |
//! | `q5_k` | 5.5 | 3.6% | `q2_k` | 2.63 | 30% |
//!
//! ```
//! use formwork_kernels::blocks::Format;
//! use formwork_module::{Linear, Module, Pass, Scope, Seed, Tensor, held, params};
//! use formwork_quant::{Recipe, Role, quantise};
//!
//! let source = Seed::new(7);
//! let mut layer = Linear::new(&Scope::root(&source), 48, 64)?;
//! let x = Tensor::full(1.0, &[2, 64], formwork_module::DType::F32, None)?;
//! let before = layer.forward(&x, &mut Pass::infer())?.to_vec::<f32>()?;
//!
//! let recipe = Recipe::new(Format::Q8_0);
//! let report = quantise(&mut layer, &|_, shape| recipe.format(Role::Matrix, shape))?;
//! assert_eq!((report.tensors[0].bytes, report.tensors[0].bits()), (48 * 2 * 34, 8.5));
//! assert!(report.tensors[0].error.relative < 0.005);
//!
//! let after = layer.forward(&x, &mut Pass::infer())?.to_vec::<f32>()?;
//! assert!(before.iter().zip(&after).all(|(a, b)| a != b && (a - b).abs() < 0.01));
//! assert!(params(&layer).is_empty()); // it does not learn any more, but a file of it would hold
//! assert_eq!(held(&layer)[0].1.shape(), [48, 64]);
//! # Ok::<(), formwork_module::Error>(())
//! ```
//!
//! An adapter that learns may stand around a quantised weight: dx = dy·W is all that it asks of it.
#![forbid(unsafe_code)]

mod encode;
mod fits;
mod product;
mod quantise;
mod quantised;
mod recipe;
mod report;

pub use encode::{Encoded, TensorError, encode};
pub use quantise::quantise;
pub use quantised::{Quantised, weight};
pub use recipe::{Recipe, Role};
pub use report::{Report, TensorReport};
