//! Vocabularies of GGUF files encode and decode as llama.cpp does, and say so in a `tokenizer.json` too.
//!
//! The expected ids are llama.cpp's own: `golden/vocabularies.py` made them.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![allow(clippy::single_range_in_vec_init, reason = "one range is protected")]

mod common;
#[path = "common/vocabularies.rs"]
mod vocabularies;

use std::str::FromStr;

use common::{TEXTS, bert, gpt1, gpt2, llama2, llama3, random_ids, read, unigram};
use formwork_formats::gguf::{Gguf, Layout, Metadata, Writer};
use formwork_tokenizer::gguf::{TokenType, Vocabulary};
use formwork_tokenizer::{Encode, Error, Frame, Markup, Specials, Tokenizer};
use vocabularies::{cases, texts, tokenizers};

const MARKED: Encode = Encode { frame: Frame::Template, markup: Markup::Tokens };

#[test]
fn ids_are_those_of_llama_cpp_for_every_rule() {
    let texts = texts();
    for case in cases() {
        for asked in &case.asked {
            let tokenizer = Tokenizer::from_vocabulary(case.with(&asked.pre)).unwrap();
            for (i, text) in texts.iter().enumerate() {
                let pre = &asked.pre;
                assert_eq!(tokenizer.encode(text).unwrap(), asked.text[i], "{pre}: {text:?}");
                assert_eq!(
                    tokenizer.encode_with(text, &MARKED).unwrap(),
                    asked.tokens[i],
                    "{pre}: {text:?} marked"
                );
            }
        }
    }
}

#[test]
fn texts_are_those_of_llama_cpp_and_come_back() {
    let [bytes, sentences] = tokenizers();
    let [_, case] = cases();
    let decoded = case.asked[0].decoded.as_ref().unwrap();
    for (i, text) in texts().iter().enumerate() {
        assert_eq!(sentences.decode(&case.asked[0].text[i]).unwrap(), decoded[i], "{text:?}");
        assert_eq!(bytes.decode(&bytes.encode(text).unwrap()).unwrap(), *text);
        // A space is put before text after each special token, here "xx ", and stays.
        if !text.contains('▁') && !text.contains("xx ") {
            assert_eq!(sentences.decode(&sentences.encode(text).unwrap()).unwrap(), *text);
            // Unlike llama.cpp's, the space that was put before the text goes after a begin token too.
            let framed = Encode { frame: Frame::Template, ..Encode::default() };
            assert_eq!(sentences.decode(&sentences.encode_with(text, &framed).unwrap()).unwrap(), *text);
        }
    }
}

#[test]
fn a_stream_gives_the_text_of_all_ids() {
    for tokenizer in tokenizers() {
        for seed in 0..300 {
            let ids = random_ids(seed, seed as usize % 31, tokenizer.vocab());
            for specials in [Specials::Skip, Specials::Keep] {
                let (mut stream, mut text) = (tokenizer.stream_with(specials), String::new());
                for &id in &ids {
                    text.push_str(stream.push(id).unwrap().unwrap_or_default());
                }
                text.push_str(&stream.finish().unwrap());
                assert_eq!(text, tokenizer.decode_with(&ids, specials).unwrap(), "{ids:?}");
            }
        }
    }
}

#[test]
fn the_json_of_a_vocabulary_encodes_the_same_here_and_in_the_library() {
    for case in cases() {
        for asked in &case.asked {
            let tokenizer = Tokenizer::from_vocabulary(case.with(&asked.pre)).unwrap();
            let again = Tokenizer::from_json(tokenizer.to_json().as_bytes()).unwrap();
            let library = tokenizers::Tokenizer::from_str(tokenizer.to_json()).unwrap();
            for text in texts().iter().map(String::as_str).chain(TEXTS) {
                let marked = tokenizer.encode_with(text, &MARKED).unwrap();
                assert_eq!(
                    again.encode(text).unwrap(),
                    tokenizer.encode(text).unwrap(),
                    "{}: {text:?}",
                    asked.pre
                );
                assert_eq!(again.encode_with(text, &MARKED).unwrap(), marked, "{}: {text:?}", asked.pre);
                // LLaMA-3's pattern in the library takes a long s for one of its contractions; ours is spelled out.
                assert_eq!(library.encode(text, true).unwrap().get_ids(), marked, "{}: {text:?}", asked.pre);
            }
            assert_eq!(again.special().begin, tokenizer.special().begin);
            // And back: the first name of a rule says it.
            let said = Tokenizer::from_vocabulary(again.to_vocabulary().unwrap()).unwrap();
            for text in texts() {
                assert_eq!(
                    said.encode_with(&text, &MARKED).unwrap(),
                    tokenizer.encode_with(&text, &MARKED).unwrap()
                );
            }
        }
    }
}

