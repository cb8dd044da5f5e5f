//! Encoding with the vocabulary of a GGUF file.

use std::cmp::Reverse;

use crate::bytes::character;
use crate::error::{Error, Result, shorten};
use crate::gguf::build::{byte_level, sentences, special, takes};
use crate::gguf::check::{Checked, check, refuse};
use crate::gguf::class::Classes;
use crate::gguf::cut::cut;
use crate::gguf::decode::{Written, decode};
use crate::gguf::merge::{Merging, Score};
use crate::gguf::merges::Merges;
use crate::gguf::partition::{Fragment, Partition, Wanted};
use crate::gguf::rules::{Begins, Rule, Words};
use crate::gguf::{Texts, TokenType, Vocabulary, json};
use crate::how::{Encode, Markup};
use crate::pieces::Pieces;
use crate::protected::Protected;
use crate::special::Special;

/// A vocabulary, ready to encode.
#[derive(Debug)]
pub(crate) struct Engine {
    /// What it was made from, without its tokens and merges, which are the pieces of the tokenizer and [`Merges`].
    said: Vocabulary,
    /// The tokens that the file has empty.
    empty: Vec<u32>,
    /// Each token's type.
    pub(crate) types: Vec<TokenType>,
    /// How text between special tokens is encoded.
    pub(crate) model: Model,
    /// How special tokens are found.
    pub(crate) partition: Partition,
    /// What stands before and after a text.
    pub(crate) frame: (Vec<u32>, Vec<u32>),
    /// The tokens with a part to play.
    pub(crate) special: Special,
    /// What a user should know.
    pub(crate) notes: Vec<String>,
}

/// How text between special tokens is encoded.
#[derive(Debug)]
pub(crate) enum Model {
    /// Byte-level byte-pair encoding of words.
    Bytes(ByteLevel),
    /// SentencePiece's byte-pair encoding of whole texts.
    Sentences(Sentences),
}

/// The tables of byte-level byte-pair encoding.
#[derive(Debug)]
pub(crate) struct ByteLevel {
    pub(crate) rule: &'static Rule,
    pub(crate) classes: Box<Classes>,
    /// The token of each byte.
    pub(crate) bytes: Box<[Option<u32>; 256]>,
    /// A pair's rank and the token it makes.
    pub(crate) merges: Merges,
}

/// The tables of SentencePiece's byte-pair encoding.
#[derive(Debug)]
pub(crate) struct Sentences {
    pub(crate) prefix: Prefix,
    /// The token of each byte, for characters without one.
    pub(crate) bytes: Box<[Option<u32>; 256]>,
    /// The length of the longest token.
    pub(crate) longest: usize,
    /// Where a text may be cut without changing its tokens.
    pub(crate) cuts: Cuts,
}

/// Where a SentencePiece text may be cut. Its merges run over the whole text, but none can reach over a place that no
/// token has in it; words that are merged one by one stay in the processor's caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cuts {
    /// Before each space that follows something else: no token has a space after something else.
    BeforeSpaces,
    /// Nowhere.
    Nowhere,
}

/// Whether a text begins with a space that is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// It does, also after each special token.
    Space,
    /// It does not.
    Nothing,
}

