//! The `tokenizer.json` of a GGUF vocabulary: other programs read it and encode the same.
//!
//! Three things cannot be said in it. The tokenizers library finds special tokens from left to right, not the longest
//! first, which differs only where two of them overlap. And it gives each pair of pieces a rank of its own, where
//! scores belong to what a pair makes: of several pairs that make one piece the leftmost merges first here, the one
//! ranked first there; such pairs can only meet in texts that repeat themselves. And where a byte has no token, that
//! library drops it before it merges, so that what stands on its two sides may become one piece.

use std::cmp::Reverse;

use serde_json::{Value, json};

use crate::file::{Added, Merge, Model, TokenizerFile};
use crate::gguf::TokenType;
use crate::gguf::cut::regex;
use crate::gguf::engine::{self, Engine, Prefix};
use crate::gguf::merge::Score;
use crate::gguf::partition::Takes;
use crate::gguf::rules::{Rule, Words};
use crate::pieces::Pieces;

/// The whole file.
pub(crate) fn file(engine: &Engine, pieces: &Pieces) -> TokenizerFile {
    let Engine { types, partition, .. } = engine;
    let vocab: Vec<(String, u32)> = pieces.iter().map(|(id, text)| (text.to_owned(), id)).collect();
    let mut added: Vec<Added> = partition
        .wanted()
        .iter()
        .map(|token| Added {
            id: token.id,
            content: token.text.to_string(),
            single_word: false,
            lstrip: token.takes == Takes::Before,
            rstrip: token.takes == Takes::After,
            normalized: false,
            special: token.kind.is_special(),
        })
        .collect();
    added.sort_unstable_by_key(|token| token.id);
    let name = |id: u32| vocab[id as usize].0.as_str();
    let post_processor = template(engine, name);
    match &engine.model {
        engine::Model::Bytes(engine::ByteLevel { rule, merges, .. }) => {
            let merges =
                merges.iter().map(|[left, right]| Merge(name(left).into(), name(right).into())).collect();
            let whole = (rule.words == Words::WholeFirst).then_some(true);
            TokenizerFile {
                added_tokens: added,
                pre_tokenizer: Some(pre_tokenizer(rule)),
                post_processor,
                decoder: Some(byte_level(true)),
                ..TokenizerFile::new(Model { ignore_merges: whole, ..Model::bpe(vocab, merges) })
            }
        }
        engine::Model::Sentences(engine::Sentences { prefix, .. }) => {
            let unknown = engine.special.unknown.map(|id| name(id).to_owned());
            let merges = ranked_pairs(engine.scores(), &vocab, types)
                .into_iter()
                .map(|(left, right)| Merge(left.into(), right.into()))
                .collect();
            let model = Model {
                unk_token: unknown,
                fuse_unk: Some(true),
                byte_fallback: Some(true),
                ..Model::bpe(vocab.clone(), merges)
            };
            TokenizerFile {
                added_tokens: added,
                normalizer: Some(normalizer(*prefix)),
                post_processor,
                decoder: Some(sentence_decoder(*prefix)),
                ..TokenizerFile::new(model)
            }
        }
    }
}

/// The pre-tokenizer of a rule, in the words of published files where they have their own.
pub(crate) fn pre_tokenizer(rule: &Rule) -> Value {
    match rule.name {
        "gpt-2" => byte_level(true),
        "smollm" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, byte_level(true)]}),
        _ => {
            let mut list: Vec<Value> = rule
                .patterns
                .iter()
                .map(|pattern| {
                    json!({"type": "Split", "pattern": {"Regex": regex(pattern)}, "behavior": "Isolated", "invert": false})
                })
                .collect();
            list.push(byte_level(false));
            json!({"type": "Sequence", "pretokenizers": list})
        }
    }
}

/// The component that turns bytes into characters and back.
fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

/// How SentencePiece writes a text.
pub(crate) fn normalizer(prefix: Prefix) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    match prefix {
        Prefix::Space => {
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]})
        }
        Prefix::Nothing => replace,
    }
}

/// And how it reads one.
fn sentence_decoder(prefix: Prefix) -> Value {
    let mut list = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix == Prefix::Space {
        list.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": list})
}

/// What stands around a text.
fn template<'a>(engine: &Engine, name: impl Fn(u32) -> &'a str) -> Option<Value> {
    let (before, after) = &engine.frame;
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let special = |id: &u32, part: u32| json!({"SpecialToken": {"id": name(*id), "type_id": part}});
    let one = |text: &str, part: u32| -> Vec<Value> {
        let before = before.iter().map(|id| special(id, part));
        let text = json!({"Sequence": {"id": text, "type_id": part}});
        before.chain([text]).chain(after.iter().map(|id| special(id, part))).collect()
    };
    let tokens: serde_json::Map<String, Value> = before
        .iter()
        .chain(after)
        .map(|id| (name(*id).to_owned(), json!({"id": name(*id), "ids": [id], "tokens": [name(*id)]})))
        .collect();
    let pair: Vec<Value> = one("A", 0).into_iter().chain(one("B", 1)).collect();
    Some(json!({"type": "TemplateProcessing", "single": one("A", 0), "pair": pair, "special_tokens": tokens}))
}

/// Every pair of pieces that makes a piece of a SentencePiece vocabulary, in the order they merge: what makes a piece
/// with a higher score first, then the smaller id of it, of its left part, of its right part.
pub(crate) fn ranked_pairs<'a>(
    scores: &[f32],
    vocab: &'a [(String, u32)],
    types: &[TokenType],
) -> Vec<(&'a str, &'a str)> {
    let text = |id: &u32| !types[*id as usize].is_special() && types[*id as usize] != TokenType::Byte;
    let ids: std::collections::HashMap<&str, u32> =
        vocab.iter().filter(|(_, id)| text(id)).map(|(piece, id)| (piece.as_str(), *id)).collect();
    let mut pairs = Vec::new();
    for (piece, id) in vocab.iter().filter(|(_, id)| text(id)) {
        for (cut, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(cut);
            if let (Some(first), Some(second)) = (ids.get(left), ids.get(right)) {
                pairs.push((Reverse(Score(scores[*id as usize])), *id, *first, *second, left, right));
            }
        }
    }
    pairs.sort_unstable_by_key(|pair| (pair.0, pair.1, pair.2, pair.3));
    pairs.into_iter().map(|pair| (pair.4, pair.5)).collect()
}
