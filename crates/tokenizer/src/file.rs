//! `tokenizer.json` as written: the layout of the tokenizers library, version 1.0, read strictly.
//!
//! Reading notices what a JSON map would swallow (a piece that occurs twice) and what that library would ignore
//! (a field nobody knows). Whether the parts fit each other is checked in `validate`.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::error::Category;

use crate::error::{Error, Result, shorten};

/// The name of the file in a model's folder.
const FILE_NAME: &str = "tokenizer.json";

/// The file that a path to a file or a folder means.
pub(crate) fn file_in(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() }
}

/// The text that the bytes of a file are, without a copy.
pub(crate) fn text(json: Vec<u8>) -> Result<String> {
    String::from_utf8(json).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        let problem = "expected UTF-8 text, found other bytes; is this a tokenizer.json?".into();
        Error::Json { line, column, problem }
    })
}

/// The model of a tokenizer: how it cuts a text into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// One token per byte, 256 ids.
    Bytes,
    /// One token per character of a training text.
    Characters,
    /// Byte-pair encoding (Sennrich et al. 2016, <https://arxiv.org/abs/1508.07909>), byte-level or not: GPT, LLaMA.
    Bpe,
    /// Longest pieces first, words marked by their first piece (Schuster & Nakajima 2012): BERT.
    WordPiece,
    /// One token per word of a list.
    WordLevel,
    /// The most probable pieces (Kudo 2018, <https://arxiv.org/abs/1804.10959>): T5.
    Unigram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bytes => "bytes",
            Kind::Characters => "characters",
            Kind::Bpe => "byte-pair encoding",
            Kind::WordPiece => "wordpiece",
            Kind::WordLevel => "word level",
            Kind::Unigram => "unigram",
        })
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizerFile {
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) truncation: Option<Value>,
    #[serde(default)]
    pub(crate) padding: Option<Value>,
    #[serde(default)]
    pub(crate) added_tokens: Vec<Added>,
    #[serde(default)]
    pub(crate) normalizer: Option<Value>,
    #[serde(default)]
    pub(crate) pre_tokenizer: Option<Value>,
    #[serde(default)]
    pub(crate) post_processor: Option<Value>,
    #[serde(default)]
    pub(crate) decoder: Option<Value>,
    pub(crate) model: Model,
}

/// A token that is found in the text before the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Added {
    pub(crate) id: u32,
    pub(crate) content: String,
    pub(crate) single_word: bool,
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
    pub(crate) normalized: bool,
    pub(crate) special: bool,
}

/// The model's part; which fields must be there depends on the type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Model {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dropout: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unk_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unk_id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) continuing_subword_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end_of_word_suffix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fuse_unk: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) byte_fallback: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ignore_merges: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_input_chars_per_word: Option<usize>,
    pub(crate) vocab: Vocab,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) merges: Option<Vec<Merge>>,
}

/// Pieces with their ids, or (unigram) in the order of their ids with their scores.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Vocab {
    Ids(Vec<(String, u32)>),
    Scores(Vec<(String, f64)>),
}

/// Two pieces that become one: `["a", "b"]`, in older files `"a b"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Merge(pub(crate) String, pub(crate) String);

impl TokenizerFile {
    /// A file with this model and nothing around it.
    pub(crate) fn new(model: Model) -> Self {
        TokenizerFile {
            version: "1.0".into(),
            truncation: None,
            padding: None,
            added_tokens: Vec::new(),
            normalizer: None,
            pre_tokenizer: None,
            post_processor: None,
            decoder: None,
            model,
        }
    }

    /// Reads the file; errors name line and column.
    pub(crate) fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or(&what);
            let problem = match error.classify() {
                Category::Eof => {
                    "the file ends in the middle of its JSON; it was cut short, fetch it again".to_owned()
                }
                Category::Syntax => {
                    format!("{}; expected the JSON of a tokenizer, is this the right file?", shorten(what))
                }
                _ => format!("{}; expected the layout of the tokenizers library, version 1.0", shorten(what)),
            };
            Error::Json { line: error.line(), column: error.column(), problem }
        })
    }

    /// The JSON text.
    pub(crate) fn write(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists always serialise")
    }
}

