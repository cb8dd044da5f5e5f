//! The small files of a model's folder, carried from where it was loaded to where it is saved, byte for byte.
//!
//! Settings, the tokenizer's files, templates, the card and the licence: everything but weights and what a run writes.

use std::{ffi::OsStr, fs, path::Path};

use formwork_formats::{Bytes, atomic_write};
use formwork_module::{At, Error, Result};

use crate::layout::{CONFIG_FILE, SETTINGS_FILE};

/// The metadata of the GGUF file that a folder was made from, where the folder has no other place for it.
pub(crate) const SIDECAR: &str = "metadata.gguf";

/// Endings of files that hold weights, in any format, or tell where they are.
const WEIGHTS: [&str; 13] = [
    "safetensors",
    "index.json",
    "gguf",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "h5",
    "msgpack",
    "onnx",
    "ot",
    "tflite",
    "npz",
];

/// Files of our own layout, which are written anew.
const OURS: [&str; 2] = [CONFIG_FILE, SETTINGS_FILE];

/// Folders whose files belong to the model as well.
const FOLDERS: [&str; 1] = ["additional_chat_templates"];

/// What the names of files that tell about a model begin with.
const DESCRIPTIONS: [&str; 10] = [
    "added_tokens",
    "additional_chat_templates",
    "chat_template",
    "generation",
    "LICENSE",
    "merges",
    "README",
    "special_tokens",
    "tokenizer",
    "vocab",
];

/// The largest file that is carried: tokenizers are a tenth of it.
const LARGEST: u64 = 256 << 20;

/// Files by their path in the folder, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Vec<(String, Bytes)>);

impl Files {
    /// The files of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut files = Self::default();
        files.add(folder, "")?;
        for name in FOLDERS {
            if folder.join(name).is_dir() {
                files.add(&folder.join(name), &format!("{name}/"))?;
            }
        }
        files.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(files)
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let listing = fs::read_dir(folder).map_err(Error::external).in_file(folder.display())?;
        for entry in listing {
            let path = entry.map_err(Error::external).in_file(folder.display())?.path();
            let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
            let small = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
            if small && (is_carried(name) || name == SIDECAR) {
                let bytes = Bytes::open(&path).map_err(Error::external)?;
                self.0.push((format!("{prefix}{name}"), bytes));
            }
        }
        Ok(())
    }

    /// Those that tell about a model; not the curves and logs that a run writes beside them.
    #[must_use]
    pub(crate) fn described(mut self) -> Self {
        self.0.retain(|(name, _)| DESCRIPTIONS.iter().any(|start| name.starts_with(start)));
        self
    }

    /// The file of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes)
    }

    /// Puts a file in, in place of one of its name.
    pub(crate) fn set(&mut self, name: &str, bytes: impl Into<Bytes>) {
        self.0.retain(|(found, _)| found != name);
        self.0.push((name.to_owned(), bytes.into()));
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes))
    }

    /// Writes all of them, each in one step.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in self.iter() {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(Error::external).in_file(parent.display())?;
            }
            atomic_write(path, bytes).map_err(Error::external)?;
        }
        Ok(())
    }
}

/// Whether a file is no weights, nothing hidden, and none that is written anew.
pub(crate) fn is_carried(name: &str) -> bool {
    let is_weights =
        WEIGHTS.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| stem.ends_with('.')));
    !(is_weights || name.starts_with('.') || OURS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_from_what_describes_them() {
        let check = |name: &str, carried: bool| assert_eq!(is_carried(name), carried, "{name}");
        check("generation_config.json", true);
        check("tokenizer.model", true);
        check("LICENSE", true);
        check("chat_template.jinja", true);
        check("model.safetensors.index.json", false);
        check("model-00001-of-00002.safetensors", false);
        check("pytorch_model.bin", false);
        check(".gitattributes", false);
        check("formwork.json", false);
    }
}
