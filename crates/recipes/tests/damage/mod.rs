//! Random damage to the files of models.
#![allow(dead_code, reason = "each suite uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use formwork_formats::Dtype;
use formwork_kernels::rng;
use formwork_recipes::{Convert, convert};

use crate::tiny::*;

/// Pieces of JSON, GGUF and templates that readers have fallen over.
pub(crate) const PIECES: [&str; 24] = [
    "0",
    "1",
    "-1",
    "9",
    "4294967296",
    "18446744073709551615",
    "1e400",
    "0.5",
    "null",
    "true",
    "{}",
    "[]",
    "[[[[",
    "\"",
    "\\",
    ",",
    "]",
    "}",
    "\"x\":",
    "{{",
    "%}",
    "{% for i in range(9999999) %}",
    "{% set x = x ~ x %}",
    "\"F64\"",
];

/// Changes a few bytes, or a number in a text, or the length.
pub(crate) fn mutated(good: &[u8], seed: u64) -> Vec<u8> {
    let draw = |i: u64, below: usize| (rng::mix(seed, i) % below.max(1) as u64) as usize;
    let mut bytes = good.to_vec();
    // Most of a file of weights is numbers, in which nothing can be wrong: the beginning gets most changes.
    let reach = if draw(0, 4) == 0 { bytes.len() } else { bytes.len().min(6000) };
    for change in 0..1 + draw(1, 3) as u64 {
        let draw = |i: u64, below: usize| draw(10 * change + i, below);
        let at = draw(2, reach.min(bytes.len()));
        match draw(3, 10) {
            0 => bytes[at] ^= 1 << draw(4, 8),
            1 => bytes[at] = draw(4, 256) as u8,
            2 => bytes[at] = b"0123456789-\"[]{},:en"[draw(4, 20)],
            3 => drop(bytes.remove(at)),
            4 => bytes.insert(at, b'9'),
            5 => bytes.truncate(bytes.len() - draw(4, bytes.len().min(500))),
            6 => bytes[at] = [0, 0x7f, 0x80, 0xff][draw(4, 4)],
            7 => {
                // A number becomes another one.
                let is_digit = |i: &usize| bytes.get(*i).is_some_and(u8::is_ascii_digit);
                let start = (at..bytes.len()).find(is_digit).unwrap_or(at);
                let end = (start..bytes.len()).find(|i| !is_digit(i)).unwrap_or(bytes.len());
                drop(bytes.splice(start..end, PIECES[draw(4, 10)].bytes()));
            }
            8 => {
                let piece = bytes[at..(at + draw(4, 90)).min(bytes.len())].to_vec();
                let to = draw(5, reach.min(bytes.len()));
                drop(bytes.splice(to..to, piece));
            }
            _ => drop(bytes.splice(at..at, PIECES[draw(4, PIECES.len())].bytes())),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Bytes of a file, or of all files of a folder.
pub(crate) fn size(path: &Path) -> usize {
    match fs::read_dir(path) {
        Ok(files) => files.map(|file| size(&file.unwrap().path())).sum(),
        Err(_) => fs::metadata(path).unwrap().len() as usize,
    }
}

/// Folders of both families, one of them in shards, and a GGUF file of each, with every file in them that is read.
pub(crate) fn targets(place: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut targets = Vec::new();
    for (name, config, tensors) in [
        ("llama", llama_config(true), llama_tensors(true, Dtype::Bf16)),
        ("gpt2", gpt2_config(), gpt2_tensors("", Dtype::F16)),
    ] {
        let model = place.join(name);
        fs::create_dir(&model).unwrap();
        write_folder(&model, &config, &tensors);
        let file = place.join(format!("{name}.gguf"));
        convert(&model, &file, &Convert { dtype: Some("q8_0".parse().unwrap()) }).unwrap();
        if name == "llama" {
            fs::remove_file(model.join("model.safetensors")).unwrap();
            write_tensors(&model, &tensors, 9000);
        }
        let weights =
            ["model.safetensors.index.json", "model.safetensors", "model-00002-of-00003.safetensors"];
        let small = [
            "config.json",
            "generation_config.json",
            "tokenizer_config.json",
            "tokenizer.json",
            "chat_template.jinja",
        ];
        let parts =
            weights.into_iter().chain(small).map(|part| model.join(part)).filter(|part| part.is_file());
        targets.extend(parts.map(|part| (part, model.clone())));
        targets.push((file.clone(), file));
    }
    assert_eq!(targets.len(), 7 + 1 + 6 + 1);
    targets
}
