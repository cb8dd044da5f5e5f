//! Published models as configs.
//!
//! A preset is a function that returns a [`ModelConfig`], to be used as it is or changed first. Each family's file says
//! where its numbers come from, and marks what nobody has checked. Adding one is a function and a line in [`ALL`].
//!
//! ```
//! use formwork_model::presets;
//!
//! let preset = presets::find("llama2-70b")?;
//! assert_eq!((preset.family, (preset.config)().blocks.len()), ("llama2", 80));
//! let error = presets::find("lama2-70b").unwrap_err().to_string();
//! assert!(error.ends_with("did you mean `llama2-70b`?"), "{error}");
//! # Ok::<(), formwork_model::Error>(())
//! ```

pub mod gpt2;
pub mod llama;

use formwork_module::config::nearest;

pub use gpt2::{gpt2_large, gpt2_medium, gpt2_small, gpt2_xl};
pub use llama::{
    code_llama::{code_llama_7b, code_llama_13b, code_llama_34b},
    llama1::{llama1_7b, llama1_13b, llama1_33b, llama1_65b},
    llama2::{llama2_7b, llama2_13b, llama2_34b, llama2_70b},
    llama3::{llama3_1_405b, llama3_2_1b, llama3_2_3b, llama3_8b, llama3_70b},
    smollm2::smollm2_135m,
};

use crate::{Error, ModelConfig, Result, published::Family};

/// A published model.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name for the command line, such as `gpt2-small`.
    pub name: &'static str,
    /// The name that the models of one paper share, such as `gpt2`.
    pub family: &'static str,
    /// The layout in which it is published.
    pub layout: Family,
    /// Makes its config.
    pub config: fn() -> ModelConfig,
}

impl Preset {
    const fn gpt2(name: &'static str, family: &'static str, config: fn() -> ModelConfig) -> Self {
        Self { name, family, layout: Family::Gpt2, config }
    }

    const fn llama(name: &'static str, family: &'static str, config: fn() -> ModelConfig) -> Self {
        Self { name, family, layout: Family::Llama, config }
    }
}

/// Every preset, by family, in the order in which the models came out, smallest first.
pub const ALL: &[Preset] = &[
    Preset::gpt2("gpt2-small", "gpt2", gpt2_small),
    Preset::gpt2("gpt2-medium", "gpt2", gpt2_medium),
    Preset::gpt2("gpt2-large", "gpt2", gpt2_large),
    Preset::gpt2("gpt2-xl", "gpt2", gpt2_xl),
    Preset::llama("llama1-7b", "llama1", llama1_7b),
    Preset::llama("llama1-13b", "llama1", llama1_13b),
    Preset::llama("llama1-33b", "llama1", llama1_33b),
    Preset::llama("llama1-65b", "llama1", llama1_65b),
    Preset::llama("llama2-7b", "llama2", llama2_7b),
    Preset::llama("llama2-13b", "llama2", llama2_13b),
    Preset::llama("llama2-34b", "llama2", llama2_34b),
    Preset::llama("llama2-70b", "llama2", llama2_70b),
    Preset::llama("llama3-8b", "llama3", llama3_8b),
    Preset::llama("llama3-70b", "llama3", llama3_70b),
    Preset::llama("llama3.1-405b", "llama3", llama3_1_405b),
    Preset::llama("llama3.2-1b", "llama3", llama3_2_1b),
    Preset::llama("llama3.2-3b", "llama3", llama3_2_3b),
    Preset::llama("codellama-7b", "codellama", code_llama_7b),
    Preset::llama("codellama-13b", "codellama", code_llama_13b),
    Preset::llama("codellama-34b", "codellama", code_llama_34b),
    Preset::llama("smollm2-135m", "smollm2", smollm2_135m),
];

/// The preset of this name.
///
/// # Errors
/// No such preset, with the nearest name.
pub fn find(name: &str) -> Result<&'static Preset> {
    if let Some(preset) = ALL.iter().find(|preset| preset.name == name) {
        return Ok(preset);
    }
    let names: Vec<_> = ALL.iter().map(|preset| preset.name).collect();
    let error =
        Error::invalid("preset", format_args!("one of {}", names.join(", ")), format_args!("`{name}`"));
    Err(match nearest(name, names) {
        Some(near) => error.hint(format_args!("did you mean `{near}`?")),
        None => error,
    })
}