impl Engine {
    /// Checks a vocabulary and builds the tables; gives the pieces too.
    pub(crate) fn new(mut vocabulary: Vocabulary) -> Result<(Self, Pieces)> {
        let mut notes = Vec::new();
        let checked = check(&vocabulary)?;
        // What is not needed any more goes before the next table is built.
        vocabulary.tokens = Texts::new();
        let (model, begins) = match vocabulary.model.as_str() {
            "gpt2" => byte_level(&vocabulary, &checked, &mut notes)?,
            "llama" => (sentences(&vocabulary, &checked)?, Begins::WithToken),
            other => {
                let problem = format!(
                    "expected gpt2 (byte-level byte pairs) or llama (SentencePiece byte pairs), found {:?}; other \
                     tokenizers are read from their tokenizer.json",
                    shorten(other)
                );
                return Err(refuse("model", problem));
            }
        };
        let special = special(&vocabulary, &checked, &model);
        let framed = |asked: bool, id: Option<u32>, key: &str| match id {
            _ if !asked => Ok(Vec::new()),
            Some(id) => Ok(vec![id]),
            None => {
                let problem =
                    format!("expected an id, since add_{key}_token is true, found none; set either");
                Err(refuse(format_args!("{key}_token_id"), problem))
            }
        };
        let begin = framed(vocabulary.add_bos.unwrap_or(begins == Begins::WithToken), special.begin, "bos")?;
        let default_end = matches!(model, Model::Sentences(_)).then_some(2);
        let end = vocabulary.eos.or(default_end.filter(|id| (*id as usize) < checked.pieces.vocab()));
        let end = framed(vocabulary.add_eos.unwrap_or(false), end, "eos")?;

        vocabulary.merges = Texts::new();
        let Checked { mut pieces, empty, types } = checked;
        let (takes, mut wanted) = (takes(&vocabulary), Vec::new());
        for (id, kind) in (0..).zip(&types) {
            if kind.is_special() {
                pieces.mark_special(id);
            }
            if let Some(text) =
                pieces.piece(id).filter(|_| kind.is_special() || *kind == TokenType::UserDefined)
            {
                wanted.push(Wanted { id, text: text.into(), kind: *kind, takes: takes(text) });
            }
        }
        let engine = Engine {
            types,
            model,
            partition: Partition::new(wanted),
            frame: (begin, end),
            special,
            notes,
            said: vocabulary,
            empty,
        };
        Ok((engine, pieces))
    }

    /// The vocabulary that it was made from.
    pub(crate) fn vocabulary(&self, pieces: &Pieces) -> Vocabulary {
        let is_empty = |id: u32| self.empty.binary_search(&id).is_ok();
        Vocabulary {
            tokens: pieces.iter().map(|(id, text)| if is_empty(id) { "" } else { text }).collect(),
            merges: match &self.model {
                Model::Bytes(ByteLevel { merges, .. }) => merges.lines(pieces),
                Model::Sentences(_) => Texts::new(),
            },
            ..self.said.clone()
        }
    }

    /// The score of each token of a SentencePiece vocabulary.
    pub(crate) fn scores(&self) -> &[f32] {
        &self.said.scores
    }

    /// The `tokenizer.json` that says the same.
    pub(crate) fn json(&self, pieces: &Pieces) -> String {
        json::file(self, pieces).write()
    }

    /// How ordinary pieces are written.
    pub(crate) fn written(&self) -> Written {
        match self.model {
            Model::Bytes(_) => Written::Bytes,
            Model::Sentences(_) => Written::Spaces,
        }
    }

    /// Whether the first space of a decoded text is not part of it.
    pub(crate) fn prefix(&self) -> Prefix {
        match &self.model {
            Model::Bytes(_) => Prefix::Nothing,
            Model::Sentences(model) => model.prefix,
        }
    }

    /// Appends the bytes of a token.
    pub(crate) fn decode(&self, id: u32, piece: &str, out: &mut Vec<u8>) {
        decode(piece, self.types[id as usize], self.written(), out);
    }

