//! Thousands of random damages to sound files: an error or a tokenizer, never a panic, never more memory than a file
//! can justify.
//!
//! `tokenizer.json` of every model, the `tokenizer_config.json` beside it, and the vocabularies inside GGUF files, each
//! damaged in its bytes and in its values. The variable `FORMWORK_MUTATIONS` sets how many of each are tried, so that a
//! million can be tried by hand.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;
#[path = "common/damage.rs"]
mod damaging;
#[path = "common/memory.rs"]
mod memory;
#[path = "common/vocabularies.rs"]
mod vocabularies;

use std::cell::Cell;
use std::sync::Once;

use common::{TEXTS, bert, gpt1, published, read, unigram};
use damaging::{Numbers, bytes_of_text, value_of};
use formwork_formats::gguf::{Gguf, Layout, Metadata, Writer};
use formwork_tokenizer::gguf::Vocabulary;
use formwork_tokenizer::{Encode, Error, Frame, Markup, Specials, Tokenizer, config};
use serde_json::{Value, json};
use vocabularies::cases;

thread_local! {
    /// Panics that the crate catches count too: they print, and a build may abort on them.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            report(panic);
        }));
    });
}

/// Runs `once` for as many seeds as were asked for, or else `count`; at least one in `share` must be accepted and one
/// refused, or the damage shows nothing.
fn damage(count: u64, share: u64, mut once: impl FnMut(&mut Numbers) -> bool) {
    count_panics();
    let all = formwork_testkit::mutations(count).end;
    let mut accepted = 0;
    for seed in 0..all {
        let before = PANICS.get();
        accepted += u64::from(once(&mut Numbers(seed)));
        assert_eq!(PANICS.get(), before, "seed {seed}: a panic that was caught");
    }
    assert!(accepted > all / share && all - accepted > all / share, "{accepted} of {all} accepted");
}

/// Uses whatever a file gave; errors must be short sentences.
fn survives(made: Result<Tokenizer, Error>, numbers: &mut Numbers) -> bool {
    let tokenizer = match made {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            let error = error.to_string();
            assert!(!error.is_empty() && error.len() < 1500, "{error}");
            assert!(!error.contains(char::is_control), "an error is one line: {error:?}");
            return false;
        }
    };
    let how = Encode {
        frame: *numbers.of(&[Frame::Bare, Frame::Template]),
        markup: *numbers.of(&[Markup::Text, Markup::Tokens]),
    };
    let text = *numbers.of(&TEXTS);
    if let Ok(ids) = tokenizer.encode_with(text, &how) {
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab()), "{ids:?}");
        let _ = tokenizer.decode_with(&ids, Specials::Keep);
    }
    let end = (0..=text.len() / 2).rev().find(|end| text.is_char_boundary(*end)).unwrap();
    let _ = tokenizer.encode_around(text, &[0..end, end..end], &how);
    true
}

#[test]
fn damaged_tokenizer_files_never_panic_nor_take_memory_they_cannot_justify() {
    let seeds: Vec<Value> =
        published().into_iter().map(|(_, file)| file).chain([small(), template()]).collect();
    let texts: Vec<Vec<u8>> = seeds.iter().map(|file| file.to_string().into_bytes()).collect();
    damage(2_500, 100, |numbers| {
        // The small files show more: half of all.
        let seed = if numbers.below(2) == 0 {
            seeds.len() - 1 - numbers.below(2)
        } else {
            numbers.below(seeds.len())
        };
        let mut bytes = if numbers.below(3) == 0 {
            texts[seed].clone()
        } else {
            let mut file = seeds[seed].clone();
            for _ in 0..=numbers.below(2) {
                value_of(&mut file, &seeds, numbers);
            }
            file.to_string().into_bytes()
        };
        if bytes.len() == texts[seed].len() || numbers.below(8) == 0 {
            bytes_of_text(&mut bytes, numbers);
        }
        let (made, taken) = memory::cost(|| Tokenizer::from_json(&bytes));
        memory::check(taken, bytes.len());
        survives(made, numbers)
    });
}

/// A byte-pair file of a few lines.
fn small() -> Value {
    common::file(json!({
        "added_tokens": [common::special(3, "<end>")],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip", "strip_left": true, "strip_right": true}]},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    }))
}

/// A unigram file with a template, of a few lines.
fn template() -> Value {
    common::file(json!({
        "added_tokens": [common::special(0, "<unk>")],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<unk>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]}}},
        "decoder": {"type": "ByteFallback"},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
                  "vocab": [["<unk>", 0.0], ["▁", -2.0], ["a", -3.0], ["▁a", -2.5], ["<0x0A>", -9.0]]},
    }))
}

