//! `presets`, `describe`, `diff`, `--help`, and the pipe.

use std::process::Stdio;

use formwork::presets;
use serde_json::{Value, json as value};

use crate::support::{CONFIG, Folder, Said, command, formwork, good, json};

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn presets_are_listed_with_exact_counts() {
    let list = json(&["presets", "--json"]);
    let list = list.as_array().expect("a list");
    assert_eq!(list.len(), presets::ALL.len());
    for row in list {
        let mut expected = [
            "name",
            "family",
            "layers",
            "dim",
            "heads",
            "kv_heads",
            "head_dim",
            "hidden",
            "vocab",
            "context",
            "parameters",
        ];
        expected.sort_unstable();
        let mut found = keys(row);
        found.sort_unstable();
        assert_eq!(found, expected);
    }
    let row = list.iter().find(|row| row["name"] == "llama3-70b").expect("the preset");
    assert_eq!(
        row,
        &value!({
            "name": "llama3-70b", "family": "llama3", "layers": 80, "dim": 8192, "heads": 64, "kv_heads": 8,
            "head_dim": 128, "hidden": 28672, "vocab": 128256, "context": 8192, "parameters": 70_553_706_496u64,
        })
    );
    let text = good(&["presets"]);
    let line = text.lines().find(|line| line.starts_with("gpt2-small ")).expect("the preset");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        words,
        ["gpt2-small", "gpt2", "12", "768", "12", "12", "3,072", "50,257", "1,024", "124,439,808"]
    );
}

#[test]
fn describe_has_every_number_in_json() {
    let found = json(&["describe", "llama3-8b", "--json"]);
    for key in [
        "name",
        "config",
        "parameters",
        "parameters_by_part",
        "flops_per_token",
        "kv_bytes_per_token",
        "kv_bytes_by_type",
        "weight_bytes",
        "training_bytes",
    ] {
        assert!(!found[key].is_null(), "{key}: {found}");
    }
    assert!(found["outline"].is_null(), "nobody asked for the outline");
    assert_eq!(found["parameters"], 8_030_261_248u64);
    assert_eq!(found["kv_bytes_per_token"], 131_072);
    let cache = found["kv_bytes_by_type"].as_array().expect("a list");
    assert_eq!(cache[1], value!({"cache": "bf16", "bytes_per_token": 131_072}));
    assert!(good(&["describe", "llama3-8b"]).contains("f32 256.0 KiB, bf16 128.0 KiB, q8_0 68.0 KiB"));
    assert_eq!(found["weight_bytes"], 4 * 8_030_261_248u64);
    assert_eq!(found["config"]["blocks"]["layers"], 32);
    let parts = found["parameters_by_part"].as_array().expect("a list");
    let sum: u64 = parts.iter().map(|part| part["parameters"].as_u64().expect("a count")).sum();
    assert_eq!(sum, 8_030_261_248);
}

#[test]
fn describe_lists_every_parameter_with_shape_and_init() {
    let found = json(&["describe", "llama3-70b", "--outline", "--json"]);
    let outline = found["outline"].as_array().expect("a list");
    assert_eq!(outline.len(), 1 + 80 * 9 + 2);
    let product = |shape: &Value| {
        shape.as_array().expect("axes").iter().map(|n| n.as_u64().expect("a length")).product::<u64>()
    };
    assert_eq!(outline.iter().map(|line| product(&line["shape"])).sum::<u64>(), 70_553_706_496);

    let text = good(&["describe", "llama3-70b", "--outline"]);
    let line = text.lines().find(|line| line.contains("blocks.79.attn.k.weight ")).expect("the parameter");
    assert!(line.contains("[1024, 8192]") && line.contains("normal(0, 0.02"), "{line}");
    assert!(text.contains("70,553,706,496"), "{text}");
}