    /// Appends the ids of a text, without what stands around it.
    pub(crate) fn encode(
        &self,
        text: &str,
        how: &Encode,
        protected: &Protected,
        pieces: &Pieces,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let mut after_token = true;
        let mut words = (Merging::new(), String::new());
        let mut sentences = (Merging::new(), String::new());
        for fragment in self.partition.split(text, how.markup, protected) {
            let range = match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    after_token = true;
                    continue;
                }
                Fragment::Text(range) => range,
            };
            let (part, from) = (&text[range.clone()], ids.len());
            match &self.model {
                Model::Bytes(model) => self.words(model, part, pieces, &mut words, ids),
                Model::Sentences(model) => {
                    let space = if model.prefix == Prefix::Space && after_token { "▁" } else { "" };
                    let part = Part { space, text: part, at: range.start };
                    self.sentence(model, &part, pieces, &mut sentences, ids)?;
                }
            }
            after_token = false;
            let guarded = how.markup == Markup::Text || protected.touches(range.start, range.end);
            if let Some(id) = ids[from..].iter().find(|id| guarded && self.is_special_in_text(**id)) {
                let piece = shorten(pieces.piece(*id).unwrap_or_default());
                return Err(Error::SpecialInText { piece, at: range.start });
            }
        }
        Ok(())
    }

    /// Whether a token that text became must not come from text: the unknown one may.
    fn is_special_in_text(&self, id: u32) -> bool {
        self.types[id as usize].is_special() && self.special.unknown != Some(id)
    }

    /// Encodes text word by word. Bytes without a token are dropped, as llama.cpp does.
    fn words(
        &self,
        model: &ByteLevel,
        text: &str,
        pieces: &Pieces,
        (merging, spelled): &mut (Merging<Reverse<u32>>, String),
        ids: &mut Vec<u32>,
    ) {
        let ByteLevel { rule, classes, bytes, merges } = model;
        for range in cut(text, rule.patterns, classes) {
            let word = &text[range];
            if rule.words == Words::WholeFirst {
                spelled.clear();
                spelled.extend(word.bytes().map(character));
                let whole = pieces.id(spelled);
                if let Some(id) = whole.filter(|id| !self.types[*id as usize].is_special()) {
                    ids.push(id);
                    continue;
                }
            }
            merging.begin(word.bytes().map(|byte| (bytes[usize::from(byte)], 1)));
            merging.run(|left, right| {
                let (rank, id) = merges.find(left.id?, right.id?)?;
                Some((Reverse(rank), id))
            });
            ids.extend(merging.pieces().filter_map(|piece| piece.id));
        }
    }

    /// Encodes a whole text.
    fn sentence(
        &self,
        model: &Sentences,
        part: &Part<'_>,
        pieces: &Pieces,
        (merging, text): &mut (Merging<Score>, String),
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let Sentences { bytes, longest, cuts, .. } = model;
        text.clear();
        text.push_str(part.space);
        for (i, stretch) in part.text.split(' ').enumerate() {
            text.push_str(if i > 0 { "▁" } else { "" });
            text.push_str(stretch);
        }
        let scores = self.scores();
        let piece = |text: &str| {
            let id = pieces.id(text)?;
            is_text(self.types[id as usize]).then_some(id)
        };
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let word;
            (word, rest) = rest.split_at(match cuts {
                Cuts::BeforeSpaces => next_word(rest),
                Cuts::Nowhere => rest.len(),
            });
            merging.begin(word.char_indices().map(|(start, character)| {
                let length = character.len_utf8();
                (piece(&word[start..start + length]), length)
            }));
            merging.run(|left, right| {
                if left.length + right.length > *longest {
                    return None;
                }
                let id = piece(&word[left.start..right.start + right.length])?;
                Some((Score(scores[id as usize]), id))
            });
            for found in merging.pieces() {
                if let Some(id) = found.id {
                    ids.push(id);
                    continue;
                }
                let character = &word[found.start..found.start + found.length];
                let from = ids.len();
                ids.extend(character.bytes().filter_map(|byte| bytes[usize::from(byte)]));
                if ids.len() < from + found.length {
                    ids.truncate(from);
                    let unknown = self.special.unknown;
                    ids.push(
                        unknown.ok_or_else(|| Error::UnknownText { text: character.into(), at: part.at })?,
                    );
                }
            }
        }
        Ok(())
    }
}

/// Text between two special tokens.
struct Part<'a> {
    /// What stands before it.
    space: &'a str,
    text: &'a str,
    /// Where it begins.
    at: usize,
}

/// Whether text can become a token of this type: control and byte tokens are not text, however they are spelled.
pub(crate) fn is_text(kind: TokenType) -> bool {
    !kind.is_special() && kind != TokenType::Byte
}

/// Where the first space begins that follows something else, or the end.
pub(crate) fn next_word(text: &str) -> usize {
    let spaces = text.len() - text.trim_start_matches('▁').len();
    text[spaces..].find('▁').map_or(text.len(), |at| spaces + at)
}
