//! RoPE settings in LLaMA's published files.
//!
//! | file | base | scaling |
//! |---|---|---|
//! | `config.json` before transformers 5 | `rope_theta` | `rope_scaling`, its kind under `type` or `rope_type` |
//! | since | `rope_parameters.rope_theta` | `rope_parameters`, its kind under `rope_type` |
//! | GGUF | `llama.rope.freq_base` | `llama.rope.scaling.*`, and a tensor of factors, whatever they came from |
//!
//! `max_position_embeddings` is the original context of dynamic scaling, which goes on from there: the model's own context
//! is `factor` times as long. Elsewhere the two are the same.
//!
//! GGUF has no settings of LLaMA 3.1's scaling, only its factors. They are recognised, so that a file can become a folder
//! again: by the settings that this program leaves beside them, or as those of the published models.

mod gguf;
mod json;

pub(super) use gguf::{read as read_metadata, write as write_metadata};
pub(super) use json::{read, write};

use serde_json::Value;

use crate::{Result, published::field::number};

/// What no base means.
const THETA: f64 = 1e4;

/// A base of the wavelengths.
fn theta(name: &str, value: &Value) -> Result<f64> {
    number(name, value, "a number above 1", |x| x > 1.0)
}
