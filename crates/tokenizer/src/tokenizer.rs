//! Text to ids and back: one type for every kind of tokenizer, and one file format for all of them.
//!
//! A [`Tokenizer`] is cheap to clone and to share between threads. It is made from a `tokenizer.json`
//! ([`from_json`](Tokenizer::from_json), [`load`](Tokenizer::load)), by training
//! ([`BpeTrainer`](crate::BpeTrainer)), from the characters of a text, or from nothing (bytes).
//!
//! **Untrusted text.** [`encode`](Tokenizer::encode) takes what is written as text: `<|endoftext|>` in a user's
//! message is thirteen characters, not the end of the text. Only [`Markup::Tokens`](crate::Markup::Tokens) reads
//! it as a token.
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
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use formwork_formats::{Bytes, atomic_write};

use crate::bytes;
use crate::characters;
use crate::decode::Decoding;
use crate::engine::{Engine, part};
use crate::error::{Error, Result};
use crate::file::{Kind, TokenizerFile, file_in, text};
use crate::gguf::{self, Vocabulary};
use crate::how::{Around, Encode, Frame, Specials};
use crate::pieces::Pieces;
use crate::protected::Protected;
use crate::special::Special;
use crate::stream::DecodeStream;
use crate::validate::validate;

/// Text to token ids and back.
#[derive(Clone)]
pub struct Tokenizer {
    parts: Arc<Parts>,
    pub(crate) special: Special,
    /// What stands around a text.
    pub(crate) frame: Around,
}

/// What clones share.
struct Parts {
    method: Method,
    kind: Kind,
    pieces: Pieces,
    decoding: Decoding,
    /// The `tokenizer.json`; of a vocabulary it is written when somebody asks.
    source: OnceLock<String>,
}

