//! Whether the parts of a `tokenizer.json` fit each other, before anything is built from them.
//!
//! The files come from strangers and the tokenizers library trusts them: it accepts two pieces with one id, slices
//! merges without looking, and can be made to grow a text without bound. All of that is refused here, by name.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tokenizers::utils::SysRegex;

use crate::error::{Result, invalid, shorten};
use crate::file::{Kind, Model, TokenizerFile, Vocab};

/// The longest string in a normaliser, pre-tokenizer, decoder or affix; published ones stay below 1000 bytes.
const LONGEST: usize = 4096;
/// The longest added token: the search for them is built in time that grows with the square of their length.
const LONGEST_ADDED: usize = 1024;
/// The longest word that WordPiece may look at, whose time is its square; published files say 100.
const LONGEST_WORD: usize = 4096;
/// How many times longer all replacements of a normaliser together may make a text.
const MOST_GROWTH: f64 = 64.0;

/// Checks everything that can be checked without building the tokenizer.
pub(crate) fn validate(file: &TokenizerFile) -> Result<()> {
    if file.version != "1.0" {
        let problem = format!(
            "expected \"1.0\", found {:?}; save it again with a current library",
            shorten(&file.version)
        );
        return Err(invalid("version", problem));
    }
    model(&file.model)?;
    for (i, added) in file.added_tokens.iter().enumerate() {
        if added.content.len() > LONGEST_ADDED {
            let problem =
                format!("expected at most {LONGEST_ADDED} bytes, found {}; remove it", added.content.len());
            return Err(invalid(format!("added_tokens[{i}].content"), problem));
        }
        if added.content.is_empty() {
            return Err(invalid(
                format!("added_tokens[{i}].content"),
                "expected a text, found an empty one; remove it",
            ));
        }
    }
    if let Some(part) = &file.post_processor {
        templates("post_processor", part)?;
    }
    for (field, part) in [
        ("normalizer", &file.normalizer),
        ("pre_tokenizer", &file.pre_tokenizer),
        ("post_processor", &file.post_processor),
        ("decoder", &file.decoder),
    ] {
        let Some(part) = part else { continue };
        component(field, part)?;
        let growth = growth(part);
        if growth > MOST_GROWTH {
            let problem = format!(
                "its replacements can make a text {growth:.0} times longer, expected at most {MOST_GROWTH}; remove some"
            );
            return Err(invalid(field, problem));
        }
    }
    Ok(())
}

/// Checks vocabulary, merges and settings of the model.
fn model(model: &Model) -> Result<()> {
    if let Some(kind) = &model.kind
        && !["BPE", "WordPiece", "WordLevel", "Unigram"].contains(&kind.as_str())
    {
        let found = shorten(kind);
        return Err(invalid(
            "model.type",
            format!("expected BPE, WordPiece, WordLevel or Unigram, found {found:?}"),
        ));
    }
    let kind = model.kind();
    if model.pieces().len() == 0 {
        return Err(invalid(
            "model.vocab",
            "expected at least one piece, found none; the file is incomplete",
        ));
    }
    match (&model.vocab, kind) {
        (Vocab::Scores(_), Kind::Unigram)
        | (Vocab::Ids(_), Kind::Bpe | Kind::WordPiece | Kind::WordLevel) => {}
        _ => {
            let problem =
                format!("expected {{piece: id}}, or [[piece, score]] for Unigram; this type is {kind}");
            return Err(invalid("model.vocab", problem));
        }
    }
    if model.dropout.is_some_and(|p| p != 0.0) {
        let problem = "expected null or 0, found a probability that makes encoding random; set it to null";
        return Err(invalid("model.dropout", problem));
    }
    for (field, affix) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if affix.as_ref().is_some_and(|affix| affix.len() > LONGEST) {
            return Err(invalid(
                field,
                format!("expected at most {LONGEST} bytes; the file is not a real tokenizer"),
            ));
        }
    }
    if let Some(length) = model.max_input_chars_per_word
        && length > LONGEST_WORD
    {
        let problem = format!("expected at most {LONGEST_WORD}, found {length}; published files say 100");
        return Err(invalid("model.max_input_chars_per_word", problem));
    }
    match kind {
        Kind::Bpe => merges(model),
        Kind::Unigram => unigram(model),
        _ => Ok(()),
    }
}

/// Both parts of a merge and what they make must be pieces, and no pair may merge twice.
fn merges(model: &Model) -> Result<()> {
    let Some(merges) = &model.merges else {
        return Err(invalid(
            "model.merges",
            "expected the list of merges of a BPE model, found none; the file is incomplete",
        ));
    };
    let known: HashSet<&str> = model.pieces().map(|(piece, _)| piece).collect();
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or_default();
    let mut seen = HashMap::with_capacity(merges.len());
    let mut whole = String::new();
    for (i, merge) in merges.iter().enumerate() {
        let fail = |problem: String| Err(invalid(format!("model.merges[{i}]"), problem));
        let (left, right) = (merge.0.as_str(), merge.1.as_str());
        // The library cuts the prefix off by its length, whatever stands there.
        let Some(rest) = right.strip_prefix(prefix) else {
            return fail(format!(
                "expected the right piece to begin with {:?}, found {:?}",
                shorten(prefix),
                shorten(right)
            ));
        };
        whole.clear();
        whole.push_str(left);
        whole.push_str(rest);
        for piece in [left, right, &whole] {
            if !known.contains(piece) {
                return fail(format!(
                    "the piece {:?} is not in the vocabulary; vocabulary and merges are of different tokenizers",
                    shorten(piece)
                ));
            }
        }
        if let Some(first) = seen.insert(merge, i) {
            return fail(format!(
                "the pair ({:?}, {:?}) already merges at {first}; remove one",
                shorten(left),
                shorten(right)
            ));
        }
    }
    Ok(())
}

