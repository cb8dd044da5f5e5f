//! Published folders: loaded, saved as they were, and refused with one sentence where something is wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod tiny;

use std::{fs, path::Path};

use formwork_formats::{Archive, Dtype, Layout as Header, Writer};
use formwork_model::{HeadConfig, Transformer, published::Family};
use formwork_module::{Pass, Positions, Precision, TokenModel, held};
use formwork_recipes::{Layout, LoadOptions, Memory, Weights, load, load_as, read_config};
use ndarray::array;
use serde_json::Value;
use tiny::*;

fn logits(model: &Transformer) -> Vec<f32> {
    let ids = array![[3u32, 141, 5, 92, 65], [261, 7, 7, 0, 262]];
    // What the numbers are, not how they are multiplied fastest.
    let mut pass = Pass::infer().in_precision(Precision::Full);
    model.logits(ids.view(), Positions::All, &mut pass).unwrap().to_vec().unwrap()
}

fn close(a: &[f32], b: &[f32]) {
    let size = a.iter().fold(0f32, |most, x| most.max(x.abs()));
    let error = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(a.len() == b.len() && error <= 1e-5 * size, "{error} of {size}");
}

#[test]
fn a_folder_is_saved_with_the_names_types_and_bytes_that_it_had() {
    let check = |config: Value, mut tensors: Tensors, more: &[(&str, &[usize], Dtype)]| {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, shape, dtype) in more {
            tensors.push(((*name).to_owned(), shape.to_vec(), *dtype));
        }
        write_folder(from.path(), &config, &tensors);
        let loaded = load(from.path()).unwrap();
        assert_eq!(
            loaded.tokenizer.as_ref().unwrap().encode("the").unwrap(),
            tokenizer().encode("the").unwrap()
        );
        assert_eq!(loaded.notes, Vec::<String>::new());
        loaded.save(to.path()).unwrap();
        same_tensors(from.path(), to.path(), &|name| more.iter().any(|(inert, ..)| *inert == name));
        same_files(from.path(), to.path());
        close(&logits(&loaded.model), &logits(&load(to.path()).unwrap().model));
    };
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        let buffer = ("model.layers.1.self_attn.rotary_emb.inv_freq", &[4usize][..], Dtype::F32);
        check(llama_config(true), llama_tensors(true, dtype), &[buffer]);
        check(llama_config(false), llama_tensors(false, dtype), &[]);
        check(
            gpt2_config(),
            gpt2_tensors("transformer.", dtype),
            &[
                ("transformer.h.0.attn.bias", &[1, 1, 32, 32], Dtype::U8),
                ("transformer.h.0.attn.masked_bias", &[], Dtype::F32),
            ],
        );
        check(gpt2_config(), gpt2_tensors("", dtype), &[("h.1.attn.bias", &[1, 1, 32, 32], Dtype::Bool)]);
    }
}

#[test]
fn types_may_be_mixed_and_weights_in_shards() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut tensors = llama_tensors(true, Dtype::Bf16);
    for (name, _, dtype) in tensors.iter_mut().filter(|(name, ..)| name.contains("norm")) {
        *dtype = if name.contains("post") { Dtype::F16 } else { Dtype::F32 };
    }
    write_folder(from.path(), &llama_config(true), &tensors);
    fs::remove_file(from.path().join("model.safetensors")).unwrap();
    write_tensors(from.path(), &tensors, 9000);
    assert!(Archive::open(from.path()).unwrap().files().len() > 2);
    let loaded = load(from.path()).unwrap();
    assert_eq!(loaded.origin.layout(), Layout::Published(Family::Llama));
    loaded.save(to.path()).unwrap();
    same_tensors(from.path(), to.path(), &|_| false);
}

#[test]
fn matrices_can_stay_as_they_are_stored() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_folder(from.path(), &llama_config(true), &llama_tensors(true, Dtype::Bf16));
    let stored =
        load_as(from.path(), &LoadOptions { weights: Weights::Stored, ..LoadOptions::default() }).unwrap();
    let blocks = held(&stored.model)
        .iter()
        .filter(|(_, held)| matches!(held, formwork_module::Held::Blocks(_)))
        .count();
    assert_eq!(blocks, 1 + 2 * 7);
    close(&logits(&stored.model), &logits(&load(from.path()).unwrap().model));
    stored.save(to.path()).unwrap();
    same_tensors(from.path(), to.path(), &|_| false);
}