#[test]
fn damaged_configurations_never_panic_nor_take_memory_they_cannot_justify() {
    let tokenizers = [bert(), gpt1(), unigram()].map(|file| read(&file));
    let config = json!({
        "bos_token": {"content": "<s>", "special": true}, "eos_token": "</s>", "pad_token": "[PAD]",
        "unk_token": "<unk>", "add_bos_token": true, "add_eos_token": false, "model_max_length": 1e30,
        "added_tokens_decoder": {"0": {"content": "<unk>"}, "1": {"content": "</s>"}},
        "chat_template": [{"name": "default", "template": "{{ messages }}"}, {"name": "tools", "template": ""}],
    });
    let mut without = config.clone();
    without.as_object_mut().unwrap().retain(|key, _| key != "bos_token" && key != "eos_token");
    let seeds = [config, without, json!({"bos_token": null, "chat_template": "x"})];
    damage(2_500, 100, |numbers| {
        let mut file = seeds[numbers.below(3)].clone();
        value_of(&mut file, &seeds, numbers);
        let mut bytes = file.to_string().into_bytes();
        if numbers.below(2) == 0 {
            bytes_of_text(&mut bytes, numbers);
        }
        let tokenizer = numbers.of(&tokenizers).clone();
        let ((template, made), taken) =
            memory::cost(|| (config::chat_template(&bytes), tokenizer.with_config(&bytes)));
        memory::check(taken, bytes.len());
        if let Err(error) = template {
            assert!(error.to_string().len() < 600, "{error}");
        }
        survives(made, numbers)
    });
}

/// A GGUF file with nothing but a vocabulary.
fn gguf(vocabulary: &Vocabulary) -> Vec<u8> {
    let mut metadata = Metadata::new();
    vocabulary.write(&mut metadata);
    let layout = metadata.iter().fold(Layout::new(), |layout, (key, value)| layout.set(key, value.clone()));
    let mut file = Vec::new();
    Writer::new(&mut file, &layout).unwrap().finish().unwrap();
    file
}

/// Damages the bytes of a GGUF file; most keep their length, or its reader would stop at the first list.
fn bytes_of_gguf(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len());
    let length = numbers.below(24).min(bytes.len() - at);
    match numbers.below(14) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..at + length)),
        2 => {
            let piece = bytes[at..at + length].to_vec();
            let to = numbers.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        3 | 4 => {
            let from = numbers.below(bytes.len() - length);
            bytes.copy_within(from..from + length, at);
        }
        5 => {
            let other = numbers.of(seeds);
            let from = numbers.below(other.len() - length);
            bytes[at..at + length].copy_from_slice(&other[from..from + length]);
        }
        6 => {
            // A count or a length.
            let number = *numbers.of(&[0, 1, 2, 255, 1 << 20, u64::from(u32::MAX), 1 << 32, u64::MAX]);
            let end = (at + 8).min(bytes.len());
            bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        }
        7 => {
            // A name that says how to encode.
            let names: [&[u8]; 4] = [b"gpt2", b"bert", b"smollm", b"default"];
            let (from, to) = (*numbers.of(&names), *numbers.of(&names));
            let found = bytes.windows(from.len()).position(|window| window == from);
            if let Some(found) = found.filter(|_| from.len() == to.len()) {
                bytes[found..found + to.len()].copy_from_slice(to);
            }
        }
        8 | 9 => bytes[at] = *numbers.of(b" \0\xff<>|a\x03\x01\x06"),
        _ => bytes[at] ^= 1 << numbers.below(8),
    }
}

#[test]
fn damaged_vocabularies_never_panic_nor_take_memory_they_cannot_justify() {
    let mut seeds: Vec<Vec<u8>> = cases()
        .iter()
        .flat_map(|case| {
            ["-", "llama-bpe"].map(|pre| gguf(&Vocabulary { add_bos: Some(true), ..case.with(pre) }))
        })
        .collect();
    let few = |model: &str| {
        let vocabulary = Vocabulary {
            model: model.into(),
            pre: Some("smollm".into()),
            tokens: ["<unk>", "<s>", "a", "b", "ab", "▁", "<0x0A>"].into_iter().collect(),
            merges: ["a b"].into_iter().collect(),
            scores: vec![0.0, 0.0, -1.0, -2.0, -0.5, -3.0, 0.0],
            types: [2, 3, 1, 1, 1, 1, 6].map(formwork_tokenizer::gguf::TokenType::from_number).to_vec(),
            bos: Some(1),
            eos: Some(1),
            unk: Some(0),
            pad: Some(2),
            add_eos: Some(true),
            add_space_prefix: Some(true),
            name: Some("phi-3".into()),
            ..Vocabulary::default()
        };
        gguf(&vocabulary)
    };
    seeds.extend([few("gpt2"), few("llama")]);
    damage(6_000, 100, |numbers| {
        let mut bytes = seeds[if numbers.below(2) == 0 {
            seeds.len() - 1 - numbers.below(2)
        } else {
            numbers.below(seeds.len())
        }]
        .clone();
        for _ in 0..=numbers.below(3) {
            bytes_of_gguf(&mut bytes, &seeds, numbers);
            if bytes.len() < 32 {
                break;
            }
        }
        let length = bytes.len();
        // The file itself was read before; here only what is made of its lists counts.
        let Ok(file) = Gguf::from_bytes(bytes) else { return false };
        let (made, taken) =
            memory::cost(|| Vocabulary::read(file.metadata()).and_then(Tokenizer::from_vocabulary));
        memory::check(taken, length);
        if let Ok(tokenizer) = &made
            && numbers.below(50) == 0
        {
            let again = Tokenizer::from_json(tokenizer.to_json().as_bytes());
            if let Err(error) = again {
                assert!(!error.to_string().is_empty());
            }
            assert!(Tokenizer::from_vocabulary(tokenizer.to_vocabulary().unwrap()).is_ok());
        }
        survives(made, numbers)
    });
}
