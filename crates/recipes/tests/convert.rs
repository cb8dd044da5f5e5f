//! Between folders and GGUF files: nothing is lost on the way there and back, and what quantising loses is reported.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod tiny;

use std::{fs, path::Path};

use formwork_formats::{Archive, Dtype, gguf::Value as Meta};
use formwork_model::{Transformer, position::Pairs, published::with_pairs};
use formwork_module::{Pass, Positions, Precision, Seed, TokenModel};
use formwork_recipes::{
    Conversion, Convert, LoadOptions, StoredType, Weights, convert, load, load_as, load_tokenizer, save,
};
use ndarray::array;
use serde_json::{Value, json};
use tiny::*;

fn logits(path: &Path) -> Vec<f32> {
    of(&load(path).unwrap().model)
}

fn of(model: &Transformer) -> Vec<f32> {
    let ids = array![[3u32, 141, 5, 92, 65], [261, 7, 7, 0, 262]];
    // What the numbers are, not how they are multiplied fastest.
    let mut pass = Pass::infer().in_precision(Precision::Full);
    model.logits(ids.view(), Positions::All, &mut pass).unwrap().to_vec().unwrap()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    let size = a.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size
}

fn to(src: &Path, dst: &Path, dtype: Option<&str>) -> Conversion {
    let dtype = dtype.map(|name| name.parse::<StoredType>().unwrap());
    convert(src, dst, &Convert { dtype }).unwrap()
}

#[test]
fn a_folder_goes_to_gguf_and_back_without_a_bit_lost() {
    let check = |config: Value, tensors: Tensors| {
        let place = tempfile::tempdir().unwrap();
        let (from, file, back) =
            (place.path().join("from"), place.path().join("m.gguf"), place.path().join("back"));
        fs::create_dir(&from).unwrap();
        write_folder(&from, &config, &tensors);
        let report = to(&from, &file, None);
        assert_eq!(report.worst(), 0.0);
        assert!(report.tensors.iter().all(|line| line.error.is_none()));
        assert!(apart(&logits(&from), &logits(&file)) < 1e-5);
        assert_eq!(
            load_tokenizer(&file).unwrap().encode("the cat").unwrap(),
            tokenizer().encode("the cat").unwrap()
        );
        assert!(
            to(&file, &back, None).tensors.iter().all(|line| line.error.is_none()),
            "narrowed to what they were"
        );
        same_tensors(&from, &back, &|_| false);
        same_files(&from, &back);
    };
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        check(llama_config(true), llama_tensors(true, dtype));
        check(llama_config(false), llama_tensors(false, dtype));
        check(gpt2_config(), gpt2_tensors("transformer.", dtype));
    }
    let mut long = llama_config(true);
    long["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    });
    check(long, llama_tensors(true, Dtype::Bf16));
}

#[test]
fn rows_of_q_and_k_stand_side_by_side_in_gguf() {
    let place = tempfile::tempdir().unwrap();
    let (from, file) = (place.path().join("from"), place.path().join("m.gguf"));
    fs::create_dir(&from).unwrap();
    write_folder(&from, &llama_config(true), &llama_tensors(true, Dtype::F32));
    to(&from, &file, None);
    let (folder, gguf) = (Archive::open(&from).unwrap(), Archive::open(&file).unwrap());
    let check = |theirs: &str, ours: &str, order: &dyn Fn(usize) -> usize| {
        let (a, b) = (gguf.entry(theirs).unwrap(), folder.entry(ours).unwrap());
        for row in 0..a.shape()[0] {
            let (a, b) = (a.rows(row..row + 1).unwrap(), b.rows(order(row)..order(row) + 1).unwrap());
            assert_eq!(a.bytes()[..], b.bytes()[..], "{theirs} {row}");
        }
    };
    // Heads of width 8: their rows 0, 1, 2, 3 .. are our rows 0, 4, 1, 5 ..
    let order = |row: usize| row / 8 * 8 + row % 8 / 2 + row % 2 * 4;
    check("blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight", &order);
    check("blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight", &order);
    check("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight", &|row| row);
    let metadata = gguf.gguf().unwrap().metadata();
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(metadata.get("general.file_type"), Some(&Meta::U32(0)));
    assert_eq!(metadata.get("llama.attention.head_count_kv"), Some(&Meta::U32(1)));
    assert_eq!(metadata.u64("tokenizer.ggml.bos_token_id").unwrap(), Some(261));
    assert!(metadata.str("tokenizer.chat_template").unwrap().unwrap().contains("m.content"));
}

