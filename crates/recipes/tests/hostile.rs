//! Files of a model, damaged at random or on purpose: loading them is an error or a model, never a panic, and takes no more
//! memory than the files can justify.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod damage;
mod memory;
mod tiny;

use std::{fs, path::Path};

use damage::{mutated, size, targets};
use formwork_formats::{Dtype, gguf};
use formwork_module::{Pass, Positions, TokenModel};
use formwork_recipes::{
    Convert, LoadOptions, Loaded, Weights,
    chat::{Message, Next},
    convert, load, load_as, load_tokenizer,
};
use memory::{cost, seeds};
use ndarray::array;
use tiny::*;

type Alone = std::sync::MutexGuard<'static, ()>;

/// What reading a model of a few kilobytes may hold beside four times its files: far less than the 64 MiB that are
/// allowed, so that a number that is believed before it is checked cannot hide.
const SLACK: usize = 4 << 20;

/// What the rule allows beside four times the files.
const RULE: usize = 64 << 20;

/// Loads, and asserts that no more was held than the files justify.
fn within(alone: &Alone, path: &Path, options: &LoadOptions) -> Result<Loaded, String> {
    let (loaded, most) = cost(alone, || load_as(path, options));
    let len = size(path);
    let answer = loaded.as_ref().map_or_else(ToString::to_string, |_| "a model".to_owned());
    assert!(most <= 4 * len + SLACK, "{}: {most} bytes held to load {len}: {answer}", path.display());
    loaded.map_err(|error| {
        let message = error.to_string();
        assert!(!message.is_empty() && message.len() < 2000, "{message}");
        message
    })
}

#[test]
fn a_damaged_file_is_an_error_or_a_model() {
    let alone = memory::alone();
    let place = tempfile::tempdir().unwrap();
    let targets = targets(place.path());
    let good: Vec<Vec<u8>> = targets.iter().map(|(file, _)| fs::read(file).unwrap()).collect();
    for (_, model) in &targets {
        within(&alone, model, &LoadOptions::default()).unwrap();
    }
    let (seeds, mut models, mut errors, mut broken) = (seeds(800), 0, 0, Vec::new());
    let count = seeds.end;
    for seed in seeds {
        let which = (seed % targets.len() as u64) as usize;
        let (file, model) = &targets[which];
        fs::write(file, mutated(&good[which], seed)).unwrap();
        let weights = [Weights::Usual, Weights::Dense, Weights::Stored][(seed / 16 % 3) as usize];
        match within(&alone, model, &LoadOptions { weights, ..LoadOptions::default() }) {
            Ok(loaded) => {
                models += 1;
                // What has been accepted also works.
                if let Some(template) = &loaded.template {
                    let _ = template.render(&[Message::user("the cat")], Next::Answer);
                }
                if loaded.model.vocab() > 2 {
                    let ids = array![[2u32, 1, 0]];
                    let _ = loaded.model.logits(ids.view(), Positions::Last, &mut Pass::infer());
                }
            }
            Err(message) => {
                errors += 1;
                broken.extend(message.contains(char::is_control).then_some((seed, message)));
            }
        }
        fs::write(file, &good[which]).unwrap();
    }
    let first = &broken[..broken.len().min(9)];
    assert!(broken.is_empty(), "{} messages with control characters: {first:?}", broken.len());
    assert!(
        models > count / 10 && errors > count / 4,
        "{models} models, {errors} errors: the changes reach something"
    );
}

/// What converting a model of a few kilobytes may hold beside four times its files: the buffers of two writers, and those
/// of loading.
const CONVERTING: usize = 8 << 20;

