//! GPT-2: pre-norm, learned positions, tanh GELU, biases everywhere, head tied.
//!
//! Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*. Sizes, dropout and initialisation are
//! those of the published checkpoints' configs (`openai-community/gpt2{,-medium,-large,-xl}`); the paper's first print
//! gave 117M, 345M, 762M and 1542M parameters for the same four models.
//! Positions are drawn with 0.01 as in OpenAI's code; transformers draws them with 0.02.

mod layout;

use formwork_activation::{ActivationConfig, GeluTanh};
use formwork_attention::Biases;
use formwork_module::{Bias, Mask};
use formwork_norm::{LayerConfig, NormConfig};
use formwork_position::{LearnedConfig, NoConfig, PositionConfig};

use crate::{
    AttentionConfig, BlockConfig, EmbedConfig, FeedForwardConfig, HeadConfig, InitConfig, MlpConfig,
    ModelConfig, MultiHeadConfig, ResidualConfig, ResidualInit,
};

/// GPT-2, 124,439,808 parameters.
pub fn gpt2_small() -> ModelConfig {
    gpt2("gpt2-small", 12, 768, 12)
}

/// GPT-2 medium, 354,823,168 parameters.
pub fn gpt2_medium() -> ModelConfig {
    gpt2("gpt2-medium", 24, 1024, 16)
}

/// GPT-2 large, 774,030,080 parameters.
pub fn gpt2_large() -> ModelConfig {
    gpt2("gpt2-large", 36, 1280, 20)
}

/// GPT-2 XL, 1,557,611,200 parameters.
pub fn gpt2_xl() -> ModelConfig {
    gpt2("gpt2-xl", 48, 1600, 25)
}

fn gpt2(name: &str, layers: usize, dim: usize, heads: usize) -> ModelConfig {
    Gpt2 { name: name.to_owned(), layers, dim, heads, ..Gpt2::default() }.config()
}

/// The numbers in which models of GPT-2's layout differ.
#[derive(Clone)]
pub(crate) struct Gpt2 {
    name: String,
    vocab: usize,
    context: usize,
    dim: usize,
    layers: usize,
    heads: usize,
    /// `4 · dim` if not given.
    hidden: Option<usize>,
    activation: ActivationConfig,
    /// On the embeddings, on the probabilities, and on what a branch adds to the stream.
    embed_dropout: f64,
    attn_dropout: f64,
    residual_dropout: f64,
    eps: f64,
    std: f64,
    is_tied: bool,
}

/// The smallest model, which is also what transformers' `GPT2Config` means by fields that are left out.
impl Default for Gpt2 {
    fn default() -> Self {
        const DROPOUT: f64 = 0.1;
        Self {
            name: String::new(),
            vocab: 50257,
            context: 1024,
            dim: 768,
            layers: 12,
            heads: 12,
            hidden: None,
            activation: ActivationConfig::GeluTanh(GeluTanh {}),
            embed_dropout: DROPOUT,
            attn_dropout: DROPOUT,
            residual_dropout: DROPOUT,
            eps: 1e-5,
            std: 0.02,
            is_tied: true,
        }
    }
}

impl Gpt2 {
    fn config(self) -> ModelConfig {
        let norm = NormConfig::Layer(LayerConfig { eps: self.eps, bias: Bias::Learned });
        let attn = MultiHeadConfig {
            heads: self.heads,
            kv_heads: None,
            head_dim: None,
            mask: Mask::Causal,
            bias: Biases::All,
            dropout: self.attn_dropout,
            position: PositionConfig::None(NoConfig {}),
        };
        let ffn = MlpConfig {
            hidden: self.hidden.unwrap_or(4 * self.dim),
            activation: self.activation,
            bias: Bias::Learned,
            dropout: 0.0,
        };
        let block = BlockConfig::PreNorm(ResidualConfig {
            attn_norm: norm.clone(),
            attn: AttentionConfig::MultiHead(attn),
            ffn_norm: norm.clone(),
            ffn: FeedForwardConfig::Mlp(ffn),
            dropout: self.residual_dropout,
        });
        ModelConfig {
            schema: ModelConfig::SCHEMA,
            name: self.name,
            vocab: self.vocab,
            context: self.context,
            dim: self.dim,
            embed: EmbedConfig {
                position: PositionConfig::Learned(LearnedConfig { context: None }),
                norm: None,
                dropout: self.embed_dropout,
            },
            blocks: vec![block; self.layers],
            norm: Some(norm),
            head: if self.is_tied { HeadConfig::Tied {} } else { HeadConfig::Untied {} },
            init: InitConfig { std: self.std, position_std: Some(0.01), residual: ResidualInit::DepthScaled },
        }
    }
}