#[test]
fn a_vocabulary_is_made_as_long_as_the_table() {
    let place = tempfile::tempdir().unwrap();
    let (from, file) = (place.path().join("from"), place.path().join("m.gguf"));
    fs::create_dir(&from).unwrap();
    let (mut config, mut tensors) = (llama_config(true), llama_tensors(true, Dtype::F32));
    config["vocab_size"] = (VOCAB + 5).into();
    tensors[0].1[0] = VOCAB + 5;
    write_folder(&from, &config, &tensors);
    to(&from, &file, None);
    let archive = Archive::open(&file).unwrap();
    let metadata = archive.gguf().unwrap().metadata();
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().len(), VOCAB + 5);
    assert_eq!(metadata.i64s("tokenizer.ggml.token_type").unwrap().unwrap().last(), Some(5));
    assert_eq!(
        load_tokenizer(&file).unwrap().encode("the cat").unwrap(),
        tokenizer().encode("the cat").unwrap()
    );
    assert!(apart(&logits(&from), &logits(&file)) < 1e-5);
}

#[test]
fn a_gguf_file_goes_to_a_folder_and_back_without_a_bit_lost() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("from")).unwrap();
    write_folder(&path("from"), &llama_config(false), &llama_tensors(false, Dtype::F16));
    to(&path("from"), &path("kept.gguf"), None);
    // A file from elsewhere: no files of a folder in it, and keys that nobody here knows.
    let kept = Archive::open(path("kept.gguf")).unwrap();
    let mut layout = formwork_formats::gguf::Layout::new();
    for (key, value) in kept.gguf().unwrap().metadata().iter() {
        if !key.starts_with("formwork.") && key != "tokenizer.huggingface.json" {
            layout = layout.set(key, value.clone());
        }
    }
    layout = layout.set("general.url", "somewhere").set("somebody.note", vec![1i16, -2, 3]);
    for entry in kept.entries() {
        layout = layout.tensor(entry.name(), entry.dtype(), entry.shape());
    }
    let mut writer = formwork_formats::gguf::Writer::create(path("a.gguf"), &layout).unwrap();
    for entry in kept.entries() {
        writer.append_bytes(entry.name(), entry.bytes()).unwrap();
    }
    writer.finish().unwrap();

    to(&path("a.gguf"), &path("folder"), None);
    assert!(apart(&logits(&path("a.gguf")), &logits(&path("folder"))) < 1e-5);
    assert_eq!(
        load_tokenizer(path("folder")).unwrap().encode("cat").unwrap(),
        tokenizer().encode("cat").unwrap()
    );
    to(&path("folder"), &path("b.gguf"), None);
    let (a, b) = (Archive::open(path("a.gguf")).unwrap(), Archive::open(path("b.gguf")).unwrap());
    assert_eq!(a.len(), b.len());
    for entry in a.entries() {
        let other = b.entry(entry.name()).unwrap();
        assert_eq!(
            (other.dtype(), &other.bytes()[..]),
            (entry.dtype(), &entry.bytes()[..]),
            "{}",
            entry.name()
        );
    }
    let (a, b) = (a.gguf().unwrap().metadata(), b.gguf().unwrap().metadata());
    for (key, value) in a.iter() {
        assert_eq!(b.get(key), Some(value), "{key}");
    }
}

#[test]
fn quantising_reports_the_error_of_each_tensor() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("from")).unwrap();
    // Rows of 24 hold no whole block of 32: only the tensors with rows of 40 .. do not either, so widths are changed.
    let mut config = llama_config(true);
    (config["hidden_size"], config["head_dim"], config["intermediate_size"]) =
        (64.into(), 8.into(), 96.into());
    let tensors: Tensors = llama_tensors(true, Dtype::Bf16)
        .into_iter()
        .map(|(name, shape, dtype)| {
            let is_q = name.contains("q_proj");
            let is_o = name.contains("o_proj");
            let wide = |n: usize| if n == 40 { 96 } else { 64 };
            let shape = match &shape[..] {
                [n] => vec![wide(*n)],
                _ if is_q => vec![24, 64],
                _ if is_o => vec![64, 24],
                [VOCAB, _] => vec![VOCAB, 64],
                [8, _] => vec![8, 64],
                [out, inp] => vec![wide(*out), wide(*inp)],
                other => other.to_vec(),
            };
            (name, shape, dtype)
        })
        .collect();
    write_folder(&path("from"), &config, &tensors);
    // Rounding to 8, 4 and 11 bits of a block's largest number; blocks of 32 normal numbers spread by a factor of 5 or so.
    // The source has 8 bits, which 16-bit numbers of a common size hold but for the smallest of them.
    for (name, least, most) in
        [("q8_0", 0.002, 0.006), ("q4_0", 0.04, 0.12), ("f16", 0.0, 1e-6), ("f32", 0.0, 0.0)]
    {
        let file = path(&format!("{name}.gguf"));
        let report = to(&path("from"), &file, Some(name));
        let down = report.tensors.iter().find(|line| line.name == "blk.1.ffn_down.weight").unwrap();
        assert_eq!(down.to.name().to_lowercase(), name);
        assert!(down.error.is_some() || !name.starts_with('q'), "{name}");
        assert!(
            report.tensors.iter().filter(|line| line.name.contains("norm")).all(|line| line.to == Dtype::F32)
        );
        assert!((least..=most).contains(&report.worst()), "{name}: {}", report.worst());
        let text = report.to_string();
        assert!(text.contains("blk.1.ffn_down.weight") && text.contains("20 tensors in"), "{text}");
        // Decoded, the same numbers can learn.
        let dense =
            load_as(&file, &LoadOptions { weights: Weights::Dense, ..LoadOptions::default() }).unwrap();
        assert!(apart(&logits(&file), &of(&dense.model)) < 1e-5);
        // Saved, it is the same file.
        load(&file).unwrap().save(path("again.gguf")).unwrap();
        let (a, b) = (Archive::open(&file).unwrap(), Archive::open(path("again.gguf")).unwrap());
        assert_eq!(a.gguf().unwrap().metadata(), b.gguf().unwrap().metadata());
        for entry in a.entries() {
            assert_eq!(b.entry(entry.name()).unwrap().bytes()[..], entry.bytes()[..], "{}", entry.name());
        }
    }
    let refused = |src: &str, dst: &str, dtype: Option<&str>, words: &[&str]| {
        let dtype = dtype.map(|name| name.parse().unwrap());
        let error = convert(path(src), path(dst), &Convert { dtype }).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused("q8_0.gguf", "out", None, &["type", "Q8_0", "choose f32, f16 or bf16"]);
    refused("from", "out", Some("q4_0"), &["Q4_0", "a .gguf file"]);
    refused("from", "from", None, &["another place"]);
    refused("from", "q8_0.gguf/out", None, &["q8_0.gguf/out"]);
    std::fs::write(path("taken"), "words").unwrap();
    refused("from", "taken", None, &["taken", "expected a folder", "found a file"]);
    assert_eq!(std::fs::read_to_string(path("taken")).unwrap(), "words");
    assert!("int7".parse::<StoredType>().unwrap_err().to_string().contains("one of f32, f16"));
    to(&path("q8_0.gguf"), &path("out"), Some("f32"));
    assert!(apart(&logits(&path("q8_0.gguf")), &logits(&path("out"))) < 1e-5);
    let report = to(&path("q8_0.gguf"), &path("q4.gguf"), Some("q4_0"));
    assert!(report.worst() < 0.12 && load(path("q4.gguf")).is_ok());
}

