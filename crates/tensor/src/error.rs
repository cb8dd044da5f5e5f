//! One error type for the tensor crates: a kind, and a path that is built only while failing.
//!
//! The innermost part reports a kind; each parent that passes the error on adds its own name with [`At::at`],
//! so that the reader sees `blocks.3.attn.q: matmul: expected x [.., 768] for weight [2304, 768], found [2, 7, 1024]`.
//!
//! ```
//! use formwork_tensor::{At, Error, Result};
//! let failed: Result<()> = Err(Error::shape("matmul", "x [.., 768]", "[2, 7, 1024]"));
//! let text = failed.at("q").at("attn").unwrap_err().to_string();
//! assert_eq!(text, "attn.q: matmul: expected x [.., 768], found [2, 7, 1024]");
//! ```

use std::fmt;

use crate::DType;

/// The result of every fallible function of the tensor crates.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong and where in the module tree.
pub struct Error {
    detail: Box<Detail>,
}

struct Detail {
    kind: Kind,
    hint: Option<String>,
    /// The file or folder in which it went wrong.
    file: Option<String>,
    /// Innermost segment first: each parent pushes its own name.
    path: Vec<String>,
}

/// What went wrong. More kinds will come, so a `match` needs a wildcard arm.
#[derive(Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A shape does not fit. The strings hold shapes in brackets.
    Shape {
        /// The operation that refused.
        op: &'static str,
        /// What it would have taken.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// Numbers of another type than the operation's.
    DType {
        /// The operation that refused.
        op: &'static str,
        /// The type it would have taken.
        expected: DType,
        /// The type it was given.
        found: DType,
    },
    /// A value outside what is allowed: a token id, an axis, a rate, a setting.
    Invalid {
        /// The operation, field or argument that refused.
        what: String,
        /// What it would have taken.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// Memory that a living tensor still reads was to be changed.
    Busy {
        /// What was to be changed.
        what: &'static str,
    },
    /// Something that must be there is not.
    Missing {
        /// What is not there.
        what: String,
    },
    /// A number that is not finite where only finite ones make sense.
    NonFinite {
        /// The quantity, such as `loss` or `gradient norm`.
        what: String,
    },
    /// The work was stopped by its caller.
    Cancelled,
    /// An error of another crate.
    External(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A shape that does not fit `op`.
    pub fn shape(op: &'static str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Kind::Shape { op, expected: expected.to_string(), found: found.to_string() }.into()
    }

    /// A value that `what` cannot take.
    pub fn invalid(what: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        let (what, expected, found) = (what.to_string(), expected.to_string(), found.to_string());
        Kind::Invalid { what, expected, found }.into()
    }

    /// Something that must be there is not.
    pub fn missing(what: impl fmt::Display) -> Self {
        Kind::Missing { what: what.to_string() }.into()
    }

    /// An error of another crate, to be given a path here.
    pub fn external(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Kind::External(error.into()).into()
    }

    /// Adds what the reader may try, printed after a semicolon.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.detail.hint = Some(hint.to_string());
        self
    }

    /// Adds the name of the part through which the error passes.
    #[must_use]
    pub fn at(mut self, segment: impl fmt::Display) -> Self {
        self.detail.path.push(segment.to_string());
        self
    }

    /// Adds the file or folder that the path is in, printed before it.
    #[must_use]
    pub fn in_file(mut self, file: impl fmt::Display) -> Self {
        self.detail.file.get_or_insert(file.to_string());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &Kind {
        &self.detail.kind
    }

    /// The dotted path from the outermost part that knew its name, empty if none did.
    pub fn path(&self) -> String {
        let outermost_first: Vec<_> = self.detail.path.iter().rev().map(String::as_str).collect();
        outermost_first.join(".")
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self { detail: Box::new(Detail { kind, hint: None, file: None, path: Vec::new() }) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.detail.file {
            write!(f, "{file}: ")?;
        }
        if !self.detail.path.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        match &self.detail.kind {
            Kind::Shape { op, expected, found } => write!(f, "{op}: expected {expected}, found {found}")?,
            Kind::DType { op, expected, found } => write!(f, "{op}: expected {expected}, found {found}")?,
            Kind::Invalid { what, expected, found } => {
                write!(f, "{what}: expected {expected}, found {found}")?;
            }
            Kind::Busy { what } => {
                write!(
                    f,
                    "{what} is still read by a tensor; drop the loss and every tensor of the pass first"
                )?;
            }
            Kind::Missing { what } => write!(f, "missing {what}")?,
            Kind::NonFinite { what } => write!(f, "{what} is not finite")?,
            Kind::Cancelled => write!(f, "cancelled")?,
            Kind::External(error) => write!(f, "{error}")?,
        }
        match &self.detail.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// The text of [`Display`](fmt::Display): an error that reaches `main` or `unwrap` should be readable.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.detail.kind {
            Kind::External(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Adds a path segment to an error on its way up.
pub trait At<T> {
    /// Names the part through which the error passes; costs nothing when there is none.
    fn at(self, segment: impl fmt::Display) -> Result<T>;

    /// Names the file or folder in which it went wrong; the innermost one stays.
    fn in_file(self, file: impl fmt::Display) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, segment: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.at(segment))
    }

    fn in_file(self, file: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.in_file(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_from_the_outermost_part_to_the_hint() {
        let failed: Result<()> =
            Err(Error::invalid("dropout", "a rate in [0, 1)", 1.5).hint("use 0 to switch it off"));
        let error = failed.at("attn").at("blocks.3").unwrap_err();
        assert_eq!(error.path(), "blocks.3.attn");
        assert_eq!(
            error.to_string(),
            "blocks.3.attn: dropout: expected a rate in [0, 1), found 1.5; use 0 to switch it off"
        );
        let error = error.in_file("runs/a/formwork.json").in_file("runs/a");
        assert!(error.to_string().starts_with("runs/a/formwork.json: blocks.3.attn: dropout"), "{error}");
    }
}
