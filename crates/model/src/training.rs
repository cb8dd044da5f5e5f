//! The memory of a training step, computed before it begins.
//!
//! A step holds four numbers per parameter: itself, its gradient and two moments. What a forward keeps for its backward
//! grows with the tokens `N = b·t` of a batch; per token a layer keeps
//!
//! - two normed inputs, the two sums they were normed from, and the norms' statistics: `4d + 2` or `4d + 4`;
//! - queries, keys, values, the heads' output and its log-sum-exp: `(2h + 2g)·e + h`;
//! - the hidden rows before the activation: `f`, or `2f` if gated; `f` more with dropout on them.
//!
//! On top comes what is only passing. At the end of the forward: the gradient of the head `[n, d]`, that of the hidden
//! states, and a chunk of logits. In the backward: a layer's own gradients, while what it kept is still there. The peak is
//! the larger of the two. Each piece counts with the size that a [`Pool`] gives it. It is the
//! `peak` of [`Pool::stats`] after a step with one batch, but for what a stranger's part keeps and passes, which is not
//! known here.
//!
//! ```
//! use formwork_model::{Builder, TrainingMemory, presets};
//! let memory = TrainingMemory::of(&Builder::new(presets::gpt2_small()), [4, 256])?;
//! assert!((1.99e9..2.05e9).contains(&(memory.fixed() as f64))); // 16 bytes for each of 124 M parameters
//! assert!((2.6e9..2.8e9).contains(&(memory.peak() as f64)));
//! # Ok::<(), formwork_model::Error>(())
//! ```

use formwork_module::{HeadLoss, Pool};
use formwork_norm::NormConfig;
use serde::Serialize;

use crate::{AttentionConfig, Builder, FeedForwardConfig, ModelConfig, Outline, ResidualConfig, Result};

/// Bytes of a training step; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// The parameters.
    pub parameters: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The two moments of AdamW.
    pub moments: u64,
    /// What a forward keeps for its backward.
    pub kept: u64,
    /// The most that is there beside all that at one time.
    pub passing: u64,
}

impl TrainingMemory {
    /// The memory of a step over one batch `[b, t]` in which every parameter learns, in `f32`; products in bf16 take the
    /// same.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn of(builder: &Builder, batch: [usize; 2]) -> Result<Self> {
        Ok(Self::outlined(builder.config(), Outline::of(builder)?.parameters(), batch))
    }

    pub(crate) fn outlined(config: &ModelConfig, parameters: u64, [b, t]: [usize; 2]) -> Self {
        let rows = Rows(b * t);
        let all = Pool::bytes_of::<f32>(parameters as usize);
        let layers: Vec<Layer> = config
            .blocks
            .iter()
            .map(|block| {
                block.residual().map_or(Layer::default(), |parts| Layer::of(parts, config.dim, rows))
            })
            .collect();
        let stream = rows.of(config.dim);
        let ends = stream + config.norm.as_ref().map_or(0, |norm| rows.statistics(norm));
        let kept = ends + layers.iter().map(Layer::kept).sum::<u64>();
        // The forward's end: the hidden states, their gradient, the head's, a chunk of logits, the losses.
        let (n, d) = (config.vocab, config.dim);
        let chunk = HeadLoss::chunk_rows(b * t, [n, d]);
        let head = Pool::bytes_of::<f32>(n * d) + Pool::bytes_of::<f32>(chunk * n) + rows.of(1);
        let mut most = kept + 2 * stream + head;
        // The backward, from the last layer to the first: what is left of the kept, and the layer's own gradients.
        let mut left = kept;
        for layer in layers.iter().rev() {
            // The layer's output is consumed; the gradient of the stream is as large.
            most = most.max(left + stream + layer.feedforward_passing);
            left -= layer.feedforward;
            most = most.max(left + 2 * stream + layer.attention_passing);
            left -= layer.kept() - layer.feedforward;
        }
        Self { parameters: all, gradients: all, moments: 2 * all, kept, passing: most - kept }
    }

    /// Parameters, gradients and moments: what is there between steps.
    pub fn fixed(&self) -> u64 {
        self.parameters + self.gradients + self.moments
    }

    /// The most that is in use at one time.
    pub fn peak(&self) -> u64 {
        self.fixed() + self.kept + self.passing
    }
}

/// The tokens of a batch.
#[derive(Clone, Copy)]
struct Rows(usize);

impl Rows {
    /// Bytes of a tensor with so many numbers per token.
    fn of(self, width: usize) -> u64 {
        if width == 0 { 0 } else { Pool::bytes_of::<f32>(self.0 * width) }
    }

    /// What a norm keeps beside its input and its result.
    fn statistics(self, norm: &NormConfig) -> u64 {
        match norm {
            NormConfig::Layer(_) => 2 * self.of(1),
            NormConfig::Rms(_) => self.of(1),
            NormConfig::Custom(_) => 0,
        }
    }
}

/// Bytes of a layer.
#[derive(Default)]
struct Layer {
    /// Kept by norms and the stream.
    stream: u64,
    /// Kept by attention.
    attention: u64,
    /// Kept by the feed-forward layer.
    feedforward: u64,
    /// Passing in the backward of attention: the gradients of queries, keys, values and heads.
    attention_passing: u64,
    /// Passing in the backward of the second half of the feed-forward layer: hidden rows, their gradient, and the
    /// gradients of what they were computed from.
    feedforward_passing: u64,
}

impl Layer {
    fn of(parts: &ResidualConfig, d: usize, rows: Rows) -> Self {
        let norms = rows.statistics(&parts.attn_norm) + rows.statistics(&parts.ffn_norm);
        let heads = match &parts.attn {
            AttentionConfig::MultiHead(a) => {
                let (width, kv) = (a.heads * a.head_dim(d), a.kv_heads() * a.head_dim(d));
                Some((2 * rows.of(width) + 2 * rows.of(kv), rows.of(a.heads)))
            }
            AttentionConfig::Custom(_) => None,
        };
        // How many hidden tensors are kept, and how many are passing.
        let (f, kept, passing) = match &parts.ffn {
            FeedForwardConfig::Mlp(ffn) => (ffn.hidden, 1 + u64::from(ffn.dropout > 0.0), 3),
            FeedForwardConfig::Gated(ffn) => (ffn.hidden, 2 + u64::from(ffn.dropout > 0.0), 4),
            FeedForwardConfig::Custom(_) => (0, 0, 0),
        };
        Self {
            stream: 4 * rows.of(d) + norms,
            attention: heads.map_or(0, |(tensors, lse)| tensors + lse),
            feedforward: kept * rows.of(f),
            attention_passing: heads.map_or(0, |(tensors, _)| tensors),
            feedforward_passing: passing * rows.of(f),
        }
    }

    fn kept(&self) -> u64 {
        self.stream + self.attention + self.feedforward
    }
}
