//! What a person means by PRESET|CONFIG|MODEL: a preset's name, a config file, or a folder.
//!
//! A preset's name wins over a folder of the same name; `./gpt2-small` is the folder.

use std::{fmt::Display, fs, path::Path};

use formwork::{Error, ModelConfig, module::config::nearest, presets, recipes};

use crate::failure::{Failure, Result};

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
            "{text}: no preset has this name, and no file or folder is there{hint}; `formwork presets` lists all"
        )));
    }
    is_ours(path)?;
    if path.is_file() && !matches!(extension(path), "json" | "toml") {
        return Err(Failure::failed(format_args!(
            "{text}: expected a config file that ends in .json or .toml, or a model's folder, found another file"
        )));
    }
    read(path)
}

/// The config of a file or folder that is one of ours.
pub(crate) fn read(path: &Path) -> Result<ModelConfig> {
    let config = recipes::read_config(path)?;
    config.validate().map_err(|error| located(path.display(), &error))?;
    Ok(config)
}

/// An error of the libraries, which know the place in the model and not what the person called it.
pub(crate) fn located(place: impl Display, error: &Error) -> Failure {
    Failure::failed(format_args!("{place}: {error}"))
}

/// Whether a path is there and of a layout that this version reads.
pub(crate) fn is_ours(path: &Path) -> Result<()> {
    let shown = path.display();
    if !path.exists() {
        return Err(Failure::failed(format_args!("{shown}: no such file or folder; check the path")));
    }
    if extension(path) == "gguf" {
        return Err(Failure::failed(format_args!(
            "{shown}: GGUF files are not supported yet; use a folder that this project wrote, with a formwork.json"
        )));
    }
    if path.is_dir() && !path.join(recipes::CONFIG_FILE).is_file() && path.join("config.json").is_file() {
        return Err(published(&path.join("config.json")));
    }
    if path.is_file() && is_published(path) {
        return Err(published(path));
    }
    Ok(())
}

fn published(path: &Path) -> Failure {
    Failure::failed(format_args!(
        "{}: published configs are not supported yet; use a folder that this project wrote, with a formwork.json, \
         or a preset",
        path.display()
    ))
}

/// Published configs say a `model_type` and know no `schema`.
fn is_published(path: &Path) -> bool {
    let value =
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    value.is_some_and(|value| value.get("model_type").is_some() && value.get("schema").is_none())
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
