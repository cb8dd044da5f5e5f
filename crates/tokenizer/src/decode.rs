//! From pieces to text, one piece at a time: the decoders of the tokenizers library as a chain with state.
//!
//! That library decodes a whole list of pieces. Here each decoder keeps what it must remember (a run of byte pieces,
//! the first piece, the spaces at the end), so that text comes out as soon as nothing later can change it, at a cost
//! per token that does not grow. Whole decoding runs the same chain, so the two cannot differ.
//!
//! - `ByteLevel` joins bytes and gives out complete characters; invalid bytes become U+FFFD.
//! - `ByteFallback` gives out a run of byte pieces when the run ends: the library replaces every byte of a run that is
//!   not valid as a whole, so nothing of a run is certain before.
//! - A chain that cannot run so (CTC, or replacing after fusing) is decoded by the library at the end.

use std::borrow::Cow;

use tokenizers::Decoder as _;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::wordpiece::cleanup;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;

use crate::bytes::byte;
use crate::engine::{guard, library};
use crate::error::Result;
use crate::gguf::Prefix;
use crate::utf8::Utf8;

/// How the pieces of a tokenizer become text.
#[derive(Debug)]
pub(crate) enum Decoding {
    /// Stages that each piece passes, how the results join, and what is taken off the ends of the text.
    Chain { stages: Vec<Stage>, join: Join, strips: Vec<Strip> },
    /// By the library, decoder after decoder, when all pieces are there.
    Whole(Vec<DecoderWrapper>),
}

/// What one decoder does to one piece.
#[derive(Debug)]
pub(crate) enum Stage {
    /// `<0x41>` is a byte.
    ByteFallback,
    /// Changes each piece by itself.
    Each(Box<DecoderWrapper>),
    /// Takes a character off the ends of each piece.
    Strip(Strip),
    /// A mark stands for a space, except in the first piece if marks were put there.
    Metaspace { mark: char, drops_first: bool },
    /// Pieces without the prefix begin a word.
    WordPiece { prefix: String, cleans: bool },
    /// A suffix ends a word.
    Suffix(String),
}

/// How pieces become one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// One after the other.
    Plain,
    /// With a space between, as the library does without a decoder.
    Spaces,
    /// As bytes.
    Bytes,
}

/// Up to `start` and `stop` times `content` is taken off the two ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strip {
    content: char,
    start: usize,
    stop: usize,
}

impl Decoding {
    /// Works out how to run the library's decoder piece by piece.
    pub(crate) fn new(decoder: Option<DecoderWrapper>) -> Self {
        let Some(decoder) = decoder else {
            return Decoding::Chain { stages: Vec::new(), join: Join::Spaces, strips: Vec::new() };
        };
        let mut list = Vec::new();
        flatten(&decoder, &mut list);
        let (mut stages, mut join, mut strips) = (Vec::new(), None, Vec::new());
        for &step in &list {
            match (join, step) {
                (None, DecoderWrapper::Fuse(_)) => join = Some(Join::Plain),
                (None, DecoderWrapper::ByteLevel(_)) => join = Some(Join::Bytes),
                (Some(_), DecoderWrapper::Fuse(_)) => {}
                (Some(_), DecoderWrapper::Strip(strip)) => strips.push(Strip::from(strip)),
                (None, DecoderWrapper::ByteFallback(_)) => stages.push(Stage::ByteFallback),
                (None, DecoderWrapper::Replace(_)) => stages.push(Stage::Each(Box::new(step.clone()))),
                (None, DecoderWrapper::Strip(strip)) => stages.push(Stage::Strip(strip.into())),
                (None, DecoderWrapper::Metaspace(metaspace)) => stages.push(Stage::Metaspace {
                    mark: metaspace.get_replacement(),
                    drops_first: metaspace.prepend_scheme != PrependScheme::Never,
                }),
                (None, DecoderWrapper::WordPiece(words)) => {
                    stages.push(Stage::WordPiece { prefix: words.prefix.clone(), cleans: words.cleanup });
                }
                (None, DecoderWrapper::BPE(words)) => stages.push(Stage::Suffix(words.suffix.clone())),
                _ => return Decoding::Whole(list.into_iter().cloned().collect()),
            }
        }
        Decoding::Chain { stages, join: join.unwrap_or(Join::Plain), strips }
    }

    /// For tokenizers whose ids are bytes; the first space of a text may not be part of it.
    pub(crate) fn of_bytes(prefix: Prefix) -> Self {
        let strips = match prefix {
            Prefix::Space => vec![Strip { content: ' ', start: 1, stop: 0 }],
            Prefix::Nothing => Vec::new(),
        };
        Decoding::Chain { stages: Vec::new(), join: Join::Bytes, strips }
    }

