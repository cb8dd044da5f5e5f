//! Weights that a file holds as the model wants them are not copied: counted, in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod tiny;

use std::fs;

use formwork_formats::Dtype;
use formwork_recipes::{Convert, LoadOptions, Weights, convert, load, load_as};
use formwork_testkit::CountingAllocator;
use tiny::*;

/// The smallest matrix of the model has 8 · 192 numbers of 2 bytes or more; of headers and tables nothing is so large
/// but the tokenizer, which this folder does not have.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new(3000);

#[test]
fn mapped_weights_are_not_held_twice() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let mut config = llama_config(true);
    (config["hidden_size"], config["head_dim"], config["intermediate_size"]) =
        (192.into(), 8.into(), 320.into());
    let tensors = |dtype: Dtype| -> Tensors {
        let widen = |(name, shape, _): (String, Vec<usize>, Dtype)| {
            let wide = |n: usize| if n == 40 { 320 } else { 192 };
            let shape = match &shape[..] {
                [n] => vec![wide(*n)],
                _ if name.contains("q_proj") => vec![24, 192],
                _ if name.contains("o_proj") => vec![192, 24],
                [VOCAB, _] => vec![VOCAB, 192],
                [8, _] => vec![8, 192],
                [out, inp] => vec![wide(*out), wide(*inp)],
                other => other.to_vec(),
            };
            (name, shape, dtype)
        };
        llama_tensors(true, dtype).into_iter().map(widen).collect()
    };
    for (name, dtype) in [("f32", Dtype::F32), ("bf16", Dtype::Bf16)] {
        fs::create_dir(path(name)).unwrap();
        write_tensors(&path(name), &tensors(dtype), u64::MAX);
        fs::write(path(name).join("config.json"), config.to_string()).unwrap();
    }
    convert(path("bf16"), path("kept.gguf"), &Convert::default()).unwrap();
    convert(path("bf16"), path("q8.gguf"), &Convert { dtype: Some("q8_0".parse().unwrap()) }).unwrap();

    let all = tensors(Dtype::F32);
    let matrices = all.iter().filter(|(_, shape, _)| shape.len() == 2);
    let numbers: usize = matrices.map(|(_, shape, _)| shape.iter().product::<usize>()).sum();
    // The answer, the bytes that were asked for in large pieces, and what else grew beside: file names, headers.
    let large = |name: &str, weights: Weights| {
        let options = LoadOptions { weights, ..LoadOptions::default() };
        let (loaded, counted) = ALLOCATOR.count(|| load_as(path(name), &options).unwrap());
        drop(loaded);
        usize::try_from(counted.large.bytes).unwrap()
    };
    // What describes the model: headers, configs of layers, tables of RoPE.
    let beside = 100_000;
    let plain = 4 * numbers;
    assert!(plain > 15 * beside, "the weights are what is counted: {plain}");
    for (name, weights, expected) in [
        ("f32", Weights::Usual, 0),
        ("kept.gguf", Weights::Usual, 0),
        ("q8.gguf", Weights::Usual, 0),
        ("bf16", Weights::Stored, 0),
        // Widened once, and nothing beside it.
        ("bf16", Weights::Usual, plain),
        ("q8.gguf", Weights::Dense, plain),
    ] {
        let found = large(name, weights);
        assert!((expected..expected + beside).contains(&found), "{name} {weights:?}: {found} of {expected}");
    }

    // Tensor by tensor: no more at once than the largest in 32 bits and what it becomes.
    let (_, counted) =
        ALLOCATOR.count(|| convert(path("f32"), path("again.gguf"), &Convert::default()).unwrap());
    let moved = 2 * 4 * (24 + 8) * 192; // the rows of q and k, in two layers
    let found = usize::try_from(counted.large.bytes).unwrap();
    assert!(found < 2 * moved + 3 * beside, "{found} of {moved}");
    assert!(load(path("again.gguf")).is_ok());
}
