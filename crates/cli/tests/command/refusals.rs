//! Wrong input by hand: one clear sentence that names where and what to do, and the right exit code.

use formwork::{Tokenizer, recipes};

use crate::support::{CONFIG, Folder, Said, command, letters, refused, tiny};

/// `generate` on raw ids, refused.
fn unwritten(model: &str, code: i32, parts: &[&str]) {
    refused(&["generate", "--model", model, "--raw-ids", "--prompt", "5,17,2"], code, parts);
}

#[test]
fn a_wrong_config_names_the_field() {
    let folder = Folder::new();
    let check = |from: &str, to: &str, parts: &[&str]| {
        let changed = CONFIG.replace(from, to);
        assert_ne!(changed, CONFIG, "{from} is not in the config");
        let file = folder.file("wrong.json", changed);
        refused(&["describe", &file], 1, &[&["wrong.json: "], parts].concat());
        refused(&["diff", "gpt2-small", &file], 1, &[&["wrong.json"], parts].concat());
    };
    check("\"theta\"", "\"teta\"", &["blocks.0.attn.position.teta", "did you mean `theta`"]);
    check("\"heads\": 3", "\"heads\": 5", &["blocks.0.attn", "heads", "12", "5", "head_dim"]);
    check("\"kv_heads\": 1", "\"kv_heads\": 2", &["kv_heads", "2", "3"]);
    check("\"schema\": 1", "\"schema\": 9", &["schema", "newer version"]);
    check("\"rms\"", "\"rsm\"", &["attn_norm", "rms"]);
    check("\"dim\": 12", "\"dim\": 1.5", &["dim", "1.5"]);
    check("{", "", &["JSON"]);
}

#[test]
fn a_subject_that_is_nothing_says_what_it_might_be() {
    let folder = Folder::new();
    refused(&["describe", "lama3-70b"], 1, &["lama3-70b", "did you mean `llama3-70b`", "formwork presets"]);
    refused(&["describe", "zzz"], 1, &["zzz", "no preset", "formwork presets"]);
    refused(&["diff", "gpt2-small", "no/such/folder"], 1, &["no/such/folder: no such file or folder"]);
    refused(&["describe", &folder.file("notes.txt", "hello")], 1, &["notes.txt", "folder", ".gguf"]);
    refused(&["describe", &folder.file("a.toml", "vocab = ")], 1, &["a.toml", "TOML"]);
    refused(&["describe", folder.text()], 1, &["formwork.json", folder.text()]);
    refused(&["describe", &folder.file("m.gguf", "GGUF")], 1, &["m.gguf", "truncated"]);
}

