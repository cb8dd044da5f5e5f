//! Where things stand in the folders of models and runs, and how one is told from the other.

use std::path::{Path, PathBuf};

use formwork_checkpoint::Snapshot;
use formwork_model::published::Family;
use formwork_module::{At, Error, Result};

/// The name of the config in a folder of this project.
pub const CONFIG_FILE: &str = "formwork.json";
/// The name of the tokenizer in a folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The name of the config in a published folder.
pub(crate) const PUBLISHED_FILE: &str = "config.json";
/// The name of the trainer's settings in a run folder.
pub(crate) const SETTINGS_FILE: &str = "train.json";
/// The folder of a run's checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// What the name of a checkpoint begins with.
const PREFIX: &str = "step-";

/// In which layout a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Our own folder: `formwork.json` and safetensors with our names.
    Ours,
    /// The folder in which models of a family are published: `config.json` and safetensors with the family's names.
    Published(Family),
    /// A GGUF file.
    Gguf(Family),
}

/// A model's place on disk, by what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The folder with our config, and the one with the weights: itself, or a checkpoint of a run.
    Ours { home: PathBuf, weights: PathBuf },
    /// A published folder.
    Published(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
}

/// Finds out what a path is.
///
/// # Errors
/// A path without a model, with what was found instead.
pub(crate) fn locate(path: &Path) -> Result<Place> {
    if is_gguf(path) && !path.is_dir() {
        return match path.is_file() {
            true => Ok(Place::Gguf(path.to_owned())),
            false => Err(Error::missing(format_args!("the GGUF file {}", path.display()))),
        };
    }
    if path.is_file() {
        return Err(Error::invalid("model", "a folder or a .gguf file", path.display())
            .hint("give the folder that the file is in"));
    }
    if !path.is_dir() {
        return Err(Error::missing(format_args!("a folder {}", path.display()))
            .hint("a model is a folder with a formwork.json or a config.json, or a .gguf file"));
    }
    let run = path.ancestors().nth(2).filter(|_| Snapshot::is_at(path));
    if let Some(home) = [Some(path), run].into_iter().flatten().find(|home| home.join(CONFIG_FILE).is_file())
    {
        let weights = latest_snapshot(path)?.unwrap_or_else(|| path.to_owned());
        return Ok(Place::Ours { home: home.to_owned(), weights });
    }
    if path.join(PUBLISHED_FILE).is_file() {
        return Ok(Place::Published(path.to_owned()));
    }
    let listing = std::fs::read_dir(path).map_err(Error::external).in_file(path.display())?;
    let mut files: Vec<PathBuf> =
        listing.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| is_gguf(p)).collect();
    files.sort();
    match (files.len(), files.pop()) {
        (1, Some(only)) => Ok(Place::Gguf(only)),
        (0, _) => {
            Err(Error::missing(format_args!("{CONFIG_FILE} or {PUBLISHED_FILE} in {}", path.display())).hint(
                match () {
                    () if path.join("adapter_config.json").is_file() => {
                        "the folder holds an adapter, which needs the model that it was made for"
                    }
                    () if path.join("model_index.json").is_file() => {
                        "the folder holds a pipeline, not a language model"
                    }
                    () => "a model's folder has one of them, a model.safetensors and a tokenizer.json",
                },
            ))
        }
        (several, _) => {
            Err(Error::invalid("model", "one .gguf file in the folder", format_args!("{several} of them"))
                .hint("give the file")
                .in_file(path.display()))
        }
    }
}

/// Whether a path is named as a GGUF file.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// The folder of the checkpoint after `step` steps.
pub(crate) fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(CHECKPOINTS).join(format!("{PREFIX}{step:08}"))
}

/// The latest complete checkpoint of a run folder.
pub(crate) fn latest_snapshot(run: &Path) -> Result<Option<PathBuf>> {
    Ok(snapshots(run)?.pop())
}

/// Complete checkpoints, the earliest first: step numbers have a fixed width, so names sort as steps do.
pub(crate) fn snapshots(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join(CHECKPOINTS);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&folder).map_err(Error::external).in_file(folder.display())?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::external).in_file(folder.display())?.path();
        let named = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
        if named && Snapshot::is_at(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The folder with the config and all else that is no parameters: the path itself, the run that a checkpoint belongs to,
/// or the folder that a GGUF file is in.
///
/// # Errors
/// A path without a model.
pub fn home(path: &Path) -> Result<PathBuf> {
    Ok(match locate(path)? {
        Place::Ours { home, .. } => home,
        Place::Published(folder) => folder,
        Place::Gguf(file) => file.parent().map_or_else(PathBuf::new, Path::to_owned),
    })
}
