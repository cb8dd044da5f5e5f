//! LLaMA 3: vocabulary 128256, context 8192, theta 500,000, eight key heads in every size.
//!
//! Grattafiori et al. 2024, <https://arxiv.org/abs/2407.21783>, and the published checkpoints' configs.

use super::llama::Llama;
use crate::ModelConfig;

/// LLaMA 3 8B, 8,030,261,248 parameters.
pub fn llama3_8b() -> ModelConfig {
    Llama { name: "llama3-8b", layers: 32, dim: 4096, heads: 32, hidden: 14336, ..BASE }.config()
}

/// LLaMA 3 70B, 70,553,706,496 parameters.
pub fn llama3_70b() -> ModelConfig {
    Llama { name: "llama3-70b", layers: 80, dim: 8192, heads: 64, hidden: 28672, ..BASE }.config()
}

const BASE: Llama = Llama {
    name: "",
    layers: 0,
    dim: 0,
    heads: 0,
    kv_heads: 8,
    hidden: 0,
    vocab: 128256,
    context: 8192,
    theta: 5e5,
    eps: 1e-5,
};
