//! One token per character of a text, numbered in the order of their code points.
//!
//! Small and readable, and it knows only what it has seen: another character is an error that names it.
//! In its file it is a word-level model whose words are characters.
//!
//! ```
//! use formwork_tokenizer::Tokenizer;
//!
//! let tokenizer = Tokenizer::characters("hello")?;   // e h l o
//! assert_eq!(tokenizer.encode("hole")?, [1, 3, 2, 0]);
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::file::{Kind, Model, TokenizerFile};

/// How this tokenizer's file cuts a text: around every character, line ends too.
fn pre_tokenizer() -> Value {
    json!({"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false})
}

/// The file of the characters of `text`.
pub(crate) fn file(text: &str) -> Result<TokenizerFile> {
    let set: BTreeSet<char> = text.chars().collect();
    if set.is_empty() {
        let problem =
            "expected a text with at least one character, found an empty one; pass the training text".into();
        return Err(Error::Training { problem });
    }
    let vocab = (0..).zip(&set).map(|(id, character)| (character.to_string(), id)).collect();
    Ok(TokenizerFile {
        pre_tokenizer: Some(pre_tokenizer()),
        decoder: Some(json!({"type": "Fuse"})),
        // The name of an unknown token that the vocabulary lacks: other readers report an error too.
        ..TokenizerFile::new(Model::word_level(vocab, "<unk>"))
    })
}

/// The ids by character, if the file says just what [`file`] would say.
pub(crate) fn read(found: &TokenizerFile) -> Option<HashMap<char, u32>> {
    if found.model.kind() != Kind::WordLevel || found.pre_tokenizer != Some(pre_tokenizer()) {
        return None;
    }
    let mut ids = HashMap::new();
    for (piece, id) in found.model.pieces() {
        let mut characters = piece.chars();
        ids.insert(characters.next()?, id);
        if characters.next().is_some() {
            return None;
        }
    }
    let text: String = ids.keys().collect();
    (file(&text).ok()? == *found).then_some(ids)
}

/// The ids of a text.
pub(crate) fn encode(known: &HashMap<char, u32>, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    ids.reserve(text.len());
    for (at, character) in text.char_indices() {
        let id = known.get(&character);
        ids.push(*id.ok_or_else(|| Error::UnknownText { text: character.to_string(), at })?);
    }
    Ok(())
}
