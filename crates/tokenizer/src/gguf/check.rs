//! Whether the lists of a vocabulary fit each other, before anything is built from them.
//!
//! They come from strangers. llama.cpp ends the process on some of what is refused here and goes on with a warning on
//! the rest; here each is an error that names the place.

use std::collections::HashMap;

use crate::error::{Error, Result, shorten};
use crate::gguf::{TokenType, Vocabulary, names};

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
    /// Each token's text.
    pub(crate) texts: Vec<Box<str>>,
    /// Each token's id.
    pub(crate) ids: HashMap<Box<str>, u32>,
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
    let mut texts = Vec::with_capacity(count);
    let mut ids = HashMap::with_capacity(count);
    for (id, token) in (0..).zip(tokens) {
        let text: Box<str> = match std::str::from_utf8(token) {
            // What llama.cpp calls them: they may be in the list for their number's sake.
            Ok("") => format!("[EMPTY_{id}]").into(),
            Ok(text) => text.into(),
            Err(_) => {
                let found = shorten(&String::from_utf8_lossy(token));
                let problem = format!("expected UTF-8, found {found:?}; convert the model again");
                return Err(refuse(format_args!("tokens[{id}]"), problem));
            }
        };
        if let Some(first) = ids.insert(text.clone(), id) {
            let problem = format!(
                "{:?} already is token {first}; each token must be in the list once, convert the model again",
                shorten(&text)
            );
            return Err(refuse(format_args!("tokens[{id}]"), problem));
        }
        texts.push(text);
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
        if let Some(&id) = ids.get(*name)
            && types[id as usize] != TokenType::Unknown
        {
            types[id as usize] = TokenType::Control;
        }
    }
    for ((id, text), kind) in texts.iter().enumerate().zip(&types) {
        let searched = kind.is_special() || *kind == TokenType::UserDefined;
        let (most, what) = if searched { (LONGEST_SPECIAL, " that is searched for") } else { (LONGEST, "") };
        if text.len() > most {
            let problem = format!(
                "expected at most {most} bytes in a token{what}, found {}; the file is not a real vocabulary",
                text.len()
            );
            return Err(refuse(format_args!("tokens[{id}]"), problem));
        }
    }
    Ok(Checked { texts, ids, types })
}

/// The two pieces of each merge and what they make, in order; of a pair that occurs twice the first counts.
pub(crate) fn merges(vocabulary: &Vocabulary, checked: &Checked) -> Result<HashMap<(u32, u32), (u32, u32)>> {
    let mut table = HashMap::with_capacity(vocabulary.merges.len());
    let mut whole = String::new();
    for (rank, merge) in (0..).zip(&vocabulary.merges) {
        let fail = |problem: String| Err(refuse(format_args!("merges[{rank}]"), problem));
        let text = std::str::from_utf8(merge).ok();
        // A piece may begin with a space in vocabularies that are not byte-level, so the first one is skipped.
        let pair = text.and_then(|text| {
            let space = text.char_indices().skip(1).find(|(_, character)| *character == ' ')?.0;
            Some((&text[..space], &text[space + 1..]))
        });
        let Some((left, right)) = pair else {
            let found = shorten(&String::from_utf8_lossy(merge));
            return fail(format!("expected two pieces with a space between, found {found:?}"));
        };
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        let mut found = [0; 3];
        for (id, piece) in found.iter_mut().zip([left, right, whole.as_str()]) {
            match checked.ids.get(piece) {
                Some(known) => *id = *known,
                None => {
                    return fail(format!(
                        "the piece {:?} is no token; tokens and merges are of different vocabularies",
                        shorten(piece)
                    ));
                }
            }
        }
        let [left, right, whole] = found;
        table.entry((left, right)).or_insert((rank, whole));
    }
    Ok(table)
}
