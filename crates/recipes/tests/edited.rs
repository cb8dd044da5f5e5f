//! Converting what somebody has edited in between: what a file kept from before never wins over what the model says now.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod tiny;

use std::{
    fs,
    path::{Path, PathBuf},
};

use formwork_formats::{
    Archive, Dtype,
    gguf::{Layout, Value as Meta, Writer},
};
use formwork_generate::Settings;
use formwork_model::{ModelConfig, position::PositionConfig};
use formwork_recipes::{Conversion, Convert, convert, load, save};
use serde_json::{Value, json};
use tempfile::TempDir;
use tiny::*;

/// A folder for the files of a test, and the path of a model with this config in it.
fn place(config: &Value) -> (TempDir, impl Fn(&str) -> PathBuf + use<>) {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().to_owned();
    let path = move |name: &str| root.join(name);
    fs::create_dir(path("from")).unwrap();
    write_folder(&path("from"), config, &llama_tensors(true, Dtype::Bf16));
    (place, path)
}

fn to(src: &Path, dst: &Path) -> Conversion {
    convert(src, dst, &Convert::default()).unwrap()
}

/// Copies a GGUF file: keys for which `keep` says so, more of them, and tensors with their bytes changed.
fn copy(
    from: &Path,
    to: &Path,
    keep: &dyn Fn(&str) -> bool,
    more: &[(&str, Meta)],
    bytes: &dyn Fn(&str, &mut Vec<u8>),
) {
    let archive = Archive::open(from).unwrap();
    let mut layout = Layout::new();
    for (key, value) in archive.gguf().unwrap().metadata().iter().filter(|(key, _)| keep(key)) {
        layout = layout.set(key, value.clone());
    }
    for (key, value) in more {
        layout = layout.set(*key, value.clone());
    }
    for entry in archive.entries() {
        layout = layout.tensor(entry.name(), entry.dtype(), entry.shape());
    }
    let mut writer = Writer::create(to, &layout).unwrap();
    for entry in archive.entries() {
        let mut changed = entry.bytes().to_vec();
        bytes(entry.name(), &mut changed);
        writer.append_bytes(entry.name(), &changed).unwrap();
    }
    writer.finish().unwrap();
}

/// As somebody else would write it: without the files of a folder.
fn foreign(from: &Path, to: &Path) {
    let theirs = |key: &str| !key.starts_with("formwork.") && key != "tokenizer.huggingface.json";
    copy(from, to, &theirs, &[], &|_, _| ());
}

fn is_scaled(config: &ModelConfig) -> bool {
    config.blocks.iter().filter_map(|block| block.multi_head()).any(|attn| match &attn.position {
        PositionConfig::Rope(rope) => rope.scaling.is_some(),
        _ => false,
    })
}

