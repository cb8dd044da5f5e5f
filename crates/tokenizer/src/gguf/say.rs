//! From a `tokenizer.json` to the vocabulary of a GGUF file, where that can say the same.
//!
//! Byte-level byte pairs whose pre-tokenizer has a name, and byte pairs with byte fallback whose merges are just the
//! pairs that scores would merge. Anything else is refused by name: a vocabulary that encodes otherwise than its file
//! would be worse than none.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::error::{Error, Result, shorten};
use crate::file::{Kind, Merge, TokenizerFile};
use crate::gguf::decode::hex;
use crate::gguf::engine::Prefix;
use crate::gguf::json::{normalizer, pre_tokenizer, ranked_pairs};
use crate::gguf::rules::{RULES, Rule, Words};
use crate::gguf::{TokenType, Vocabulary};
use crate::special::Special;
use crate::tokenizer::Tokenizer;

/// Patterns as published files spell them, and the rule that means the same.
const SPELLED: &[(&str, &str)] = &[
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen35",
    ),
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", "gpt-2"),
];

/// What the file says besides its model: the tokenizer works it out when it is built.
struct Around<'a> {
    /// What its template puts before and after a text.
    frame: (&'a [u32], &'a [u32]),
    /// The tokens with a part to play.
    special: &'a Special,
    /// The number of ids.
    vocab: usize,
}

impl Tokenizer {
    /// The vocabulary to write into a GGUF file; of one that came from there, the very same.
    ///
    /// # Errors
    /// If the tokenizer does what a vocabulary has no place for: another model than byte pairs, a pre-tokenizer without
    /// a name, merges that scores cannot order, a template with more than begin and end.
    pub fn to_vocabulary(&self) -> Result<Vocabulary> {
        if let Some(vocabulary) = self.vocabulary() {
            return Ok(vocabulary);
        }
        let frame = (self.frame.before.as_slice(), self.frame.after.as_slice());
        let around = Around { frame, special: self.special(), vocab: self.vocab() };
        say(&TokenizerFile::read(self.to_json())?, &around)
    }
}

/// An error at a part of the file.
fn refuse(part: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::Unsayable { part: part.into(), problem: problem.into() }
}

/// Says a file as a vocabulary.
fn say(file: &TokenizerFile, around: &Around<'_>) -> Result<Vocabulary> {
    if file.model.kind() != Kind::Bpe {
        let problem =
            format!("expected byte-pair encoding, found {}; keep the tokenizer.json", file.model.kind());
        return Err(refuse("model", problem));
    }
    for (field, affix) in [
        ("model.continuing_subword_prefix", &file.model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &file.model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            return Err(refuse(field, format!("expected none, found {:?}", shorten(affix))));
        }
    }
    let (add_bos, add_eos) = frame(around)?;
    let Tokens { tokens, mut types } = tokens(file, around.vocab)?;
    let merges = file.model.merges.as_deref().unwrap_or_default();
    let Special { begin, end, pad, unknown } = around.special;
    let mut vocabulary = Vocabulary {
        model: "gpt2".into(),
        bos: *begin,
        eos: end.first().copied(),
        eot: end.get(1).copied(),
        unk: *unknown,
        pad: *pad,
        add_bos: Some(add_bos),
        add_eos: Some(add_eos),
        ..Vocabulary::default()
    };
    if file.model.byte_fallback == Some(true) {
        let prefix = prefix(file)?;
        for (token, kind) in tokens.iter().zip(&mut types) {
            if *kind == TokenType::Normal && hex(token).is_some() {
                *kind = TokenType::Byte;
            }
        }
        if let Some(id) = unknown {
            types[*id as usize] = TokenType::Unknown;
        }
        vocabulary.model = "llama".into();
        vocabulary.pre = Some("default".into());
        vocabulary.add_space_prefix = Some(prefix == Prefix::Space);
        vocabulary.scores = scores(merges, &tokens, &types)?;
    } else {
        vocabulary.pre = Some(rule(file)?.name.into());
        vocabulary.add_space_prefix = Some(false);
        vocabulary.merges = merges.iter().map(|Merge(left, right)| format!("{left} {right}")).collect();
    }
    vocabulary.tokens = tokens.into_iter().collect();
    vocabulary.types = types;
    Ok(vocabulary)
}

/// Whether a text begins and ends with the tokens for that.
fn frame(around: &Around<'_>) -> Result<(bool, bool)> {
    let (before, after) = around.frame;
    let begins = match before {
        [] => false,
        [id] if Some(*id) == around.special.begin => true,
        _ => {
            return Err(refuse(
                "post_processor",
                "expected at most the begin token before a text, found others",
            ));
        }
    };
    let ends = match after {
        [] => false,
        [id] if Some(id) == around.special.end.first() => true,
        _ => {
            return Err(refuse(
                "post_processor",
                "expected at most the end token after a text, found others",
            ));
        }
    };
    Ok((begins, ends))
}

/// The list of tokens.
struct Tokens {
    tokens: Vec<String>,
    types: Vec<TokenType>,
}

