//! Text to ids and back: one type for every kind of tokenizer, and one file format for all of them.
//!
//! A [`Tokenizer`] is cheap to clone and to share between threads. It is made from a `tokenizer.json`
//! ([`from_json`](Tokenizer::from_json), [`load`](Tokenizer::load)), by training
//! ([`BpeTrainer`](crate::BpeTrainer)), from the characters of a text, or from nothing (bytes).
//!
//! **Untrusted text.** [`encode`](Tokenizer::encode) takes what is written as text: `<|endoftext|>` in a user's
//! message is thirteen characters, not the end of the text. Only [`Markup::Tokens`] reads it as a token.
//!
//! **Never cut.** Truncation and padding that a file asks for are not applied: a batch knows its own lengths.
//!
//! ```
//! use formwork_tokenizer::Tokenizer;
//!
//! let tokenizer = Tokenizer::characters("to be or not to be")?;
//! let ids = tokenizer.encode("no bet")?;
//! assert_eq!(ids, [3, 4, 0, 1, 2, 6]);
//! assert_eq!(tokenizer.decode(&ids)?, "no bet");
//! let again = Tokenizer::from_json(tokenizer.to_json().as_bytes())?;
//! assert_eq!(again.encode("no bet")?, ids);
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formwork_formats::{Bytes, atomic_write};

use crate::bytes;
use crate::characters;
use crate::decode::Decoding;
use crate::engine::{Engine, part};
use crate::error::{Error, Result};
use crate::file::{Kind, TokenizerFile};
use crate::pieces::Pieces;
use crate::special::Special;
use crate::stream::DecodeStream;
use crate::validate::validate;

/// The name of the file in a model's folder.
const FILE_NAME: &str = "tokenizer.json";

/// Whether special tokens that are written in a text are tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Markup {
    /// They are text like any other; a text that would give one all the same is an error. For text from others.
    #[default]
    Text,
    /// They are tokens. For templates and prompts that your own program wrote.
    Tokens,
}

/// What stands around an encoded text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frame {
    /// Nothing.
    #[default]
    Bare,
    /// What the tokenizer's template says: `<s>` before a prompt for LLaMA, `[CLS]` and `[SEP]` for BERT, nothing for
    /// GPT-2.
    Template,
}

/// How to encode a text; the default is bare, with nothing in the text taken for a special token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encode {
    /// What stands around it.
    pub frame: Frame,
    /// Whether special tokens in it are tokens.
    pub markup: Markup,
}

/// What decoding does with special tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Specials {
    /// Leave them out.
    #[default]
    Skip,
    /// Write them as they are named.
    Keep,
}

/// Text to token ids and back.
#[derive(Clone)]
pub struct Tokenizer {
    parts: Arc<Parts>,
    special: Special,
}

/// What clones share.
struct Parts {
    method: Method,
    kind: Kind,
    pieces: Pieces,
    decoding: Decoding,
    source: String,
}

/// How a text is encoded.
enum Method {
    Bytes,
    Characters(HashMap<char, u32>),
    Engine(Box<Engine>),
}

impl Tokenizer {
    /// One token per byte: 256 ids, an id is its byte.
    pub fn bytes() -> Self {
        let file = bytes::file();
        let source = file.write();
        Self::build(file, source).expect("the bytes' file is valid")
    }

    /// One token per character of `text`, numbered by code point.
    ///
    /// # Errors
    /// If the text is empty.
    pub fn characters(text: &str) -> Result<Self> {
        let file = characters::file(text)?;
        let source = file.write();
        Self::build(file, source)
    }

    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// If they are cut short, no JSON, of another layout or version, if ids, merges, patterns or the template
    /// contradict each other or the vocabulary, or if a part is not supported (SentencePiece's character map).
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(json).map_err(|error| {
            let before = &json[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
            let problem = "expected UTF-8 text, found other bytes; is this a tokenizer.json?".into();
            Error::Json { line, column, problem }
        })?;
        Self::build(TokenizerFile::read(text)?, text.to_owned())
    }

    /// The `tokenizer.json` of this tokenizer; of a loaded one, the very text it was read from.
    pub fn to_json(&self) -> &str {
        &self.parts.source
    }