#[test]
fn published_models_of_another_kind_are_refused_in_a_sentence() {
    let folder = Folder::new();
    let check = |config: &str, parts: &[&str]| {
        folder.file("config.json", config);
        refused(&["describe", folder.text()], 1, &[&["config.json"], parts].concat());
        unwritten(folder.text(), 1, &[&["config.json"], parts].concat());
    };
    check(r#"{"model_type": "mistral", "hidden_size": 12}"#, &["mistral", "gpt2", "llama"]);
    check(r#"{"model_type": "llava", "text_config": {}, "vision_config": {}}"#, &["llava"]);
    check(
        r#"{"model_type": "llama", "hidden_size": 12, "num_attention_heads": 5}"#,
        &["num_attention_heads"],
    );
    check(r#"{"model_type": "llama", "quantization_config": {"bits": 4}}"#, &["quantization_config"]);
    check(r#"{"model_type": "llama", "hidden_size": "#, &["JSON"]);
    let file = folder.file("m.gguf", "GGUF");
    unwritten(&file, 1, &["m.gguf"]);
    refused(&["tokenize", "--model", &file, "text"], 1, &["m.gguf"]);
    refused(&["convert", &file, "other.gguf"], 1, &["m.gguf"]);
}

#[test]
fn a_folder_that_is_no_model_says_what_is_missing() {
    unwritten("gpt2-small", 1, &["gpt2-small", "preset", "no weights"]);
    unwritten("no/such/folder", 1, &["no/such/folder", "no such file or folder"]);
    let folder = Folder::model(None);
    let weights = folder.path().join("model.safetensors");
    unwritten(weights.to_str().expect("UTF-8"), 1, &["model.safetensors", "folder"]);
    std::fs::remove_file(&weights).expect("it is there");
    unwritten(folder.text(), 1, &[folder.text(), "safetensors"]);
    unwritten(Folder::new().text(), 1, &["formwork.json"]);
}

#[test]
fn broken_weights_name_the_file_and_the_tensor() {
    let folder = Folder::model(None);
    let whole = std::fs::read(folder.path().join("model.safetensors")).expect("it is there");
    folder.file("model.safetensors", &whole[..whole.len() / 2]);
    unwritten(folder.text(), 1, &["model.safetensors"]);
    folder.file("model.safetensors", &whole[..5]);
    unwritten(folder.text(), 1, &["model.safetensors"]);
    folder.file("model.safetensors", &whole);
    folder.file("formwork.json", CONFIG.replace("\"hidden\": 29", "\"hidden\": 31"));
    unwritten(folder.text(), 1, &["blocks.0.ffn", "29", "31"]);
    folder.file("formwork.json", CONFIG.replace("\"heads\": 3", "\"heads\": 5"));
    unwritten(folder.text(), 1, &[&format!("{}: blocks.0.attn: heads", folder.text())]);
}

#[test]
fn a_tokenizer_that_does_not_fit_is_refused() {
    let folder = Folder::new();
    recipes::save(folder.path(), &tiny(26, 7), Some(&Tokenizer::bytes())).expect("room on the disk");
    unwritten(folder.text(), 1, &["tokenizer.json", "256", "26"]);
    folder.file("tokenizer.json", "{\"version\": \"1.0\", ");
    unwritten(folder.text(), 1, &["tokenizer.json", "line 1"]);
}

#[test]
fn a_prompt_that_cannot_be_read_says_why() {
    let folder = Folder::model(Some(&letters()));
    let check = |more: &[&str], parts: &[&str]| {
        refused(&[&["generate", "--model", folder.text(), "--prompt"], more].concat(), 1, parts);
    };
    check(&[""], &["--prompt", "empty text", "begin token"]);
    check(&["", "--raw-ids"], &["--prompt", "begin token"]);
    check(&["a1b"], &["--prompt", "\"1\"", "byte 1"]);
    check(&[&"x".repeat(152)], &["151", "152", "context"]);
    check(&["3,26,5", "--raw-ids"], &["26", "vocab"]);
    let mute = Folder::model(None);
    refused(&["generate", "--model", mute.text(), "--prompt", "abc"], 1, &["no tokenizer.json", "--raw-ids"]);
    let stop = ["generate", "--model", mute.text(), "--raw-ids", "--prompt", "3", "--stop", "x"];
    refused(&stop, 1, &["--stop", "no tokenizer"]);
}

#[test]
fn settings_in_the_folder_are_read_strictly() {
    let folder = Folder::model(None);
    folder.file("generation.json", r#"{"temprature": 0.5}"#);
    unwritten(folder.text(), 1, &["generation.json", "temprature", "did you mean `temperature`"]);
    folder.file("generation.json", "{");
    unwritten(folder.text(), 1, &["generation.json", "JSON"]);
    folder.file("generation.json", r#"{"top_p": 2.0}"#);
    unwritten(folder.text(), 1, &["generation.json", "top_p"]);
}

#[test]
fn flags_that_make_no_sense_are_usage() {
    let folder = Folder::model(None);
    let check = |flags: &[&str], parts: &[&str]| {
        refused(
            &[&["generate", "--model", folder.text(), "--raw-ids", "--prompt", "3"], flags].concat(),
            2,
            parts,
        );
    };
    check(&["--top-p", "1.5"], &["top_p", "1.5"]);
    check(&["--top-k", "0"], &["top_k", "0"]);
    check(&["--temperature", "-1"], &["temperature", "-1"]);
    check(&["--temperature", "warm"], &["--temperature", "warm"]);
    check(&["--repetition-penalty", "0"], &["repetition_penalty"]);
    check(&["--stop", ""], &["stop"]);
    check(&["--greedy", "--top-k", "3"], &["--greedy", "--top-k"]);
    check(&["--max-tokens", "-3"], &["-3"]);
    check(&["--gredy"], &["--greedy"]);
    refused(&["generate", "--model", "x"], 2, &["--prompt"]);
    refused(&["generate", "--prompt", "x"], 2, &["--model"]);
    refused(
        &["generate", "--model", "x", "--raw-ids", "--prompt", "5,x"],
        2,
        &["--prompt", "5,17,2", "`x`", "number 2"],
    );
}

#[test]
fn an_instruction_set_that_is_none_is_refused_before_anything_runs() {
    let with = |word: &str| -> Said {
        command().args(["presets"]).env("FORMWORK_KERNELS", word).output().expect("the command starts").into()
    };
    let said = with("avx3");
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""));
    for part in ["FORMWORK_KERNELS", "expected scalar, avx2, avx512 or avx512dot", "found \"avx3\""] {
        assert!(said.stderr.contains(part), "{part} in {}", said.stderr);
    }
    assert_eq!(with("scalar").code, Some(0));
}
