//! Published models: `tokenize`, `logits`, `chat`, `perplexity`, `convert`, and `generate` on what was converted.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use formwork::{
    Pass, Positions, Rows, TokenModel, Tokenizer,
    formats::Archive,
    recipes::{self, Convert},
    tokenizer::BpeTrainer,
};
use ndarray::{Array2, array};
use serde_json::{Value, json as value};

use crate::support::{Folder, Said, command, good, json, refused, tiny};

/// Bytes, a few pairs, and three special tokens.
fn pieces() -> Tokenizer {
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
    BpeTrainer { special, ..BpeTrainer::new(263) }.train(["the cat the mat the hat"]).expect("a text")
}

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A folder with a model in the published layout in `published`, and the same as a GGUF file in `model.gguf`.
struct Made {
    folder: Folder,
    published: String,
    gguf: String,
}

fn made() -> Made {
    let (folder, tokenizer) = (Folder::new(), pieces());
    let [ours, published, gguf] = ["ours", "published", "model.gguf"]
        .map(|name| folder.path().join(name).to_str().expect("a path in UTF-8").to_owned());
    recipes::save(&ours, &tiny(tokenizer.vocab(), 7), Some(&tokenizer)).expect("room on the disk");
    std::fs::write(format!("{ours}/chat_template.jinja"), TEMPLATE).expect("room on the disk");
    recipes::convert(&ours, &published, &Convert::default()).expect("LLaMA's parts");
    recipes::convert(&published, &gguf, &Convert::default()).expect("LLaMA's parts");
    Made { folder, published, gguf }
}

fn said(command: &mut Command, stdin: &str) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    child.stdin.take().expect("it is piped").write_all(stdin.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends").into()
}

#[test]
fn every_layout_of_a_model_is_the_same_model() {
    let made = made();
    let run = |model: &str| {
        let args =
            ["generate", "--model", model, "--prompt", "the cat", "--greedy", "--max-tokens", "9", "--json"];
        json(&args)["ids"].clone()
    };
    let ours = run(&format!("{}/ours", made.folder.text()));
    assert_eq!(ours.as_array().expect("a list").len(), 9);
    assert_eq!([run(&made.published), run(&made.gguf)], [ours.clone(), ours]);
    let config = json(&["describe", &made.published, "--json"])["parameters"].clone();
    assert_eq!(config, json(&["describe", &made.gguf, "--json"])["parameters"]);
    assert!(good(&["diff", &made.published, &made.gguf]).contains("pairs"));
}

#[test]
fn tokenize_goes_both_ways_and_takes_any_text() {
    let made = made();
    let tokenizer = pieces();
    for model in [&made.published, &made.gguf] {
        let run = |more: &[&str]| json(&[&["tokenize", "--model", model, "--json"], more].concat());
        let check = |text: &str, ids: &[u32]| {
            let found = run(&["--", text]);
            assert_eq!(found["ids"], value!(ids), "{text:?}");
            assert_eq!(found["pieces"].as_array().map(Vec::len), Some(ids.len()));
        };
        check("the cat", &tokenizer.encode("the cat").expect("bytes"));
        check("", &[]);
        check("--ids", &tokenizer.encode("--ids").expect("bytes"));
        let end = tokenizer.id("<|im_end|>").expect("a special token");
        check("<|im_end|>", &[end]);
        assert_eq!(run(&["--ids", &format!("{end}")])["text"], "<|im_end|>");
        let table = good(&["tokenize", "--model", model, "cat"]);
        assert_eq!(table.lines().next().map(str::trim), Some("id  piece"));
    }
    refused(&["tokenize", "--model", &made.gguf, "--ids", "9999"], 1, &["--ids", "9999"]);
    refused(&["tokenize", "--model", &made.gguf, "--ids", "1", "text"], 2, &["--ids"]);
    refused(&["tokenize", "--model", &made.gguf], 2, &["TEXT"]);
}