    /// The state before the first piece.
    pub(crate) fn start(&self) -> State {
        match self {
            Decoding::Chain { stages, strips, .. } => State {
                memory: stages.iter().map(|_| Memory::default()).collect(),
                ends: strips.iter().map(|strip| Ends { left: strip.start, held: 0 }).collect(),
                ..State::default()
            },
            Decoding::Whole(_) => State::default(),
        }
    }

    /// Takes one piece; what can no longer change is appended to `out`.
    pub(crate) fn push(&self, state: &mut State, piece: &str, out: &mut String) -> Result<()> {
        match self {
            Decoding::Whole(_) => {
                state.whole.push(piece.to_owned());
                Ok(())
            }
            Decoding::Chain { .. } => self.pass(state, 0, Cow::Borrowed(piece), out),
        }
    }

    /// Takes the bytes that `write` appends, for tokenizers whose ids are bytes.
    pub(crate) fn push_bytes(&self, state: &mut State, out: &mut String, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut bytes, mut text) = (std::mem::take(&mut state.bytes), std::mem::take(&mut state.text));
        bytes.clear();
        write(&mut bytes);
        state.utf8.push(&bytes, &mut text);
        state.bytes = bytes;
        state.text = self.strip(state, text, out);
    }

    /// No piece follows: appends what was held back.
    pub(crate) fn finish(&self, state: &mut State, out: &mut String) -> Result<()> {
        let stages = match self {
            Decoding::Whole(steps) => {
                let pieces = std::mem::take(&mut state.whole);
                let decoded = guard("decoder", || steps.iter().try_fold(pieces, whole))?;
                out.extend(decoded.map_err(|error| library("decode", &error))?);
                return Ok(());
            }
            Decoding::Chain { stages, .. } => stages,
        };
        for (at, stage) in stages.iter().enumerate() {
            match stage {
                Stage::ByteFallback => self.end_run(state, at, out)?,
                Stage::Suffix(suffix) => {
                    if let Some(piece) = state.memory[at].held.take() {
                        self.pass(state, at + 1, Cow::Owned(piece.replace(suffix, "")), out)?;
                    }
                }
                Stage::Each(_) | Stage::Strip(_) | Stage::Metaspace { .. } | Stage::WordPiece { .. } => {}
            }
        }
        let mut tail = std::mem::take(&mut state.text);
        state.utf8.finish(&mut tail);
        self.strip(state, tail, out);
        // What the ends still hold back is what they take off.
        Ok(())
    }

    /// Passes a piece through the stages from `at` on.
    fn pass(&self, state: &mut State, at: usize, piece: Cow<'_, str>, out: &mut String) -> Result<()> {
        let Decoding::Chain { stages, join, .. } = self else { unreachable!("only chains pass pieces") };
        let Some(stage) = stages.get(at) else {
            self.join(state, *join, &piece, out);
            return Ok(());
        };
        let first = !std::mem::replace(&mut state.memory[at].begun, true);
        let next = match stage {
            Stage::ByteFallback => {
                if let Some(byte) = fallback_byte(&piece) {
                    state.memory[at].run.push(byte);
                    return Ok(());
                }
                self.end_run(state, at, out)?;
                piece
            }
            Stage::Each(decoder) => {
                let one = vec![piece.into_owned()];
                Cow::Owned(decoder.decode(one).map_err(|error| library("decode", &error))?)
            }
            Stage::Strip(strip) => Cow::Owned(strip.off(&piece).to_owned()),
            Stage::Metaspace { mark, drops_first } => {
                Cow::Owned(piece.replace(*mark, if first && *drops_first { "" } else { " " }))
            }
            Stage::WordPiece { prefix, cleans } => {
                let piece = match piece.strip_prefix(prefix.as_str()) {
                    _ if first => piece,
                    Some(rest) => Cow::Owned(rest.to_owned()),
                    None => Cow::Owned(format!(" {piece}")),
                };
                if *cleans { Cow::Owned(cleanup(&piece)) } else { piece }
            }
            Stage::Suffix(suffix) => {
                // The last piece loses its suffix, the others end a word with it: one piece always waits.
                match state.memory[at].held.replace(piece.into_owned()) {
                    Some(before) => Cow::Owned(before.replace(suffix, " ")),
                    None => return Ok(()),
                }
            }
        };
        self.pass(state, at + 1, next, out)
    }

    /// A run of byte pieces has ended: its text, or one U+FFFD per byte if it is none.
    fn end_run(&self, state: &mut State, at: usize, out: &mut String) -> Result<()> {
        if state.memory[at].run.is_empty() {
            return Ok(());
        }
        match String::from_utf8(std::mem::take(&mut state.memory[at].run)) {
            Ok(text) => self.pass(state, at + 1, Cow::Owned(text), out),
            Err(error) => error
                .as_bytes()
                .iter()
                .try_for_each(|_| self.pass(state, at + 1, Cow::Borrowed("\u{fffd}"), out)),
        }
    }

    /// Appends a finished piece to the text.
    fn join(&self, state: &mut State, join: Join, piece: &str, out: &mut String) {
        let mut text = std::mem::take(&mut state.text);
        match join {
            Join::Plain => text.push_str(piece),
            Join::Spaces => {
                if std::mem::replace(&mut state.begun, true) {
                    text.push(' ');
                }
                text.push_str(piece);
            }
            Join::Bytes => {
                let mut bytes = std::mem::take(&mut state.bytes);
                bytes.clear();
                // A piece with any other character (an added token) stands for itself.
                for character in piece.chars() {
                    match byte(character) {
                        Some(byte) => bytes.push(byte),
                        None => {
                            bytes.clear();
                            bytes.extend_from_slice(piece.as_bytes());
                            break;
                        }
                    }
                }
                state.utf8.push(&bytes, &mut text);
                state.bytes = bytes;
            }
        }
        state.text = self.strip(state, text, out);
    }

    /// Takes characters off the ends of the whole text as it passes; gives the buffer back, empty.
    fn strip(&self, state: &mut State, mut text: String, out: &mut String) -> String {
        let Decoding::Chain { strips, .. } = self else { unreachable!("only chains strip") };
        for (strip, ends) in strips.iter().zip(&mut state.ends) {
            text = ends.pass(strip, &text);
        }
        out.push_str(&text);
        text.clear();
        text
    }
}

