//! Encoding through the tokenizers library: its normaliser, pre-tokenizer and model, one text at a time.
//!
//! The template that stands around a text is worked out once when the file is read (a pair of id lists), and the
//! truncation and padding that a file may ask for are left to the caller: an encoded text is never cut in silence.
//!
//! A panic of the library (there should be none after `validate`) is caught and becomes an error; a build with
//! `panic = "abort"` does not have that last net.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab as Map};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{
    AddedToken, AddedVocabulary, Encoding, Model as _, ModelWrapper, NormalizerWrapper, OffsetReferential,
    OffsetType, PostProcessor as _, PostProcessorWrapper, PreTokenizer as _, PreTokenizerWrapper, Token,
};

use crate::around::Around;
use crate::error::{Error, Result, invalid, shorten};
use crate::file::{Kind, Merge, Model, TokenizerFile, Vocab};
use crate::how::Markup;
use crate::pieces::Pieces;
use crate::protected::Protected;

/// The library's parts, built from a file.
pub(crate) struct Engine {
    model: ModelWrapper,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    /// Finds added tokens in a text, but lets special ones pass as text.
    plain: AddedVocabulary,
    /// Finds all added tokens.
    marked: AddedVocabulary,
    /// Finds all added tokens, special ones only where nothing is protected.
    around: Around,
    missing: Missing,
    /// The model's own id for what it does not know.
    pub(crate) unknown: Option<u32>,
    /// What the template puts before and after a text.
    pub(crate) frame: (Vec<u32>, Vec<u32>),
    /// Whether the file has a post-processor, of whatever kind.
    pub(crate) has_template: bool,
}

/// What becomes of text that has no piece in a model without an unknown token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// It is dropped, as the library does: single bytes, which few texts have.
    Dropped,
    /// It is an error: whole characters, perhaps all of a text.
    Refused,
}

impl Missing {
    /// Byte-level vocabularies drop.
    fn of(file: &TokenizerFile) -> Self {
        let parts = [&file.normalizer, &file.pre_tokenizer];
        match parts.into_iter().flatten().any(is_byte_level) && file.model.kind() == Kind::Bpe {
            true => Missing::Dropped,
            false => Missing::Refused,
        }
    }
}

/// Whether a component, or one in it, turns bytes into characters.
fn is_byte_level(part: &Value) -> bool {
    match part {
        Value::Object(map) => {
            map.get("type").and_then(Value::as_str) == Some("ByteLevel") || map.values().any(is_byte_level)
        }
        Value::Array(list) => list.iter().any(is_byte_level),
        _ => false,
    }
}

impl Engine {
    /// Builds the parts and enters the added tokens into `pieces`.
    pub(crate) fn new(file: &mut TokenizerFile, pieces: &mut Pieces) -> Result<Self> {
        let missing = Missing::of(file);
        let unknown_name = file.model.unk_token.clone();
        let unknown_id = file.model.unk_id.and_then(|id| u32::try_from(id).ok());
        let normalizer: Option<NormalizerWrapper> = part("normalizer", file.normalizer.take())?;
        let pre_tokenizer = part("pre_tokenizer", file.pre_tokenizer.take())?;
        let template: Option<PostProcessorWrapper> = part("post_processor", file.post_processor.take())?;
        let model = guard("model", || build(std::mem::take(&mut file.model)))??;

        let tokens: Vec<AddedToken> = file
            .added_tokens
            .iter()
            .map(|added| {
                AddedToken::from(added.content.as_str(), added.special)
                    .single_word(added.single_word)
                    .lstrip(added.lstrip)
                    .rstrip(added.rstrip)
                    .normalized(added.normalized)
            })
            .collect();
        let marked = guard("added_tokens", || {
            let mut marked = AddedVocabulary::new();
            marked.add_tokens(&tokens, &model, normalizer.as_ref());
            marked
        })?;
        let added = file.added_tokens.iter().map(|added| (added.content.as_str(), added.id));
        pieces.reserve(added, "added_tokens")?;
        for (i, added) in file.added_tokens.iter().enumerate() {
            let field = format!("added_tokens[{i}]");
            // The library numbers by itself and does not look at the id in the file.
            match marked.token_to_id(&added.content, &model) {
                Some(id) if id == added.id => {}
                other => {
                    let gets = other.map_or("none".to_owned(), |id| id.to_string());
                    return Err(invalid(
                        field,
                        format!(
                            "{:?} says id {}, its place gives id {gets}; added tokens must be pieces of the vocabulary or \
                             continue its ids without a gap",
                            shorten(&added.content),
                            added.id
                        ),
                    ));
                }
            }
            pieces.insert(&added.content, added.id, &field)?;
            if added.special {
                pieces.mark_special(added.id);
            }
        }
        let mut plain = marked.clone();
        plain.set_encode_special_tokens(true);

        let around = Around::new(&file.added_tokens, normalizer.as_ref())?;
        let unknown = unknown_id.or_else(|| model.token_to_id(unknown_name.as_deref()?));
        let frame = frame(template.as_ref(), pieces)?;
        Ok(Engine {
            model,
            normalizer,
            pre_tokenizer,
            plain,
            marked,
            around,
            missing,
            unknown,
            frame,
            has_template: template.is_some(),
        })
    }

