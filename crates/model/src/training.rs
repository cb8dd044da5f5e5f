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
//! known here. What does not fit 64 bits, as a config from a stranger may ask for, is the largest number that does.
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

use crate::count::sum;
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
        let tokens = b.saturating_mul(t);
        let rows = Rows(tokens);
        let all = Pool::bytes_of::<f32>(usize::try_from(parameters).unwrap_or(usize::MAX));
        let layers: Vec<Layer> = config
            .blocks
            .iter()
            .map(|block| {
                block.residual().map_or(Layer::default(), |parts| Layer::of(parts, config.dim, rows))
            })
            .collect();
        let stream = rows.of(config.dim);
        let ends = config.norm.as_ref().map_or(0, |norm| rows.statistics(norm));
        let kept = sum([stream, ends].into_iter().chain(layers.iter().map(Layer::kept)));
        // The forward's end: the hidden states, their gradient, the head's, a chunk of logits, the losses.
        let (n, d) = (config.vocab, config.dim);
        let chunk = Rows(HeadLoss::chunk_rows(tokens, [n, d]));
        let mut most = sum([kept, stream, stream, Rows(n).of(d), chunk.of(n), rows.of(1)]);
        // The backward, from the last layer to the first: what is left of the kept, and the layer's own gradients.
        let mut left = kept;
        for layer in layers.iter().rev() {
            // The layer's output is consumed; the gradient of the stream is as large.
            most = most.max(sum([left, stream, layer.feedforward_passing]));
            left = left.saturating_sub(layer.feedforward);
            most = most.max(sum([left, stream, stream, layer.attention_passing]));
            left = left.saturating_sub(layer.stream.saturating_add(layer.attention));
        }
        Self { parameters: all, gradients: all, moments: all.saturating_mul(2), kept, passing: most - kept }
    }

    /// Parameters, gradients and moments: what is there between steps.
    pub fn fixed(&self) -> u64 {
        sum([self.parameters, self.gradients, self.moments])
    }

    /// The most that is in use at one time.
    pub fn peak(&self) -> u64 {
        sum([self.fixed(), self.kept, self.passing])
    }
}

/// The tokens of a batch.
#[derive(Clone, Copy)]
struct Rows(usize);

impl Rows {
    /// Bytes of a tensor with so many numbers per token.
    fn of(self, width: usize) -> u64 {
        if width == 0 { 0 } else { Pool::bytes_of::<f32>(self.0.saturating_mul(width)) }
    }

    /// What a norm keeps beside its input and its result.
    fn statistics(self, norm: &NormConfig) -> u64 {
        match norm {
            NormConfig::Layer(_) => sum([self.of(1); 2]),
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
        let norms = sum([&parts.attn_norm, &parts.ffn_norm].map(|norm| rows.statistics(norm)));
        let heads = match &parts.attn {
            AttentionConfig::MultiHead(a) => {
                let [width, kv] = [a.heads, a.kv_heads()].map(|n| rows.of(n.saturating_mul(a.head_dim(d))));
                Some((sum([width, width, kv, kv]), rows.of(a.heads)))
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
            stream: rows.of(d).saturating_mul(4).saturating_add(norms),
            attention: heads.map_or(0, |(tensors, lse)| tensors.saturating_add(lse)),
            feedforward: rows.of(f).saturating_mul(kept),
            attention_passing: heads.map_or(0, |(tensors, _)| tensors),
            feedforward_passing: rows.of(f).saturating_mul(passing),
        }
    }

    fn kept(&self) -> u64 {
        sum([self.stream, self.attention, self.feedforward])
    }
}
