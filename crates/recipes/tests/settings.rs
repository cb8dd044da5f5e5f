//! The settings of generation that published models come with, as transformers reads them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_generate::Settings;
use formwork_recipes::settings::{Generation, published, read};
use serde_json::{Value, json};

const VOCAB: usize = 512;

/// Settings that choose the likeliest token every time: what a file without `do_sample` means.
fn greedy() -> Settings {
    Settings { temperature: 0.0, ..Settings::default() }
}

/// Settings that draw, with the `top_k` that transformers has unless a file says otherwise.
fn drawn() -> Settings {
    Settings { temperature: 1.0, top_k: Some(50), ..Settings::default() }
}

#[test]
fn fields_are_mapped() {
    let check = |file: Value, expected: Settings| {
        let found = published(&file, None, VOCAB).unwrap();
        assert_eq!((found.settings, found.notes), (expected, Vec::<String>::new()), "{file}");
    };
    check(json!({}), greedy());
    check(json!({"do_sample": false, "temperature": 0.7, "top_p": 0.9, "top_k": 3}), greedy());
    check(json!({"do_sample": null, "temperature": null}), greedy());
    check(json!({"do_sample": true}), drawn());
    let (temperature, top_p) = (0.6, Some(0.9));
    check(
        json!({"do_sample": true, "temperature": 0.6, "top_p": 0.9}),
        Settings { temperature, top_p, ..drawn() },
    );
    check(json!({"do_sample": true, "top_p": 1.0, "top_k": 0}), Settings { top_k: None, ..drawn() });
    check(json!({"do_sample": true, "top_k": 7, "min_p": 0.05}), {
        Settings { top_k: Some(7), min_p: Some(0.05), ..drawn() }
    });
    check(json!({"repetition_penalty": 1.1}), Settings { repetition_penalty: 1.1, ..greedy() });
    check(json!({"no_repeat_ngram_size": 3}), Settings { no_repeat_ngram: Some(3), ..greedy() });
    check(json!({"no_repeat_ngram_size": 0, "repetition_penalty": 1}), greedy());
    check(json!({"max_new_tokens": 64, "min_new_tokens": 2}), {
        Settings { max_tokens: 64, min_tokens: 2, ..greedy() }
    });
    check(json!({"max_length": 4096}), greedy());
    check(json!({"eos_token_id": 2}), Settings { end: vec![2], ..greedy() });
    check(json!({"eos_token_id": [2, 7, 2]}), Settings { end: vec![2, 7], ..greedy() });
    check(json!({"suppress_tokens": [4, 5], "begin_suppress_tokens": [6]}), {
        Settings { ban: vec![4, 5], ban_first: vec![6], ..greedy() }
    });
    // An end token alone is not banned, or no text would end.
    check(json!({"bad_words_ids": [[1], [2, 3], [4]], "eos_token_id": 4}), {
        Settings { ban_phrases: vec![vec![1], vec![2, 3]], end: vec![4], ..greedy() }
    });
    check(json!({"stop_strings": "\n\n"}), Settings { stop: vec!["\n\n".into()], ..greedy() });
    check(json!({"stop_strings": ["a", "b"]}), Settings { stop: vec!["a".into(), "b".into()], ..greedy() });
}

#[test]
fn begin_and_pad_are_kept_and_the_config_fills_in() {
    let file = json!({"bos_token_id": 1, "pad_token_id": -1});
    let config = json!({"eos_token_id": [2, 3], "bos_token_id": 9, "pad_token_id": 0, "vocab_size": 512});
    let found = published(&file, Some(&config), VOCAB).unwrap();
    assert_eq!((found.begin, found.pad, found.settings.end), (Some(1), None, vec![2, 3]));
    let found = published(&json!({"eos_token_id": 4}), Some(&config), VOCAB).unwrap();
    assert_eq!((found.begin, found.pad, found.settings.end), (Some(9), Some(0), vec![4]));
}

