//! A model that somebody has published, in one call: what it is, what it says next, and the same bytes saved again.
//! Run: cargo run --release --example load_published_model [-- --model FOLDER|FILE.gguf] [-- --tiny]

use std::error::Error;

use formwork::{
    Pass, Positions, TokenModel,
    formats::Archive,
    model::Description,
    recipes,
    tokenizer::{Encode, Frame},
};
use formwork_examples::{Options, model_or_talker};
use ndarray::Array2;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    let scratch = tempfile::tempdir()?;
    let path = model_or_talker(&options, scratch.path())?;

    // A folder with a config.json, a GGUF file, a folder of this project: the path says which.
    let loaded = recipes::load(&path)?;
    let (model, config) = (&loaded.model, loaded.model.config());
    println!("{} in the layout {:?}", config.name, loaded.origin.layout());
    for note in &loaded.notes {
        println!("  note: {note}");
    }
    let description = Description::of(&formwork::Builder::new(config.clone()))?;
    println!("  {} layers, width {}, context {}", config.blocks.len(), config.dim, config.context);
    println!("  {} parameters, vocabulary {}", description.parameters, config.vocab);
    println!("  chat template: {}", if loaded.template.is_some() { "yes" } else { "no" });

    let Some(tokenizer) = &loaded.tokenizer else {
        println!("  no tokenizer, so there is nothing to say to it");
        return Ok(());
    };
    // What the model wants around a text, such as a begin token, is the tokenizer's to know.
    let prompt = "The capital of France is";
    let ids = tokenizer.encode_with(prompt, &Encode { frame: Frame::Template, ..Encode::default() })?;
    let tokens = Array2::from_shape_vec((1, ids.len()), ids)?;
    let logits = model.logits(tokens.view(), Positions::Last, &mut Pass::infer())?; // [1, n]
    let logits = logits.to_vec::<f32>()?;
    let mut best: Vec<_> = (0..logits.len()).collect();
    best.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    println!("after {prompt:?}, the likeliest tokens:");
    for &id in &best[..5] {
        println!("  {:8.3}  {:?}", logits[id], tokenizer.decode(&[id as u32])?);
    }

    // Saved again in the layout that it came from: the same names, types and bytes.
    let copy = scratch.path().join(if path.is_dir() { "copy" } else { "copy.gguf" });
    loaded.save(&copy)?;
    let (before, after) = (Archive::open(&path)?, Archive::open(&copy)?);
    let same = after.entries().filter(|new| {
        before.entry(new.name()).is_some_and(|old| {
            (old.dtype(), old.shape(), &old.bytes()[..]) == (new.dtype(), new.shape(), &new.bytes()[..])
        })
    });
    println!("saved again: {} of {} tensors have the same name, type and bytes", same.count(), before.len());
    Ok(())
}