#[test]
fn published_files_become_vocabularies_that_encode_the_same() {
    for (file, model, pre) in
        [(gpt2(), "gpt2", "gpt-2"), (llama3(), "gpt2", "llama-bpe"), (llama2(), "llama", "default")]
    {
        let tokenizer = read(&file);
        let vocabulary = tokenizer.to_vocabulary().unwrap();
        assert_eq!((vocabulary.model.as_str(), vocabulary.pre.as_deref()), (model, Some(pre)));
        let said = Tokenizer::from_vocabulary(vocabulary.clone()).unwrap();
        for text in TEXTS {
            for frame in [Frame::Bare, Frame::Template] {
                for markup in [Markup::Text, Markup::Tokens] {
                    let how = Encode { frame, markup };
                    let expected = tokenizer.encode_with(text, &how).unwrap();
                    assert_eq!(said.encode_with(text, &how).unwrap(), expected, "{pre}: {text:?} {how:?}");
                    assert_eq!(said.decode(&expected).unwrap(), tokenizer.decode(&expected).unwrap());
                }
            }
        }
        assert_eq!(said.special().begin, tokenizer.special().begin);
        assert_eq!(said.special().end, tokenizer.special().end);
        assert_eq!(said.to_vocabulary().unwrap(), vocabulary);
    }
}

#[test]
fn what_a_vocabulary_cannot_say_is_refused_by_name() {
    let check = |tokenizer: &Tokenizer, part: &str| {
        let error = tokenizer.to_vocabulary().unwrap_err();
        assert!(matches!(&error, Error::Unsayable { .. }) && error.to_string().contains(part), "{error}");
    };
    check(&read(&bert()), "wordpiece");
    check(&read(&unigram()), "unigram");
    check(&read(&gpt1()), "model.end_of_word_suffix");
    check(&Tokenizer::characters("abc").unwrap(), "word level");
    check(&Tokenizer::bytes(), "pre_tokenizer");
    let mut file = gpt2();
    file["normalizer"] = serde_json::json!({"type": "NFC"});
    check(&read(&file), "normalizer");
    let mut file = gpt2();
    file["added_tokens"][0]["rstrip"] = serde_json::json!(true);
    check(&read(&file), "added_tokens[0]");
    // "a t" makes a piece; without that merge scores would make it all the same.
    let mut file = llama2();
    file["model"]["merges"].as_array_mut().unwrap().remove(3);
    check(&read(&file), "without being a merge");
}

