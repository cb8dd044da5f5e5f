//! The config tree, the builder and the presets: from a description of a language model to the model.
//!
//! - [`ModelConfig`] is the model as plain data, one entry per layer, read from and written to JSON and TOML.
//! - [`presets`] are functions that return the configs of published models.
//! - [`published`] reads and writes them as their publishers do: `config.json`, GGUF metadata, names of tensors.
//! - [`Builder`] makes a [`Transformer`] of a config and a source of numbers: a seed, an outline, a checkpoint.
//! - [`Hooks`] put a stranger's norm, activation, position encoding, attention, feed-forward layer or whole block
//!   wherever the config says `custom`.
//! - [`Description`] counts parameters, operations and bytes without any memory for weights; [`diff()`] compares configs.
//!
//! ```
//! use formwork_model::{ModelConfig, module::{Pass, Seed, TokenModel}, presets};
//! use ndarray::array;
//!
//! let mut config: ModelConfig = presets::llama3_8b();
//! (config.vocab, config.dim, config.context) = (13, 32, 16); // 32 heads of width 1 would be too narrow to turn ..
//! config.blocks.truncate(2);
//! for block in &mut config.blocks {
//!     let formwork_model::BlockConfig::PreNorm(parts) = block else { unreachable!("LLaMA is pre-norm") };
//!     let formwork_model::AttentionConfig::MultiHead(attn) = &mut parts.attn else { unreachable!("and has heads") };
//!     (attn.heads, attn.kv_heads) = (4, Some(2)); // .. so there are four of width 8
//! }
//! let model = config.build(&Seed::new(1))?;
//! let loss = model.loss(array![[1, 2, 3]].view(), array![[2, 3, 4]].view(), &mut Pass::train(1, 0))?;
//! loss.mean.backward()?;
//! assert!((loss.mean.item()? - 13f64.ln()).abs() < 0.2); // an untrained model knows nothing
//! # Ok::<(), formwork_model::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod block;
pub mod builder;
pub mod config;
mod count;
pub mod describe;
mod diff;
pub mod embed;
pub mod hooks;
pub mod outline;
mod parts;
pub mod presets;
pub mod published;
pub mod training;
pub mod transformer;

pub use block::{Branches, PostNorm, PreNorm};
pub use builder::Builder;
pub use config::{
    AttentionConfig, BlockConfig, EmbedConfig, FeedForwardConfig, GatedMlpConfig, HeadConfig, InitConfig,
    MlpConfig, ModelConfig, MultiHeadConfig, ResidualConfig, ResidualInit,
};
pub use describe::{CacheBytes, Description, Part};
pub use diff::{Difference, diff};
pub use embed::Embed;
pub use formwork_activation as activation;
pub use formwork_attention as attention;
pub use formwork_feedforward as feedforward;
pub use formwork_module as module;
pub use formwork_module::{At, Error, Result};
pub use formwork_norm as norm;
pub use formwork_position as position;
pub use hooks::{Heads, Hooks, Place};
pub use outline::{Line, Outline};
pub use training::TrainingMemory;
pub use transformer::{Block, Transformer};
