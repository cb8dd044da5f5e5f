//! A file from a stranger gives a named error or a tokenizer, never a panic and never gigabytes.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{bert, file, gpt2, llama2, llama3, special, unigram};
use formwork_tokenizer::{Error, Tokenizer};
use serde_json::{Value, json};

/// The file must be refused with a message that has all of `parts` in it and is not long.
fn check(json: &[u8], parts: &[&str]) {
    let message = match Tokenizer::from_json(json) {
        Ok(tokenizer) => panic!("accepted, expected {parts:?}: {tokenizer:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
    assert!(message.len() < 600 && !message.ends_with('.') && !message.contains('\n'), "{message}");
}

/// The small good file that the tests below damage.
fn small() -> Value {
    file(json!({
        "added_tokens": [special(3, "<end>")],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    }))
}

/// `small` with the value at a path replaced.
fn with(path: &str, value: Value) -> Vec<u8> {
    let mut file = small();
    let (parent, key) = path.rsplit_once('/').unwrap();
    file.pointer_mut(parent).unwrap()[key] = value;
    file.to_string().into_bytes()
}

#[test]
fn the_undamaged_file_is_fine() {
    let tokenizer = Tokenizer::from_json(small().to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("abab").unwrap(), [2, 2]);
    assert_eq!(tokenizer.vocab(), 4);
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    check(b"", &["line 1", "cut short"]);
    check(b"not json", &["line 1 column 2", "right file"]);
    check(b"\xff\xfe{}", &["line 1 column 1", "UTF-8"]);
    check(b"[]", &["layout"]);
    check(b"{}", &["missing field `version`"]);
    check(br#"{"version": "1.0"}"#, &["missing field `model`"]);
    check(&with("/version", json!("2.0")), &["version", "\"1.0\"", "\"2.0\""]);
    check(&with("/surprise", json!(1)), &["unknown field `surprise`"]);
    check(&with("/model/surprise", json!(1)), &["unknown field `surprise`"]);
    check("[".repeat(100_000).as_bytes(), &["line 1"]);
    let nested = format!("{}1{}", r#"{"version":"1.0","decoder":"#, "[".repeat(100_000));
    check(nested.as_bytes(), &["line 1"]);
}

#[test]
fn every_cut_of_a_file_is_refused() {
    for whole in [small().to_string(), unigram().to_string()] {
        for end in 0..whole.len() {
            if whole.is_char_boundary(end) {
                check(&whole.as_bytes()[..end], &["cut short"]);
            }
        }
    }
}

#[test]
fn vocabularies_that_contradict_themselves_are_refused() {
    check(&with("/model/vocab", json!({})), &["model.vocab", "found none"]);
    check(&with("/model/vocab", json!({"a": 0, "b": 1, "ab": 1})), &["model.vocab", "\"ab\"", "id 1"]);
    check(
        &with("/model/vocab", json!({"a": 0, "b": 1, "ab": 4_294_967_295_u32})),
        &["model.vocab", "4294967295"],
    );
    check(&with("/model/vocab", json!({"a": 0, "b": 1, "ab": 5_000_000_000_u64})), &["5000000000", "u32"]);
    check(&with("/model/vocab", json!({"a": -1})), &["-1"]);
    check(&with("/model/vocab", json!([["a", 1.0]])), &["model.vocab", "byte-pair"]);
    let twice = small().to_string().replace(r#""a":0"#, r#""a":0,"a":0"#);
    check(twice.as_bytes(), &["\"a\" occurs twice", "column"]);
    check(&with("/model/type", json!("Magic")), &["model.type", "Magic"]);
    check(&with("/model/dropout", json!(0.1)), &["model.dropout", "random"]);
}

#[test]
fn merges_of_another_vocabulary_are_refused() {
    check(&with("/model/merges", json!(null)), &["model.merges", "incomplete"]);
    check(&with("/model/merges", json!([["a", "c"]])), &["model.merges[0]", "\"c\""]);
    check(&with("/model/merges", json!([["a", "b"], ["b", "a"]])), &["model.merges[1]", "\"ba\""]);
    check(
        &with("/model/merges", json!([["a", "b"], ["a", "b"]])),
        &["model.merges[1]", "already merges at 0"],
    );
    check(&with("/model/merges", json!(["ab"])), &["not two pieces"]);
    check(&with("/model/merges", json!([["a", "b", "c"]])), &["not two pieces"]);
    check(&with("/model/merges", json!([7])), &["a merge"]);
    // The library would slice "b" behind its end.
    check(&with("/model/continuing_subword_prefix", json!("###")), &["model.merges[0]", "begin with"]);
}

#[test]
fn added_tokens_that_do_not_get_their_id_are_refused() {
    check(
        &with("/added_tokens", json!([special(7, "<end>")])),
        &["added_tokens[0]", "says id 7", "gives id 3"],
    );
    check(&with("/added_tokens", json!([special(1, "a")])), &["added_tokens[0]", "says id 1", "gives id 0"]);
    check(
        &with("/added_tokens", json!([special(3, "x"), special(3, "y")])),
        &["added_tokens[1]", "gives id 4"],
    );
    check(&with("/added_tokens", json!([special(3, "")])), &["added_tokens[0].content"]);
    check(&with("/added_tokens", json!([special(4_000_000_000, "x")])), &["added_tokens", "4000000000"]);
    check(&with("/added_tokens", json!([{"id": 3}])), &["missing field"]);
}

#[test]
fn components_that_are_unsafe_or_unknown_are_refused() {
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    check(&with("/pre_tokenizer", split("(")), &["pre_tokenizer.pattern.Regex", "regular expression"]);
    check(&with("/pre_tokenizer", split("(a{1000}){1000}{1000}")), &["pre_tokenizer.pattern.Regex"]);
    check(&with("/pre_tokenizer", split(&"a".repeat(5000))), &["pre_tokenizer", "5000"]);
    check(&with("/pre_tokenizer", json!({"type": "Magic"})), &["pre_tokenizer", "\"Magic\""]);
    check(
        &with("/pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        &["pre_tokenizer.length", "at least 1"],
    );
    check(
        &with("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "////"})),
        &["normalizer", "SentencePiece"],
    );
    check(&with("/normalizer", json!(3)), &["normalizer"]);
    check(&with("/decoder", json!({"type": "Magic"})), &["decoder", "\"Magic\""]);
    check(
        &with("/decoder", json!({"type": "Strip", "content": " ", "start": 0, "stop": 1_000_000_000})),
        &["decoder.stop"],
    );
    // What is inserted between characters has no place in the text, and a byte-level pre-tokenizer falls over it.
    for pattern in
        [json!({"String": ""}), json!({"Regex": "^"}), json!({"Regex": "a*"}), json!({"Regex": "\\b"})]
    {
        let insert = json!({"type": "Replace", "pattern": pattern, "content": "x"});
        check(&with("/normalizer", insert.clone()), &["normalizer.pattern", "Prepend"]);
        let list = json!({"type": "Sequence", "normalizers": [insert]});
        check(&with("/normalizer", list), &["normalizer.normalizers[0].pattern", "Prepend"]);
    }
    // Fifty doublings would turn one letter into a petabyte.
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let bomb = json!({"type": "Sequence", "normalizers": vec![double; 50]});
    check(&with("/normalizer", bomb), &["normalizer", "times longer"]);
}

#[test]
fn templates_that_name_nothing_are_refused() {
    let template = |single: Value, ids: Value| {
        json!({"type": "TemplateProcessing", "single": single, "pair": [],
               "special_tokens": {"<end>": {"id": "<end>", "ids": ids, "tokens": ["<end>"]}}})
    };
    let end = json!({"SpecialToken": {"id": "<end>", "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let second = json!({"Sequence": {"id": "B", "type_id": 0}});
    let missing = json!({"SpecialToken": {"id": "<what>", "type_id": 0}});
    let good = Tokenizer::from_json(&with("/post_processor", template(json!([text, end]), json!([3]))));
    assert!(good.is_ok(), "{good:?}");
    check(&with("/post_processor", template(json!([text, end]), json!([9]))), &["post_processor", "id 9"]);
    check(&with("/post_processor", template(json!([end]), json!([3]))), &["post_processor", "once"]);
    check(&with("/post_processor", template(json!([text, text]), json!([3]))), &["post_processor"]);
    check(
        &with("/post_processor", template(json!([second]), json!([3]))),
        &["post_processor.single[0]", "\"B\""],
    );
    check(
        &with("/post_processor", template(json!([missing]), json!([3]))),
        &["post_processor.single[0]", "<what>"],
    );
}

#[test]
fn unigrams_that_would_never_end_are_refused() {
    let mut file = unigram();
    file["model"]["vocab"][5][0] = json!("");
    check(file.to_string().as_bytes(), &["model.vocab[5]", "empty"]);
    let mut file = unigram();
    file["model"]["unk_id"] = json!(1000);
    check(file.to_string().as_bytes(), &["model.unk_id", "1000"]);
    let mut file = unigram();
    file["model"]["vocab"][4] = json!(["a", 1]);
    file["model"]["vocab"][5] = json!(["a", 2]);
    check(file.to_string().as_bytes(), &["\"a\" occurs twice"]);
}

#[test]
fn a_wordpiece_model_may_not_ask_for_quadratic_time() {
    let mut file = bert();
    file["model"]["max_input_chars_per_word"] = json!(1_000_000_000);
    check(file.to_string().as_bytes(), &["model.max_input_chars_per_word", "4096"]);
}

#[test]
fn messages_stay_short_however_long_the_file() {
    let long = "x".repeat(1 << 20);
    check(&with("/version", json!(long)), &["version"]);
    check(&with("/model/type", json!(long)), &["model.type"]);
    check(&with("/model/merges", json!([[long, "b"]])), &["model.merges[0]"]);
    check(&with("/added_tokens", json!([special(9, &long)])), &["added_tokens[0]"]);
    check(&with("/pre_tokenizer", json!({"type": long})), &["pre_tokenizer"]);
    check(&with(&format!("/{long}"), json!(1)), &["unknown field"]);
}

/// Every value of every file is replaced by others of each type: an error or a tokenizer, but no panic.
#[test]
fn no_single_damage_panics() {
    fn paths(value: &Value, here: &str, list: &mut Vec<String>) {
        // Of long lists the first three stand for the rest.
        match value {
            Value::Object(map) => {
                for (key, value) in map.iter().take(14) {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    paths(value, &format!("{here}/{key}"), list);
                }
            }
            Value::Array(array) => {
                array
                    .iter()
                    .enumerate()
                    .take(3)
                    .for_each(|(i, value)| paths(value, &format!("{here}/{i}"), list));
            }
            _ => {}
        }
        list.push(here.to_owned());
    }
    let others = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("é"),
        json!([]),
        json!({}),
        json!([["a", "b"]]),
        json!({"type": "Sequence"}),
        json!(true),
    ];
    // Panics that the crate catches count too: validation must come before them.
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        report(panic);
    }));
    let mut accepted = 0;
    for whole in [gpt2(), llama2(), llama3(), bert(), unigram()] {
        let mut list = Vec::new();
        paths(&whole, "", &mut list);
        for path in list.iter().filter(|path| !path.is_empty()) {
            for other in &others {
                let mut file = whole.clone();
                *file.pointer_mut(path).unwrap() = other.clone();
                if let Ok(tokenizer) = Tokenizer::from_json(file.to_string().as_bytes()) {
                    accepted += 1;
                    if let Ok(ids) = tokenizer.encode("the end, é 漢 <s>") {
                        tokenizer.decode(&ids).unwrap();
                    }
                }
            }
        }
    }
    assert!(accepted > 100, "some values may be replaced: {accepted}");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "panics in the library; validate before them");
}

/// The search for added tokens is built in the square of their length, which is why that is limited.
#[test]
fn many_long_added_tokens_load() {
    for count in [99, 300] {
        let added: Vec<Value> =
            (0..count).map(|i| special(3 + i, &format!("{}{i}", "x".repeat(1000)))).collect();
        let tokenizer = Tokenizer::from_json(&with("/added_tokens", json!(added))).unwrap();
        assert_eq!(tokenizer.vocab(), 3 + count);
    }
    check(
        &with("/added_tokens", json!([special(3, &"x".repeat(1025))])),
        &["added_tokens[0].content", "1025"],
    );
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere").join("tokenizer.json");
    let error = Tokenizer::load(&path).unwrap_err();
    assert!(matches!(error, Error::File(_)));
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(Tokenizer::bytes().save(&path).is_err());
}