    /// The id of a piece.
    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.marked.token_to_id(piece, &self.model)
    }

    /// Appends the ids of a text.
    pub(crate) fn encode(
        &self,
        text: &str,
        markup: Markup,
        protected: &Protected,
        pieces: &Pieces,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let run = || self.encode_parts(text, markup, protected, pieces, ids);
        let caught = catch_unwind(AssertUnwindSafe(run));
        caught.unwrap_or_else(|_| Err(Error::Library { doing: "encode", problem: "it panicked".into() }))
    }

    fn encode_parts(
        &self,
        text: &str,
        markup: Markup,
        protected: &Protected,
        pieces: &Pieces,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let normalizer = self.normalizer.as_ref();
        let mut words = match markup {
            Markup::Text => self.plain.extract_and_normalize(normalizer, text),
            Markup::Tokens if protected.is_empty() => self.marked.extract_and_normalize(normalizer, text),
            Markup::Tokens => self.around.extract_and_normalize(normalizer, text, protected)?,
        };
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut words).map_err(|error| library("encode", &error))?;
        }
        for (word, (at, end), tokens) in words.get_splits(OffsetReferential::Original, OffsetType::None) {
            if let Some(tokens) = tokens {
                ids.extend(tokens.iter().map(|token| token.id));
                continue;
            }
            let tokens = self.model.tokenize(word).map_err(|_| self.unknown_text(word, at))?;
            // A model without an unknown token drops what it does not know; the lengths show it.
            if self.missing == Missing::Refused
                && tokens.last().map_or(0, |token| token.offsets.1) != word.len()
            {
                return Err(self.unknown_text(word, at));
            }
            let guarded = markup == Markup::Text || protected.touches(at, end);
            for token in &tokens {
                if guarded && pieces.is_special(token.id) && Some(token.id) != self.unknown {
                    return Err(Error::SpecialInText { piece: shorten(&token.value), at });
                }
                ids.push(token.id);
            }
        }
        Ok(())
    }

    /// Names the first character of a word that the model has no token for, or else the word.
    fn unknown_text(&self, word: &str, at: usize) -> Error {
        let character = word.chars().map(String::from).find(|c| self.model.token_to_id(c).is_none());
        Error::UnknownText { text: character.unwrap_or_else(|| shorten(word)), at }
    }
}

/// Runs the library, turning a panic into an error that names the part of the file.
pub(crate) fn guard<T>(field: &str, run: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
        invalid(field, "the tokenizers library panicked on it; save the file again with a current library")
    })
}

/// An error of the library, shortened.
pub(crate) fn library(doing: &'static str, error: &tokenizers::Error) -> Error {
    Error::Library { doing, problem: shorten(&error.to_string()) }
}

