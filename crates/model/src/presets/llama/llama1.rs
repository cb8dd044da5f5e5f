//! LLaMA 1: vocabulary 32000, context 2048.
//!
//! Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>, table 2, which rounds 7B, 13B, 33B and 65B; hidden widths,
//! vocabulary and eps are those of the published checkpoints' configs. The eps of the 65B model is unverified.

use super::Llama;
use crate::ModelConfig;

/// LLaMA 1 7B, 6,738,415,616 parameters.
pub fn llama1_7b() -> ModelConfig {
    Llama::default().named("llama1-7b")
}

/// LLaMA 1 13B, 13,015,864,320 parameters.
pub fn llama1_13b() -> ModelConfig {
    Llama { layers: 40, dim: 5120, heads: 40, hidden: 13824, ..Llama::default() }.named("llama1-13b")
}

/// LLaMA 1 33B, 32,528,943,616 parameters.
pub fn llama1_33b() -> ModelConfig {
    Llama { layers: 60, dim: 6656, heads: 52, hidden: 17920, ..Llama::default() }.named("llama1-33b")
}

/// LLaMA 1 65B, 65,285,660,672 parameters. Its eps of 1e-5 is unverified.
pub fn llama1_65b() -> ModelConfig {
    Llama { layers: 80, dim: 8192, heads: 64, hidden: 22016, eps: 1e-5, ..Llama::default() }
        .named("llama1-65b")
}
