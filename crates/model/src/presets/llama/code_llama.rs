//! Code LLaMA: LLaMA 2 trained on for code, with theta 1,000,000 and context 16384.
//!
//! Rozière et al. 2023, <https://arxiv.org/abs/2308.12950>, and the published checkpoints' configs. The two small models
//! have 16 more tokens, four of which mark the parts of a text that is to be filled in.

use formwork_position::{Pairs, RopeConfig};

use super::{Llama, llama2};
use crate::ModelConfig;

/// Code LLaMA 7B, 6,738,546,688 parameters.
pub fn code_llama_7b() -> ModelConfig {
    Llama { vocab: 32016, ..code(llama2::size_7b()) }.named("codellama-7b")
}

/// Code LLaMA 13B, 13,016,028,160 parameters.
pub fn code_llama_13b() -> ModelConfig {
    Llama { vocab: 32016, ..code(llama2::size_13b()) }.named("codellama-13b")
}

/// Code LLaMA 34B, 33,743,970,304 parameters.
pub fn code_llama_34b() -> ModelConfig {
    code(llama2::size_34b()).named("codellama-34b")
}

fn code(model: Llama) -> Llama {
    Llama { context: 16384, rope: RopeConfig::new(1e6, Pairs::Halves), ..model }
}
