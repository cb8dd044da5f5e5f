//! What a model of any size is made of, without a byte of memory for its weights.
//! Run: cargo run --release --example inspect_preset [-- PRESET] [-- --tiny]

use std::{collections::BTreeMap, error::Error};

use formwork::{Outline, params, presets};
use formwork_examples::Options;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    let name = options.rest.first().map_or("llama3-70b", String::as_str);
    let config = (presets::find(name)?.config)();
    // An outline is a source like a seed or a checkpoint: the same builder runs, and every parameter is listed.
    let model = config.build(&Outline)?;
    let list = params(&model);

    println!(
        "{name}: {} layers, width {}, vocabulary {}, context {}",
        config.blocks.len(),
        config.dim,
        config.vocab,
        config.context
    );
    for (name, param) in
        list.iter().filter(|(name, _)| !name.starts_with("blocks.") || name.starts_with("blocks.0."))
    {
        println!("  {name:32} {:18} {}", param.shape().to_string(), param.init());
    }
    println!("  .. and the same for layers 1 to {}\n", config.blocks.len() - 1);

    let mut by_part = BTreeMap::<String, usize>::new();
    for (name, param) in &list {
        let words: Vec<_> = name.split('.').collect();
        let part = if words[0] == "blocks" { words[2] } else { words[0] };
        *by_part.entry(part.to_owned()).or_default() += param.shape().len();
    }
    let total: usize = by_part.values().sum();
    for (part, count) in by_part {
        println!("  {part:12} {count:>16}  {:5.1} %", 100.0 * count as f64 / total as f64);
    }
    println!("  {:12} {total:>16}  {:.1} GB in bf16", "all", total as f64 * 2e-9);
    Ok(())
}
