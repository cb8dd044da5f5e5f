//! What can go wrong with a tokenizer, one variant per kind.
//!
//! Each message names the place, what was expected, what was found and what to do.
//! None of them prints more than a line of a file or of a text, however large that is.
//!
//! ```
//! use formwork_tokenizer::Tokenizer;
//!
//! let error = Tokenizer::bytes().fits(100).unwrap_err();
//! assert_eq!(error.to_string(), "tokenizer: has 256 ids (largest 255), the model's vocab is 100; use the tokenizer \
//!     the model was trained with, or give a model that is yet to be trained a vocab of at least 256");
//! ```

use std::fmt;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a tokenizer: its file, its training, a text it cannot encode, an id it does not know.
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    File(formwork_formats::Error),
    /// The bytes are not the JSON of a tokenizer.
    Json {
        /// Line of the first problem, from 1.
        line: usize,
        /// Column of the first problem, from 1.
        column: usize,
        /// What is wrong there and what to do.
        problem: String,
    },
    /// The file is JSON, but a part of it contradicts itself, is unsafe or is not supported.
    Invalid {
        /// Where in the file: `model.merges[3]`.
        field: String,
        /// Expected, found and what to do.
        problem: String,
    },
    /// The vocabulary of a GGUF file contradicts itself, is unsafe or is not supported.
    Vocabulary {
        /// Where in the file: `tokenizer.ggml.merges[3]`.
        field: String,
        /// Expected, found and what to do.
        problem: String,
    },
    /// A tokenizer cannot be written as the vocabulary of a GGUF file.
    Unsayable {
        /// The part that has no place there: `normalizer`.
        part: String,
        /// Expected, found and what to do.
        problem: String,
    },
    /// A `tokenizer_config.json` or `special_tokens_map.json` cannot be read or contradicts the tokenizer.
    Config {
        /// The field: `bos_token`.
        field: String,
        /// Expected, found and what to do.
        problem: String,
    },
    /// The training settings or the training text do not allow a tokenizer to be trained.
    Training {
        /// Expected, found and what to do.
        problem: String,
    },
    /// A piece of the text has no token and the tokenizer has no unknown token to stand for it.
    UnknownText {
        /// The character (or word) without a token, shortened.
        text: String,
        /// Byte offset in the text, of the character or of the word that holds it.
        at: usize,
    },
    /// Ordinary text came out as a special token, which [`Markup::Text`](crate::Markup::Text) forbids.
    SpecialInText {
        /// The special token.
        piece: String,
        /// Byte offset of the word in the text.
        at: usize,
    },
    /// An id that stands for no piece.
    UnknownId {
        /// The id.
        id: u32,
        /// The number of ids: the largest known one and 1.
        vocab: usize,
    },
    /// The tokenizer gives ids that the model has no row for.
    TooLarge {
        /// The number of ids of the tokenizer: its largest one and 1.
        tokenizer: usize,
        /// The number of rows of the model's embedding.
        model: usize,
    },
    /// The tokenizers library refused this text or these ids.
    Library {
        /// What was being done: `encode`, `decode`.
        doing: &'static str,
        /// What the library said, shortened.
        problem: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File(error) => write!(f, "{error}"),
            Error::Json { line, column, problem } => {
                write!(f, "tokenizer.json: line {line} column {column}: {problem}")
            }
            Error::Invalid { field, problem } => write!(f, "tokenizer.json: {field}: {problem}"),
            Error::Vocabulary { field, problem } => write!(f, "gguf: {field}: {problem}"),
            Error::Unsayable { part, problem } => write!(f, "write a gguf vocabulary: {part}: {problem}"),
            // Which of the two files it is, the caller knows.
            Error::Config { field, problem } => write!(f, "{field}: {problem}"),
            Error::Training { problem } => write!(f, "train tokenizer: {problem}"),
            Error::UnknownText { text, at } => write!(
                f,
                "encode: no token for {text:?} at byte {at}, and the tokenizer has no unknown token; remove it from the \
                 text, or use a tokenizer whose training text had it (byte-level ones know every text)"
            ),
            Error::SpecialInText { piece, at } => write!(
                f,
                "encode: the text at byte {at} spells the special token {piece:?}; remove it, or encode with \
                 Markup::Tokens if the text may be trusted"
            ),
            Error::UnknownId { id, vocab } => write!(
                f,
                "decode: no piece has id {id}, the tokenizer has {vocab} ids; use the tokenizer the model was trained \
                 with, or keep the model from choosing ids that have no piece"
            ),
            Error::TooLarge { tokenizer, model } => write!(
                f,
                "tokenizer: has {tokenizer} ids (largest {}), the model's vocab is {model}; use the tokenizer the model \
                 was trained with, or give a model that is yet to be trained a vocab of at least {tokenizer}",
                tokenizer.saturating_sub(1)
            ),
            Error::Library { doing, problem } => {
                write!(f, "{doing}: the tokenizers library refused it: {problem}; check the tokenizer.json")
            }
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
        match self {
            Error::File(error) => Some(error),
            _ => None,
        }
    }
}

impl From<formwork_formats::Error> for Error {
    fn from(error: formwork_formats::Error) -> Self {
        Error::File(error)
    }
}

/// An [`Error::Invalid`] at `field`.
pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::Invalid { field: field.into(), problem: problem.into() }
}

/// The first characters of a text that may be megabytes long, fit for one line of a message.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 120;
    let (text, more) = match text.char_indices().nth(MOST) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    };
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect::<String>() + more
}