impl Model {
    /// A byte-pair model.
    pub(crate) fn bpe(vocab: Vec<(String, u32)>, merges: Vec<Merge>) -> Self {
        let (kind, vocab, merges) = (Some("BPE".into()), Vocab::Ids(vocab), Some(merges));
        Model { kind, vocab, merges, ..Model::default() }
    }

    /// A list of words.
    pub(crate) fn word_level(vocab: Vec<(String, u32)>, unknown: &str) -> Self {
        let (kind, vocab, unk_token) = (Some("WordLevel".into()), Vocab::Ids(vocab), Some(unknown.into()));
        Model { kind, vocab, unk_token, ..Model::default() }
    }

    /// The type; files from before 2020 do not say it, their fields do.
    pub(crate) fn kind(&self) -> Kind {
        match (self.kind.as_deref(), &self.vocab) {
            (Some("WordPiece"), _) => Kind::WordPiece,
            (Some("WordLevel"), _) => Kind::WordLevel,
            (Some("Unigram"), _) | (None, Vocab::Scores(_)) => Kind::Unigram,
            (None, _) if self.merges.is_none() && self.max_input_chars_per_word.is_some() => Kind::WordPiece,
            (None, _) if self.merges.is_none() => Kind::WordLevel,
            _ => Kind::Bpe,
        }
    }

    /// Every piece of the model with its id, in the order of the file.
    pub(crate) fn pieces(&self) -> impl ExactSizeIterator<Item = (&str, u32)> + Clone {
        let count = match &self.vocab {
            Vocab::Ids(list) => list.len(),
            Vocab::Scores(list) => list.len(),
        };
        (0..count).map(|i| match &self.vocab {
            Vocab::Ids(list) => (list[i].0.as_str(), list[i].1),
            Vocab::Scores(list) => (list[i].0.as_str(), i as u32),
        })
    }
}

impl Default for Vocab {
    fn default() -> Self {
        Vocab::Ids(Vec::new())
    }
}

impl Serialize for Vocab {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Vocab::Scores(list) => list.serialize(serializer),
            Vocab::Ids(list) => {
                let mut map = serializer.serialize_map(Some(list.len()))?;
                for (piece, id) in list {
                    map.serialize_entry(piece, id)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary: {piece: id} or [[piece, score]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Vocab, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = map.next_entry::<String, u32>()? {
                    list.push(entry);
                }
                distinct(&list)?;
                Ok(Vocab::Ids(list))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Vocab, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = seq.next_element::<(String, f64)>()? {
                    list.push(entry);
                }
                distinct(&list)?;
                Ok(Vocab::Scores(list))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Each piece must be in a vocabulary once.
fn distinct<T, E: de::Error>(list: &[(String, T)]) -> std::result::Result<(), E> {
    let mut seen = HashSet::with_capacity(list.len());
    match list.iter().find(|(piece, _)| !seen.insert(piece.as_str())) {
        Some((piece, _)) => Err(E::custom(format!("piece {:?} occurs twice", shorten(piece)))),
        None => Ok(()),
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: \"left right\" or [\"left\", \"right\"]")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> std::result::Result<Merge, E> {
                match line.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => Ok(Merge(left.into(), right.into())),
                    _ => Err(E::custom(format!(
                        "merge {:?} is not two pieces with one space between",
                        shorten(line)
                    ))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Merge, A::Error> {
                let pair = (seq.next_element()?, seq.next_element()?, seq.next_element::<String>()?);
                match pair {
                    (Some(left), Some(right), None) => Ok(Merge(left, right)),
                    _ => Err(de::Error::custom("a merge is not two pieces")),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}
