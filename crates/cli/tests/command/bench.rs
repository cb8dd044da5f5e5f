//! `bench` and `bench-train`: what they print, and what they refuse. How fast anything is, a test cannot say.

use serde_json::Value;

use crate::support::{CONFIG, Folder, good, json, refused};

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn is_speed(value: &Value) -> bool {
    value.as_f64().is_some_and(|speed| speed.is_finite() && speed > 0.0)
}

fn is_roofline(found: &Value) {
    let expected = ["bf16_gflops", "clock_ghz", "f32_gflops", "int8_gops", "read_gb_s", "triad_gb_s"];
    assert_eq!(keys(found), expected);
    assert!(expected.iter().filter(|key| **key != "clock_ghz").all(|key| is_speed(&found[key])), "{found}");
}

#[test]
fn a_config_is_filled_and_timed() {
    let folder = Folder::new();
    let config = folder.file("tiny.json", CONFIG);
    let args =
        ["bench", "--model", &config, "--weights", "bf16", "-p", "7", "-n", "3", "-r", "2", "--threads", "2"];
    let found = json(&[&args[..], &["--json"]].concat());
    let expected = [
        "bytes_per_token",
        "cache",
        "decode",
        "kernels",
        "model",
        "precision",
        "prefill",
        "roofline",
        "threads",
        "weights",
    ];
    assert_eq!(keys(&found), expected);
    assert_eq!((found["model"].as_str(), found["weights"].as_str()), (Some(&*config), Some("bf16")));
    assert_eq!((&found["threads"], &found["cache"]), (&2.into(), &"f32".into()));
    for (part, tokens) in [("prefill", 7), ("decode", 3)] {
        let part = &found[part];
        assert_eq!(keys(part), ["median", "tok_s", "tokens"]);
        let speeds = part["tok_s"].as_array().expect("a list");
        assert_eq!((&part["tokens"], speeds.len()), (&tokens.into(), 2));
        assert!(speeds.iter().all(is_speed) && is_speed(&part["median"]), "{part}");
    }
    is_roofline(&found["roofline"]);

    let text = good(&args);
    for word in ["prefill", "decode", "bf16, 2 threads", "roofline", "of what memory delivers"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn a_model_is_timed_as_it_is_or_in_another_type() {
    let folder = Folder::model(None);
    let check = |weights: &[&str], expected: &str| {
        let args = ["bench", "--model", folder.text(), "-p", "0", "-n", "2", "-r", "1", "--json"];
        let found = json(&[&args[..], weights].concat());
        assert_eq!(found["weights"], expected);
        assert_eq!(found["prefill"]["median"], Value::Null);
        assert!(is_speed(&found["decode"]["median"]), "{found}");
    };
    check(&[], "f32");
    check(&["--weights", "f16"], "f16");
    let args = ["bench", "--model", folder.text(), "-p", "5", "-n", "2", "-r", "1", "--cache-type", "q8_0"];
    assert_eq!(json(&[&args[..], &["--json"]].concat())["cache"], "q8_0");
    assert!(good(&args).contains("cache in q8_0"));
}

#[test]
fn a_training_step_is_timed_by_phase() {
    let folder = Folder::new();
    let config = folder.file("tiny.json", CONFIG);
    for precision in ["f32", "bf16"] {
        let args = [
            "bench-train",
            "--model",
            &config,
            "--batch",
            "3",
            "--seq",
            "5",
            "--precision",
            precision,
            "--steps",
            "2",
        ];
        let found = json(&[&args[..], &["--json"]].concat());
        for key in ["forward_s", "backward_s", "optimiser_s", "tok_s"] {
            assert!(is_speed(&found[key]), "{key}: {found}");
        }
        let total: f64 =
            ["forward_s", "backward_s", "optimiser_s"].iter().filter_map(|key| found[key].as_f64()).sum();
        let speed = found["tok_s"].as_f64().expect("a number");
        assert!((speed * total - 15.0).abs() < 1e-6, "15 tokens a step: {found}");
        assert_eq!(found["steps_s"].as_array().map(Vec::len), Some(2));
        assert!(found["peak_bytes"].is_null() || is_speed(&found["peak_bytes"]), "{found}");
        // Each parameter has a number, a gradient and two moments.
        let parameters = found["parameters"].as_u64().expect("a number");
        assert!(found["predicted_bytes"].as_u64() > Some(16 * parameters), "{found}");
        assert!(found["kernels"].is_string() && found["threads"].is_u64(), "{found}");
        is_roofline(&found["roofline"]);
    }
}

#[test]
fn what_cannot_be_timed_is_refused() {
    let folder = Folder::new();
    let config = folder.file("tiny.json", CONFIG);
    let bench = |more: &[&str], code, parts: &[&str]| {
        refused(&[&["bench", "--model", &config], more].concat(), code, parts);
    };
    bench(&["-p", "0", "-n", "0"], 2, &["-p", "-n"]);
    bench(&["--weights", "q9"], 2, &["--weights", "q9", "q8_0"]);
    bench(&["--cache-type", "q9"], 2, &["--cache-type", "q9", "f32, bf16, q8_0"]);
    bench(&["-r", "0"], 2, &["-r"]);
    bench(&["--threads", "0"], 2, &["--threads"]);
    bench(&["-p", "152"], 1, &["tiny.json", "151", "152", "-p"]);
    refused(&["bench", "--model", "smolm2-135m"], 1, &["smollm2-135m"]);
    refused(&["bench", "--model", "llama3.1-405b"], 1, &["memory", "--weights"]);

    let train = |more: &[&str], code, parts: &[&str]| {
        refused(&[&["bench-train", "--model", &config], more].concat(), code, parts);
    };
    train(&["--precision", "f64"], 2, &["--precision", "bf16"]);
    train(&["--steps", "0"], 2, &["--steps"]);
    train(&["--seq", "152"], 1, &["tiny.json", "151", "152", "--seq"]);
    refused(&["bench-train", "--model", "llama3-70b"], 1, &["memory", "--batch"]);
}
