//! What needs several parts at once: a path as a model with its tokenizer, the folder of a run, the training loop.
//!
//! - [`load`] reads a folder of ours, a run, a published folder or a GGUF file, and [`Loaded::save`] writes it back in the
//!   layout that it came from; [`save`] writes a folder of ours.
//! - [`convert()`] goes from any layout to a published folder or a GGUF file, in another type if asked, tensor by tensor.
//! - [`fit`] trains by a [`Plan`]; with a [`Run`] it can be killed at any moment and resumed bit for bit.
//! - [`chat`] writes conversations down with a model's own template, and holds them; [`settings`] reads how a model wants
//!   to be used; [`perplexity`] says how well it predicts a text.
//! - `hub` (a feature) fetches a model by name.
//! - [`Decode`] gives a generator the text of its tokens.
//!
//! ```
//! use formwork_model::ModelConfig;
//! use formwork_module::Seed;
//!
//! let config = ModelConfig::from_json(r#"{
//!     "schema": 1, "name": "tiny", "vocab": 256, "context": 16, "dim": 8,
//!     "blocks": {"layers": 2, "each": {
//!         "kind": "pre_norm",
//!         "attn_norm": {"kind": "rms", "eps": 1e-5},
//!         "attn": {"kind": "multi_head", "heads": 2, "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
//!         "ffn_norm": {"kind": "rms", "eps": 1e-5},
//!         "ffn": {"kind": "gated", "hidden": 16, "activation": {"kind": "silu"}}
//!     }},
//!     "norm": {"kind": "rms", "eps": 1e-5}, "head": {"kind": "tied"}, "init": {"std": 0.02}
//! }"#)?;
//! let folder = tempfile::tempdir().expect("a folder for the test");
//! formwork_recipes::save(folder.path(), &config.build(&Seed::new(1))?, Some(&formwork_tokenizer::Tokenizer::bytes()))?;
//! let loaded = formwork_recipes::load(folder.path())?;
//! assert_eq!(loaded.model.config(), &config);
//! assert_eq!(loaded.tokenizer.expect("saved with it").encode("ab").expect("bytes"), [97, 98]);
//! # Ok::<(), formwork_module::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod chat;
mod convert;
mod decode;
mod files;
mod fit;
mod folder;
mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
mod layout;
mod manner;
mod opened;
mod perplexity;
mod room;
mod run;
pub mod settings;
mod vocabulary;

pub use convert::{Conversion, Convert, Line, StoredType, convert};
pub use decode::Decode;
pub use fit::{Plan, Progress, fit};
pub use folder::{LoadOptions, Loaded, Origin, Weights, load, load_as, load_with, save};
pub use layout::{CONFIG_FILE, Layout, TOKENIZER_FILE, home};
pub use opened::{config_from_bytes, holds_gguf, read_config, stored_bytes};
pub use perplexity::{Perplexity, Reading, Windows, perplexity};
pub use room::{Memory, peak_memory};
pub use run::Run;
pub use vocabulary::load_tokenizer;
