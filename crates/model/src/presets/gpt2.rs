//! GPT-2: pre-norm, learned positions, tanh GELU, biases everywhere, head tied.
//!
//! Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*. Sizes, dropout and initialisation are
//! those of the published checkpoints' configs (`openai-community/gpt2{,-medium,-large,-xl}`); the paper's first print
//! gave 117M, 345M, 762M and 1542M parameters for the same four models.
//! Positions are drawn with 0.01 as in OpenAI's code; transformers draws them with 0.02.

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
    const DROPOUT: f64 = 0.1;
    let norm = NormConfig::Layer(LayerConfig { eps: 1e-5, bias: Bias::Learned });
    let attn = MultiHeadConfig {
        heads,
        kv_heads: None,
        head_dim: None,
        mask: Mask::Causal,
        bias: Biases::All,
        dropout: DROPOUT,
        position: PositionConfig::None(NoConfig {}),
    };
    let ffn = MlpConfig {
        hidden: 4 * dim,
        activation: ActivationConfig::GeluTanh(GeluTanh {}),
        bias: Bias::Learned,
        dropout: 0.0,
    };
    let block = BlockConfig::PreNorm(ResidualConfig {
        attn_norm: norm.clone(),
        attn: AttentionConfig::MultiHead(attn),
        ffn_norm: norm.clone(),
        ffn: FeedForwardConfig::Mlp(ffn),
        dropout: DROPOUT,
    });
    ModelConfig {
        schema: ModelConfig::SCHEMA,
        name: name.to_owned(),
        vocab: 50257,
        context: 1024,
        dim,
        embed: EmbedConfig {
            position: PositionConfig::Learned(LearnedConfig { context: None }),
            norm: None,
            dropout: DROPOUT,
        },
        blocks: vec![block; layers],
        norm: Some(norm),
        head: HeadConfig::Tied {},
        init: InitConfig { std: 0.02, position_std: Some(0.01), residual: ResidualInit::DepthScaled },
    }
}