/// 70 billion numbers would take 282 GB; an address space of 4 GB does not even let them be asked for.
#[cfg(target_os = "linux")]
#[test]
fn describe_takes_no_memory_for_weights() {
    let script = "ulimit -v 4000000 && exec \"$0\" describe llama3-70b --outline";
    let shell =
        std::process::Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_formwork")]).output();
    let said = Said::from(shell.expect("a shell"));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert!(said.stdout.contains("70,553,706,496"));
}

#[test]
fn describe_and_diff_read_config_files_and_folders() {
    let folder = Folder::model(None);
    let config = formwork::ModelConfig::from_json(CONFIG).expect("a good config");
    let json_file = folder.file("tiny-config.json", CONFIG);
    let toml_file = folder.file("tiny-config.toml", config.to_toml().expect("plain values"));
    let from_json = json(&["describe", &json_file, "--json"]);
    assert_eq!(from_json["name"], "tiny");
    assert_eq!(json(&["describe", &toml_file, "--json"]), from_json);
    assert_eq!(json(&["describe", folder.text(), "--json"]), from_json);
    assert_eq!(json(&["diff", &toml_file, folder.text(), "--json"]), value!([]));
    assert!(good(&["diff", &toml_file, &json_file]).contains("do not differ"));
}

/// The config that `describe` shows is one that it reads.
#[test]
fn the_config_shown_can_be_saved_and_described() {
    let text = good(&["describe", "gpt2-small"]);
    let shown = text.split("\nconfig\n").nth(1).expect("the section");
    let folder = Folder::new();
    let file = folder.file("again.toml", shown);
    assert_eq!(json(&["diff", "gpt2-small", &file, "--json"]), value!([]));
}

#[test]
fn diff_lists_the_fields_that_differ() {
    let found = json(&["diff", "llama2-7b", "llama2-70b", "--json"]);
    let rows = found.as_array().expect("a list");
    assert!(rows.contains(&value!({"field": "dim", "a": 4096, "b": 8192})), "{found}");
    assert!(rows.contains(&value!({"field": "blocks.*.attn.heads", "a": 32, "b": 64})), "{found}");
    assert!(rows.iter().all(|row| row["field"] != "vocab"), "{found}");
    let text = good(&["diff", "llama2-7b", "llama2-70b"]);
    let line = text.lines().find(|line| line.starts_with("dim ")).expect("the field");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["dim", "4096", "8192"]);
}

#[test]
fn help_offers_exactly_what_there_is() {
    let help = good(&["--help"]);
    let looking = ["presets", "describe", "diff", "tokenize", "logits"];
    let running = ["generate", "chat", "perplexity", "convert", "bench", "bench-train"];
    let all = looking.into_iter().chain(running);
    for name in all {
        assert!(help.contains(&format!("\n  {name} ")), "{help}");
        let own = good(&[name, "--help"]);
        assert!(own.contains("\n  formwork ") && own.contains("Example"), "{own}");
    }
    for absent in ["train", "embed", "evaluate", "data", "runs"] {
        assert!(!help.contains(&format!("\n  {absent} ")), "{help}");
    }
    assert_eq!(good(&["--version"]).trim(), format!("formwork {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let check = |args: &[&str], part: &str| {
        let said = formwork(args);
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{args:?}: {said:?}");
        assert!(said.stderr.starts_with("formwork: ") && said.stderr.contains(part), "{args:?}: {said:?}");
    };
    check(&["describ", "gpt2-small"], "describe");
    check(&["describe"], "required");
    check(&["presets", "--jsn"], "--json");
    check(&["diff", "gpt2-small"], "<B>");
    check(&[], "formwork <COMMAND>");
}

/// The outline is larger than a pipe holds, so the command must meet the closed end.
#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let args = ["describe", "llama3-70b", "--outline", "--json"];
    assert!(good(&args).len() > 1 << 16, "the result must not fit into the pipe");
    let mut child =
        command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let said = Said::from(child.wait_with_output().expect("it ends"));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
}
