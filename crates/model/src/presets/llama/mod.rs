//! What the LLaMA families share: pre-norm RMSNorm, rotary positions, SwiGLU, no biases, mostly a head of its own.
//!
//! Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>. Rotary pairs are in halves, the layout of the published
//! transformers checkpoints; Meta's own files and GGUF interleave them.
//! The standard deviation 0.02 is that of the transformers configs; the papers do not give one (assumption).

pub mod code_llama;
mod layout;
pub mod llama1;
pub mod llama2;
pub mod llama3;
mod rope;
pub mod smollm2;

use formwork_activation::{ActivationConfig, Silu};
use formwork_attention::Biases;
use formwork_module::{Bias, Mask};
use formwork_norm::{NormConfig, RmsConfig};
use formwork_position::{Pairs, PositionConfig, RopeConfig};

use crate::{
    AttentionConfig, BlockConfig, EmbedConfig, FeedForwardConfig, GatedMlpConfig, HeadConfig, InitConfig,
    ModelConfig, MultiHeadConfig, ResidualConfig, ResidualInit, published::layout::divides,
};

/// The numbers in which models of LLaMA's layout differ.
#[derive(Clone)]
pub(crate) struct Llama {
    name: String,
    vocab: usize,
    context: usize,
    dim: usize,
    layers: usize,
    heads: usize,
    /// `heads` if not given.
    kv_heads: Option<usize>,
    /// `dim / heads` if not given.
    head_dim: Option<usize>,
    hidden: usize,
    activation: ActivationConfig,
    rope: RopeConfig,
    eps: f64,
    bias: Biases,
    has_mlp_bias: bool,
    /// On the probabilities.
    dropout: f64,
    std: f64,
    is_tied: bool,
}

/// LLaMA 1 7B, which is also what transformers' `LlamaConfig` means by fields that are left out.
impl Default for Llama {
    fn default() -> Self {
        Self {
            name: String::new(),
            vocab: 32000,
            context: 2048,
            dim: 4096,
            layers: 32,
            heads: 32,
            kv_heads: None,
            head_dim: None,
            hidden: 11008,
            activation: ActivationConfig::Silu(Silu {}),
            rope: RopeConfig::new(1e4, Pairs::Halves),
            eps: 1e-6,
            bias: Biases::None,
            has_mlp_bias: false,
            dropout: 0.0,
            std: 0.02,
            is_tied: false,
        }
    }
}

impl Llama {
    fn named(self, name: &str) -> ModelConfig {
        Self { name: name.to_owned(), ..self }.config()
    }

    fn config(self) -> ModelConfig {
        let norm = NormConfig::Rms(RmsConfig { eps: self.eps });
        let attn = MultiHeadConfig {
            heads: self.heads,
            kv_heads: self.kv_heads.filter(|kv_heads| *kv_heads != self.heads),
            head_dim: self.head_dim.filter(|head_dim| !divides(*head_dim, self.heads, self.dim)),
            mask: Mask::Causal,
            bias: self.bias,
            dropout: self.dropout,
            position: PositionConfig::Rope(self.rope),
        };
        let ffn = GatedMlpConfig {
            hidden: self.hidden,
            activation: self.activation,
            bias: if self.has_mlp_bias { Bias::Learned } else { Bias::None },
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
            name: self.name,
            vocab: self.vocab,
            context: self.context,
            dim: self.dim,
            embed: EmbedConfig::default(),
            blocks: vec![block; self.layers],
            norm: Some(norm),
            head: if self.is_tied { HeadConfig::Tied {} } else { HeadConfig::Untied {} },
            init: InitConfig { std: self.std, position_std: None, residual: ResidualInit::Plain },
        }
    }

    /// Width of a head; 0 for 0 heads.
    fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or_else(|| self.dim.checked_div(self.heads).unwrap_or(0))
    }

    /// Key and value heads.
    fn kv_heads(&self) -> usize {
        self.kv_heads.unwrap_or(self.heads)
    }
}