#[test]
fn logits_are_those_of_the_model_under_padding_and_positions() {
    let made = made();
    let model = recipes::load(&made.published).expect("it was just written").model;
    let out = made.folder.path().join("out.safetensors");
    let run = |input: Value| -> Vec<f32> {
        let file = made.folder.file("in.json", input.to_string());
        let out = out.to_str().expect("a path in UTF-8");
        assert_eq!(good(&["logits", "--model", &made.published, "--input", &file, "--output", out]), "");
        let archive = Archive::open(out).expect("it was just written");
        let entry = archive.entry("output").expect("the only tensor");
        assert_eq!(entry.shape(), [2, 3, model.vocab()]);
        entry.to_f32().expect("f32")
    };
    let ids = array![[5u32, 17, 2], [3, 1, 4]];
    let by_hand = |ids: &Array2<u32>, rows: Rows| {
        let mut pass = Pass::infer().rows(rows);
        model.logits(ids.view(), Positions::All, &mut pass).expect("legal").to_vec::<f32>().expect("f32")
    };
    let plain = run(value!({"input_ids": [[5, 17, 2], [3, 1, 4]]}));
    assert_eq!(plain, by_hand(&ids, Rows::default()));
    let left = run(value!({"input_ids": [[5, 17, 2], [3, 1, 4]], "attention_mask": [[1, 1, 1], [0, 1, 1]],
        "position_ids": [[4, 5, 6], [9, 0, 1]]}));
    let rows = Rows::left_padded(&[3, 2], 3).expect("short rows").starting_at(&[4, 0]);
    assert_eq!(left, by_hand(&ids, rows));
}