/// What a chain remembers between two pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    memory: Vec<Memory>,
    ends: Vec<Ends>,
    utf8: Utf8,
    begun: bool,
    whole: Vec<String>,
    /// Buffers that are empty between two pieces, kept for their memory.
    text: String,
    bytes: Vec<u8>,
}

/// What one stage remembers.
#[derive(Clone, Debug, Default)]
struct Memory {
    begun: bool,
    run: Vec<u8>,
    held: Option<String>,
}

/// What stripping the whole text remembers: how many may still go at the start, how many wait at the end.
#[derive(Clone, Debug)]
struct Ends {
    left: usize,
    held: usize,
}

impl Ends {
    /// The part of `held + text` that is certain.
    fn pass(&mut self, strip: &Strip, text: &str) -> String {
        let mut text = text;
        while self.left > 0 && !text.is_empty() {
            match text.strip_prefix(strip.content) {
                Some(rest) => (text, self.left) = (rest, self.left - 1),
                None => self.left = 0,
            }
        }
        let mut all: String = std::iter::repeat_n(strip.content, self.held).collect();
        all.push_str(text);
        let kept = strip.before_end(&all).len();
        self.held = (all.len() - kept) / strip.content.len_utf8();
        all.truncate(kept);
        all
    }
}

impl Strip {
    /// The text without what is taken off its two ends.
    fn off<'a>(&self, mut text: &'a str) -> &'a str {
        for _ in 0..self.start {
            let Some(rest) = text.strip_prefix(self.content) else { break };
            text = rest;
        }
        self.before_end(text)
    }

    /// The text without what is taken off its end.
    fn before_end<'a>(&self, mut text: &'a str) -> &'a str {
        for _ in 0..self.stop {
            let Some(rest) = text.strip_suffix(self.content) else { break };
            text = rest;
        }
        text
    }
}

impl From<&tokenizers::decoders::strip::Strip> for Strip {
    fn from(strip: &tokenizers::decoders::strip::Strip) -> Self {
        Strip { content: strip.content, start: strip.start, stop: strip.stop }
    }
}

/// One decoder over all pieces.
fn whole(pieces: Vec<String>, step: &DecoderWrapper) -> tokenizers::Result<Vec<String>> {
    match step {
        _ if pieces.is_empty() => Ok(pieces),
        // The library's own looks for what it takes off before the beginning of a short piece.
        DecoderWrapper::Strip(strip) => {
            let strip = Strip::from(strip);
            Ok(pieces.iter().map(|piece| strip.off(piece).to_owned()).collect())
        }
        step => step.decode_chain(pieces),
    }
}

/// The steps of a decoder in the order they run.
fn flatten<'a>(decoder: &'a DecoderWrapper, list: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().for_each(|step| flatten(step, list));
        }
        step => list.push(step),
    }
}

/// The byte of a piece like `<0x0A>`.
fn fallback_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
