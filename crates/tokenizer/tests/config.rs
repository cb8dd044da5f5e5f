//! What stands beside a `tokenizer.json`: the tokens it names, and the template of conversations.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use common::{gpt2, llama2, llama3, read};
use formwork_tokenizer::config::chat_template;
use formwork_tokenizer::{Encode, Error, Frame, Tokenizer};
use serde_json::{Value, json};

const FRAMED: Encode = Encode { frame: Frame::Template, markup: formwork_tokenizer::Markup::Text };

fn configured(tokenizer: Tokenizer, config: &Value) -> Result<Tokenizer, Error> {
    tokenizer.with_config(config.to_string().as_bytes())
}

#[test]
fn tokens_have_the_parts_that_the_configuration_says() {
    let tokenizer = read(&llama3());
    let ids = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"].map(|name| tokenizer.id(name).unwrap());
    assert_eq!(tokenizer.special().end, [ids[1], ids[2]]);
    let config = json!({
        "bos_token": {"content": "<|begin_of_text|>", "lstrip": false, "__type": "AddedToken"},
        "eos_token": "<|eot_id|>", "pad_token": "<|end_of_text|>", "unk_token": null, "sep_token": 7,
        "model_max_length": 1e30, "tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": {},
    });
    let special = configured(tokenizer, &config).unwrap().special().clone();
    assert_eq!((special.begin, special.pad, special.unknown), (Some(ids[0]), Some(ids[1]), None));
    assert_eq!(special.end, [ids[2], ids[1]]);
    // A token for padding that nobody added can do nothing.
    let odd = configured(read(&gpt2()), &json!({"pad_token": "[PAD]", "unk_token": "?!?"})).unwrap();
    assert_eq!((odd.special().pad, odd.special().unknown), (None, None));
}

#[test]
fn begin_and_end_are_added_where_the_tokenizer_does_not_say() {
    let adds = json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true, "add_eos_token": true});
    let mut silent = llama2();
    silent["post_processor"] = json!(null);
    let tokenizer = read(&silent);
    assert_eq!(
        tokenizer.encode_with("at", &FRAMED).unwrap().first(),
        tokenizer.encode("at").unwrap().first()
    );
    let framed = configured(tokenizer, &adds).unwrap().encode_with("at", &FRAMED).unwrap();
    assert_eq!((framed[0], framed[framed.len() - 1]), (1, 2));
    // The file's own template decides otherwise.
    let tokenizer = read(&llama2());
    let before = tokenizer.encode_with("at", &FRAMED).unwrap();
    assert_eq!(configured(tokenizer, &adds).unwrap().encode_with("at", &FRAMED).unwrap(), before);
    let never = json!({"bos_token": "<s>", "add_bos_token": false});
    assert_eq!(configured(read(&llama2()), &never).unwrap().encode_with("at", &FRAMED).unwrap(), before);
}

#[test]
fn templates_are_texts_or_named() {
    let check = |config: Value, expected: Option<&str>| {
        assert_eq!(chat_template(config.to_string().as_bytes()).unwrap().as_deref(), expected, "{config}");
    };
    check(json!({}), None);
    check(json!({"chat_template": null}), None);
    check(json!({"chat_template": "{{ a }}"}), Some("{{ a }}"));
    let named = |names: [&str; 2]| json!({"chat_template": names.map(|name| json!({"name": name, "template": name}))});
    check(named(["tool_use", "default"]), Some("default"));
    check(named(["tool_use", "rag"]), None);
    check(json!({"chat_template": [{"name": "x", "template": "y"}]}), Some("y"));
    check(json!({"chat_template": []}), None);
}

#[test]
fn wrong_configurations_are_refused_by_name() {
    let check = |result: Result<(), Error>, parts: &[&str]| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Config { .. }));
        for part in parts {
            assert!(error.to_string().contains(part), "expected {part:?} in: {error}");
        }
    };
    let with = |config: Value| configured(read(&gpt2()), &config).map(drop);
    check(with(json!({"eos_token": "</s>"})), &["eos_token", "\"</s>\"", "different"]);
    check(with(json!({"bos_token": 3})), &["bos_token", "found 3"]);
    check(with(json!({"pad_token": {"text": ""}})), &["pad_token"]);
    check(with(json!({"add_bos_token": "yes"})), &["add_bos_token", "true or false"]);
    check(with(json!([])), &["JSON object"]);
    check(read(&gpt2()).with_config(b"{").map(drop), &["line 1"]);
    for config in [json!({"chat_template": 3}), json!({"chat_template": [{"name": "x"}]})] {
        check(chat_template(config.to_string().as_bytes()).map(drop), &["chat_template"]);
    }
}
