//! What went wrong, in which file, at which tensor or metadata key.
//!
//! The sentence reads `FILE: tensor "NAME": KIND` or `FILE: key "NAME": KIND`; the parts that are not known are left out.
//!
//! ```
//! use formwork_formats::{Bytes, ErrorKind, SafeTensors};
//! let error = SafeTensors::from_bytes(Bytes::from(vec![0; 3])).unwrap_err();
//! assert!(matches!(error.kind(), ErrorKind::TooShort { found: 3 }));
//! assert_eq!(error.file(), None);
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::ErrorKind;
use crate::sentence::Quoted;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure with its place: the [`ErrorKind`], the file, and the tensor or the metadata key, as far
/// as they are known.
///
/// It is one pointer wide, so that a `Result` stays small.
pub struct Error(Box<Place>);

struct Place {
    kind: ErrorKind,
    file: Option<PathBuf>,
    tensor: Option<String>,
    key: Option<String>,
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The file it happened in; `None` for bytes that came from memory.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The tensor it happened at; `None` when the whole file is concerned.
    pub fn tensor(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }

    /// The metadata key it happened at, if it was one.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// An I/O failure while trying to `action`, a verb with its object: `"open the file"`.
    pub(crate) fn io(action: &'static str, source: io::Error) -> Self {
        ErrorKind::Io { action, source }.into()
    }

    /// Adds the file, unless a deeper call has already said it.
    pub(crate) fn in_file(mut self, file: Option<&Path>) -> Self {
        if self.0.file.is_none() {
            self.0.file = file.map(Path::to_path_buf);
        }
        self
    }

    /// Adds the tensor, unless a deeper call has already said it.
    pub(crate) fn at(mut self, tensor: &str) -> Self {
        self.0.tensor.get_or_insert_with(|| tensor.to_owned());
        self
    }

    /// Adds the metadata key, unless a deeper call has already said it.
    pub(crate) fn at_key(mut self, key: &str) -> Self {
        self.0.key.get_or_insert_with(|| key.to_owned());
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(Place { kind, file: None, tensor: None, key: None }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.0.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(tensor) = &self.0.tensor {
            write!(f, "tensor {}: ", Quoted(tensor))?;
        }
        if let Some(key) = &self.0.key {
            write!(f, "key {}: ", Quoted(key))?;
        }
        write!(f, "{}", self.0.kind)
    }
}

/// As it is displayed: what a `main` that returns it prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            ErrorKind::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_file_and_tensor() {
        let error = Error::from(ErrorKind::DuplicateTensor).at("wte.weight").in_file(Some(Path::new("m.st")));
        assert!(error.to_string().starts_with("m.st: tensor \"wte.weight\": "), "{error}");
    }

    #[test]
    fn the_sentence_names_the_key() {
        let error = Error::from(ErrorKind::NestedArray).at_key("a.b").at_key("outer");
        assert!(error.to_string().starts_with("key \"a.b\": "), "{error}");
        assert_eq!((error.key(), error.tensor()), (Some("a.b"), None));
    }

    #[test]
    fn the_innermost_place_wins() {
        let error = Error::from(ErrorKind::DuplicateTensor).at("inner").at("outer");
        assert_eq!(error.tensor(), Some("inner"));
    }

    #[test]
    fn a_hostile_name_can_neither_flood_nor_forge_the_log() {
        let name = format!("a\nforged: line\u{1b}[31m{}", "x".repeat(10_000));
        let text = Error::from(ErrorKind::DuplicateTensor).at(&name).to_string();
        assert!(text.len() < 400 && !text.contains(['\n', '\u{1b}']), "{text}");
    }
}