/// Reads one component.
pub(crate) fn part<T: DeserializeOwned>(field: &str, value: Option<Value>) -> Result<Option<T>> {
    let Some(value) = value else { return Ok(None) };
    let name = match value.get("type").and_then(Value::as_str) {
        Some(name) => format!("of type {:?}", shorten(name)),
        None => "without a type".to_owned(),
    };
    let read = guard(field, || serde_json::from_value(value))?;
    read.map(Some).map_err(|error| {
        let why = shorten(&error.to_string());
        invalid(field, format!("expected a component of the tokenizers library, found one {name}: {why}"))
    })
}

/// Builds the model from its validated part of the file.
fn build(model: Model) -> Result<ModelWrapper> {
    let kind = model.kind();
    let ids = |vocab: Vocab| -> Map {
        match vocab {
            Vocab::Ids(list) => list.into_iter().collect(),
            Vocab::Scores(_) => unreachable!("validate refuses scores here"),
        }
    };
    let fail = |error: &dyn std::fmt::Display| invalid("model", shorten(&error.to_string()));
    Ok(match kind {
        Kind::WordPiece => {
            let mut builder = WordPiece::builder().vocab(ids(model.vocab));
            builder = builder.unk_token(model.unk_token.unwrap_or_else(|| "[UNK]".into()));
            builder = builder
                .continuing_subword_prefix(model.continuing_subword_prefix.unwrap_or_else(|| "##".into()));
            builder = builder.max_input_chars_per_word(model.max_input_chars_per_word.unwrap_or(100));
            builder.build().map_err(|error| fail(&error))?.into()
        }
        Kind::WordLevel => {
            let builder = WordLevel::builder().vocab(ids(model.vocab));
            let unknown = model.unk_token.unwrap_or_else(|| "<unk>".into());
            builder.unk_token(unknown).build().map_err(|error| fail(&error))?.into()
        }
        Kind::Unigram => {
            let Vocab::Scores(list) = model.vocab else { unreachable!("validate refuses ids here") };
            let built = Unigram::from(list, model.unk_id, model.byte_fallback.unwrap_or(false));
            built.map_err(|error| fail(&error))?.into()
        }
        Kind::Bpe | Kind::Bytes | Kind::Characters => {
            let merges = model
                .merges
                .unwrap_or_default()
                .into_iter()
                .map(|Merge(left, right)| (left, right))
                .collect();
            let mut builder = BPE::builder().vocab_and_merges(ids(model.vocab), merges);
            builder = builder.fuse_unk(model.fuse_unk.unwrap_or(false));
            builder = builder.byte_fallback(model.byte_fallback.unwrap_or(false));
            builder = builder.ignore_merges(model.ignore_merges.unwrap_or(false));
            if let Some(unknown) = model.unk_token {
                builder = builder.unk_token(unknown);
            }
            if let Some(prefix) = model.continuing_subword_prefix {
                builder = builder.continuing_subword_prefix(prefix);
            }
            if let Some(suffix) = model.end_of_word_suffix {
                builder = builder.end_of_word_suffix(suffix);
            }
            builder.build().map_err(|error| fail(&error))?.into()
        }
    })
}

/// What the template puts around a text, found by framing a text of one id that nobody has.
fn frame(template: Option<&PostProcessorWrapper>, pieces: &Pieces) -> Result<(Vec<u32>, Vec<u32>)> {
    const TEXT: u32 = u32::MAX;
    let Some(template) = template else { return Ok((Vec::new(), Vec::new())) };
    let framed = guard("post_processor", || {
        let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
        template.process(text, None, true)
    })?;
    let framed = framed.map_err(|error| invalid("post_processor", shorten(&error.to_string())))?;
    let ids = framed.get_ids();
    let mut places = ids.iter().enumerate().filter(|(_, id)| **id == TEXT).map(|(place, _)| place);
    let (Some(place), None) = (places.next(), places.next()) else {
        return Err(invalid(
            "post_processor",
            "expected a template with the text in it once; correct its single template",
        ));
    };
    if let Some(id) = ids.iter().find(|id| **id != TEXT && pieces.piece(**id).is_none()) {
        let problem = format!(
            "names id {id}, which no piece has (the vocabulary has {} ids); correct it",
            pieces.vocab()
        );
        return Err(invalid("post_processor", problem));
    }
    Ok((ids[..place].to_vec(), ids[place + 1..].to_vec()))
}
