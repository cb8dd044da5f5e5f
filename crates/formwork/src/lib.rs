//! Composable transformer building blocks: one crate to depend on.
//!
//! Everything here is re-exported from the crate that owns it, so that a program can start with `formwork` and a library
//! can depend on `formwork-attention` alone. A model is a config, and a config is plain data:
//!
//! ```
//! use formwork::{Builder, ModelConfig, Pass, Positions, Seed, TokenModel, presets};
//! use ndarray::array;
//!
//! let mut config = (presets::find("llama3-8b")?.config)();
//! (config.vocab, config.dim) = (17, 64); // 32 heads of width 2, 8 of keys and values
//! config.blocks.truncate(2);
//! let model = Builder::new(config).build(&Seed::new(1))?;
//! let logits = model.logits(array![[3, 1, 4]].view(), Positions::Last, &mut Pass::infer())?;
//! assert_eq!(**logits.shape(), [1, 17]);
//! # Ok::<(), formwork::Error>(())
//! ```
//!
//! | to | start at |
//! |---|---|
//! | describe a model | [`ModelConfig`], [`presets`] |
//! | build it | [`Builder`] with a [`Seed`], an [`Outline`], or [`recipes::load`] for a folder |
//! | run it | [`TokenModel::logits`], [`generate`] |
//! | train it | [`train`], [`recipes::fit`] |
//! | write a part of your own | [`Module`], [`Norm`], [`Position`], [`Op`], and `docs/ADDING.md` |
#![forbid(unsafe_code)]

pub use formwork_activation as activation;
pub use formwork_attention as attention;
pub use formwork_checkpoint as checkpoint;
pub use formwork_feedforward as feedforward;
pub use formwork_formats as formats;
pub use formwork_generate as generate;
pub use formwork_kernels as kernels;
pub use formwork_model as model;
pub use formwork_module as module;
pub use formwork_norm as norm;
pub use formwork_position as position;
pub use formwork_quant as quant;
pub use formwork_recipes as recipes;
pub use formwork_tensor as tensor;
pub use formwork_tokenizer as tokenizer;
pub use formwork_train as train;

pub use formwork_kernels::team::with_threads;
pub use formwork_model::{Builder, ModelConfig, Transformer, presets};
pub use formwork_module::{
    Activation, At, DType, Error, HeadLoss, KvCache, Linear, Loss, Mask, Module, Norm, Outline, Param, Pass,
    Pool, Position, Positions, Result, Rows, Scope, Seed, Source, Tensor, TokenModel, Visit, VisitMut,
    Weight, children, params,
};
pub use formwork_tensor::{GradSink, Op, Outputs, Saved, Variable};
pub use formwork_tokenizer::Tokenizer;

/// The program in the README, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
