//! What a person means by MODEL (a folder or a GGUF file) and by PRESET|CONFIG|MODEL.
//!
//! A preset's name wins over a folder of the same name; `./gpt2-small` is the folder.

use std::{fmt::Display, path::Path};

use formwork::{
    Error, ModelConfig, Tokenizer,
    module::config::nearest,
    presets,
    recipes::{self, Loaded},
};

use crate::{
    failure::{Failure, Result},
    output::warn,
};

/// File names that end so are meant as files, even when they do not exist.
const ENDINGS: [&str; 4] = ["json", "toml", "gguf", "safetensors"];

/// The config that `text` names.
pub(crate) fn config(text: &str) -> Result<ModelConfig> {
    if let Some(preset) = presets::ALL.iter().find(|preset| preset.name == text) {
        return Ok((preset.config)());
    }
    let path = Path::new(text);
    if !path.exists() && !looks_like_path(path) {
        let names = presets::ALL.iter().map(|preset| preset.name);
        let hint = nearest(text, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        return Err(Failure::failed(format_args!(
            "{text}: no preset has this name, and no file or folder is there; `formwork presets` lists all{hint}"
        )));
    }
    read(path)
}

/// Whether `text` names a GGUF file, or a folder with one.
pub(crate) fn is_gguf(text: &str) -> bool {
    presets::ALL.iter().all(|preset| preset.name != text) && recipes::holds_gguf(Path::new(text))
}

/// Bytes of the weights of a GGUF file as it stores them; `None` for what is no GGUF file, and is held in 32 bits.
pub(crate) fn stored_bytes(text: &str) -> Result<Option<u64>> {
    Ok(if is_gguf(text) { Some(recipes::stored_bytes(Path::new(text))?) } else { None })
}

/// The config of a file or folder.
pub(crate) fn read(path: &Path) -> Result<ModelConfig> {
    is_there(path)?;
    let config = recipes::read_config(path)?;
    config.validate().map_err(|error| located(path.display(), &error))?;
    Ok(config)
}

/// The model that `name` is the path of; what somebody should know of it goes to stderr.
pub(crate) fn load(name: &str) -> Result<Loaded> {
    let path = Path::new(name);
    if !path.exists() && presets::ALL.iter().any(|preset| preset.name == name) {
        return Err(Failure::failed(format_args!(
            "{name}: a preset has no weights; give the folder or the GGUF file of a model"
        )));
    }
    is_there(path)?;
    let loaded = recipes::load(path)?;
    for note in &loaded.notes {
        warn(format_args!("{name}: {note}"));
    }
    Ok(loaded)
}

/// The tokenizer of a model whose path is `name`.
pub(crate) fn tokenizer(name: &str) -> Result<Tokenizer> {
    let path = Path::new(name);
    is_there(path)?;
    Ok(recipes::load_tokenizer(path)?)
}

/// An error of the libraries, which know the place in the model and not what the person called it.
pub(crate) fn located(place: impl Display, error: &Error) -> Failure {
    Failure::failed(format_args!("{place}: {error}"))
}

fn is_there(path: &Path) -> Result<()> {
    match path.exists() {
        true => Ok(()),
        false => {
            Err(Failure::failed(format_args!("{}: no such file or folder; check the path", path.display())))
        }
    }
}

fn looks_like_path(path: &Path) -> bool {
    path.components().count() > 1 || ENDINGS.contains(&extension(path))
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_a_mistyped_preset() {
        let check =
            |text: &str, is_path: bool| assert_eq!(looks_like_path(Path::new(text)), is_path, "{text}");
        check("lama3-70b", false);
        check("llama3.1-8b", false);
        check("runs/first", true);
        check("./first", true);
        check("mine.toml", true);
        check("model.gguf", true);
    }
}