    /// Reads a `tokenizer.json`, or the one in a folder.
    ///
    /// # Errors
    /// If it cannot be read, and those of [`from_json`](Self::from_json).
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let json = Bytes::read(file_in(path.as_ref()))?;
        Self::from_json(&json)
    }

    /// Writes the `tokenizer.json` at this path, or in this folder, all of it or nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(atomic_write(file_in(path.as_ref()), self.to_json().as_bytes())?)
    }

    /// The ids of a text, bare, with special tokens taken as text: `encode_with(text, &Encode::default())`.
    ///
    /// # Errors
    /// If a part of the text has no token and nothing stands for the unknown.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, &Encode::default())
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// If a part of the text has no token and nothing stands for the unknown, or if plain text gives a special token.
    pub fn encode_with(&self, text: &str, how: &Encode) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        match &self.parts.method {
            Method::Bytes => ids.extend(text.bytes().map(u32::from)),
            Method::Characters(known) => characters::encode(known, text, &mut ids)?,
            Method::Engine(engine) => {
                let (before, after) = &engine.frame;
                if how.frame == Frame::Template {
                    ids.extend_from_slice(before);
                }
                engine.encode(text, how.markup, &self.parts.pieces, &mut ids)?;
                if how.frame == Frame::Template {
                    ids.extend_from_slice(after);
                }
            }
        }
        Ok(ids)
    }

    /// The text of ids, without special tokens; bytes that are no text become U+FFFD.
    ///
    /// # Errors
    /// If an id stands for no piece.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, Specials::Skip)
    }

    /// The text of ids; bytes that are no text become U+FFFD.
    ///
    /// # Errors
    /// If an id stands for no piece.
    pub fn decode_with(&self, ids: &[u32], specials: Specials) -> Result<String> {
        let (decoding, mut state) = (&self.parts.decoding, self.parts.decoding.start());
        let mut text = String::new();
        for &id in ids {
            self.step(&mut state, id, specials, &mut text)?;
        }
        decoding.finish(&mut state, &mut text)?;
        Ok(text)
    }

    /// Decodes ids as they come, without special tokens.
    pub fn stream(&self) -> DecodeStream {
        DecodeStream::new(self.clone(), Specials::Skip)
    }

    /// Decodes ids as they come.
    pub fn stream_with(&self, specials: Specials) -> DecodeStream {
        DecodeStream::new(self.clone(), specials)
    }

    /// The number of ids: the largest one and 1. Ids below it may have no piece.
    pub fn vocab(&self) -> usize {
        self.parts.pieces.vocab()
    }

    /// The piece of an id as the file writes it: byte-level pieces have `Ġ` for a space.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.parts.pieces.piece(id)
    }

    /// The id of a piece as the file writes it.
    pub fn id(&self, piece: &str) -> Option<u32> {
        let mut characters = piece.chars();
        match (&self.parts.method, characters.next(), characters.next()) {
            (Method::Engine(engine), ..) => engine.id(piece),
            (Method::Bytes, Some(one), None) => bytes::byte(one).map(u32::from),
            (Method::Characters(known), Some(one), None) => known.get(&one).copied(),
            _ => None,
        }
    }

    /// Whether an id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.parts.pieces.is_special(id)
    }

    /// The tokens that begin, end and pad a text.
    pub fn special(&self) -> &Special {
        &self.special
    }

    /// The same tokenizer with these parts for its tokens, as a model's `generation_config.json` may say.
    ///
    /// They are not written to `tokenizer.json`, which has no place for them.
    ///
    /// # Errors
    /// If an id stands for no piece.
    pub fn with_special(self, special: Special) -> Result<Self> {
        if let Some(id) = special.ids().find(|id| self.piece(*id).is_none()) {
            return Err(Error::UnknownId { id, vocab: self.vocab() });
        }
        Ok(Tokenizer { special, ..self })
    }

    /// What kind of tokenizer it is.
    pub fn kind(&self) -> Kind {
        self.parts.kind
    }

    /// Checks that every id has a row in a model with this many.
    ///
    /// Fewer ids than rows are fine: published models round their rows up.
    ///
    /// # Errors
    /// If the largest id has no row.
    pub fn fits(&self, vocab: usize) -> Result<()> {
        if self.vocab() > vocab {
            return Err(Error::TooLarge { tokenizer: self.vocab(), model: vocab });
        }
        Ok(())
    }

    /// The state of a decoding before its first id.
    pub(crate) fn decoding(&self) -> &Decoding {
        &self.parts.decoding
    }

    /// Decodes one id.
    pub(crate) fn step(
        &self,
        state: &mut crate::decode::State,
        id: u32,
        specials: Specials,
        out: &mut String,
    ) -> Result<()> {
        let Some(piece) = self.piece(id) else { return Err(Error::UnknownId { id, vocab: self.vocab() }) };
        if specials == Specials::Skip && self.is_special(id) {
            return Ok(());
        }
        if let Method::Bytes = self.parts.method {
            self.parts.decoding.push_bytes(state, &[id as u8], out);
            return Ok(());
        }
        self.parts.decoding.push(state, piece, out)
    }

    /// Validates a file and builds the tokenizer it describes.
    fn build(mut file: TokenizerFile, source: String) -> Result<Self> {
        validate(&file)?;
        let mut pieces = Pieces::new(file.model.pieces())?;
        let is_bytes = bytes::is(&file);
        let characters = characters::read(&file);
        let kind = file.model.kind();
        let decoding = Decoding::new(part("decoder", file.decoder.take())?);
        let (method, kind) = match characters {
            _ if is_bytes => (Method::Bytes, Kind::Bytes),
            Some(known) => (Method::Characters(known), Kind::Characters),
            None => (Method::Engine(Box::new(Engine::new(&mut file, &mut pieces)?)), kind),
        };
        let mut special = Special::default();
        if let Method::Engine(engine) = &method {
            special = Special::from_names(|name| engine.id(name).filter(|id| pieces.is_special(*id)));
            special.unknown = engine.unknown;
            special.begin = engine.frame.0.first().copied().or(special.begin);
        }
        Ok(Tokenizer { parts: Arc::new(Parts { method, kind, pieces, decoding, source }), special })
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("kind", &self.kind())
            .field("vocab", &self.vocab())
            .field("special", &self.special)
            .finish()
    }
}

/// The file that a path to a file or a folder means.
fn file_in(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() }
}