/// Changes the `config.json` of a folder.
fn edit(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_scaling_that_was_taken_out_of_the_config_does_not_come_back() {
    let mut config = llama_config(true);
    config["rope_scaling"] = json!({"rope_type": "linear", "factor": 4.0});
    let (_place, path) = place(&config);
    to(&path("from"), &path("kept.gguf"));
    foreign(&path("kept.gguf"), &path("a.gguf"));
    to(&path("a.gguf"), &path("folder"));
    assert!(
        path("folder").join("metadata.gguf").is_file()
            && is_scaled(load(path("folder")).unwrap().model.config())
    );
    // Unchanged, all keys are kept, and there is nothing to say.
    assert_eq!(to(&path("folder"), &path("same.gguf")).notes, Vec::<String>::new());
    assert!(is_scaled(load(path("same.gguf")).unwrap().model.config()));

    edit(&path("folder"), |config| {
        let fields = config.as_object_mut().unwrap();
        fields.retain(|name, _| !name.starts_with("rope_"));
        fields.insert("rope_theta".to_owned(), 1e4.into());
    });
    let notes = to(&path("folder"), &path("b.gguf")).notes;
    assert!(notes[0].contains("scaling") && notes[0].contains("metadata.gguf"), "{notes:?}");
    let (folder, file) = (load(path("folder")).unwrap(), load(path("b.gguf")).unwrap());
    assert!(!is_scaled(folder.model.config()) && !is_scaled(file.model.config()));
    // What is not about the model stays.
    let archive = Archive::open(path("b.gguf")).unwrap();
    assert_eq!(archive.gguf().unwrap().metadata().get("llama.rope.scaling.factor"), None);
    assert!(archive.gguf().unwrap().metadata().contains("tokenizer.ggml.tokens"));
}

#[test]
fn a_number_that_was_changed_in_the_config_is_the_one_that_counts() {
    let (_place, path) = place(&llama_config(true));
    to(&path("from"), &path("kept.gguf"));
    foreign(&path("kept.gguf"), &path("a.gguf"));
    to(&path("a.gguf"), &path("folder"));
    edit(&path("folder"), |config| config["rms_norm_eps"] = 1e-3.into());
    to(&path("folder"), &path("b.gguf"));
    let eps = |name: &str| {
        let config: Value =
            serde_json::from_str(&load(path(name)).unwrap().model.config().to_json()).unwrap();
        config["norm"]["eps"].as_f64().unwrap()
    };
    assert_eq!([eps("a.gguf"), eps("folder"), eps("b.gguf")], [1e-5, 1e-3, 1e-3]);
}

#[test]
fn a_gguf_file_samples_as_the_folder_that_it_was_made_from() {
    let (_place, path) = place(&llama_config(true));
    let check = |file: &str, expected: Settings| {
        fs::write(path("from").join("generation_config.json"), file).unwrap();
        to(&path("from"), &path("m.gguf"));
        assert_eq!(load(path("from")).unwrap().settings, expected, "{file}");
        assert_eq!(load(path("m.gguf")).unwrap().settings, expected, "{file}");
    };
    let drawn = Settings { temperature: 0.6, top_p: Some(0.9), top_k: Some(50), ..Settings::default() };
    check(
        r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [262, 7, 5]}"#,
        Settings { end: vec![262, 7, 5], ..drawn },
    );
    check(r#"{"eos_token_id": 262}"#, Settings { temperature: 0.0, end: vec![262], ..Settings::default() });
    // Spelled as this program would spell it, the file counts just the same.
    check(
        "{\n  \"bos_token_id\": 261,\n  \"eos_token_id\": 262\n}\n",
        Settings { temperature: 0.0, end: vec![262], ..Settings::default() },
    );
    // A file from elsewhere says nothing, and the folder made from it says no more; only the end is known there.
    foreign(&path("m.gguf"), &path("a.gguf"));
    to(&path("a.gguf"), &path("folder"));
    assert_eq!(load(path("a.gguf")).unwrap().settings, Settings::default());
    let end = Settings { end: vec![262], ..Settings::default() };
    assert_eq!(load(path("folder")).unwrap().settings, end);

    let broken = r#"{"do_sample": true, "top_p": 7}"#;
    copy(
        &path("m.gguf"),
        &path("b.gguf"),
        &|_| true,
        &[("formwork.file.generation_config.json", broken.into())],
        &|_, _| (),
    );
    let message = load(path("b.gguf")).unwrap_err().to_string();
    assert!(message.contains("b.gguf: formwork.file.generation_config.json: top_p"), "{message}");
}

#[test]
fn an_end_that_was_changed_in_a_folder_is_the_end_of_the_file() {
    let (_place, path) = place(&llama_config(true));
    let ends = |folder: &str| {
        to(&path(folder), &path("m.gguf"));
        let archive = Archive::open(path("m.gguf")).unwrap();
        let metadata = archive.gguf().unwrap().metadata();
        let id = |name: &str| metadata.u64(&format!("tokenizer.ggml.{name}")).unwrap();
        // A vocabulary that is read back ends there too, and a text is still encoded as before.
        let (file, text) = (load(path("m.gguf")).unwrap().tokenizer.unwrap(), "the cat");
        let folder = load(path(folder)).unwrap().tokenizer.unwrap();
        assert_eq!(file.encode(text).unwrap(), folder.encode(text).unwrap());
        assert_eq!(file.special().end.first().copied().map(u64::from), id("eos_token_id"));
        [id("eos_token_id"), id("eot_token_id")]
    };
    let put = |folder: &str, name: &str, text: &str| fs::write(path(folder).join(name), text).unwrap();
    let generation = "generation_config.json";
    let check = |file: &str, expected: [Option<u64>; 2]| {
        put("from", generation, file);
        assert_eq!(ends("from"), expected, "{file}");
    };
    check(r#"{"eos_token_id": 262}"#, [Some(262), None]);
    check(r#"{"eos_token_id": 7}"#, [Some(7), None]);
    check(r#"{"eos_token_id": [7, 5]}"#, [Some(7), None]);
    // The tokenizer's own end is one of several, or nothing usable is said.
    check(r#"{"eos_token_id": [7, 262]}"#, [Some(262), None]);
    check(r#"{"eos_token_id": 263}"#, [Some(262), None]);
    check("{}", [Some(262), None]);
    // A folder of ours says it in its own file.
    put("from", "generation.json", r#"{"end": [5]}"#);
    check(r#"{"eos_token_id": 7}"#, [Some(5), None]);
    fs::remove_file(path("from").join("generation.json")).unwrap();

    // A folder that was made from a file of somebody else: its config is where the end stands.
    check(r#"{"eos_token_id": 262}"#, [Some(262), None]);
    foreign(&path("m.gguf"), &path("a.gguf"));
    to(&path("a.gguf"), &path("folder"));
    assert_eq!(ends("folder"), [Some(262), None]);
    edit(&path("folder"), |config| config["eos_token_id"] = json!([7, 5]));
    assert_eq!(ends("folder"), [Some(7), None]);
    put("folder", generation, r#"{"eos_token_id": 9}"#);
    assert_eq!(ends("folder"), [Some(9), None]);

    // An end that is put behind every text stays.
    let framed = r#"{"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": true}"#;
    put("from", "tokenizer_config.json", framed);
    check(r#"{"eos_token_id": 7}"#, [Some(262), Some(7)]);
}

#[test]
fn numbers_that_were_changed_after_widening_are_not_narrowed() {
    let (_place, path) = place(&llama_config(true));
    to(&path("from"), &path("m.gguf"));
    let nudged = f32::from_bits(1f32.to_bits() + 1);
    let change = |name: &str, bytes: &mut Vec<u8>| {
        if name == "output_norm.weight" {
            bytes[..4].copy_from_slice(&nudged.to_le_bytes());
        }
    };
    copy(&path("m.gguf"), &path("changed.gguf"), &|_| true, &[], &change);
    let notes = to(&path("changed.gguf"), &path("back")).notes;
    assert!(
        matches!(&notes[..], [note] if note.starts_with("model.norm.weight: it was BF16 before")),
        "{notes:?}"
    );
    let archive = Archive::open(path("back")).unwrap();
    let norm = archive.entry("model.norm.weight").unwrap();
    assert_eq!((norm.dtype(), norm.to_f32().unwrap()[0]), (Dtype::F32, nudged));
    let other = archive.entry("model.layers.0.input_layernorm.weight").unwrap();
    assert_eq!(other.dtype(), Dtype::Bf16);
}

#[test]
fn types_of_before_that_are_no_types_are_refused() {
    let (_place, path) = place(&llama_config(true));
    to(&path("from"), &path("m.gguf"));
    let check = |value: Meta, words: &str| {
        copy(
            &path("m.gguf"),
            &path("b.gguf"),
            &|key| key != "formwork.stored",
            &[("formwork.stored", value)],
            &|_, _| (),
        );
        let error = convert(path("b.gguf"), path("back"), &Convert::default()).unwrap_err().to_string();
        assert!(error.contains("b.gguf: ") && error.contains(words), "{error}");
    };
    check(Meta::from("{"), "formwork.stored: expected JSON");
    check(Meta::from("[".repeat(1 << 16).as_str()), "lists and objects");
    check(Meta::from("[1]"), "a JSON object with the type of each tensor");
    check(Meta::from(r#"{"norm.weight": "BF17"}"#), "a JSON object with the type of each tensor");
    check(Meta::from(7u32), "a JSON object with the type of each tensor");
}

#[test]
fn a_config_of_another_model_beside_ours_is_not_published() {
    let (_place, path) = place(&llama_config(true));
    let model = load(path("from")).unwrap().model;
    save(path("ours"), &model, Some(&tokenizer())).unwrap();
    fs::write(path("ours").join("config.json"), gpt2_config().to_string()).unwrap();
    to(&path("ours"), &path("folder"));
    assert_eq!(load(path("folder")).unwrap().model.config().blocks, model.config().blocks);
}