#[test]
fn a_model_of_our_own_is_published_in_either_layout() {
    for pairs in [Pairs::Halves, Pairs::Interleaved] {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::create_dir(path("llama")).unwrap();
        write_folder(&path("llama"), &llama_config(true), &llama_tensors(true, Dtype::F32));
        let config = with_pairs(load(path("llama")).unwrap().model.config(), pairs);
        let model = config.build(&Seed::new(3)).unwrap();
        save(path("ours"), &model, Some(&tokenizer())).unwrap();
        to(&path("ours"), &path("m.gguf"), None);
        to(&path("ours"), &path("folder"), None);
        for made in ["m.gguf", "folder"] {
            assert!(apart(&of(&model), &logits(&path(made))) < 1e-5, "{pairs:?} {made}");
        }
    }
}

#[test]
fn a_gguf_file_of_another_kind_is_refused_in_one_sentence() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("m.gguf");
    let check = |layout: formwork_formats::gguf::Layout, words: &[&str]| {
        formwork_formats::gguf::Writer::create(&path, &layout).unwrap().finish().unwrap();
        let message = load(&path).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert!(!message.contains('\n'), "{message}");
    };
    let layout = formwork_formats::gguf::Layout::new;
    check(
        layout().set("general.architecture", "mamba"),
        &["m.gguf", "general.architecture", "gpt2, llama", "mamba"],
    );
    check(layout().set("general.architecture", "llama"), &["m.gguf", "llama."]);
    fs::write(&path, b"GGUF\x03\0\0\0").unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("m.gguf"), "{message}");
}

#[test]
fn what_changes_the_model_and_is_no_number_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("m.gguf");
    let layout = formwork_formats::gguf::Layout::new()
        .set("general.architecture", "llama")
        .set("general.author", Meta::from(f32::NAN)) // describes the file, not the model
        .set("llama.rope.freq_base", Meta::from(f32::NAN));
    formwork_formats::gguf::Writer::create(&path, &layout).unwrap().finish().unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("llama.rope.freq_base: expected a finite number"), "{message}");
}

#[test]
fn a_folder_with_another_models_files_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let config = formwork_model::presets::smollm2_135m();
    let small = |mut config: formwork_model::ModelConfig| {
        (config.vocab, config.dim) = (7, 18);
        config.blocks.truncate(1);
        config
    };
    save(path("ours"), &small(config).build(&Seed::new(3)).unwrap(), None).unwrap();
    fs::create_dir(path("folder")).unwrap();
    fs::write(path("folder").join("tokenizer.json"), "another").unwrap();
    let refused = convert(path("ours"), path("folder"), &Convert::default()).unwrap_err().to_string();
    assert!(refused.contains("tokenizer.json") && refused.contains("another folder"), "{refused}");
    assert!(!path("folder").join("config.json").exists());
    fs::remove_file(path("folder").join("tokenizer.json")).unwrap();
    // A second time replaces what the first one wrote.
    for _ in 0..2 {
        convert(path("ours"), path("folder"), &Convert::default()).unwrap();
    }
}