/// Pieces must not be empty (the search would not advance), the unknown id must be one of them.
fn unigram(model: &Model) -> Result<()> {
    if let Some((_, id)) = model.pieces().find(|(piece, _)| piece.is_empty()) {
        return Err(invalid(
            format!("model.vocab[{id}]"),
            "expected a piece, found an empty text; remove it",
        ));
    }
    let count = model.pieces().len();
    match model.unk_id {
        Some(id) if id >= count => Err(invalid(
            "model.unk_id",
            format!("expected an id below {count}, found {id}; name the unknown piece"),
        )),
        _ => Ok(()),
    }
}

/// Looks through one component for what the library would not survive or not report well.
fn component(field: &str, part: &Value) -> Result<()> {
    match part {
        Value::String(text) if text.len() > LONGEST => Err(invalid(
            field,
            format!("expected texts of at most {LONGEST} bytes, found one of {}", text.len()),
        )),
        Value::Array(list) => {
            list.iter().enumerate().try_for_each(|(i, part)| component(&format!("{field}[{i}]"), part))
        }
        Value::Object(map) => {
            match map.get("type").and_then(Value::as_str) {
                Some("Precompiled") => {
                    let problem = "the SentencePiece character map (Precompiled) is not supported; \
                                   use a tokenizer.json with NFKC in its place";
                    return Err(invalid(field, problem));
                }
                Some("Replace") if field.starts_with("normalizer") && inserts(map.get("pattern")) => {
                    let problem = "expected a pattern that matches a part of the text, found one that matches between \
                                   its characters, which the tokenizers library cannot follow; to put something in \
                                   front of a text use Prepend";
                    return Err(invalid(format!("{field}.pattern"), problem));
                }
                Some("FixedLength") if map.get("length").is_some_and(|length| length.as_u64() == Some(0)) => {
                    return Err(invalid(format!("{field}.length"), "expected at least 1, found 0"));
                }
                _ => {}
            }
            for ends in ["start", "stop"] {
                if map
                    .get(ends)
                    .is_some_and(|count| count.as_u64().is_none_or(|count| count > LONGEST as u64))
                {
                    return Err(invalid(
                        format!("{field}.{ends}"),
                        format!("expected a count of at most {LONGEST}"),
                    ));
                }
            }
            if let Some(regex) = map.get("Regex").and_then(Value::as_str)
                && let Err(error) = SysRegex::new(regex)
            {
                let why = shorten(&error.to_string());
                return Err(invalid(
                    format!("{field}.Regex"),
                    format!("not a regular expression: {why}; correct it"),
                ));
            }
            map.iter().try_for_each(|(key, part)| component(&format!("{field}.{key}"), part))
        }
        _ => Ok(()),
    }
}

/// Whether a pattern matches nothing somewhere in a text. What the library inserts there has no place in the original
/// text, and the next component that changes every character (byte-level, NFC) reaches past the end.
fn inserts(pattern: Option<&Value>) -> bool {
    const TEXT: &str = " a1\t.\nA\u{e9}\u{6f22}_-  z ";
    let text = |kind: &str| pattern.and_then(|pattern| pattern.get(kind)).and_then(Value::as_str);
    match (text("String"), text("Regex")) {
        (Some(plain), _) => plain.is_empty(),
        (None, Some(regex)) => SysRegex::new(regex).is_ok_and(|regex| {
            ["", TEXT].iter().any(|text| regex.find_iter(text).any(|(start, end)| start == end))
        }),
        (None, None) => false,
    }
}

/// The template of one text: its tokens must be among those it defines, and there is no second text.
///
/// Processors may be in sequences; the library looks the tokens up when it frames a text, and panics.
fn templates(field: &str, part: &Value) -> Result<()> {
    if let Some(list) = part.get("processors").and_then(Value::as_array) {
        let field = |i| format!("{field}.processors[{i}]");
        return list.iter().enumerate().try_for_each(|(i, part)| templates(&field(i), part));
    }
    for (i, place) in part.get("single").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let id = |kind: &str| place.get(kind).and_then(|place| place.get("id")).and_then(Value::as_str);
        let problem = match (id("SpecialToken"), id("Sequence")) {
            (Some(name), _) if part.get("special_tokens").is_none_or(|tokens| tokens.get(name).is_none()) => {
                format!("the token {:?} is not in the template's special_tokens; add it there", shorten(name))
            }
            (None, Some(text)) if text != "A" => {
                format!(
                    "expected the text A, found {:?}; the template of one text has no other",
                    shorten(text)
                )
            }
            _ => continue,
        };
        return Err(invalid(format!("{field}.single[{i}]"), problem));
    }
    Ok(())
}

/// How many times longer the replacements of a component can make a text, one after the other.
fn growth(part: &Value) -> f64 {
    match part {
        Value::Array(list) => list.iter().map(growth).product(),
        Value::Object(map) => {
            let inner: f64 = map.values().map(growth).product();
            let Some(content) = map.get("content").and_then(Value::as_str) else { return inner };
            // A pattern that is no plain text may match nothing at all, between any two bytes.
            let pattern =
                map.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
            let own = match (map.get("pattern"), pattern) {
                (None, _) => 1.0,
                (_, Some(text)) if !text.is_empty() => content.len() as f64 / text.len() as f64,
                // A usual regular expression (runs of spaces to one) matches something.
                _ => content.len() as f64,
            };
            inner * own.max(1.0)
        }
        _ => 1.0,
    }
}
