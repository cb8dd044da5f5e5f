//! The vocabularies inside GGUF files: plain data, read and written, and a tokenizer made from it.
//!
//! A GGUF file has no normaliser, pre-tokenizer or template, only lists (tokens, their types, scores or merges) and the
//! name of an algorithm; the rest is what llama.cpp does for that name.
//! [`Tokenizer::from_vocabulary`](crate::Tokenizer::from_vocabulary) does the same:
//!
//! - model `gpt2`: byte-level byte-pair encoding, with the pre-tokenizer that [`Vocabulary::pre`] names;
//! - model `llama`: SentencePiece's byte-pair encoding (LLaMA-1, LLaMA-2), where the pair whose joint piece has the
//!   highest score merges first, and a character without a piece becomes bytes.
//!
//! [`Tokenizer::to_vocabulary`](crate::Tokenizer::to_vocabulary) goes the other way, from a `tokenizer.json` that can
//! be said like this.
//!
//! ```
//! use formwork_tokenizer::Tokenizer;
//! use formwork_tokenizer::gguf::{TokenType, Vocabulary};
//!
//! let mut vocabulary = Vocabulary { model: "llama".into(), ..Vocabulary::default() };
//! for (token, score, kind) in [
//!     ("<unk>", 0.0, TokenType::Unknown), ("<s>", 0.0, TokenType::Control), ("</s>", 0.0, TokenType::Control),
//!     ("▁", -9.0, TokenType::Normal), ("h", -9.0, TokenType::Normal), ("i", -9.0, TokenType::Normal),
//!     ("hi", -2.0, TokenType::Normal), ("▁h", -1.0, TokenType::Normal),
//! ] {
//!     vocabulary.tokens.push(token);
//!     vocabulary.scores.push(score);
//!     vocabulary.types.push(kind);
//! }
//! let tokenizer = Tokenizer::from_vocabulary(vocabulary)?;
//! assert_eq!(tokenizer.encode("hi")?, [7, 5]);            // "▁h" has the better score, so "hi" never forms
//! assert_eq!(tokenizer.decode(&[1, 7, 5])?, "hi");
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```
//!
//! A byte for which a byte-level vocabulary has no token is dropped without a word, as llama.cpp does: SmolLM2 has none
//! for a few control characters. What stands on its two sides stays apart.
//!
//! # Where this differs from llama.cpp, on purpose
//!
//! - Text never gives a control token: llama.cpp's merges can spell one (a piece `</` before a piece `s>`).
//! - A file that llama.cpp would read with a warning or end at (ids out of range, a token twice, merges of unknown
//!   pieces) is an error that names the place.
//! - Decoding does not take spaces off before signs (`clean_spaces`), and takes the first space of the text off
//!   after a begin token too, so that text comes back as it was.

mod build;
mod check;
mod class;
mod cut;
mod decode;
mod engine;
mod json;
mod merge;
mod merges;
mod metadata;
mod names;
mod partition;
mod rules;
mod say;
mod texts;

pub(crate) use engine::{Engine, Prefix};
pub use texts::Texts;

/// A vocabulary as GGUF files hold it: the values of `tokenizer.ggml.*`, one field each.
///
/// The default is empty: no tokens, nothing said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// The algorithm: `gpt2`, `llama`.
    pub model: String,
    /// The pre-tokenizer of a `gpt2` vocabulary: `gpt-2`, `llama-bpe`, `smollm`.
    pub pre: Option<String>,
    /// Each token's text, an id is a place; the file promises no UTF-8.
    pub tokens: Texts,
    /// Each token's score, highest merged first (`llama`); empty for none.
    pub scores: Vec<f32>,
    /// Each token's type; empty if all are normal.
    pub types: Vec<TokenType>,
    /// Two pieces with a space between, the earlier the sooner merged (`gpt2`).
    pub merges: Texts,
    /// Stands before a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn of a conversation.
    pub eot: Option<u32>,
    /// Ends a message in a turn that goes on.
    pub eom: Option<u32>,
    /// Stands for what has no token.
    pub unk: Option<u32>,
    /// Fills the rows of a batch.
    pub pad: Option<u32>,
    /// Whether [`bos`](Self::bos) is put before a text; where nothing is said the model and the pre-tokenizer decide.
    pub add_bos: Option<bool>,
    /// Whether [`eos`](Self::eos) is put after a text.
    pub add_eos: Option<bool>,
    /// Whether a space is put before a text (`llama`).
    pub add_space_prefix: Option<bool>,
    /// Whether runs of spaces become one. Only unigram vocabularies do that: kept, and not applied.
    pub remove_extra_whitespaces: Option<bool>,
    /// The name of the model in the file, which llama.cpp goes by where a file has no place for a rule: the special
    /// tokens of Phi-3 take the spaces after them.
    pub name: Option<String>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenType {
    /// Not said.
    Undefined,
    /// A piece of text.
    #[default]
    Normal,
    /// Stands for what has no piece.
    Unknown,
    /// Never text: begins, ends, separates.
    Control,
    /// Found in every text before anything else.
    UserDefined,
    /// In the list for its number's sake.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

impl TokenType {
    /// The type that a file writes as this number; numbers without a meaning are undefined.
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => TokenType::Undefined,
        }
    }

    /// The number that a file writes.
    pub fn number(self) -> i32 {
        match self {
            TokenType::Undefined => 0,
            TokenType::Normal => 1,
            TokenType::Unknown => 2,
            TokenType::Control => 3,
            TokenType::UserDefined => 4,
            TokenType::Unused => 5,
            TokenType::Byte => 6,
        }
    }

    /// Whether text must never become this token by itself.
    pub(crate) fn is_special(self) -> bool {
        matches!(self, TokenType::Control | TokenType::Unknown)
    }
}
