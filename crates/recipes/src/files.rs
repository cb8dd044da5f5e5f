//! The small files of a model's folder, carried from where it was loaded to where it is saved, byte for byte.
//!
//! Settings, the tokenizer's files, templates, the card and the licence: everything but weights and what a run writes.

use std::{ffi::OsStr, fs, path::Path};

use formwork_formats::{Bytes, atomic_write};
use formwork_module::{At, Error, Result};
use serde_json::Value;

use crate::layout::PUBLISHED_FILE;

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

/// The largest JSON file that is read whole. The longest published `tokenizer_config.json` has 1.2 MB.
const JSON_BYTES: usize = 16 << 20;
/// The most lists and objects in one. As values they take up to a hundred times their text: six bytes of it may be an
/// object in an object, which is 640 bytes in memory. Published files have a few thousand.
const JSON_GROUPS: usize = 1 << 15;
/// The most commas in one, each of which adds a value of up to 120 bytes.
const JSON_COMMAS: usize = 1 << 17;

/// Reads a small JSON file whole: a config, settings, an index. What is returned can be parsed into values without taking
/// much more memory than the file has bytes.
///
/// # Errors
/// A file that cannot be read, or one of more bytes, lists, objects or commas than any config has.
pub(crate) fn read_json(path: &Path) -> Result<Bytes> {
    let len = fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |found| found.len());
    if len > JSON_BYTES as u64 {
        return Err(too_large("bytes", JSON_BYTES, len).in_file(path.display()));
    }
    let bytes = Bytes::read(path).map_err(Error::external)?;
    bounded(&bytes).in_file(path.display())?;
    Ok(bytes)
}

/// As [`parsed`] for bytes that [`read_json`] gave.
pub(crate) fn json(bytes: &[u8], what: &str) -> Result<Value> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(what, "JSON", error).hint("the file may be cut short"))
}

/// JSON from anywhere as values, if it is no larger than any config; `what` is the thing for the message.
///
/// # Errors
/// Those of [`read_json`], and text that is no JSON.
pub(crate) fn parsed(bytes: &[u8], what: &str) -> Result<Value> {
    bounded(bytes)?;
    json(bytes, what)
}

/// Refuses JSON text that would be far larger as values.
pub(crate) fn bounded(text: &[u8]) -> Result<()> {
    if text.len() > JSON_BYTES {
        return Err(too_large("bytes", JSON_BYTES, text.len() as u64));
    }
    let (mut groups, mut commas, mut quoted, mut escaped) = (0, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => groups += 1,
            b',' if !quoted => commas += 1,
            _ => {}
        }
    }
    match (groups > JSON_GROUPS as u64, commas > JSON_COMMAS as u64) {
        (true, _) => Err(too_large("lists and objects", JSON_GROUPS, groups)),
        (_, true) => Err(too_large("commas", JSON_COMMAS, commas)),
        _ => Ok(()),
    }
}

fn too_large(what: &str, most: usize, found: u64) -> Error {
    Error::invalid("file", format_args!("at most {most} {what}"), found).hint("it is no config of a model")
}

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
            let name = format!("{prefix}{name}");
            if small && (is_carried(&name) || name == SIDECAR) {
                let bytes = Bytes::open(&path).map_err(Error::external)?;
                self.0.push((name, bytes));
            }
        }
        Ok(())
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

/// Whether a file tells about a model: what else lies in its folder is nobody's business.
pub(crate) fn is_carried(name: &str) -> bool {
    let is_weights =
        WEIGHTS.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| stem.ends_with('.')));
    name == PUBLISHED_FILE || (!is_weights && DESCRIPTIONS.iter().any(|start| name.starts_with(start)))
}

/// Whether a program that loads a model reads the file.
pub(crate) fn is_read(name: &str) -> bool {
    name == SIDECAR || !["LICENSE", "README"].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_would_be_far_larger_as_values_is_refused() {
        let check = |text: String, refusal: Option<&str>| {
            let found = bounded(text.as_bytes()).err().map(|error| error.to_string());
            let (start, refusal) = (&text[..text.len().min(20)], refusal.unwrap_or_default());
            assert!(found.as_deref().unwrap_or_default().contains(refusal), "{start} {found:?}");
            assert_eq!(found.is_none(), refusal.is_empty(), "{start} {found:?}");
        };
        check(format!("[{}0]", "0,".repeat(JSON_COMMAS)), None);
        check(format!("[{}0]", "0,".repeat(JSON_COMMAS + 1)), Some("at most 131072 commas, found 131073"));
        check(format!("{}0", "[".repeat(JSON_GROUPS)), None);
        check(format!("{}0", "{\"\":".repeat(JSON_GROUPS + 1)), Some("lists and objects, found 32769"));
        // Inside a text they are letters, and a quote that is escaped does not end it.
        check(format!("\"\\\\\\\"{}\"", "[{,".repeat(JSON_COMMAS)), None);
        check(format!("\"\\\\\"{}", "[{,".repeat(JSON_COMMAS)), Some("lists and objects"));
        check(" ".repeat(JSON_BYTES + 1), Some("at most 16777216 bytes, found 16777217; it is no config"));
    }

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
        check("config.json", true);
        check("notes.txt", false);
        check("train.py", false);
    }
}
