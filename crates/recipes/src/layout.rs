//! Where things stand in the folders of models and runs, and how one is told from the other.

use std::path::{Path, PathBuf};

use formwork_checkpoint::Snapshot;
use formwork_module::{At, Error, Result};

/// The name of the config in a folder of this project.
pub const CONFIG_FILE: &str = "formwork.json";
/// The name of the tokenizer in a folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The name of the trainer's settings in a run folder.
pub(crate) const SETTINGS_FILE: &str = "train.json";
/// The folder of a run's checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// What the name of a checkpoint begins with.
const PREFIX: &str = "step-";

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

/// The folder with the config and all else that is no parameters: this one, or the run that a checkpoint belongs to.
///
/// # Errors
/// A folder that has no config and belongs to no run.
pub fn home(path: &Path) -> Result<PathBuf> {
    let run = path.ancestors().nth(2).filter(|_| Snapshot::is_at(path));
    let places = [Some(path), run];
    if let Some(home) = places.into_iter().flatten().find(|home| home.join(CONFIG_FILE).is_file()) {
        return Ok(home.to_owned());
    }
    let error = Error::missing(format_args!("{CONFIG_FILE} in {}", path.display()));
    Err(match path.join("config.json").is_file() {
        true => error.hint("the folder has a published config.json, which this version does not read"),
        false => error.hint("a model's folder has a formwork.json, a model.safetensors and a tokenizer.json"),
    })
}