#[test]
fn logits_refuse_what_is_no_batch() {
    let made = made();
    let check = |input: &str, parts: &[&str]| {
        let file = made.folder.file("in.json", input);
        let args = ["logits", "--model", &made.published, "--input", &file, "--output", "/no/such/folder/x"];
        refused(&args, 1, &[&["in.json"], parts].concat());
    };
    check("{", &["JSON"]);
    check("[[1, 2]]", &["expected an object", "input_ids"]);
    check(r#"{"ids": [[1]]}"#, &["ids", "input_ids"]);
    check(r#"{"input_ids": []}"#, &["input_ids", "at least one row"]);
    check(r#"{"input_ids": [[1, 2], [3]]}"#, &["input_ids.1", "2"]);
    check(r#"{"input_ids": [[1, 2]], "attention_mask": [[1]]}"#, &["attention_mask.0"]);
    check(r#"{"input_ids": [[1, 2, 3]], "attention_mask": [[1, 0, 1]]}"#, &["attention_mask", "hole"]);
    check(r#"{"input_ids": [[1, 2, 3]], "position_ids": [[0, 2, 3]]}"#, &["position_ids", "row 0"]);
}

#[test]
fn logits_stay_in_the_context_and_write_over_nothing_that_is_read() {
    let made = made();
    let file = made.folder.file("in.json", r#"{"input_ids": [[1, 2]], "position_ids": [[150, 151]]}"#);
    let out = made.folder.path().join("out.safetensors");
    let run = |output: &str, parts: &[&str]| {
        refused(&["logits", "--model", &made.published, "--input", &file, "--output", output], 1, parts);
    };
    run(out.to_str().expect("a path in UTF-8"), &["positions below 151", "150"]);
    run(&file, &["in.json", "belongs to what is read"]);
    run(&format!("{}/model.safetensors", made.published), &["belongs to what is read"]);
}

#[test]
fn a_line_that_is_no_text_is_passed_over() {
    let made = made();
    let args = ["chat", "--model", &made.gguf, "--greedy", "--max-tokens", "2", "--json"];
    let mut child = command()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    child.stdin.take().expect("it is piped").write_all(b"\xff\nhello\n").expect("it reads");
    let said = Said::from(child.wait_with_output().expect("it ends"));
    assert_eq!((said.code, said.stdout.lines().count()), (Some(0), 1), "{said:?}");
    assert!(said.stderr.contains("line 1 is no UTF-8"), "{said:?}");
}

#[test]
fn a_folder_gives_a_file_what_belongs_to_the_model_and_nothing_else() {
    let made = made();
    std::fs::write(format!("{}/notes.txt", made.published), "private").expect("room on the disk");
    let file = made.folder.path().join("other.gguf");
    let file = file.to_str().expect("a path in UTF-8");
    good(&["convert", &made.published, file]);
    let bytes = std::fs::read(file).expect("it was just written");
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"<|im_start|>") && !has(b"private") && !has(b"notes.txt"));
}

#[test]
fn a_chat_answers_line_by_line_and_special_tokens_stay_text() {
    let made = made();
    let args = ["chat", "--model", &made.gguf, "--greedy", "--max-tokens", "5", "--system", "be brief"];
    let plain = said(command().args(args), "hello\n\nagain\n");
    assert_eq!((plain.code, plain.stderr.as_str()), (Some(0), ""), "{plain:?}");
    let lines = said(command().args(args).arg("--json"), "hello\n\nagain\n").stdout;
    let replies: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(replies.len(), 2);
    let text: String =
        replies.iter().map(|reply| format!("{}\n", reply["text"].as_str().expect("text"))).collect();
    assert_eq!(plain.stdout, text);
    let number = |reply: &Value, key: &str| reply[key].as_u64().expect("a count");
    assert_eq!(number(&replies[0], "prompt"), number(&replies[0], "read"));
    assert!(number(&replies[1], "read") < number(&replies[1], "prompt"), "the cache keeps the first turn");

    let attack = said(command().args(args).arg("--json"), "<|im_end|>\n").stdout;
    let attack: Value = serde_json::from_str(&attack).expect("an object");
    let as_text = pieces().encode("<|im_end|>").expect("bytes").len() as u64;
    let hello = pieces().encode("hello").expect("bytes").len() as u64;
    assert_eq!(number(&attack, "prompt") - as_text, number(&replies[0], "prompt") - hello);
}

#[test]
fn a_message_of_several_lines_stands_between_fences() {
    let made = made();
    let args = ["chat", "--model", &made.gguf, "--greedy", "--max-tokens", "3", "--json"];
    let prompts = |stdin: &str| -> Vec<u64> {
        let said = said(command().args(args), stdin);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
        let reply = |line| serde_json::from_str::<Value>(line).expect("an object");
        said.stdout.lines().map(|line| reply(line)["prompt"].as_u64().expect("a count")).collect()
    };
    let tokens = |text: &str| pieces().encode(text).expect("bytes").len() as u64;
    let (one, several) = (prompts("the\n"), prompts("\"\"\"the\n\ncat\"\"\"\nthe\n"));
    assert_eq!((one.len(), several.len()), (1, 2));
    assert_eq!(several[0] - tokens("the\n\ncat"), one[0] - tokens("the"));
    let endless = said(command().args(args), "\"\"\"the\ncat\n");
    assert_eq!((endless.code, endless.stdout.as_str()), (Some(1), ""), "{endless:?}");
    assert!(endless.stderr.contains("begins in line 1"), "{endless:?}");
}

#[test]
fn a_gguf_file_counts_the_bytes_that_it_has_and_rounds_as_it_does() {
    let made = made();
    let narrow = made.folder.path().join("narrow.gguf");
    let narrow = narrow.to_str().expect("a path in UTF-8");
    good(&["convert", &made.published, narrow, "--type", "f16"]);
    let bytes = |model: &str| json(&["describe", model, "--json"])["weight_bytes"].as_u64().expect("bytes");
    // The norms of two layers and the last one stay in 32 bits.
    let (all, norms) = (bytes(&made.published), 4 * 5 * 12);
    assert_eq!((bytes(&made.gguf), bytes(narrow)), (all, (all - norms) / 2 + norms));
    assert!(good(&["describe", narrow]).contains("as the file stores them"));

    // What somebody wrote who read 32 bits as 64.
    let config = format!("{}/config.json", made.published);
    let text = std::fs::read_to_string(&config).expect("it was just written");
    let rounded = text.replace("\"rms_norm_eps\": 0.00001", "\"rms_norm_eps\": 9.999999747378752e-6");
    let rounded = rounded.replace("\"rms_norm_eps\": 1e-5", "\"rms_norm_eps\": 9.999999747378752e-6");
    assert!(rounded != text, "{text}");
    std::fs::write(&config, rounded).expect("room on the disk");
    assert!(!good(&["diff", &made.published, &made.gguf]).contains("eps"));
    assert!(good(&["diff", &made.published, &format!("{}/ours", made.folder.text())]).contains("eps"));
}

#[test]
fn a_model_without_a_template_is_not_talked_to() {
    let folder = Folder::model(Some(&pieces()));
    refused(&["chat", "--model", folder.text()], 1, &["no chat template", "generate"]);
    folder.file(
        "chat_template.jinja",
        "{% for i in range(99999999) %}{% for j in range(99999999) %}{% endfor %}{% endfor %}",
    );
    let said = said(command().args(["chat", "--model", folder.text()]), "hello\n");
    assert_eq!((said.code, said.stderr.trim_end().lines().count()), (Some(1), 1), "{said:?}");
    assert!(said.stderr.contains("template"), "{said:?}");
}

#[test]
fn perplexity_is_measured_with_and_without_a_stride() {
    let made = made();
    let text = made.folder.file("text.txt", "the cat sat on the mat. ".repeat(20));
    let run = |more: &[&str]| {
        json(
            &[&["perplexity", "--model", &made.gguf, "--text", &text, "--context", "32", "--json"], more]
                .concat(),
        )
    };
    let number = |found: &Value, key: &str| found[key].as_f64().expect("a number");
    for found in [run(&[]), run(&["--stride", "16"])] {
        let (nats, perplexity) = (number(&found, "nats_per_token"), number(&found, "perplexity"));
        assert!((nats.exp() / perplexity - 1.0).abs() < 1e-12, "{found}");
        assert!(number(&found, "tokens") > 100.0 && number(&found, "bits_per_byte") > 0.0, "{found}");
    }
    let all = pieces().encode(&"the cat sat on the mat. ".repeat(20)).expect("bytes").len();
    assert_eq!(number(&run(&["--stride", "16"]), "tokens"), (all - 1) as f64);
    let args = ["perplexity", "--model", &made.gguf, "--text", &text];
    refused(&[&args[..], &["--context", "9999"]].concat(), 1, &["context", "9999", "151"]);
    refused(&[&args[..], &["--stride", "0"]].concat(), 2, &["stride"]);
    refused(&["perplexity", "--model", &made.gguf, "--text", "no/such"], 1, &["no/such"]);
    let bytes = made.folder.file("bytes.txt", b"cat \xff");
    refused(&["perplexity", "--model", &made.gguf, "--text", &bytes], 1, &["bytes.txt", "UTF-8", "at 4"]);
}

#[test]
fn convert_reports_what_each_tensor_lost() {
    let made = made();
    let narrow = made.folder.path().join("narrow.gguf");
    let narrow = narrow.to_str().expect("a path in UTF-8");
    let found = json(&["convert", &made.published, narrow, "--type", "f16", "--json"]);
    let tensors = found["tensors"].as_array().expect("a list");
    let of = |name: &str| tensors.iter().find(|tensor| tensor["name"] == name).expect("a tensor").clone();
    assert_eq!(of("blk.0.attn_q.weight")["to"], "f16");
    assert!(of("blk.0.attn_q.weight")["error"]["relative"].as_f64().is_some_and(|error| error < 1e-3));
    assert_eq!(of("output_norm.weight")["error"], Value::Null);
    assert!(good(&["convert", narrow, &format!("{}/back", made.folder.text())]).contains("lost nothing"));
    refused(&["convert", &made.gguf, narrow, "--type", "q9"], 2, &["--type", "q9", "q8_0"]);
    refused(&["convert", &made.gguf, &made.gguf], 1, &["another place"]);
    refused(&["convert", "no/such", narrow], 1, &["no/such"]);
}
