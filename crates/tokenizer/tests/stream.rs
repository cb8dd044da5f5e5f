//! A stream of ids gives the text of all of them, in whole characters, for every kind of tokenizer.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use common::{TEXTS, published, random_ids, read};
use formwork_tokenizer::{Encode, Error, Frame, Markup, Specials, Tokenizer};

fn every() -> Vec<(&'static str, Tokenizer)> {
    let mut list: Vec<_> = published().iter().map(|(name, file)| (*name, read(file))).collect();
    list.push(("bytes", Tokenizer::bytes()));
    list.push(("characters", Tokenizer::characters(&TEXTS.concat()).unwrap()));
    list
}

fn check(name: &str, tokenizer: &Tokenizer, ids: &[u32]) {
    for specials in [Specials::Skip, Specials::Keep] {
        let mut stream = tokenizer.stream_with(specials);
        let mut text = String::new();
        for &id in ids {
            if let Some(part) = stream.push(id).unwrap() {
                assert!(!part.is_empty(), "{name}: nothing is None");
                text.push_str(part);
            }
        }
        text.push_str(&stream.finish().unwrap());
        assert_eq!(text, tokenizer.decode_with(ids, specials).unwrap(), "{name}: {ids:?}");
    }
}

#[test]
fn what_is_encoded_streams_out_as_it_decodes() {
    for (name, tokenizer) in every() {
        for text in TEXTS {
            for frame in [Frame::Bare, Frame::Template] {
                let ids = tokenizer.encode_with(text, &Encode { frame, markup: Markup::Tokens }).unwrap();
                check(name, &tokenizer, &ids);
            }
        }
    }
}

#[test]
fn ids_in_any_order_stream_out_as_they_decode() {
    for (name, tokenizer) in every() {
        for seed in 0..200 {
            check(name, &tokenizer, &random_ids(seed, seed as usize % 31, tokenizer.vocab()));
        }
    }
}

#[test]
fn byte_tokens_stream_every_valid_character_at_its_last_byte_and_no_sooner() {
    let text = TEXTS.concat();
    let mut stream = Tokenizer::bytes().stream();
    let mut ends = text.char_indices().map(|(at, c)| at + c.len_utf8()).peekable();
    for (at, byte) in text.bytes().enumerate() {
        let part = stream.push(byte.into()).unwrap();
        if ends.next_if_eq(&(at + 1)).is_some() {
            assert_eq!(part.map(|part| part.chars().count()), Some(1), "byte {at}");
        } else {
            assert_eq!(part, None, "byte {at}");
        }
    }
    assert_eq!(stream.finish().unwrap(), "");
}

#[test]
fn random_bytes_stream_as_lossy_text() {
    let tokenizer = Tokenizer::bytes();
    for seed in 0..500 {
        let ids = random_ids(seed, 40, 256);
        let bytes: Vec<u8> = ids.iter().map(|id| *id as u8).collect();
        assert_eq!(tokenizer.decode(&ids).unwrap(), String::from_utf8_lossy(&bytes));
        check("bytes", &tokenizer, &ids);
    }
}

#[test]
fn the_space_before_a_first_word_is_taken_off_and_those_between_stay() {
    let tokenizer = read(&common::llama2());
    let the = tokenizer.id("▁the").unwrap();
    let mut stream = tokenizer.stream();
    assert_eq!(stream.push(the).unwrap(), Some("the"));
    assert_eq!(stream.push(the).unwrap(), Some(" the"));
    // 字 has a piece, 漢 comes as three bytes: shown when the run of bytes ends.
    for byte in "漢".bytes() {
        assert_eq!(stream.push(3 + u32::from(byte)).unwrap(), None);
    }
    assert_eq!(stream.push(tokenizer.id("字").unwrap()).unwrap(), Some("漢字"));
    assert_eq!(stream.finish().unwrap(), "");
}

#[test]
fn an_unknown_id_is_an_error_and_the_stream_goes_on() {
    for (name, tokenizer) in every() {
        let mut stream = tokenizer.stream();
        let error = stream.push(tokenizer.vocab() as u32).unwrap_err();
        assert!(matches!(error, Error::UnknownId { .. }), "{name}: {error}");
        assert!(stream.push(u32::MAX).is_err());
        let ids = tokenizer.encode("the end").unwrap();
        let mut text = String::new();
        for &id in &ids {
            text.push_str(stream.push(id).unwrap().unwrap_or_default());
        }
        text.push_str(&stream.finish().unwrap());
        assert_eq!(text, tokenizer.decode(&ids).unwrap(), "{name}");
    }
}
