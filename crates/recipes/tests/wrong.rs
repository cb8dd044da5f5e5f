//! Wrong input, as people have it: what was given instead of a model is said in one clear sentence.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod tiny;

use std::{fs, path::Path};

use formwork_formats::{
    Archive, Dtype,
    gguf::{Layout, Writer},
};
use formwork_recipes::{
    Convert,
    chat::{Message, Next},
    convert, load, load_tokenizer,
};
use formwork_tokenizer::Tokenizer;
use serde_json::{Value, json};
use tiny::*;

/// A LLaMA folder, its GGUF file and room for more.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("folder")).unwrap();
        write_folder(&place.path("folder"), &llama_config(true), &llama_tensors(true, Dtype::Bf16));
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// The folder's GGUF file.
    fn gguf(&self) -> std::path::PathBuf {
        convert(self.path("folder"), self.path("m.gguf"), &Convert { dtype: None }).unwrap();
        self.path("m.gguf")
    }
}

/// Asserts that a message is one sentence with these words in it.
fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} in {message}");
    }
    assert!(!message.contains('\n') && message.len() < 600, "{message}");
}

fn refused(path: &Path, words: &[&str]) {
    let message = load(path).unwrap_err().to_string();
    for file in
        ["tokenizer_config.json: ", "tokenizer.json: ", "generation_config.json: ", "m.gguf: ", "folder: "]
    {
        assert!(message.matches(file).count() < 2, "a place is named twice: {message}");
    }
    says(&message, words);
}

/// A folder that something is done to, and what is said of it.
fn folder(change: impl FnOnce(&Path), words: &[&str]) {
    let place = Place::new();
    change(&place.path("folder"));
    refused(&place.path("folder"), words);
}

/// The config with some fields changed.
fn configured(folder: &Path, fields: &Value) {
    let mut config = llama_config(true);
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn the_folder_of_a_vision_model() {
    // A model with a text and a vision part, as LLaVA is published, and one for images alone.
    folder(
        |folder| {
            let text = json!({"model_type": "llama", "hidden_size": 24});
            let vision = json!({"model_type": "clip_vision_model", "image_size": 336});
            configured(folder, &json!({"model_type": "llava", "text_config": text, "vision_config": vision}));
        },
        &["config.json", "model_type", "one of gpt2, llama", "llava"],
    );
    folder(
        |folder| {
            let config = json!({"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 224});
            fs::write(folder.join("config.json"), config.to_string()).unwrap();
        },
        &["config.json", "model_type", "one of gpt2, llama", "vit"],
    );
}

#[test]
fn a_gguf_file_of_another_architecture() {
    let place = Place::new();
    for (architecture, more) in [("qwen3moe", ""), ("clip", "vision")] {
        let layout = Layout::new().set("general.architecture", architecture);
        Writer::create(place.path("other.gguf"), &layout).unwrap().finish().unwrap();
        refused(
            &place.path("other.gguf"),
            &["other.gguf", "general.architecture", "one of gpt2, llama", architecture, more],
        );
    }
}

#[test]
fn a_shard_that_is_missing() {
    folder(
        |folder| {
            fs::remove_file(folder.join("model.safetensors")).unwrap();
            write_tensors(folder, &llama_tensors(true, Dtype::Bf16), 9000);
            fs::remove_file(folder.join("model-00003-of-00003.safetensors")).unwrap();
        },
        &["model-00003-of-00003.safetensors", "not there; fetch it too"],
    );
    folder(|folder| fs::remove_file(folder.join("model.safetensors")).unwrap(), &["model.safetensors"]);
}

#[test]
fn files_that_are_cut_short() {
    let cut = |path: &Path, keep: f64| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..(bytes.len() as f64 * keep) as usize]).unwrap();
    };
    for keep in [0.0, 0.0001, 0.01, 0.5, 0.999] {
        folder(|folder| cut(&folder.join("model.safetensors"), keep), &["model.safetensors: "]);
        folder(|folder| cut(&folder.join("tokenizer.json"), keep), &["tokenizer.json: "]);
        folder(
            |folder| cut(&folder.join("config.json"), keep),
            &["config.json: ", "JSON", "may be cut short"],
        );
        let place = Place::new();
        let file = place.gguf();
        cut(&file, keep);
        refused(&file, &["m.gguf: "]);
    }
    folder(|folder| cut(&folder.join("model.safetensors"), 0.5), &["bytes"]);
    folder(|folder| cut(&folder.join("generation_config.json"), 0.5), &["generation_config.json: ", "JSON"]);
    folder(|folder| cut(&folder.join("tokenizer_config.json"), 0.5), &["tokenizer_config.json: ", "JSON"]);
    folder(|folder| cut(&folder.join("tokenizer.json"), 0.5), &["folder: tokenizer.json: line "]);
}

