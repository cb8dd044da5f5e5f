//! Files built like those of GPT-1, GPT-2, LLaMA-2, LLaMA-3, BERT and T5 give what the tokenizers library gives.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;
#[path = "common/vocabularies.rs"]
mod vocabularies;

use std::str::FromStr;

use common::{TEXTS, bert, gpt2, llama2, llama3, published, random_ids, read, unigram};
use formwork_tokenizer::{Encode, Error, Frame, Kind, Markup, Specials};

const FRAMED: Encode = Encode { frame: Frame::Template, markup: Markup::Text };
const PROMPT: Encode = Encode { frame: Frame::Template, markup: Markup::Tokens };

#[test]
fn ids_are_those_of_the_reference() {
    let more = vocabularies::texts();
    for (name, file) in published() {
        let tokenizer = read(&file);
        let mut reference = tokenizers::Tokenizer::from_str(&file.to_string()).unwrap();
        reference.with_truncation(None).unwrap().with_padding(None);
        for text in TEXTS.into_iter().chain(more.iter().map(String::as_str)) {
            for (how, framed, as_text) in
                [(Encode::default(), false, true), (FRAMED, true, true), (PROMPT, true, false)]
            {
                reference.set_encode_special_tokens(as_text);
                let expected = reference.encode(text, framed).unwrap();
                match tokenizer.encode_with(text, &how) {
                    Ok(ids) => assert_eq!(ids, expected.get_ids(), "{name}: {text:?} {how:?}"),
                    // The reference lets the unigram model read a special token out of plain text.
                    Err(Error::SpecialInText { piece, .. }) => {
                        assert!(name == "unigram" || name == "no decoder", "{name}: {text:?}");
                        assert!(as_text && expected.get_tokens().contains(&piece), "{name}: {text:?}");
                    }
                    Err(error) => panic!("{name}: {text:?}: {error}"),
                }
            }
        }
    }
}

#[test]
fn text_is_that_of_the_reference_for_any_ids() {
    for (name, file) in published() {
        let tokenizer = read(&file);
        let reference = tokenizers::Tokenizer::from_str(&file.to_string()).unwrap();
        for seed in 0..300 {
            let count = 1 + seed as usize % 23;
            let mut ids = random_ids(seed, count, tokenizer.vocab());
            // Runs of byte pieces and repeated pieces, which uniform ids rarely give.
            if seed % 3 == 0 {
                ids.iter_mut().for_each(|id| *id %= 11);
            }
            for (specials, skip) in [(Specials::Skip, true), (Specials::Keep, false)] {
                // The library subtracts 1 from the number of pieces in one of its decoders.
                let shown = ids.iter().any(|id| !skip || !tokenizer.is_special(*id));
                let expected = if shown { reference.decode(&ids, skip).unwrap() } else { String::new() };
                assert_eq!(
                    tokenizer.decode_with(&ids, specials).unwrap(),
                    expected,
                    "{name}: {ids:?} {specials:?}"
                );
            }
        }
        assert_eq!(tokenizer.decode(&[]).unwrap(), "", "{name}");
    }
}

#[test]
fn a_file_keeps_its_every_byte_when_saved() {
    for (_, file) in published() {
        let json = serde_json::to_string_pretty(&file).unwrap();
        let tokenizer = formwork_tokenizer::Tokenizer::from_json(json.as_bytes()).unwrap();
        assert_eq!(tokenizer.to_json(), json);
    }
}

