//! What needs several parts at once: a folder as a model with its tokenizer, the folder of a run, the training loop.
//!
//! - [`load`] reads a checkpoint folder, a run folder or one checkpoint of a run; [`save`] writes a folder.
//! - [`fit`] trains by a [`Plan`]; with a [`Run`] it can be killed at any moment and resumed bit for bit.
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

mod decode;
mod fit;
mod folder;
mod layout;
mod run;

pub use decode::Decode;
pub use fit::{Plan, Progress, fit};
pub use folder::{Loaded, load, load_with, read_config, save};
pub use layout::{CONFIG_FILE, TOKENIZER_FILE, home};
pub use run::Run;
