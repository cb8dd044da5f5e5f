//! What a model takes: parameters, operations, bytes, from its outline alone.
//!
//! - **Operations** of one token's forward pass, a multiplication and an addition counted as two:
//!   `2 · Σ matrices + Σ_layers 4·h·e·keys`. Matrices are all parameters of two axes except tables that are only looked
//!   up; a tied table is the head and counts. `keys` is how many keys a token of a full context sees on average:
//!   `(context + 1) / 2` under a causal mask, `context` under a bidirectional one. Norms, softmax and activations are
//!   left out, below 1% in any model of size. A training step takes about three times as much.
//! - **Cache**: `Σ_layers 2·g·e` numbers per token; in blocks, a head's row is filled up to whole ones.
//! - **Training**: the peak of a step over one full context, as [`TrainingMemory`] computes it.
//!
//! A stranger's part counts with its parameters; its attention, cache and activations are not known here.
//!
//! ```
//! use formwork_model::{Builder, Description, presets};
//!
//! let small = Description::of(&Builder::new(presets::gpt2_small()))?;
//! assert_eq!((small.parameters, small.kv_bytes_per_token), (124_439_808, 36_864));
//! let by_type: Vec<_> = small.kv_bytes_by_type.iter().map(|of| (of.cache.name(), of.bytes_per_token)).collect();
//! assert_eq!(by_type, [("f32", 73_728), ("bf16", 36_864), ("q8_0", 19_584)]);
//! // 2 · (12 · 12 · 768² + 50257 · 768) in matrices, 12 · 4 · 768 · 1025 / 2 in attention
//! assert_eq!(small.flops_per_token, 2 * (84_934_656 + 38_597_376) + 18_892_800);
//! # Ok::<(), formwork_model::Error>(())
//! ```

use std::iter;

use formwork_module::{CacheType, Mask};
use serde::Serialize;

use crate::count::{product, sum};
use crate::{
    Builder, HeadConfig, ModelConfig, MultiHeadConfig, Outline, Result, TrainingMemory, outline::starred,
};

/// What a model is and takes; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// The config's name.
    pub name: String,
    /// The config, its layers in the shortest form.
    pub config: serde_json::Value,
    /// Number of parameters; a tied table counts once.
    pub parameters: u64,
    /// The same by part, in building order.
    pub parameters_by_part: Vec<Part>,
    /// Operations of one token's forward pass, averaged over a full context.
    pub flops_per_token: u64,
    /// Bytes per token of a cache of 16-bit numbers, as models are usually compared.
    pub kv_bytes_per_token: u64,
    /// Bytes per token of a cache of each type, as it is in memory.
    pub kv_bytes_by_type: Vec<CacheBytes>,
    /// Bytes of the weights as 32-bit numbers.
    pub weight_bytes: u64,
    /// The most bytes in use in a training step over one full context: [`TrainingMemory::peak`].
    pub training_bytes: u64,
}

/// The parameters that belong together, over all layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The path, with `*` for the layer: `blocks.*.attn`.
    pub name: String,
    /// Number of parameters.
    pub parameters: u64,
}

/// What a cache of one type takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CacheBytes {
    /// How keys and values are stored.
    pub cache: CacheType,
    /// Bytes of one token's keys and values in all layers.
    pub bytes_per_token: u64,
}

impl CacheBytes {
    fn of(config: &ModelConfig, cache: CacheType) -> Self {
        let row = |attn: &MultiHeadConfig| {
            product([2, attn.kv_heads(), cache.row_bytes(attn.head_dim(config.dim))])
        };
        Self { cache, bytes_per_token: sum(heads(config).map(row)) }
    }
}

impl Description {
    /// Describes what a builder would build; no memory is taken for weights.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn of(builder: &Builder) -> Result<Self> {
        let (config, outline) = (builder.config(), Outline::of(builder)?);
        let parameters = outline.parameters();
        let cached = sum(heads(config).map(|attn| product([2, attn.kv_heads(), attn.head_dim(config.dim)])));
        Ok(Self {
            name: config.name.clone(),
            config: crate::config::compact(config),
            parameters,
            parameters_by_part: by_part(&outline),
            flops_per_token: flops(config, &outline),
            kv_bytes_per_token: cached.saturating_mul(2),
            kv_bytes_by_type: CacheType::ALL.map(|cache| CacheBytes::of(config, cache)).into(),
            weight_bytes: parameters.saturating_mul(4),
            training_bytes: TrainingMemory::outlined(config, parameters, [1, config.context]).peak(),
        })
    }
}

/// The attentions of our own kind.
fn heads(config: &ModelConfig) -> impl Iterator<Item = &MultiHeadConfig> {
    config.blocks.iter().filter_map(|block| block.multi_head())
}

fn by_part(outline: &Outline) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for line in &outline.lines {
        let name = starred(&line.name);
        // Down to `embed.tokens`, `blocks.*.attn`, `norm`; the last segment is the parameter's own name.
        let depth = if name.starts_with("blocks.") { 3 } else { 2 };
        let segments: Vec<_> = name.split('.').collect();
        let name = segments[..depth.min(segments.len() - 1)].join(".");
        let parameters = line.shape.len() as u64;
        match parts.iter_mut().find(|part| part.name == name) {
            Some(part) => part.parameters = sum([part.parameters, parameters]),
            None => parts.push(Part { name, parameters }),
        }
    }
    parts
}

fn flops(config: &ModelConfig, outline: &Outline) -> u64 {
    let looked_up = |name: &str| match name {
        "embed.tokens.weight" => matches!(config.head, HeadConfig::Untied {}),
        name => name.starts_with("embed.position."),
    };
    let matrices = outline.lines.iter().filter(|line| line.shape.rank() == 2 && !looked_up(&line.name));
    let matrices = sum(matrices.map(|line| line.shape.len() as u64)).saturating_mul(2);
    let scores = heads(config).map(|attn| {
        let (width, context) = ([attn.heads, attn.head_dim(config.dim)], config.context);
        let seen = match attn.mask {
            Mask::Causal => [2, context.saturating_add(1)],
            _ => [4, context],
        };
        product(width.into_iter().chain(seen))
    });
    sum(iter::once(matrices).chain(scores))
}
