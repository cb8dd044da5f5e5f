//! Whether the lists of a vocabulary fit each other, before anything is built from them.
//!
//! They come from strangers. llama.cpp ends the process on some of what is refused here and goes on with a warning on
//! the rest; here each is an error that names the place.

use crate::error::{Error, Result, shorten};
use crate::gguf::{TokenType, Vocabulary, names};
use crate::pieces::Pieces;

/// The most tokens and merges; published vocabularies have a quarter of a million.
const MOST_TOKENS: usize = 1 << 20;
const MOST_MERGES: usize = 1 << 22;
/// The longest token; published ones have some hundred bytes.
const LONGEST: usize = 4096;
/// The longest token that is searched for in texts.
const LONGEST_SPECIAL: usize = 1024;

/// A vocabulary whose lists fit each other.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Each token's text, and its id by its text.
    pub(crate) pieces: Pieces,
    /// The ids of tokens that are empty in the file, and have a name here.
    pub(crate) empty: Vec<u32>,
    /// Each token's type.
    pub(crate) types: Vec<TokenType>,
}

/// An error at a key of the file.
pub(crate) fn refuse(key: impl std::fmt::Display, problem: impl Into<String>) -> Error {
    Error::Vocabulary { field: format!("tokenizer.ggml.{key}"), problem: problem.into() }
}

/// Checks the lists that every model has.
pub(crate) fn check(vocabulary: &Vocabulary) -> Result<Checked> {
    let Vocabulary { tokens, scores, types, merges, .. } = vocabulary;
    let count = tokens.len();
    if !(1..=MOST_TOKENS).contains(&count) {
        return Err(refuse("tokens", format!("expected 1 to {MOST_TOKENS} tokens, found {count}")));
    }
    if merges.len() > MOST_MERGES {
        return Err(refuse(
            "merges",
            format!("expected at most {MOST_MERGES} merges, found {}", merges.len()),
        ));
    }
    for (key, found) in [("scores", scores.len()), ("token_type", types.len())] {
        if found != 0 && found != count {
            let problem = format!(
                "expected one for each of the {count} tokens, found {found}; convert the model again"
            );
            return Err(refuse(key, problem));
        }
    }
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(refuse(
            format_args!("scores[{id}]"),
            "expected a number, found NaN; convert the model again",
        ));
    }
    let mut pieces = Pieces::with_capacity(count, tokens.iter().map(<[u8]>::len).sum());
    let mut empty = Vec::new();
    for (id, token) in (0..).zip(tokens.iter()) {
        let fail = |problem: String| Err(refuse(format_args!("tokens[{id}]"), problem));
        if token.len() > LONGEST {
            return fail(too_long(LONGEST, "", token.len()));
        }
        let added = match std::str::from_utf8(token) {
            // What llama.cpp calls them: they may be in the list for their number's sake.
            Ok("") => {
                empty.push(id);
                pieces.push(&format!("[EMPTY_{id}]"))
            }
            Ok(text) => pieces.push(text),
            Err(_) => {
                let found = shorten(&String::from_utf8_lossy(token));
                return fail(format!("expected UTF-8, found {found:?}; convert the model again"));
            }
        };
        if let Err(first) = added {
            let text = pieces.piece(first).unwrap_or_default();
            return fail(format!(
                "{:?} already is token {first}; each token must be in the list once, convert the model again",
                shorten(text)
            ));
        }
    }
    for (key, id) in [
        ("bos_token_id", vocabulary.bos),
        ("eos_token_id", vocabulary.eos),
        ("eot_token_id", vocabulary.eot),
        ("eom_token_id", vocabulary.eom),
        ("unknown_token_id", vocabulary.unk),
        ("padding_token_id", vocabulary.pad),
    ] {
        if let Some(id) = id.filter(|id| *id as usize >= count) {
            return Err(refuse(
                key,
                format!("expected an id below {count}, found {id}; convert the model again"),
            ));
        }
    }
    let mut types = if types.is_empty() { vec![TokenType::Normal; count] } else { types.clone() };
    for name in names::END.iter().chain(&names::CODE_END).chain(&names::CODE) {
        if let Some(id) = pieces.id(name)
            && types[id as usize] != TokenType::Unknown
        {
            types[id as usize] = TokenType::Control;
        }
    }
    for ((id, text), kind) in pieces.iter().zip(&types) {
        let searched = kind.is_special() || *kind == TokenType::UserDefined;
        if searched && text.len() > LONGEST_SPECIAL {
            let problem = too_long(LONGEST_SPECIAL, " that is searched for", text.len());
            return Err(refuse(format_args!("tokens[{id}]"), problem));
        }
    }
    Ok(Checked { pieces, empty, types })
}

fn too_long(most: usize, what: &str, found: usize) -> String {
    format!(
        "expected at most {most} bytes in a token{what}, found {found}; the file is not a real vocabulary"
    )
}