#[test]
fn ids_past_the_vocabulary_and_unknown_fields_are_noted() {
    let check = |file: Value, notes: &[&str]| {
        let found = published(&file, None, VOCAB).unwrap().notes;
        assert_eq!(found.len(), notes.len(), "{found:?}");
        assert!(found.iter().zip(notes).all(|(found, note)| found.contains(note)), "{found:?}");
    };
    check(json!({"eos_token_id": [2, 512]}), &["eos_token_id: 512 is past the vocabulary of 512"]);
    check(
        json!({"pad_token_id": 50256, "eos_token_id": 50256}),
        &["eos_token_id: 50256", "pad_token_id: 50256"],
    );
    check(json!({"tempreature": 0.5}), &["tempreature is not known"]);
    check(json!({"transformers_version": "5.0", "_from_model_config": true, "use_cache": true}), &[]);
}

#[test]
fn what_would_change_the_text_and_is_not_supported_is_refused() {
    let check = |file: Value, expected: &str| {
        let error = published(&file, None, VOCAB).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(json!({"num_beams": 4}), "num_beams: expected its default, found 4;");
    check(json!({"penalty_alpha": 0.6}), "penalty_alpha: expected its default");
    check(json!({"guidance_scale": 1.5}), "guidance_scale: expected its default");
    check(json!({"forced_eos_token_id": 2}), "forced_eos_token_id: expected its default");
    check(json!({"sequence_bias": {"a": 1.0}}), "sequence_bias: expected its default");
    check(json!({"do_sample": true, "typical_p": 0.9}), "typical_p: expected its default");
    check(json!({"do_sample": "yes"}), "do_sample: expected true or false, found \"yes\"");
    check(json!({"top_k": -3}), "top_k: expected a whole number, found -3");
    check(json!({"temperature": "hot"}), "temperature: expected a number");
    check(json!({"do_sample": true, "top_p": 1.5}), "top_p: expected a share in (0, 1], found 1.5");
    check(
        json!({"eos_token_id": "</s>"}),
        "eos_token_id: expected a token id or a list of them, found \"</s>\"",
    );
    check(json!({"bad_words_ids": [3]}), "bad_words_ids: expected lists of token ids");
    check(json!([1]), "generation config: expected an object, found a list");
    for inert in [json!({"num_beams": 1, "typical_p": 0.9, "eta_cutoff": 0.1}), json!({"num_beams": null})] {
        assert!(published(&inert, None, VOCAB).is_ok(), "{inert}");
    }
}

#[test]
fn a_folder_is_read_from_our_file_or_the_published_ones() {
    let check = |files: &[(&str, Value)], expected: Result<Settings, &str>| {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        }
        match (read(folder.path(), VOCAB), expected) {
            (Ok(Generation { settings, .. }), Ok(expected)) => assert_eq!(settings, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("expected {expected:?}, found {found:?}"),
        }
    };
    let generation = || ("generation_config.json", json!({"do_sample": true}));
    let config = || ("config.json", json!({"eos_token_id": 5}));
    check(&[], Ok(Settings::default()));
    check(&[config()], Ok(Settings { end: vec![5], ..Settings::default() }));
    check(&[config(), generation()], Ok(Settings { end: vec![5], ..drawn() }));
    let ours = ("generation.json", json!({"temperature": 0.3}));
    check(&[config(), generation(), ours], Ok(Settings { temperature: 0.3, ..Settings::default() }));
    check(&[("generation.json", json!({"top_p": 3}))], Err("generation.json: top_p: expected a share"));
    check(
        &[("generation.json", json!({"topp": 3}))],
        Err("generation.json: topp: expected one of the fields"),
    );
    check(&[("generation_config.json", json!({"num_beams": 3}))], Err("generation_config.json: num_beams"));
    check(&[("generation_config.json", json!("{"))], Err("expected an object, found a text"));
    check(&[("config.json", json!({"eos_token_id": "x"}))], Err("config.json: eos_token_id"));
}
