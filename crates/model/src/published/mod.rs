//! The layouts in which models are published: `config.json` of a folder, and the metadata of a GGUF file.
//!
//! Each family lists the fields of its files in a table beside its presets. A field is **mapped** to our config, is
//! **inert** (it changes nothing that the model computes), or is **refused** unless it has its default, with the field's
//! name. A field that nobody has listed gives a note and nothing else. What a field that is left out means is what it
//! means to transformers 5.23; files from before version 5 (`rope_theta`, `rope_scaling`, `torch_dtype`) are read as well.
//!
//! [`Family::names`] and [`Family::gguf_names`] say how tensors are called and stored.
//!
//! **RoPE pairs.** A folder stores the rows of q and k for pairs in halves, a GGUF file of LLaMA for interleaved pairs, and a
//! config says which. Neither is permuted when it is loaded as it is. To go from one layout to the other, load with
//! [`with_pairs`] set to halves: the names of the GGUF then permute.
//!
//! A new family is a folder of presets with a `Layout` of its own, and a line in the list of families here.
//!
//! ```
//! use formwork_model::{Description, Builder, published::{self, Family}};
//! use serde_json::json;
//!
//! let published = published::read(&json!({
//!     "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
//!     "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
//!     "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
//!     "rms_norm_eps": 1e-5, "rope_scaling": null, "tie_word_embeddings": false, "colour": "green",
//! }))?;
//! assert_eq!(published.family, Family::Llama);
//! assert_eq!(published.notes, ["config.json: field colour is not known; ignored"]);
//! let description = Description::of(&Builder::new(published.config.clone()))?;
//! assert_eq!(description.parameters, 1_100_048_384); // TinyLlama
//! let again = published::read(&Family::Llama.to_config_json(&published.config)?)?;
//! assert_eq!(again.config, published.config);
//!
//! let error = published::read(&json!({"model_type": "mamba"})).unwrap_err().to_string();
//! assert_eq!(error, "model_type: expected one of gpt2, llama, found \"mamba\"");
//! # Ok::<(), formwork_model::Error>(())
//! ```

pub(crate) mod field;
mod gguf;
mod json;
pub(crate) mod layout;

use formwork_checkpoint::names::Names;
use formwork_position::{Pairs, PositionConfig};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{AttentionConfig, BlockConfig, ModelConfig, Result};

pub use gguf::{Gguf, Tensors, from_gguf};
pub use json::read;
pub(crate) use json::{own_size, shortened};
use layout::Layout;
pub use layout::canonical;

/// A model as its publisher describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The family whose layout it is.
    pub family: Family,
    /// The model.
    pub config: ModelConfig,
    /// What somebody should know: unknown fields, defaults that were assumed. One sentence each.
    pub notes: Vec<String>,
}

/// The families whose published layouts are known.
///
/// Every function takes the config of such a model, and refuses another by the first field that the layout cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// GPT-2.
    Gpt2,
    /// LLaMA 1 to 3 and whatever else has its architecture: Code LLaMA, TinyLlama, SmolLM2.
    Llama,
}

/// Calls a function of the family's [`Layout`].
macro_rules! of_family {
    ($family:expr, $L:ident => $body:expr) => {
        match $family {
            Family::Gpt2 => {
                type $L = $crate::presets::gpt2::Gpt2;
                $body
            }
            Family::Llama => {
                type $L = $crate::presets::llama::Llama;
                $body
            }
        }
    };
}
pub(crate) use of_family;

impl Family {
    /// All of them.
    pub const ALL: &[Self] = &[Family::Gpt2, Family::Llama];

    /// The name of the family in both layouts: `model_type` of `config.json`, `general.architecture` of GGUF.
    pub fn name(self) -> &'static str {
        of_family!(self, L => L::NAME)
    }

    /// The family whose layout can say this config.
    ///
    /// # Errors
    /// None can, with what the nearest one cannot say.
    pub fn of(config: &ModelConfig) -> Result<Self> {
        // GPT-2 and LLaMA differ in where positions enter, which tells what the config was meant to be.
        let family = match config.embed.position {
            PositionConfig::Learned(_) => Family::Gpt2,
            _ => Family::Llama,
        };
        of_family!(family, L => L::of(config).map(|_| family))
    }

    /// How the tensors of a folder are called and stored.
    ///
    /// # Errors
    /// A config that is none of the family's, or has interleaved RoPE pairs, which a folder does not store.
    pub fn names(self, config: &ModelConfig) -> Result<Names> {
        of_family!(self, L => L::of(config)?.names())
    }

    /// How the tensors of a GGUF file are called and stored.
    ///
    /// # Errors
    /// A config that is none of the family's.
    pub fn gguf_names(self, config: &ModelConfig) -> Result<Names> {
        of_family!(self, L => Ok(L::of(config)?.gguf_names()))
    }

    /// The `config.json` that [`read`] reads back the same, as transformers 5 spells it.
    ///
    /// # Errors
    /// A config that is none of the family's, or something in it that the file cannot say.
    pub fn to_config_json(self, config: &ModelConfig) -> Result<Value> {
        of_family!(self, L => json::write(&L::of(config)?))
    }

    /// The metadata of a GGUF file that [`from_gguf`] reads back the same, but for the layout of RoPE pairs.
    ///
    /// # Errors
    /// A config that is none of the family's, or something in it that the file cannot say.
    pub fn to_gguf(self, config: &ModelConfig) -> Result<Gguf> {
        of_family!(self, L => gguf::write(&L::of(config)?))
    }

    /// The family of this name in either layout.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|family| family.name() == name)
    }

    /// The names of all, for an error.
    pub(crate) fn listed() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|family| family.name()).collect();
        format!("one of {}", names.join(", "))
    }
}

/// The model with its RoPE pairs in another layout: the same numbers, the rows of q and k in another order.
///
/// ```
/// use formwork_model::{position::Pairs, presets, published::{Family, with_pairs}};
///
/// let halves = presets::llama3_8b();
/// let interleaved = with_pairs(&halves, Pairs::Interleaved);
/// assert_eq!(with_pairs(&interleaved, Pairs::Halves), halves);
/// // GGUF stores interleaved pairs: nothing to permute for a model that has them, heads for one that does not.
/// let heads = |config| Family::Llama.gguf_names(config).map(|names| names.pieces()[2].heads);
/// assert_eq!((heads(&interleaved)?, heads(&halves)?), (None, Some(32)));
/// # Ok::<(), formwork_model::Error>(())
/// ```
#[must_use]
pub fn with_pairs(config: &ModelConfig, pairs: Pairs) -> ModelConfig {
    let mut config = config.clone();
    for block in &mut config.blocks {
        if let BlockConfig::PreNorm(parts) | BlockConfig::PostNorm(parts) = block
            && let AttentionConfig::MultiHead(attn) = &mut parts.attn
            && let PositionConfig::Rope(rope) = &mut attn.position
        {
            rope.pairs = pairs;
        }
    }
    config
}

/// Adds a note, unless there are so many that nobody will read them: a file of nothing but unknown fields takes no memory.
pub(crate) fn noted(notes: &mut Vec<String>, note: impl FnOnce() -> String) {
    const MOST: usize = 32;
    match notes.len() {
        0..MOST => notes.push(note()),
        MOST => notes.push("and more that is not known".to_owned()),
        _ => {}
    }
}

/// JSON fields or metadata by name.
pub(crate) type Fields = Map<String, Value>;