#[test]
fn a_head_that_is_there_twice_is_tied_only_where_it_is_the_same() {
    let (same, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // The numbers of the helper depend on the name: a head of its own differs from the table.
    write_folder(other.path(), &llama_config(true), &llama_tensors(false, Dtype::F32));
    let loaded = load(other.path()).unwrap();
    assert!(loaded.notes.len() == 1 && loaded.notes[0].contains("not tied"), "{:?}", loaded.notes);
    assert_eq!(loaded.model.config().head, HeadConfig::Untied {});

    write_folder(same.path(), &llama_config(true), &llama_tensors(true, Dtype::F32));
    let archive = Archive::open(same.path()).unwrap();
    let mut header = Header::new();
    for entry in archive.entries() {
        header = header.tensor(entry.name(), entry.dtype(), entry.shape());
    }
    header = header.tensor("lm_head.weight", Dtype::F32, &[VOCAB, 24]);
    let path = same.path().join("model.safetensors");
    let mut writer = Writer::create(&path, &header).unwrap();
    for entry in archive.entries() {
        writer.append_bytes(entry.name(), entry.bytes()).unwrap();
    }
    writer
        .append_bytes("lm_head.weight", archive.entry("model.embed_tokens.weight").unwrap().bytes())
        .unwrap();
    writer.finish().unwrap();
    let loaded = load(same.path()).unwrap();
    assert_eq!((loaded.notes.len(), loaded.model.config().head), (0, HeadConfig::Tied {}));
    let to = tempfile::tempdir().unwrap();
    loaded.save(to.path()).unwrap();
    same_tensors(same.path(), to.path(), &|_| false);
}

#[test]
fn what_is_wrong_with_a_folder_is_said_in_one_sentence() {
    let check = |break_it: &dyn Fn(&Path), words: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &llama_config(true), &llama_tensors(true, Dtype::Bf16));
        break_it(folder.path());
        let message = load(folder.path()).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word} in {message}");
        }
        assert!(!message.contains('\n') && message.len() < 600, "{message}");
    };
    let config = |change: &dyn Fn(&mut Value)| {
        let mut config = llama_config(true);
        change(&mut config);
        move |folder: &Path| fs::write(folder.join("config.json"), config.to_string()).unwrap()
    };
    check(
        &config(&|c| {
            c["model_type"] = "mllama".into();
            c["vision_config"] = serde_json::json!({});
        }),
        &["config.json", "model_type", "one of gpt2, llama", "mllama"],
    );
    check(
        &config(&|c| c["num_hidden_layers"] = 3.into()),
        &["9 missing: model.layers.2.", "another checkpoint"],
    );
    check(&config(&|c| c["num_hidden_layers"] = 999.into()), &["the tensors of 999 layers", "found 20"]);
    check(
        &config(&|c| c["hidden_size"] = 48.into()),
        &["reshaped: model.embed_tokens.weight is [263, 24]", "[263, 48]"],
    );
    check(
        &|folder| {
            let path = folder.join("model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 1000]).unwrap();
        },
        &["model.safetensors", "bytes"],
    );
    check(
        &|folder| {
            fs::remove_file(folder.join("model.safetensors")).unwrap();
            write_tensors(folder, &llama_tensors(true, Dtype::Bf16), 9000);
            fs::remove_file(folder.join("model-00002-of-00003.safetensors")).unwrap();
        },
        &["model-00002-of-00003.safetensors"],
    );
    check(
        &|folder| fs::write(folder.join("config.json"), "{\"model_type\": \"lla").unwrap(),
        &["config.json", "JSON"],
    );
    check(&config(&|c| c["vocab_size"] = 200.into()), &["reshaped"]);
    check(
        &|folder| {
            config(&|c| c["vocab_size"] = 200.into())(folder);
            fs::remove_file(folder.join("model.safetensors")).unwrap();
            let mut tensors = llama_tensors(true, Dtype::F32);
            tensors[0].1[0] = 200;
            write_tensors(folder, &tensors, u64::MAX);
        },
        &["tokenizer.json", "263", "200"],
    );
    let nothing = tempfile::tempdir().unwrap();
    let message = load(nothing.path()).unwrap_err().to_string();
    assert!(message.contains("formwork.json or config.json"), "{message}");
    fs::write(nothing.path().join("adapter_config.json"), "{}").unwrap();
    let message = load(nothing.path()).unwrap_err().to_string();
    assert!(message.contains("adapter"), "{message}");
    let message = load(nothing.path().join("none.gguf")).unwrap_err().to_string();
    assert!(message.contains("missing the GGUF file") && message.contains("none.gguf"), "{message}");
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &llama_config(true), &llama_tensors(true, Dtype::Bf16));
    let of = |memory, weights| {
        load_as(folder.path(), &LoadOptions { memory, weights, ..LoadOptions::default() }).map(|_| ())
    };
    let numbers = (VOCAB * 24 + 2 * (2 * 24 + 2 * 24 * 24 + 2 * 8 * 24 + 3 * 40 * 24) + 24) as u64;
    let vectors = 5 * 24;
    of(Memory::Bytes(4 * numbers), Weights::Dense).unwrap();
    of(Memory::Bytes(2 * numbers + 2 * vectors), Weights::Stored).unwrap();
    let error = of(Memory::Bytes(4 * numbers - 1), Weights::Dense).unwrap_err().to_string();
    assert!(error.contains("memory") && error.contains("GiB"), "{error}");
    assert!(of(Memory::Bytes(2 * numbers + 2 * vectors - 1), Weights::Stored).is_err());
}

#[test]
fn a_tokenizer_in_a_form_that_is_not_read_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &llama_config(true), &llama_tensors(true, Dtype::F32));
    fs::rename(folder.path().join("tokenizer.json"), folder.path().join("tokenizer.model")).unwrap();
    let loaded = load(folder.path()).unwrap();
    assert!(loaded.tokenizer.is_none());
    assert!(loaded.notes.len() == 1 && loaded.notes[0].contains("tokenizer.model"), "{:?}", loaded.notes);
}

#[test]
fn configs_of_every_kind_are_read() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &gpt2_config(), &gpt2_tensors("", Dtype::F32));
    let config = read_config(folder.path()).unwrap();
    assert_eq!(config, read_config(&folder.path().join("config.json")).unwrap());
    assert_eq!((config.vocab, config.dim, config.blocks.len()), (VOCAB, 12, 2));
    let ours = folder.path().join("mine.json");
    fs::write(&ours, config.to_json()).unwrap();
    assert_eq!(read_config(&ours).unwrap(), config);
}
