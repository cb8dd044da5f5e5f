//! LLaMA 2: as LLaMA 1 with context 4096 and eps 1e-5; the two large models share keys between query heads.
//!
//! Touvron et al. 2023, <https://arxiv.org/abs/2307.09288>. Hidden widths, vocabulary and eps are those of the
//! published checkpoints' configs. The 34B model was trained and never released: its sizes are those of Code LLaMA 34B,
//! which was trained from it.

use super::llama::Llama;
use crate::ModelConfig;

/// LLaMA 2 7B, 6,738,415,616 parameters.
pub fn llama2_7b() -> ModelConfig {
    Llama { name: "llama2-7b", layers: 32, dim: 4096, heads: 32, kv_heads: 32, hidden: 11008, ..BASE }
        .config()
}

/// LLaMA 2 13B, 13,015,864,320 parameters.
pub fn llama2_13b() -> ModelConfig {
    Llama { name: "llama2-13b", layers: 40, dim: 5120, heads: 40, kv_heads: 40, hidden: 13824, ..BASE }
        .config()
}

/// LLaMA 2 34B, 33,743,970,304 parameters; never released, see the module.
pub fn llama2_34b() -> ModelConfig {
    Llama { name: "llama2-34b", layers: 48, dim: 8192, heads: 64, kv_heads: 8, hidden: 22016, ..BASE }
        .config()
}

/// LLaMA 2 70B, 68,976,648,192 parameters.
pub fn llama2_70b() -> ModelConfig {
    Llama { name: "llama2-70b", layers: 80, dim: 8192, heads: 64, kv_heads: 8, hidden: 28672, ..BASE }
        .config()
}

const BASE: Llama = Llama {
    name: "",
    layers: 0,
    dim: 0,
    heads: 0,
    kv_heads: 0,
    hidden: 0,
    vocab: 32000,
    context: 4096,
    theta: 1e4,
    eps: 1e-5,
};
