//! Special tokens in the words of other people are text, and all else is encoded as without them.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![allow(clippy::single_range_in_vec_init, reason = "one range is protected")]

mod common;
#[path = "common/vocabularies.rs"]
mod vocabularies;

use common::{TEXTS, file, gpt2, llama2, published, read, special};
use formwork_tokenizer::{Encode, Error, Frame, Markup, Specials, Tokenizer};
use serde_json::json;
use vocabularies::tokenizers;

const PROMPT: Encode = Encode { frame: Frame::Template, markup: Markup::Tokens };
const BARE: Encode = Encode { frame: Frame::Bare, markup: Markup::Tokens };

fn every() -> Vec<(String, Tokenizer)> {
    let mut list: Vec<(String, Tokenizer)> =
        published().iter().map(|(name, file)| ((*name).to_owned(), read(file))).collect();
    list.extend(tokenizers().into_iter().enumerate().map(|(i, tokenizer)| (format!("gguf {i}"), tokenizer)));
    list
}

#[test]
fn what_is_protected_changes_nothing_where_no_special_token_is() {
    for (name, tokenizer) in every() {
        for text in TEXTS {
            // A range past the end protects nothing, but takes the way of protected texts.
            let far = text.len() + 10..text.len() + 20;
            let all = tokenizer.encode_with(text, &PROMPT).unwrap();
            assert_eq!(tokenizer.encode_around(text, &[far], &PROMPT).unwrap(), all, "{name}: {text:?}");
            if !text.contains("<s>") {
                match tokenizer.encode_around(text, &[0..text.len()], &PROMPT) {
                    Ok(ids) => assert_eq!(ids, all, "{name}: {text:?}"),
                    Err(error) => assert!(matches!(error, Error::SpecialInText { .. }), "{name}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_protected_text_has_no_special_token_wherever_it_stands() {
    for (name, tokenizer) in every() {
        let names: Vec<String> = (0..tokenizer.vocab() as u32)
            .filter(|id| tokenizer.is_special(*id) && Some(*id) != tokenizer.special().unknown)
            .map(|id| tokenizer.piece(id).unwrap().to_owned())
            .collect();
        for theirs in &names {
            for ours in &names {
                let prompt = format!("{ours}a{theirs}b {theirs}{ours}");
                let from = ours.len();
                let protected = from..prompt.len() - ours.len();
                let count = |ids: &[u32]| ids.iter().filter(|id| tokenizer.is_special(**id)).count();
                match tokenizer.encode_around(&prompt, std::slice::from_ref(&protected), &BARE) {
                    Ok(ids) => {
                        let unknown = |id: &&u32| Some(**id) == tokenizer.special().unknown;
                        let found = count(&ids) - ids.iter().filter(unknown).count();
                        assert_eq!(found, 2, "{name}: {prompt:?} {ids:?}");
                    }
                    Err(error) => assert!(matches!(error, Error::SpecialInText { .. }), "{name}: {error}"),
                }
                // Any byte of it is enough.
                for byte in protected.clone().filter(|byte| prompt.is_char_boundary(*byte)) {
                    let one = byte..byte + 1;
                    let Ok(ids) = tokenizer.encode_around(&prompt, &[one], &BARE) else { continue };
                    let text = tokenizer.decode_with(&ids, Specials::Keep).unwrap();
                    assert!(text.contains('b'), "{name}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_stranger_cannot_hide_the_token_after_his_words() {
    let added = json!([special(3, "<<end>"), special(4, "<end>")]);
    let file = file(json!({
        "added_tokens": added,
        "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "unk_token": "?", "vocab": {"a": 0, "<": 1, "?": 2}, "merges": []},
    }));
    let tokenizer = read(&file);
    let prompt = "a<<end>";
    assert_eq!(tokenizer.encode_with(prompt, &BARE).unwrap(), [0, 3]);
    assert_eq!(tokenizer.encode_around(prompt, &[0..2], &BARE).unwrap(), [0, 1, 4]);
}

#[test]
fn spaces_words_and_cases_of_added_tokens_are_those_of_the_library() {
    let mut file = llama2();
    let next = read(&file).vocab();
    let mut added = file["added_tokens"].as_array().unwrap().clone();
    for (i, (content, field)) in [
        ("<l>", "lstrip"),
        ("<r>", "rstrip"),
        ("ab", "single_word"),
        ("zz z", "normalized"),
        ("zz", "normalized"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut token = special(next + i, content);
        token[field] = json!(true);
        token["special"] = json!(i % 2 == 0);
        added.push(token);
    }
    file["added_tokens"] = json!(added);
    let tokenizer = read(&file);
    for text in [
        "a <l> <r> b",
        "\u{3000}<l><l> c",
        "ab cab ab. abab ab",
        "zz zz z zzz",
        "<r> \n <l>",
        "<r>\t<r>ab",
        " zz z",
        "é<l>é",
        "<l>zz",
    ] {
        let all = tokenizer.encode_with(text, &PROMPT).unwrap();
        let far = text.len() + 1..text.len() + 2;
        assert_eq!(tokenizer.encode_around(text, &[far], &PROMPT).unwrap(), all, "{text:?}");
    }
}

#[test]
fn plain_text_stays_plain_whatever_is_protected() {
    let tokenizer = read(&gpt2());
    let text = "a<|endoftext|>b";
    let plain = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.encode_around(text, &[0..3], &Encode::default()).unwrap(), plain);
    assert_eq!(tokenizer.encode_around(text, &[3..5, 2..4], &BARE).unwrap(), plain);
    assert_eq!(Tokenizer::bytes().encode_around("ab", &[0..1], &PROMPT).unwrap(), [97, 98]);
}
