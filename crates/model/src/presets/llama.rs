//! What the LLaMA families share: pre-norm RMSNorm, rotary positions, SwiGLU, no biases, head of its own.
//!
//! Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>. Rotary pairs are in halves, the layout of the published
//! transformers checkpoints; Meta's own files interleave them, and loading those permutes the rows of q and k.
//! The standard deviation 0.02 is that of the transformers configs; the papers do not give one (assumption).

use formwork_activation::{ActivationConfig, Silu};
use formwork_attention::Biases;
use formwork_module::{Bias, Mask};
use formwork_norm::{NormConfig, RmsConfig};
use formwork_position::{Pairs, PositionConfig, RopeConfig};

use crate::{
    AttentionConfig, BlockConfig, EmbedConfig, FeedForwardConfig, GatedMlpConfig, HeadConfig, InitConfig,
    ModelConfig, MultiHeadConfig, ResidualConfig, ResidualInit,
};

/// The numbers in which the models differ.
#[derive(Clone, Copy)]
pub(super) struct Llama {
    pub(super) name: &'static str,
    pub(super) layers: usize,
    pub(super) dim: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) hidden: usize,
    pub(super) vocab: usize,
    pub(super) context: usize,
    pub(super) theta: f64,
    pub(super) eps: f64,
}

impl Llama {
    pub(super) fn config(self) -> ModelConfig {
        let norm = NormConfig::Rms(RmsConfig { eps: self.eps });
        let attn = MultiHeadConfig {
            heads: self.heads,
            kv_heads: (self.kv_heads != self.heads).then_some(self.kv_heads),
            head_dim: None,
            mask: Mask::Causal,
            bias: Biases::None,
            dropout: 0.0,
            position: PositionConfig::Rope(RopeConfig {
                theta: self.theta,
                pairs: Pairs::Halves,
                rotary_dim: None,
            }),
        };
        let ffn = GatedMlpConfig {
            hidden: self.hidden,
            activation: ActivationConfig::Silu(Silu {}),
            bias: Bias::None,
            dropout: 0.0,
        };
        let block = BlockConfig::PreNorm(ResidualConfig {
            attn_norm: norm.clone(),
            attn: AttentionConfig::MultiHead(attn),
            ffn_norm: norm.clone(),
            ffn: FeedForwardConfig::Gated(ffn),
            dropout: 0.0,
        });
        ModelConfig {
            schema: ModelConfig::SCHEMA,
            name: self.name.to_owned(),
            vocab: self.vocab,
            context: self.context,
            dim: self.dim,
            embed: EmbedConfig::default(),
            blocks: vec![block; self.layers],
            norm: Some(norm),
            head: HeadConfig::Untied {},
            init: InitConfig { std: 0.02, position_std: None, residual: ResidualInit::Plain },
        }
    }
}
