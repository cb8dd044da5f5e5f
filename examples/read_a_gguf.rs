//! What is in a GGUF file: its metadata, its vocabulary in numbers, its tensors. Nothing is loaded, the file is mapped.
//! Run: cargo run --release --example read_a_gguf [-- FILE.gguf] [-- --tiny]

use std::{collections::BTreeMap, error::Error};

use formwork::{
    formats::gguf::Gguf,
    recipes::{self, Convert},
};
use formwork_examples::{Options, model_or_talker};

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    let scratch = tempfile::tempdir()?;
    let mut path = model_or_talker(&options, scratch.path())?;
    if path.is_dir() {
        let file = scratch.path().join("talker.gguf");
        recipes::convert(&path, &file, &Convert { dtype: Some("q8_0".parse()?) })?;
        path = file;
    }

    // Every count and offset has been checked against the file when this returns.
    let gguf = Gguf::open(&path)?;
    println!("{}: tensors aligned to {} bytes", path.display(), gguf.alignment());

    println!("\nmetadata");
    for (key, value) in gguf.metadata().iter() {
        println!("  {key:42} {value}");
    }
    if let Some(tokens) = gguf.metadata().strings("tokenizer.ggml.tokens")? {
        let lengths: Vec<usize> = tokens.map(|token| token.bytes().len()).collect();
        let longest = lengths.iter().max().copied().unwrap_or(0);
        println!("\nvocabulary: {} tokens, the longest of {longest} bytes", lengths.len());
    }

    println!("\ntensors, in our order of axes: rows first");
    let mut types: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    for (i, entry) in gguf.entries().iter().enumerate() {
        let (numbers, bytes) = (entry.shape().iter().product::<usize>(), entry.bytes().len());
        let sum = types.entry(entry.dtype().name()).or_default();
        *sum = (sum.0 + 1, sum.1 + numbers, sum.2 + bytes);
        // The layers of a model are alike.
        if i < 16 {
            println!("  {:34} {:5} {:?}", entry.name(), entry.dtype().name(), entry.shape());
        }
    }
    if gguf.entries().len() > 16 {
        println!("  .. and {} more", gguf.entries().len() - 16);
    }
    println!("\n{:6} {:>8} {:>14} {:>14} {:>16}", "type", "tensors", "numbers", "bytes", "bits per number");
    for (name, (tensors, numbers, bytes)) in types {
        println!(
            "{name:6} {tensors:8} {numbers:14} {bytes:14} {:16.2}",
            8.0 * bytes as f64 / numbers.max(1) as f64
        );
    }
    Ok(())
}
