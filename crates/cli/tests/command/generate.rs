//! `generate`: what is written, where it ends, and which settings count.

use formwork::{
    Module, Pass, Positions, TokenModel, Transformer,
    checkpoint::{Snapshot, State},
    params,
    tokenizer::BpeTrainer,
};
use ndarray::ArrayView2;
use serde_json::Value;

use crate::support::{Folder, formwork, good, json, letters, refused, tiny};

/// The likeliest ids, the whole text computed anew for each, without the generator.
fn by_hand(model: &Transformer, prompt: &[u32], tokens: usize) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    for _ in 0..tokens {
        let text = ArrayView2::from_shape((1, ids.len()), &ids).expect("one row");
        let logits = model.logits(text, Positions::Last, &mut Pass::infer()).expect("a legal text");
        let logits = logits.to_vec::<f32>().expect("f32");
        let best =
            (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary");
        ids.push(best as u32);
    }
    ids.split_off(prompt.len())
}

fn ids(value: &Value) -> Vec<u32> {
    value["ids"].as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

const GREEDY: [&str; 5] = ["--raw-ids", "--prompt", "5,17,2", "--greedy", "--json"];

fn run<'a>(folder: &'a Folder, more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--model", folder.text()][..], more].concat()
}

#[test]
fn raw_ids_need_no_tokenizer_and_greedy_takes_the_likeliest() {
    let folder = Folder::model(None);
    let found = json(&run(&folder, &[&GREEDY[..], &["--max-tokens", "11"]].concat()));
    let mut keys: Vec<_> = found.as_object().expect("an object").keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["decode_s", "finish", "ids", "prefill_s", "text"]);
    assert_eq!(ids(&found), by_hand(&tiny(26, 7), &[5, 17, 2], 11));
    assert_eq!((&found["finish"], &found["text"]), (&Value::from("length"), &Value::Null));
    assert!(found["prefill_s"].as_f64() > Some(0.0) && found["decode_s"].as_f64() > Some(0.0), "{found}");

    let shown: Vec<_> = ids(&found).iter().map(u32::to_string).collect();
    let args = ["--raw-ids", "--prompt", " 5, 17,2 ", "--greedy", "--max-tokens", "11"];
    assert_eq!(good(&run(&folder, &args)), shown.join(",") + "\n");
}

#[test]
fn the_stream_is_the_text_of_the_json() {
    let folder = Folder::model(Some(&letters()));
    let args = ["--prompt", "model", "--seed", "3", "--max-tokens", "29"];
    let found = json(&run(&folder, &[&args[..], &["--json"]].concat()));
    let text = found["text"].as_str().expect("a text");
    assert_eq!(letters().encode(text).expect("letters"), ids(&found));
    assert_eq!(good(&run(&folder, &args)), format!("{text}\n"));
}

#[test]
fn without_limits_there_are_128_tokens_and_a_seed_draws_the_same_again() {
    let folder = Folder::model(Some(&letters()));
    let draw = |seed: &str| ids(&json(&run(&folder, &["--prompt", "abc", "--seed", seed, "--json"])));
    assert_eq!(draw("1").len(), 128);
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
    let unseeded = ids(&json(&run(&folder, &["--prompt", "abc", "--json"])));
    assert_eq!(unseeded, draw("0"));
}

#[test]
fn sampling_flags_shape_the_draw() {
    let folder = Folder::model(None);
    let greedy = ids(&json(&run(&folder, &GREEDY)));
    let check = |flags: &[&str]| {
        let args = [&["--raw-ids", "--prompt", "5,17,2", "--seed", "5", "--json"], flags].concat();
        assert_eq!(ids(&json(&run(&folder, &args))), greedy, "{flags:?} leaves one token to draw");
    };
    check(&["--temperature", "0"]);
    check(&["--top-k", "1"]);
    check(&["--top-p", "1e-9"]);
    check(&["--min-p", "1"]);
    let penalised = ids(&json(&run(&folder, &[&GREEDY[..], &["--repetition-penalty", "1e6"]].concat())));
    let mut first = penalised[..20].to_vec();
    first.extend([5, 17, 2]);
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), 23, "none of 26 tokens comes twice under such a penalty: {penalised:?}");
}

