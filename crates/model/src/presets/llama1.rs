//! LLaMA 1: vocabulary 32000, context 2048.
//!
//! Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>, table 2, which rounds 7B, 13B, 33B and 65B; hidden widths,
//! vocabulary and eps are those of the published checkpoints' configs. The eps of the 65B model is unverified.

use super::llama::Llama;
use crate::ModelConfig;

/// LLaMA 1 7B, 6,738,415,616 parameters.
pub fn llama1_7b() -> ModelConfig {
    llama1(Llama { name: "llama1-7b", layers: 32, dim: 4096, heads: 32, hidden: 11008, ..BASE })
}

/// LLaMA 1 13B, 13,015,864,320 parameters.
pub fn llama1_13b() -> ModelConfig {
    llama1(Llama { name: "llama1-13b", layers: 40, dim: 5120, heads: 40, hidden: 13824, ..BASE })
}

/// LLaMA 1 33B, 32,528,943,616 parameters.
pub fn llama1_33b() -> ModelConfig {
    llama1(Llama { name: "llama1-33b", layers: 60, dim: 6656, heads: 52, hidden: 17920, ..BASE })
}

/// LLaMA 1 65B, 65,285,660,672 parameters. Its eps of 1e-5 is unverified.
pub fn llama1_65b() -> ModelConfig {
    llama1(Llama { name: "llama1-65b", layers: 80, dim: 8192, heads: 64, hidden: 22016, eps: 1e-5, ..BASE })
}

const BASE: Llama = Llama {
    name: "",
    layers: 0,
    dim: 0,
    heads: 0,
    kv_heads: 0,
    hidden: 0,
    vocab: 32000,
    context: 2048,
    theta: 1e4,
    eps: 1e-6,
};

fn llama1(model: Llama) -> ModelConfig {
    Llama { kv_heads: model.heads, ..model }.config()
}
