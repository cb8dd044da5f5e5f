//! LLaMA 3, 3.1 and 3.2: vocabulary 128256, theta 500,000, eight key heads in every size.
//!
//! Grattafiori et al. 2024, <https://arxiv.org/abs/2407.21783>, and the published checkpoints' configs. 3.1 and 3.2 reach a
//! context of 131072 by scaled frequencies, factor 8 in 3.1 and 32 in 3.2; the two small models of 3.2 tie their heads.

use formwork_position::{Llama3Scaling, Pairs, RopeConfig, RopeScaling};

use super::Llama;
use crate::ModelConfig;

/// LLaMA 3 8B, 8,030,261,248 parameters.
pub fn llama3_8b() -> ModelConfig {
    Llama { hidden: 14336, ..base() }.named("llama3-8b")
}

/// LLaMA 3 70B, 70,553,706,496 parameters.
pub fn llama3_70b() -> ModelConfig {
    Llama { layers: 80, dim: 8192, heads: 64, hidden: 28672, ..base() }.named("llama3-70b")
}

/// LLaMA 3.1 405B, 405,853,388,800 parameters.
pub fn llama3_1_405b() -> ModelConfig {
    Llama { layers: 126, dim: 16384, heads: 128, hidden: 53248, ..scaled(8.0) }.named("llama3.1-405b")
}

/// LLaMA 3.2 1B, 1,235,814,400 parameters.
pub fn llama3_2_1b() -> ModelConfig {
    Llama { layers: 16, dim: 2048, heads: 32, hidden: 8192, is_tied: true, ..scaled(32.0) }
        .named("llama3.2-1b")
}

/// LLaMA 3.2 3B, 3,212,749,824 parameters.
pub fn llama3_2_3b() -> ModelConfig {
    Llama { layers: 28, dim: 3072, heads: 24, hidden: 8192, is_tied: true, ..scaled(32.0) }
        .named("llama3.2-3b")
}

fn base() -> Llama {
    Llama {
        kv_heads: Some(8),
        vocab: 128_256,
        context: 8192,
        rope: RopeConfig::new(5e5, Pairs::Halves),
        eps: 1e-5,
        ..Llama::default()
    }
}

fn scaled(factor: f64) -> Llama {
    let scaling =
        Llama3Scaling { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    let base = base();
    let rope = RopeConfig { scaling: Some(RopeScaling::Llama3(scaling)), ..base.rope };
    Llama { context: 131_072, rope, ..base }
}