#[test]
fn a_cache_of_fewer_bits_writes_the_same_until_two_tokens_are_close() {
    let folder = Folder::model(None);
    let expected = by_hand(&tiny(26, 7), &[5, 17, 2], 7);
    let args = [&GREEDY[..], &["--max-tokens", "7"]].concat();
    for (kind, same) in [("f32", 7), ("bf16", 7), ("q8_0", 2)] {
        let found = ids(&json(&run(&folder, &[&args[..], &["--cache-type", kind]].concat())));
        assert_eq!((found.len(), &found[..same]), (7, &expected[..same]), "{kind}");
    }
    // What is drawn over a long text shows that numbers were rounded; a file of settings says the same as the flag.
    let draw = |flags: &[&str]| {
        let args = ["--raw-ids", "--prompt", "5,17,2", "--temperature", "1", "--seed", "3", "--json"];
        ids(&json(&run(&folder, &[&args[..], flags].concat())))
    };
    let (wide, narrow) = (draw(&[]), draw(&["--cache-type", "q8_0"]));
    assert_ne!(wide, narrow);
    folder.file("generation.json", r#"{"cache": "q8_0", "top_k": 3}"#);
    assert_eq!(draw(&[]), narrow, "sampling flags do not touch it");
    assert_eq!(draw(&["--cache-type", "f32"]), wide);
    let bad = [&["generate", "--model", folder.text()][..], &GREEDY, &["--cache-type", "bf8"]].concat();
    refused(&bad, 2, &["--cache-type", "bf8", "f32, bf16, q8_0"]);
    folder.file("generation.json", r#"{"cache": "bf8"}"#);
    let bad = [&["generate", "--model", folder.text()][..], &GREEDY].concat();
    refused(&bad, 1, &["generation.json: cache: expected one of f32, bf16, q8_0", "did you mean `bf16`"]);
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let folder = Folder::model(Some(&letters()));
    let whole = json(&run(&folder, &["--prompt", "model", "--seed", "3", "--json"]));
    let whole = whole["text"].as_str().expect("a text");
    let stop = &whole[40..42];
    let before = &whole[..whole.find(stop).expect("it is in the text")];
    let args = ["--prompt", "model", "--seed", "3", "--stop", stop, "--stop", "-no letters-"];
    let found = json(&run(&folder, &[&args[..], &["--json"]].concat()));
    assert_eq!((found["text"].as_str(), found["finish"].as_str()), (Some(before), Some("stop")));
    assert_eq!(good(&run(&folder, &args)), format!("{before}\n"));
}

#[test]
fn the_models_own_settings_count_unless_sampling_flags_are_given() {
    let folder = Folder::model(None);
    let prompt = ["--raw-ids", "--prompt", "5,17,2", "--json"];
    let sampled = ids(&json(&run(&folder, &prompt)));
    let greedy = by_hand(&tiny(26, 7), &[5, 17, 2], 128);
    let end = greedy[6];
    let at = greedy.iter().position(|&id| id == end).expect("it is there") + 1;
    folder.file("generation.json", format!(r#"{{"temperature": 0.0, "end": [{end}], "max_tokens": 100}}"#));

    let found = json(&run(&folder, &prompt));
    assert_eq!((&ids(&found)[..], found["finish"].as_str()), (&greedy[..at], Some("end")));
    let past = json(&run(&folder, &[&prompt[..], &["--ignore-eos"]].concat()));
    assert_eq!((&ids(&past)[..], past["finish"].as_str()), (&greedy[..100], Some("length")));
    let flags = ["--temperature", "1", "--ignore-eos", "--max-tokens", "128"];
    assert_eq!(ids(&json(&run(&folder, &[&prompt[..], &flags].concat()))), sampled);
}

#[test]
fn an_empty_prompt_starts_from_the_begin_token() {
    let trainer = BpeTrainer { vocab: 258, special: vec!["<s>".into(), "</s>".into()], min_frequency: 2 };
    let tokenizer = trainer.train(["a text"]).expect("bytes and two special tokens");
    let begin = tokenizer.special().begin.expect("<s>").to_string();
    let folder = Folder::model(Some(&tokenizer));
    let flags = ["--greedy", "--ignore-eos", "--max-tokens", "17", "--json"];
    let from_empty = json(&run(&folder, &[&["--prompt", ""][..], &flags].concat()));
    let from_begin = json(&run(&folder, &[&["--prompt", &begin, "--raw-ids"][..], &flags].concat()));
    assert_eq!(ids(&from_empty), ids(&from_begin));
    assert_eq!(ids(&from_empty).len(), 17);
}

#[test]
fn the_context_ends_the_text() {
    let folder = Folder::model(Some(&letters()));
    let prompt = "x".repeat(149);
    let found = json(&run(&folder, &["--prompt", &prompt, "--json"]));
    assert_eq!((ids(&found).len(), found["finish"].as_str()), (2, Some("length")));
}

#[test]
fn a_run_folder_is_its_latest_checkpoint() {
    let folder = Folder::model(None);
    let place = |step: u64| folder.path().join(format!("checkpoints/step-{step:08}"));
    for (step, seed) in [(90, 11), (100, 13)] {
        let model = tiny(26, seed);
        std::fs::create_dir_all(folder.path().join("checkpoints")).expect("room on the disk");
        Snapshot::write(&place(step), &params(&model as &dyn Module), &State::default())
            .expect("room on the disk");
    }
    let check = |model: &str, seed: u64| {
        let found = json(&[&["generate", "--model", model, "--max-tokens", "7"], &GREEDY[..]].concat());
        assert_eq!(ids(&found), by_hand(&tiny(26, seed), &[5, 17, 2], 7), "{model}");
    };
    check(folder.text(), 13);
    check(place(90).to_str().expect("UTF-8"), 11);
    folder.file("generation.json", r#"{"max_tokens": 3}"#);
    for model in [folder.text(), place(90).to_str().expect("UTF-8")] {
        let found = json(&[&["generate", "--model", model], &GREEDY[..]].concat());
        assert_eq!(ids(&found).len(), 3, "the settings of a run are those of its checkpoints");
    }
}

#[test]
fn nothing_but_the_result_goes_into_a_pipe() {
    let folder = Folder::model(None);
    let said = formwork(&run(&folder, &GREEDY));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert!(said.stdout.starts_with('{') && said.stdout.ends_with("}\n"), "{}", said.stdout);
}