#[test]
fn a_vocabulary_is_written_and_read_back() {
    for case in cases() {
        let full =
            Vocabulary { eot: Some(3), eom: Some(5), pad: Some(7), add_eos: Some(true), ..case.vocabulary };
        for vocabulary in
            [full.clone(), Vocabulary { add_bos: Some(false), add_space_prefix: Some(false), ..full }]
        {
            let mut metadata = Metadata::new();
            vocabulary.write(&mut metadata);
            assert_eq!(Vocabulary::read(&metadata).unwrap(), vocabulary);
            let layout =
                metadata.iter().fold(Layout::new(), |layout, (key, value)| layout.set(key, value.clone()));
            let mut file = Vec::new();
            Writer::new(&mut file, &layout).unwrap().finish().unwrap();
            assert_eq!(Vocabulary::read(Gguf::from_bytes(file).unwrap().metadata()).unwrap(), vocabulary);
        }
    }
    let error = Vocabulary::read(&Metadata::new()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.ggml.model") && error.contains("no vocabulary"), "{error}");
    let mut metadata = Metadata::new();
    metadata.set("tokenizer.ggml.model", 7u32);
    assert!(Vocabulary::read(&metadata).unwrap_err().to_string().contains("STRING"));
}

/// A vocabulary of a few tokens.
fn small(tokens: &[(&str, TokenType)]) -> Vocabulary {
    Vocabulary {
        model: "llama".into(),
        tokens: tokens.iter().map(|(text, _)| text).collect(),
        types: tokens.iter().map(|(_, kind)| *kind).collect(),
        scores: (0..tokens.len()).map(|id| -(id as f32)).collect(),
        bos: Some(0),
        eos: Some(1),
        unk: Some(2),
        ..Vocabulary::default()
    }
}

#[test]
fn text_never_spells_a_control_token() {
    use TokenType::{Control, Normal, Unknown};
    let vocabulary = small(&[
        ("<s>", Control),
        ("</s>", Control),
        ("<unk>", Unknown),
        ("</", Normal),
        ("s>", Normal),
        ("<", Normal),
        ("/", Normal),
        ("s", Normal),
        (">", Normal),
        ("▁", Normal),
    ]);
    let tokenizer = Tokenizer::from_vocabulary(vocabulary).unwrap();
    // Two pieces whose joint text is the end token: they stay two.
    assert_eq!(tokenizer.encode("</s>").unwrap(), [9, 3, 4]);
    assert_eq!(tokenizer.encode_with("</s>", &MARKED).unwrap(), [0, 1]);
    assert_eq!(tokenizer.encode_around("</s></s>", &[0..4], &MARKED).unwrap(), [0, 9, 3, 4, 1]);
    // What has neither piece nor bytes is unknown.
    assert_eq!(tokenizer.encode("x").unwrap(), [9, 2]);
}

#[test]
fn special_tokens_have_their_parts() {
    use TokenType::{Control, Normal, UserDefined};
    let named =
        [("<s>", Control), ("</s>", Control), ("▁", Normal), ("<|eot_id|>", Normal), ("[x]", UserDefined)];
    let tokenizer = Tokenizer::from_vocabulary(small(&named)).unwrap();
    assert_eq!((tokenizer.special().begin, tokenizer.special().end.as_slice()), (Some(0), [1, 3].as_slice()));
    // A name that ends a turn is a control token, whatever the file says.
    assert!(tokenizer.is_special(3) && !tokenizer.is_special(4));
    assert_eq!(tokenizer.decode(&[4, 3]).unwrap(), "[x]");
    assert_eq!(tokenizer.id("[x]"), Some(4));

    let frame = |add_bos, add_eos| {
        let vocabulary = Vocabulary { add_bos, add_eos, ..small(&named) };
        Tokenizer::from_vocabulary(vocabulary).unwrap().encode_with("[x]", &MARKED).unwrap()
    };
    assert_eq!(frame(None, None), [0, 4]);
    assert_eq!(frame(Some(false), Some(true)), [4, 1]);
    let error = Tokenizer::from_vocabulary(Vocabulary {
        model: "gpt2".into(),
        add_eos: Some(true),
        eos: None,
        ..small(&named)
    });
    assert!(error.unwrap_err().to_string().contains("eos_token_id"));
}

#[test]
fn phi_3_takes_the_spaces_after_its_special_tokens() {
    use TokenType::{Control, Normal, UserDefined};
    let tokens =
        [("<s>", Control), ("</s>", Control), ("a", Normal), ("<|user|>", UserDefined), ("▁", Normal)];
    let plain = Tokenizer::from_vocabulary(small(&tokens)).unwrap();
    let phi = Vocabulary { name: Some("Phi-3 mini".into()), ..small(&tokens) };
    let phi = Tokenizer::from_vocabulary(phi).unwrap();
    assert_eq!(plain.encode("<|user|> \na").unwrap().len(), 5);
    assert_eq!(phi.encode("<|user|> \na").unwrap(), [3, 4, 2]);
}

#[test]
fn a_byte_without_a_token_is_dropped_as_llama_cpp_does() {
    use TokenType::Normal;
    let tokens = ["a", "b", "ab", "Ġ"].map(|text| (text, Normal));
    let vocabulary = Vocabulary {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        merges: ["a b"].into_iter().collect(),
        bos: None,
        eos: None,
        unk: None,
        ..small(&tokens)
    };
    let tokenizer = Tokenizer::from_vocabulary(vocabulary).unwrap();
    assert_eq!(tokenizer.encode("ab ab").unwrap(), [2, 3, 2]);
    assert_eq!(tokenizer.encode("a\u{1d} b").unwrap(), [0, 3, 1]);
    // What stands on its two sides does not merge.
    assert_eq!(tokenizer.encode("aéb").unwrap(), [0, 1]);
    assert_eq!(tokenizer.encode("\u{1d}漢").unwrap(), [] as [u32; 0]);
    assert_eq!(tokenizer.encode_around("ab\u{1d}", &[0..2], &MARKED).unwrap(), [2]);
    assert_eq!(tokenizer.decode(&[0, 3, 1]).unwrap(), "a b");
}

#[test]
fn a_vocabulary_comes_back_as_it_was_with_empty_tokens_and_merges_said_twice() {
    let [case, _] = cases();
    let mut vocabulary = case.vocabulary;
    vocabulary.tokens.push("");
    vocabulary.types.push(TokenType::Unused);
    let first = vocabulary.merges[0].to_vec();
    vocabulary.merges.push(first);
    let tokenizer = Tokenizer::from_vocabulary(vocabulary.clone()).unwrap();
    assert_eq!(tokenizer.to_vocabulary().unwrap(), vocabulary);
    assert!(Tokenizer::from_json(tokenizer.to_json().as_bytes()).is_ok());
}
