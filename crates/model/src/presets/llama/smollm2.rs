//! SmolLM2 135M: LLaMA's architecture, small, with a tied head.
//!
//! Allal et al. 2025, <https://arxiv.org/abs/2502.02737>, and the published checkpoint's config.

use formwork_position::{Pairs, RopeConfig};

use super::Llama;
use crate::ModelConfig;

/// SmolLM2 135M, 134,515,008 parameters.
pub fn smollm2_135m() -> ModelConfig {
    Llama {
        layers: 30,
        dim: 576,
        heads: 9,
        kv_heads: Some(3),
        hidden: 1536,
        vocab: 49152,
        context: 8192,
        rope: RopeConfig::new(1e5, Pairs::Halves),
        eps: 1e-5,
        std: 1.0 / 24.0,
        is_tied: true,
        ..Llama::default()
    }
    .named("smollm2-135m")
}
