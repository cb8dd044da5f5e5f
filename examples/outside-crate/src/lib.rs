//! Parts of one's own, in a crate that knows nothing of Formwork but what it publishes.
//!
//! | file | is | stands where |
//! |---|---|---|
//! | `dyt.rs` | a norm with a fused op of its own, backward by hand | `NormConfig` says `custom` |
//! | `relu_squared.rs` | an activation | `ActivationConfig` says `custom` |
//! | `alibi.rs` | a position encoding | `attn.position` says `custom` |
//! | `distances.rs` | a whole attention, with cache and padding | `attn` says `custom` |
//! | `parallel.rs` | a whole block, made of Formwork's parts | an entry of `blocks` says `custom` |
//! | `lora.rs` | a weight that wraps another and alone learns | any `Linear` of any model |
//! | `top_n_sigma.rs` | a logit processor | any chain of a sampler |
//! | `echo.rs` | a language model that no builder made | training and generation of any model |
//!
//! [`hooks`] gives the builder what it needs for a config that names them:
//!
//! ```
//! use formwork::{Builder, ModelConfig, Outline, params};
//!
//! let config = ModelConfig::from_json(outside_crate::CONFIG)?;
//! let model = Builder::new(config).hooks(&outside_crate::hooks()).build(&Outline)?;
//! let names: Vec<_> = params(&model).into_iter().map(|(name, _)| name).collect();
//! assert_eq!(names[1..4], ["blocks.0.attn_norm.alpha", "blocks.0.attn_norm.weight", "blocks.0.attn_norm.bias"]);
//! # Ok::<(), formwork::Error>(())
//! ```
#![forbid(unsafe_code)]

mod alibi;
mod distances;
mod dyt;
mod echo;
mod lora;
mod parallel;
mod relu_squared;
mod top_n_sigma;

pub use alibi::Alibi;
pub use distances::Distances;
pub use dyt::Dyt;
pub use echo::Echo;
pub use lora::{Lora, LoraConfig};
pub use parallel::Parallel;
pub use relu_squared::ReluSquared;
pub use top_n_sigma::TopNSigma;

use formwork::model::Hooks;

/// A model of three layers, in which each part of this crate that a config can name has a place.
pub const CONFIG: &str = include_str!("../config.json");

/// Every part that a config can name, under its name. Loading a saved model takes the same hooks.
pub fn hooks() -> Hooks {
    Hooks::default()
        .with_norm("dyt", Dyt::new)
        .with_activation("relu_squared", |_| Ok(ReluSquared))
        .with_position("alibi", Alibi::new)
        .with_attention("distances", Distances::new)
        .with_block("parallel", Parallel::new)
}
