//! A folder as a model with its tokenizer.
//!
//! | file | holds |
//! |---|---|
//! | `formwork.json` | the model's config |
//! | `model.safetensors` (or shards with an index) | its parameters |
//! | `tokenizer.json` | its tokenizer, if it has one |
//!
//! A run folder has the same `formwork.json` and `tokenizer.json`, and its parameters in `checkpoints/step-*`.

use std::path::{Path, PathBuf};

use formwork_checkpoint::{Keep, load as build_from, save as save_params};
use formwork_formats::{Archive, Bytes, atomic_write};
use formwork_model::{Builder, Hooks, ModelConfig, Transformer};
use formwork_module::{At, Error, Module, Result, params};
use formwork_tokenizer::Tokenizer;

use crate::layout::{CONFIG_FILE, TOKENIZER_FILE, home, latest_snapshot};

/// Bytes after which [`save`] begins another file.
const SHARD_BYTES: u64 = 4 << 30;

/// What a folder holds.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: Transformer,
    /// Its tokenizer, where the folder has one; it fits the model's vocabulary.
    pub tokenizer: Option<Tokenizer>,
}

/// Loads a checkpoint folder, a run folder (its latest checkpoint) or one checkpoint of a run.
///
/// # Errors
/// A folder that is none of these, a file that is broken, tensors that are not the model's (all are counted, the first
/// few named), and a tokenizer with more ids than the model.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded> {
    load_with(path, &Hooks::default())
}

/// As [`load`], for a config that names parts of your own.
///
/// # Errors
/// Those of [`load`], and a custom part for which there is no hook.
pub fn load_with(path: impl AsRef<Path>, hooks: &Hooks) -> Result<Loaded> {
    let path = path.as_ref();
    let weights = weights_folder(path)?;
    let home = home(path)?;
    let config = read_config(&home.join(CONFIG_FILE))?;
    let archive = Archive::open(&weights).map_err(Error::external)?;
    let builder = Builder::new(config).hooks(hooks);
    let model = build_from(&archive, |source| builder.clone().build(source)).in_file(weights.display())?;
    let tokenizer = read_tokenizer(&home.join(TOKENIZER_FILE), model.config().vocab)?;
    Ok(Loaded { model, tokenizer })
}

/// The config of a folder, or of a `.json` or `.toml` file.
///
/// # Errors
/// A file that is not there or is no config, with the path of the field.
pub fn read_config(path: &Path) -> Result<ModelConfig> {
    let path = if path.is_dir() { home(path)?.join(CONFIG_FILE) } else { path.to_owned() };
    let bytes = Bytes::read(&path).map_err(Error::external)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::invalid("config", "UTF-8 text", "other bytes"))
        .in_file(path.display())?;
    match path.extension().is_some_and(|e| e == "toml") {
        true => ModelConfig::from_toml(text),
        false => ModelConfig::from_json(text),
    }
    .in_file(path.display())
}

/// Writes a model as a folder that [`load`] reads. Files that are there are replaced, each in one step.
///
/// # Errors
/// A parameter without numbers, or what the system says.
pub fn save(folder: impl AsRef<Path>, model: &Transformer, tokenizer: Option<&Tokenizer>) -> Result<()> {
    let folder = folder.as_ref();
    save_description(folder, model.config(), tokenizer)?;
    save_params(folder, &params(model as &dyn Module), Keep::Stored, SHARD_BYTES)
}

/// The part of a folder that is no parameters.
pub(crate) fn save_description(
    folder: &Path,
    config: &ModelConfig,
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::external).in_file(folder.display())?;
    atomic_write(folder.join(CONFIG_FILE), config.to_json().as_bytes()).map_err(Error::external)?;
    match tokenizer {
        Some(tokenizer) => {
            atomic_write(folder.join(TOKENIZER_FILE), tokenizer.to_json().as_bytes()).map_err(Error::external)
        }
        None => Ok(()),
    }
}

fn read_tokenizer(path: &Path, vocab: usize) -> Result<Option<Tokenizer>> {
    if !path.is_file() {
        return Ok(None);
    }
    let tokenizer = Tokenizer::load(path).map_err(Error::external)?;
    tokenizer.fits(vocab).map_err(Error::external).in_file(path.display())?;
    Ok(Some(tokenizer))
}

/// Where the tensors are: the folder itself, or its latest checkpoint.
fn weights_folder(path: &Path) -> Result<PathBuf> {
    if path.extension().is_some_and(|e| e == "gguf") {
        let found = format!("the GGUF file {}", path.display());
        return Err(Error::invalid("model", "a folder", found).hint("this version does not read GGUF"));
    }
    if !path.is_dir() {
        return Err(Error::missing(format_args!("a folder {}", path.display()))
            .hint("a model is a folder with a formwork.json"));
    }
    Ok(latest_snapshot(path)?.unwrap_or_else(|| path.to_owned()))
}