/// How a text is encoded.
enum Method {
    Bytes,
    Characters(HashMap<char, u32>),
    Engine(Box<Engine>),
    Vocabulary(Box<gguf::Engine>),
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
        let text = text(json.to_vec())?;
        Self::build(TokenizerFile::read(&text)?, text)
    }

    /// The `tokenizer.json` of this tokenizer; of a loaded one, the very text it was read from.
    ///
    /// Of a vocabulary from a GGUF file it is a `tokenizer.json` that encodes the same.
    pub fn to_json(&self) -> &str {
        self.parts.source.get_or_init(|| match &self.parts.method {
            Method::Vocabulary(engine) => engine.json(&self.parts.pieces),
            Method::Bytes | Method::Characters(_) | Method::Engine(_) => {
                unreachable!("what is read from a file keeps its text")
            }
        })
    }

    /// The tokenizer that a GGUF file's vocabulary describes; it encodes as llama.cpp does.
    ///
    /// See [`gguf`](crate::gguf) for what is supported and where the two differ.
    ///
    /// # Errors
    /// If the model or the pre-tokenizer is not known, if tokens repeat or are no UTF-8, if lists differ in length, if
    /// merges name unknown pieces, or if an id is out of range: each named by its key in the file.
    pub fn from_vocabulary(vocabulary: Vocabulary) -> Result<Self> {
        let (engine, pieces) = gguf::Engine::new(vocabulary)?;
        let special = engine.special.clone();
        let (before, after) = engine.frame.clone();
        let decoding = Decoding::of_bytes(engine.prefix());
        let parts = Parts {
            method: Method::Vocabulary(Box::new(engine)),
            kind: Kind::Bpe,
            pieces,
            decoding,
            source: OnceLock::new(),
        };
        Ok(Tokenizer { parts: Arc::new(parts), special, frame: Around { before, after } })
    }

    /// What a user should know about the file it came from: a vocabulary that does not say how to cut words.
    pub fn notes(&self) -> &[String] {
        match &self.parts.method {
            Method::Vocabulary(engine) => &engine.notes,
            Method::Bytes | Method::Characters(_) | Method::Engine(_) => &[],
        }
    }

    /// Reads a `tokenizer.json`, or the one in a folder.
    ///
    /// # Errors
    /// If it cannot be read, and those of [`from_json`](Self::from_json).
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        // The bytes that were read are gone before their copy is parsed.
        let text = text(Bytes::read(file_in(path.as_ref()))?.to_vec())?;
        Self::build(TokenizerFile::read(&text)?, text)
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
    /// Those of [`encode_with`](Self::encode_with).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, &Encode::default())
    }

    /// The ids of a text.
    ///
    /// Byte-level vocabularies may lack a byte (SmolLM2's do for a few control characters). Without an unknown token such
    /// a byte is dropped, as llama.cpp and the tokenizers library do: the ids then decode to the text without it.
    ///
    /// # Errors
    /// If a character has no token in a vocabulary that is not byte-level, and nothing stands for the unknown, or if plain
    /// text gives a special token.
    pub fn encode_with(&self, text: &str, how: &Encode) -> Result<Vec<u32>> {
        self.encode_around(text, &[], how)
    }

    /// The ids of a text of which parts are other people's words: in `protected` byte ranges nothing is a special token.
    ///
    /// A special token is recognised where no byte of it is protected; all else is encoded as
    /// [`encode_with`](Self::encode_with) does, so that a prompt without special tokens in its protected parts has the
    /// same ids. Ranges may overlap and stand in any order.
    ///
    /// ```
    /// use formwork_tokenizer::{BpeTrainer, Encode, Markup};
    ///
    /// let tokenizer = BpeTrainer::new(257).train(["a text"])?;
    /// let end = tokenizer.special().end[0];
    /// let prompt = "say <|endoftext|><|endoftext|>";
    /// let how = Encode { markup: Markup::Tokens, ..Encode::default() };
    /// assert_eq!(tokenizer.encode_with(prompt, &how)?.iter().filter(|id| **id == end).count(), 2);
    /// let ids = tokenizer.encode_around(prompt, &[4..17], &how)?;      // the first is what a user wrote
    /// assert_eq!(ids.iter().filter(|id| **id == end).count(), 1);
    /// # Ok::<(), formwork_tokenizer::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`encode_with`](Self::encode_with), and if protected text gives a special token all the same.
    pub fn encode_around(&self, text: &str, protected: &[Range<usize>], how: &Encode) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let protected = Protected::new(protected);
        if how.frame == Frame::Template {
            ids.extend_from_slice(&self.frame.before);
        }
        match &self.parts.method {
            Method::Bytes => ids.extend(text.bytes().map(u32::from)),
            Method::Characters(known) => characters::encode(known, text, &mut ids)?,
            Method::Engine(engine) => {
                engine.encode(text, how.markup, &protected, &self.parts.pieces, &mut ids)?;
            }
            Method::Vocabulary(engine) => {
                engine.encode(text, how, &protected, &self.parts.pieces, &mut ids)?;
            }
        }
        if how.frame == Frame::Template {
            ids.extend_from_slice(&self.frame.after);
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
            (Method::Vocabulary(_), ..) => self.parts.pieces.id(piece),
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

    /// The vocabulary it was made from, if it was.
    pub(crate) fn vocabulary(&self) -> Option<Vocabulary> {
        match &self.parts.method {
            Method::Vocabulary(engine) => Some(engine.vocabulary(&self.parts.pieces)),
            Method::Bytes | Method::Characters(_) | Method::Engine(_) => None,
        }
    }

    /// Whether its file says what stands around a text, were it nothing.
    pub(crate) fn has_template(&self) -> bool {
        match &self.parts.method {
            Method::Engine(engine) => engine.has_template,
            Method::Bytes | Method::Characters(_) | Method::Vocabulary(_) => true,
        }
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
        match &self.parts.method {
            Method::Bytes => self.parts.decoding.push_bytes(state, out, |bytes| bytes.push(id as u8)),
            Method::Vocabulary(engine) => {
                self.parts.decoding.push_bytes(state, out, |bytes| engine.decode(id, piece, bytes));
            }
            Method::Characters(_) | Method::Engine(_) => return self.parts.decoding.push(state, piece, out),
        }
        Ok(())
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
        let (mut special, mut frame) = (Special::default(), Around::default());
        if let Method::Engine(engine) = &method {
            special = Special::from_names(|name| engine.id(name).filter(|id| pieces.is_special(*id)));
            special.unknown = engine.unknown;
            let (before, after) = engine.frame.clone();
            special.begin = before.first().copied().or(special.begin);
            frame = Around { before, after };
        }
        Ok(Tokenizer {
            parts: Arc::new(Parts { method, kind, pieces, decoding, source: source.into() }),
            special,
            frame,
        })
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