/// Every id with its token and type; ids without a token get a name that no text has.
fn tokens(file: &TokenizerFile, vocab: usize) -> Result<Tokens> {
    let mut list = vec![None; vocab];
    for (piece, id) in file.model.pieces() {
        list[id as usize] = Some((piece.to_owned(), TokenType::Normal));
    }
    for (i, added) in file.added_tokens.iter().enumerate() {
        if added.single_word || added.lstrip || added.rstrip {
            let problem = format!(
                "{:?} takes spaces beside it or must be a word of its own, which a vocabulary cannot say",
                shorten(&added.content)
            );
            return Err(refuse(format!("added_tokens[{i}]"), problem));
        }
        let kind = if added.special { TokenType::Control } else { TokenType::UserDefined };
        list[added.id as usize] = Some((added.content.clone(), kind));
    }
    let filled = list.into_iter().enumerate();
    let (tokens, types) =
        filled.map(|(id, token)| token.unwrap_or_else(|| (format!("[PAD{id}]"), TokenType::Unused))).unzip();
    Ok(Tokens { tokens, types })
}

/// The rule that cuts texts as the file does.
fn rule(file: &TokenizerFile) -> Result<&'static Rule> {
    if file.normalizer.is_some() {
        return Err(refuse("normalizer", "expected none for byte-level pieces, found one"));
    }
    let whole = file.model.ignore_merges == Some(true);
    let words = if whole { Words::WholeFirst } else { Words::Merged };
    let Some(found) = &file.pre_tokenizer else {
        return Err(refuse("pre_tokenizer", "expected one that cuts a text into words, found none"));
    };
    let spelled = plain(found);
    let same = |rule: &&Rule| {
        let split = |regex: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})
        };
        let patterns = |name: &str| RULES.iter().find(|rule| rule.name == name).map(|rule| rule.patterns);
        plain(&pre_tokenizer(rule)) == spelled
            || SPELLED
                .iter()
                .any(|(regex, name)| patterns(name) == Some(rule.patterns) && split(regex) == spelled)
    };
    // The first of a meaning is its name; rules with one pattern differ in what they do with whole words.
    RULES.iter().filter(|rule| rule.words == words).find(same).ok_or_else(|| {
        let found = shorten(&found.to_string());
        refuse("pre_tokenizer", format!("expected one that a vocabulary has a name for, found {found}"))
    })
}

/// A pre-tokenizer without what does not change its words.
fn plain(part: &Value) -> Value {
    match part {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| *key != "trim_offsets");
            let mut plain: serde_json::Map<String, Value> =
                kept.map(|(key, value)| (key.clone(), plain(value))).collect();
            if plain.get("type").and_then(Value::as_str) == Some("ByteLevel") {
                plain.entry("use_regex").or_insert(json!(true));
            }
            Value::Object(plain)
        }
        Value::Array(list) => Value::Array(list.iter().map(plain).collect()),
        other => other.clone(),
    }
}

/// Whether a space stands before a text, if the file writes texts as SentencePiece does.
fn prefix(file: &TokenizerFile) -> Result<Prefix> {
    if file.pre_tokenizer.is_some() {
        return Err(refuse("pre_tokenizer", "expected none beside byte fallback, found one"));
    }
    let found = file.normalizer.as_ref();
    [Prefix::Space, Prefix::Nothing]
        .into_iter()
        .find(|prefix| found == Some(&normalizer(*prefix)))
        .ok_or_else(|| {
            refuse(
                "normalizer",
                "expected spaces written as ▁, with or without one before the text, found another",
            )
        })
}

/// Scores that merge in the order of the merges: minus the place at which a piece first comes up.
///
/// The merges must be all the pairs that make a piece, and those of one piece must stand together.
fn scores(merges: &[Merge], tokens: &[String], types: &[TokenType]) -> Result<Vec<f32>> {
    let ids: HashMap<&str, usize> =
        tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let is_text = |token: &str| {
        ids.get(token).is_some_and(|id| matches!(types[*id], TokenType::Normal | TokenType::UserDefined))
    };
    let mut scores = vec![0.0; tokens.len()];
    let (mut place, mut last, mut seen) = (0.0, String::new(), BTreeSet::new());
    let mut pairs = BTreeSet::new();
    for (i, Merge(left, right)) in merges.iter().enumerate() {
        let whole = format!("{left}{right}");
        // A pair that makes a control token: published files have some, and no text should use them.
        if !is_text(left) || !is_text(right) || !is_text(&whole) {
            continue;
        }
        pairs.insert((left.as_str(), right.as_str()));
        if whole != last {
            if !seen.insert(whole.clone()) {
                let problem = format!(
                    "the pairs that make {:?} do not stand together, as scores would have it",
                    shorten(&whole)
                );
                return Err(refuse(format!("model.merges[{i}]"), problem));
            }
            place += 1.0;
            last.clone_from(&whole);
        }
        scores[ids[whole.as_str()]] = -place;
    }
    // Pieces that nothing makes come last; single characters never need their score.
    for (token, score) in tokens.iter().zip(&mut scores) {
        if !seen.contains(token) && is_text(token) {
            place += 1.0;
            *score = -place;
        }
    }
    let vocab: Vec<(String, u32)> = tokens.iter().cloned().zip(0..).collect();
    for (left, right) in ranked_pairs(&scores, &vocab, types) {
        if !pairs.contains(&(left, right)) {
            let problem = format!(
                "{:?} and {:?} make a piece without being a merge; scores would merge them",
                shorten(left),
                shorten(right)
            );
            return Err(refuse("model.merges", problem));
        }
    }
    Ok(scores)
}