#[test]
fn the_tokenizer_of_another_model() {
    folder(
        |folder| {
            configured(folder, &json!({"vocab_size": 211, "bos_token_id": 1, "eos_token_id": 2}));
            let mut tensors = llama_tensors(true, Dtype::F32);
            tensors[0].1[0] = 211;
            write_tensors(folder, &tensors, u64::MAX);
        },
        &["tokenizer.json", "263", "211", "belongs to another model"],
    );
    // Its file of settings alone.
    folder(
        |folder| fs::write(folder.join("tokenizer_config.json"), r#"{"eos_token": "<|im_end|>"}"#).unwrap(),
        &["tokenizer_config.json", "eos_token", "<|im_end|>", "different tokenizers"],
    );
}

#[test]
fn a_template_that_loops_for_ever() {
    let place = Place::new();
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
    fs::write(place.path("folder").join("chat_template.jinja"), endless).unwrap();
    for (path, file) in [(place.path("folder"), "chat_template.jinja: "), (place.gguf(), "m.gguf: ")] {
        let template = load(path).unwrap().template.unwrap();
        let message = template.render(&[Message::user("the cat")], Next::Answer).unwrap_err().to_string();
        says(&message, &[file, "chat template: expected an end after"]);
    }
    folder(
        |folder| fs::write(folder.join("chat_template.jinja"), "{% for m in messages %}{{ m }").unwrap(),
        &["chat_template.jinja", "template"],
    );
}

#[test]
fn folders_where_files_should_be() {
    let instead = |name: &'static str| {
        move |folder: &Path| {
            fs::remove_file(folder.join(name)).unwrap();
            fs::create_dir(folder.join(name)).unwrap();
        }
    };
    folder(instead("config.json"), &["config.json", "folder"]);
    folder(instead("model.safetensors"), &["model.safetensors"]);
    let place = Place::new();
    fs::create_dir(place.path("m.gguf")).unwrap();
    refused(&place.path("m.gguf"), &["m.gguf", "formwork.json or config.json"]);
    refused(&place.path("nothing"), &["nothing", "a model is a folder"]);
    refused(&place.path("folder").join("model.safetensors"), &["the folder that the file is in"]);
}

#[test]
fn an_index_that_leads_out_of_the_folder() {
    for outside in ["../other.safetensors", "/etc/hostname", "sub/../../other.safetensors"] {
        let place = Place::new();
        let folder = place.path("folder");
        fs::copy(folder.join("model.safetensors"), place.path("other.safetensors")).unwrap();
        fs::remove_file(folder.join("model.safetensors")).unwrap();
        let index = json!({"metadata": {}, "weight_map": {"model.norm.weight": outside}});
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        refused(&folder, &["model.safetensors.index.json", outside]);
    }
}

#[test]
fn the_weights_of_another_model() {
    // GPT-2's: none of the names is right, and only the first few are told.
    folder(
        |folder| write_tensors(folder, &gpt2_tensors("transformer.", Dtype::F32), u64::MAX),
        &[
            "20 missing: ",
            "embed_tokens.weight [263, 24]",
            "and 15 more",
            "28 unused: transformer.wte.weight",
            "another checkpoint",
        ],
    );
    // A larger one of the family.
    folder(
        |folder| {
            let wide = |(name, shape, dtype): (String, Vec<usize>, Dtype)| {
                (name, shape.into_iter().map(|n| if n == 24 { 36 } else { n }).collect(), dtype)
            };
            let tensors = llama_tensors(true, Dtype::F32).into_iter().map(wide).collect();
            write_tensors(folder, &tensors, u64::MAX);
        },
        &["reshaped: model.embed_tokens.weight is [263, 36]", "[263, 24]", "more"],
    );
}

#[test]
fn a_gguf_file_without_a_vocabulary() {
    let place = Place::new();
    let good = Archive::open(place.gguf()).unwrap();
    let bare = |model: Option<&str>| {
        let mut layout = Layout::new();
        for (key, value) in good.gguf().unwrap().metadata().iter() {
            if !key.starts_with("tokenizer.") && !key.starts_with("formwork.") {
                layout = layout.set(key, value.clone());
            }
        }
        if let Some(model) = model {
            layout = layout.set("tokenizer.ggml.model", model);
        }
        for entry in good.entries() {
            layout = layout.tensor(entry.name(), entry.dtype(), entry.shape());
        }
        let path = place.path("bare.gguf");
        let mut writer = Writer::create(&path, &layout).unwrap();
        for entry in good.entries() {
            writer.append_bytes(entry.name(), entry.bytes()).unwrap();
        }
        writer.finish().unwrap();
        path
    };
    for none in [None, Some("none"), Some("no_vocab")] {
        let path = bare(none);
        assert!(load(&path).unwrap().tokenizer.is_none());
        let message = load_tokenizer(&path).unwrap_err().to_string();
        says(&message, &["missing", "tokenizer.ggml.model", "bare.gguf"]);
    }
    refused(&bare(Some("llama")), &["bare.gguf", "tokenizer.ggml.tokens", "the file has no vocabulary"]);
}

#[test]
fn a_typo_in_a_config_is_named_where_the_weights_do_not_fit() {
    let place = Place::new();
    let config = fs::read_to_string(place.path("folder/config.json")).unwrap();
    fs::write(place.path("folder/config.json"), config.replace("num_key_value_heads", "num_kv_head"))
        .unwrap();
    refused(&place.path("folder"), &["reshaped", "another checkpoint", "field num_kv_head is not known"]);
}

#[test]
fn a_tokenizer_with_far_fewer_ids_is_told() {
    let place = Place::new();
    fs::remove_file(place.path("folder/tokenizer_config.json")).unwrap();
    fs::write(place.path("folder/tokenizer.json"), Tokenizer::characters("the cat").unwrap().to_json())
        .unwrap();
    let notes = load(place.path("folder")).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("may belong to another model")), "{notes:?}");
}

#[test]
fn a_conversion_that_is_refused_leaves_what_was_there() {
    let place = Place::new();
    let there = place.path("there");
    fs::create_dir(&there).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors.index.json"] {
        fs::write(there.join(name), name).unwrap();
    }
    let error = convert(place.gguf(), &there, &Convert { dtype: None }).unwrap_err().to_string();
    says(&error, &["model.safetensors.index.json"]);
    let mut names: Vec<_> = fs::read_dir(&there)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors.index.json", "tokenizer.json"]);
    assert!(names.iter().all(|name| fs::read_to_string(there.join(name)).unwrap() == *name));
}