#[test]
fn byte_level_files_give_back_every_text() {
    for file in [gpt2(), llama3()] {
        let tokenizer = read(&file);
        for text in TEXTS {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
    }
    let llama2 = read(&llama2());
    for text in TEXTS.iter().filter(|text| !text.contains('▁')) {
        assert_eq!(llama2.decode(&llama2.encode(text).unwrap()).unwrap(), *text);
    }
}

#[test]
fn special_tokens_have_their_parts() {
    let [gpt2, llama2, llama3, bert] = [gpt2(), llama2(), llama3(), bert()].map(|file| read(&file));
    let end = gpt2.id("<|endoftext|>").unwrap();
    assert_eq!((gpt2.special().begin, gpt2.special().end.as_slice()), (None, [end].as_slice()));
    assert_eq!(end as usize, gpt2.vocab() - 1);
    assert_eq!((llama2.special().begin, llama2.special().end.as_slice()), (Some(1), [2].as_slice()));
    assert_eq!(llama2.special().unknown, Some(0));
    let names: Vec<_> = llama3.special().end.iter().map(|id| llama3.piece(*id).unwrap()).collect();
    assert_eq!(names, ["<|end_of_text|>", "<|eot_id|>"]);
    assert_eq!(llama3.special().begin, llama3.id("<|begin_of_text|>"));
    assert_eq!((bert.special().begin, bert.special().pad), (Some(2), Some(0)));
    assert_eq!([gpt2.kind(), bert.kind()], [Kind::Bpe, Kind::WordPiece]);

    let mut special = gpt2.special().clone();
    special.end.push(0);
    assert_eq!(gpt2.clone().with_special(special.clone()).unwrap().special(), &special);
    special.pad = Some(end + 1);
    assert!(matches!(gpt2.with_special(special), Err(Error::UnknownId { id, .. }) if id == end + 1));
}

#[test]
fn special_tokens_written_in_a_text_are_text_unless_asked() {
    let tokenizer = read(&gpt2());
    let text = "a<|endoftext|>b";
    let end = tokenizer.special().end[0];
    let plain = tokenizer.encode(text).unwrap();
    assert!(!plain.contains(&end));
    assert_eq!(tokenizer.decode(&plain).unwrap(), text);
    let marked =
        tokenizer.encode_with(text, &Encode { markup: Markup::Tokens, ..Encode::default() }).unwrap();
    assert_eq!(marked.iter().filter(|id| **id == end).count(), 1);
    assert_eq!(tokenizer.decode(&marked).unwrap(), "ab");
    assert_eq!(tokenizer.decode_with(&marked, Specials::Keep).unwrap(), text);
}

#[test]
fn a_word_list_cannot_smuggle_a_special_token_through_text() {
    let file = common::file(serde_json::json!({
        "added_tokens": [common::special(1, "</s>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "</s>": 1, "word": 2}},
    }));
    let tokenizer = read(&file);
    assert_eq!(tokenizer.encode("word new").unwrap(), [2, 0]);
    let error = tokenizer.encode("word </s>").unwrap_err();
    assert!(matches!(&error, Error::SpecialInText { piece, at: 5 } if piece == "</s>"), "{error}");
}

#[test]
fn a_file_that_truncates_and_pads_does_neither() {
    let tokenizer = read(&bert());
    let ids = tokenizer.encode_with("the end the end the end", &FRAMED).unwrap();
    assert_eq!(ids.len(), 8);
    assert_eq!((ids[0], ids[7]), (2, 3));
}

#[test]
fn a_model_that_drops_what_it_does_not_know_is_an_error() {
    let file = common::file(serde_json::json!({
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
        "decoder": {"type": "Fuse"},
    }));
    let tokenizer = read(&file);
    assert_eq!(tokenizer.encode("abba").unwrap(), [2, 1, 0]);
    for (text, unknown) in [("abcab", "c"), ("é", "é"), ("ab ", " ")] {
        let error = tokenizer.encode(text).unwrap_err();
        assert!(matches!(&error, Error::UnknownText { text, .. } if text == unknown), "{error}");
    }
}

#[test]
fn a_byte_level_model_drops_a_byte_without_a_token_as_the_library_does() {
    let part = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let file = common::file(serde_json::json!({
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [part]},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": [["a", "b"]]},
        "decoder": part,
    }));
    let library: tokenizers::Tokenizer = file.to_string().parse().unwrap();
    let tokenizer = read(&file);
    for (text, expected) in [
        ("ab\u{1d} a", [2, 3, 0].as_slice()),
        ("a é b", &[0, 3, 3, 1]),
        // One word: what stands on the two sides of a dropped byte meets, unlike in llama.cpp.
        ("aéb", &[2]),
        ("漢", &[]),
    ] {
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{text:?}");
        assert_eq!(library.encode(text, false).unwrap().get_ids(), expected, "{text:?}");
    }
    // An unknown token stands for each of its bytes.
    let mut file = file;
    file["model"]["unk_token"] = serde_json::json!("b");
    assert_eq!(read(&file).encode("éa").unwrap(), [1, 1, 0]);
}

#[test]
fn a_decoder_that_strips_short_pieces_strips_no_more_than_there_is() {
    let mut file = unigram();
    file["decoder"] = serde_json::json!({"type": "Sequence", "decoders": [
        {"type": "Strip", "content": "▁", "start": 1, "stop": 3}, {"type": "Strip", "content": "a", "start": 2, "stop": 2},
        {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": false}]});
    let tokenizer = read(&file);
    let ids = ["▁", "a", "b", "▁the"].map(|piece| tokenizer.id(piece).unwrap());
    assert_eq!(tokenizer.decode(&ids).unwrap(), "bthe");
}