#[test]
fn a_damaged_file_is_converted_or_refused() {
    let alone = memory::alone();
    let (place, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let targets = targets(place.path());
    let good: Vec<Vec<u8>> = targets.iter().map(|(file, _)| fs::read(file).unwrap()).collect();
    // From the exact numbers, so that the way to a folder is open as well.
    let [folder, file] = ["folder", "file.gguf"].map(|name| made.path().join(name));
    let (seeds, mut models, mut errors) = (seeds(120), 0, 0);
    let count = seeds.end;
    for seed in seeds {
        let which = (seed % targets.len() as u64) as usize;
        let (part, model) = &targets[which];
        fs::write(part, mutated(&good[which], seed)).unwrap();
        let _ = fs::remove_dir_all(&folder);
        for (to, dtype) in [(&folder, Some("f32")), (&file, None), (&file, Some("q8_0"))] {
            let dtype = dtype.map(|name| name.parse().unwrap());
            let (done, most) = cost(&alone, || convert(model, to, &Convert { dtype }));
            let len = size(model);
            assert!(
                most <= 4 * len + CONVERTING,
                "{}: {most} bytes held for {len}: {done:?}",
                model.display()
            );
            match done {
                Ok(_) => {
                    models += 1;
                    // What has been written can be read, if the source can. Small files are carried unread, byte for byte,
                    // so those that only a folder reads may be broken there.
                    if let Err(error) = load(to) {
                        let is_small =
                            [".json: ", ".jinja: "].iter().any(|end| error.to_string().contains(end));
                        assert!(load(model).is_err() || is_small, "{seed}: {error}");
                    }
                }
                Err(error) => {
                    errors += 1;
                    let message = error.to_string();
                    assert!(!message.is_empty() && message.len() < 2000, "{message}");
                }
            }
        }
        fs::write(part, &good[which]).unwrap();
    }
    assert!(
        models > count / 4 && errors > count / 4,
        "{models} models, {errors} errors: the changes reach something"
    );
}

#[test]
fn json_that_is_far_larger_as_values_is_refused_in_its_own_size() {
    let alone = memory::alone();
    // Each is a megabyte or two of text, and would be a hundred as values.
    let many = |piece: &str| format!("{{\"a\": [{piece}0]}}", piece = piece.repeat((2 << 20) / piece.len()));
    let check = |file: &str, text: &str, words: &str| {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &llama_config(true), &llama_tensors(true, Dtype::Bf16));
        fs::write(folder.path().join(file), text).unwrap();
        let message = within(&alone, folder.path(), &LoadOptions::default()).unwrap_err();
        assert!(message.contains(file) && message.contains(words), "{message}");
    };
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        check(file, &many("0,"), "commas");
        check(file, &many("[[0]],"), "lists and objects");
        check(file, &many("{\"\":{}},"), "lists and objects");
        check(file, &"[".repeat(2 << 20), "lists and objects");
        check(file, &" ".repeat((16 << 20) + 1), "at most 16777216 bytes");
    }
    check("chat_template.jinja", &"{{ x }}".repeat(1 << 18), "at most 262144 bytes");
}

#[test]
fn the_largest_files_that_are_read_stay_within_the_rule() {
    let alone = memory::alone();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("folder");
    fs::create_dir(&folder).unwrap();
    write_folder(&folder, &llama_config(true), &llama_tensors(true, Dtype::Bf16));
    let check = |path: &Path, answer: bool| {
        let (loaded, most) = cost(&alone, || load(path).is_ok());
        let len = size(path);
        assert!(most <= 4 * len + RULE, "{}: {most} bytes held to load {len}", path.display());
        assert_eq!(loaded, answer, "{}", path.display());
    };
    let keys: String = (0..(1 << 15) - 9).map(|i| format!("\"{i:x}\":{{\"\":0}},")).collect();
    let flat: String = (0..(1 << 17) - 64).map(|i| format!("\"{i:x}\":0,")).collect();
    let deep = format!("{}0{},", "{\"\":".repeat(100), "}".repeat(100)).repeat(320);
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        let good = fs::read_to_string(folder.join(file)).unwrap();
        for more in [&format!("\"a\":[{deep}0],"), &keys, &flat] {
            fs::write(folder.join(file), good.replacen('{', &format!("{{{more}"), 1)).unwrap();
            check(&folder, true);
        }
        fs::write(folder.join(file), good).unwrap();
    }
    // The largest vocabulary, of which little is text.
    let tokens: Vec<String> = (0..1 << 20).map(|i| format!("{i:x}")).collect();
    let layout = gguf::Layout::new()
        .set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", "gpt-2")
        .set("tokenizer.ggml.tokens", gguf::Value::strings(&tokens))
        .set("tokenizer.ggml.merges", gguf::Value::strings(["a b"]));
    let file = place.path().join("vocabulary.gguf");
    gguf::Writer::create(&file, &layout).unwrap().finish().unwrap();
    drop(layout);
    let (found, most) = cost(&alone, || load_tokenizer(&file).map(|found| found.vocab()));
    assert_eq!(found.unwrap(), 1 << 20);
    let len = size(&file);
    assert!(most <= 4 * len + RULE, "{most} bytes held to load {len}");
}

#[test]
fn metadata_that_is_far_larger_as_values_is_refused_in_its_own_size() {
    let alone = memory::alone();
    let place = tempfile::tempdir().unwrap();
    let (folder, file) = (place.path().join("from"), place.path().join("m.gguf"));
    fs::create_dir(&folder).unwrap();
    write_folder(&folder, &llama_config(true), &llama_tensors(true, Dtype::Bf16));
    convert(&folder, &file, &Convert { dtype: None }).unwrap();
    let good = formwork_formats::Archive::open(&file).unwrap();
    let mut layout = gguf::Layout::new();
    layout.metadata = good.gguf().unwrap().metadata().clone();
    for i in 0..200 {
        layout = layout.set(format!("llama.more.{i}"), vec![1u8; 9000]);
    }
    for entry in good.entries() {
        layout = layout.tensor(entry.name(), entry.dtype(), entry.shape());
    }
    let hostile = place.path().join("hostile.gguf");
    let mut writer = gguf::Writer::create(&hostile, &layout).unwrap();
    for entry in good.entries() {
        writer.append_bytes(entry.name(), entry.bytes()).unwrap();
    }
    writer.finish().unwrap();
    let message = within(&alone, &hostile, &LoadOptions::default()).unwrap_err();
    assert!(message.contains("at most 262144 values about the model"), "{message}");
    // The vocabulary is none of them.
    load_tokenizer(&hostile).unwrap();
    load(&file).unwrap();
}
