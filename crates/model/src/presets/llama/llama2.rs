//! LLaMA 2: as LLaMA 1 with context 4096 and eps 1e-5; the two large models share keys between query heads.
//!
//! Touvron et al. 2023, <https://arxiv.org/abs/2307.09288>. Hidden widths, vocabulary and eps are those of the
//! published checkpoints' configs. The 34B model was trained and never released: its sizes are those of Code LLaMA 34B,
//! which was trained from it.

use super::Llama;
use crate::ModelConfig;

/// LLaMA 2 7B, 6,738,415,616 parameters.
pub fn llama2_7b() -> ModelConfig {
    size_7b().named("llama2-7b")
}

/// LLaMA 2 13B, 13,015,864,320 parameters.
pub fn llama2_13b() -> ModelConfig {
    size_13b().named("llama2-13b")
}

/// LLaMA 2 34B, 33,743,970,304 parameters; never released, see the module.
pub fn llama2_34b() -> ModelConfig {
    size_34b().named("llama2-34b")
}

/// LLaMA 2 70B, 68,976,648,192 parameters.
pub fn llama2_70b() -> ModelConfig {
    Llama { layers: 80, dim: 8192, heads: 64, kv_heads: Some(8), hidden: 28672, ..base() }.named("llama2-70b")
}

pub(super) fn size_7b() -> Llama {
    base()
}

pub(super) fn size_13b() -> Llama {
    Llama { layers: 40, dim: 5120, heads: 40, hidden: 13824, ..base() }
}

pub(super) fn size_34b() -> Llama {
    Llama { layers: 48, dim: 8192, heads: 64, kv_heads: Some(8), hidden: 22016, ..base() }
}

fn base() -> Llama {
    Llama { context: 4096, eps: 1e-5, ..Llama::default() }
}
