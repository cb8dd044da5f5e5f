//! Added tokens found as the tokenizers library finds them, but special ones only where nothing is protected.
//!
//! That library looks for tokens in the whole text or not at all. This is its search (from left to right, the longest
//! token at each place; first in the text as it is written, then in what the normaliser made of the rest) with one
//! question more for each special token that is found. One that may not be here is passed over by a single character,
//! so that what a stranger wrote cannot hide the token after it.

use tokenizers::utils::SysRegex;
use tokenizers::{
    NormalizedString, Normalizer as _, NormalizerWrapper, PreTokenizedString, Token,
    tokenizer::normalizer::Range,
};

use crate::engine::library;
use crate::error::Result;
use crate::file::Added;
use crate::prefixes::Prefixes;
use crate::protected::Protected;

/// The added tokens of a file.
pub(crate) struct Around {
    added: Vec<Added>,
    /// Those that are looked for in the text as it is written.
    written: Prefixes,
    /// Those that are looked for in the normalised text, as the normaliser writes them.
    normalized: Prefixes,
    /// A character of a word.
    word: SysRegex,
}

impl Around {
    /// Prepares the search.
    pub(crate) fn new(added: &[Added], normalizer: Option<&NormalizerWrapper>) -> Result<Self> {
        let places =
            |normalized: bool| added.iter().zip(0..).filter(move |(token, _)| token.normalized == normalized);
        let written = places(false).map(|(token, place)| (token.content.as_str().into(), place));
        let normalized = places(true).map(|(token, place)| {
            let mut content = NormalizedString::from(token.content.as_str());
            normalize(normalizer, &mut content);
            (content.get().into(), place)
        });
        let (written, normalized) = (Prefixes::new(written), Prefixes::new(normalized));
        let word = SysRegex::new(r"\w").map_err(|error| library("build", &error))?;
        Ok(Around { added: added.to_vec(), written, normalized, word })
    }

    /// Cuts a text at its added tokens and normalises what lies between.
    pub(crate) fn extract_and_normalize(
        &self,
        normalizer: Option<&NormalizerWrapper>,
        text: &str,
        protected: &Protected,
    ) -> Result<PreTokenizedString> {
        let mut parts = PreTokenizedString::from(text);
        let cut = parts.split(|_, part| Ok(self.cut(&part, &self.written, protected))).and_then(|()| {
            parts.split(|_, mut part| {
                normalize(normalizer, &mut part);
                Ok(self.cut(&part, &self.normalized, protected))
            })
        });
        cut.map_err(|error| library("encode", &error))?;
        Ok(parts)
    }

    /// Cuts one part.
    fn cut(
        &self,
        part: &NormalizedString,
        tokens: &Prefixes,
        protected: &Protected,
    ) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
        let text = part.get();
        let (mut pieces, mut from, mut at) = (Vec::new(), 0, 0);
        let slice = |start: usize, end: usize| part.slice(Range::Normalized(start..end));
        while at < text.len() {
            let mut best = None;
            tokens.at(&text.as_bytes()[at..], |length, place| {
                let token = &self.added[place as usize];
                let written = || slice(at, at + length).map(|piece| piece.offsets_original());
                if !token.special || written().is_some_and(|(start, end)| !protected.touches(start, end)) {
                    best = Some((length, token));
                }
            });
            let Some((length, token)) = best else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let (mut start, mut end) = (at, at + length);
            if token.single_word && self.in_word(&text[..start], &text[end..]) {
                at = end;
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(from);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if from < start {
                pieces.extend(slice(from, start).map(|piece| (piece, None)));
            }
            pieces.extend(slice(start, end).map(|piece| {
                let value = piece.get().to_owned();
                let length = value.len();
                (piece, Some(vec![Token::new(token.id, value, (0, length))]))
            }));
            (from, at) = (end, end);
        }
        if from < text.len() {
            pieces.extend(slice(from, text.len()).map(|piece| (piece, None)));
        }
        pieces
    }

    /// Whether a word goes on before or after.
    fn in_word(&self, before: &str, after: &str) -> bool {
        let is_word =
            |character: char| self.word.find_iter(character.encode_utf8(&mut [0; 4])).next().is_some();
        before.chars().next_back().is_some_and(is_word) || after.chars().next().is_some_and(is_word)
    }
}

/// Normalises in place; a normaliser that fails leaves the text as it is, as in the library.
fn normalize(normalizer: Option<&NormalizerWrapper>, text: &mut NormalizedString) {
    if let Some(Err(_)) = normalizer.map(|normalizer| normalizer.normalize(text)) {}
}
