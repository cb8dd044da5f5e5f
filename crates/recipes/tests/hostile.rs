//! Files of a model, changed at random: loading them is an error or a model, never a panic.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod tiny;

use std::fs;

use formwork_formats::Dtype;
use formwork_kernels::rng;
use formwork_recipes::{Convert, LoadOptions, Weights, convert, load_as};
use tiny::*;

/// Changes a few bytes, or a number in a text, or the length.
fn mutated(good: &[u8], seed: u64) -> Vec<u8> {
    let draw = |i: u64, below: usize| (rng::mix(seed, i) % below.max(1) as u64) as usize;
    let mut bytes = good.to_vec();
    // Most of a file of weights is numbers, in which nothing can be wrong: the beginning gets most changes.
    let reach = if draw(0, 4) == 0 { bytes.len() } else { bytes.len().min(6000) };
    for change in 0..1 + draw(1, 3) as u64 {
        let at = draw(10 * change + 2, reach.min(bytes.len()));
        match draw(10 * change + 3, 7) {
            0 => bytes[at] ^= 1 << draw(10 * change + 4, 8),
            1 => bytes[at] = draw(10 * change + 4, 256) as u8,
            2 => bytes[at] = b"0123456789-\"[]{},:en"[draw(10 * change + 4, 20)],
            3 => {
                bytes.remove(at);
            }
            4 => bytes.insert(at, b'9'),
            5 => bytes.truncate(bytes.len() - draw(10 * change + 4, bytes.len().min(500))),
            _ => bytes[at] = [0, 0x7f, 0x80, 0xff][draw(10 * change + 4, 4)],
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn a_changed_file_is_an_error_or_a_model() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let (mut models, mut errors) = (0, 0);
    for (name, config, tensors) in [
        ("llama", llama_config(true), llama_tensors(true, Dtype::Bf16)),
        ("gpt2", gpt2_config(), gpt2_tensors("", Dtype::F16)),
    ] {
        fs::create_dir(path(name)).unwrap();
        write_folder(&path(name), &config, &tensors);
        let file = format!("{name}.gguf");
        convert(path(name), path(&file), &Convert { dtype: Some("q8_0".parse().unwrap()) }).unwrap();
        let parts = ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"];
        let targets = parts.map(|part| (path(name).join(part), path(name)));
        for (target, model) in targets.into_iter().chain([(path(&file), path(&file))]) {
            let good = fs::read(&target).unwrap();
            for seed in 0..80 {
                fs::write(&target, mutated(&good, seed)).unwrap();
                let weights = if seed % 2 == 0 { Weights::Usual } else { Weights::Dense };
                match load_as(&model, &LoadOptions { weights, ..LoadOptions::default() }) {
                    Ok(_) => models += 1,
                    Err(error) => {
                        errors += 1;
                        let message = error.to_string();
                        assert!(!message.is_empty() && message.len() < 2000, "{message}");
                    }
                }
            }
            fs::write(&target, &good).unwrap();
        }
    }
    assert!(models > 50 && errors > 200, "{models} models and {errors} errors: the changes reach something");
}
