//! A small character model on a whole book, with a recipe that can be compared with other libraries.
//! Run: cargo run --release --example train_characters -- --text FILE [--precision bf16] [SEED ..] [-- --tiny]
//!
//! GPT-2's block without biases, 4 layers, 4 heads, width 128, context 64, batches of 12, no dropout. AdamW 0.9 / 0.99
//! with decay 0.1 on matrices, clipping at 1, 1e-3 to 1e-4 by a cosine after 100 steps of warm-up, 2000 steps. The first
//! nine tenths of the text train; the loss is that of the whole last tenth in windows that do not overlap.

use std::{error::Error, ops::ControlFlow};

use formwork::{
    ModelConfig, Seed, Tokenizer,
    recipes::{self, Plan, Run},
    train::{Tokens, TrainConfig, Trainer, Window},
};
use formwork_examples::{Bar, Options, run_folder};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    let text = options.text()?;
    let steps = if options.tiny { 30 } else { 2000 };
    let seeds = match options.rest.is_empty() {
        true => vec![1],
        false => options.rest.iter().map(|s| s.parse()).collect::<Result<Vec<u64>, _>>()?,
    };
    let tokenizer = Tokenizer::characters(&text)?;
    let split = Tokens::new(tokenizer.encode(&text)?).split(0.9)?;
    let norm = json!({"kind": "layer", "eps": 1e-5, "bias": "none"});
    let config = ModelConfig::from_value(json!({
        "schema": 1, "name": "characters", "vocab": tokenizer.vocab(), "context": 64, "dim": 128,
        "embed": {"position": {"kind": "learned"}},
        "blocks": {"layers": 4, "each": {
            "kind": "pre_norm",
            "attn_norm": norm, "attn": {"kind": "multi_head", "heads": 4},
            "ffn_norm": norm, "ffn": {"kind": "mlp", "hidden": 512, "activation": {"kind": "gelu"}},
        }},
        "norm": norm, "head": {"kind": "tied"}, "init": {"std": 0.02, "residual": "depth_scaled"},
    }))?;
    let window = Window { rows: 12, length: 64 };
    let mut losses = Vec::new();
    for &seed in &seeds {
        let model = config.build(&Seed::new(seed))?;
        let settings: TrainConfig = serde_json::from_value(json!({
            "seed": seed,
            "schedule": {"kind": "warmup_cosine", "peak": 1e-3, "floor": 1e-4, "warmup": 100.min(steps / 3), "steps": steps},
            "adamw": {"beta2": 0.99, "weight_decay": 0.1},
            "clip": 1.0,
            "precision": options.precision,
        }))?;
        let mut trainer = Trainer::new(&model, settings.clone())?;
        let folder = run_folder(&options, "characters")?;
        let folder = if seeds.len() > 1 { folder.join(format!("seed-{seed}")) } else { folder };
        let mut run = Run::create(folder, &config, Some(&tokenizer), &settings)?;
        let plan = Plan { held_out: Window { rows: 64, length: 64 }, ..Plan::new(steps, window) };
        let bar = Bar::new(steps);
        let last = recipes::fit(&model, &mut trainer, &split, &plan, Some(&mut run), &mut |progress| {
            bar.show(progress);
            ControlFlow::Continue(())
        })?;
        bar.finish();
        let last = last.ok_or_else(|| formwork::Error::missing("a step"))?;
        let held_out = last.held_out.ok_or_else(|| formwork::Error::missing("the held-out loss"))?;
        let seconds = last.training.as_secs_f64();
        losses.push(held_out.nats);
        println!(
            "seed {seed}: {steps} steps in {seconds:.1} s ({:.1} ms a step), held-out {:.4} nats per character, {}",
            1000.0 * seconds / steps as f64,
            held_out.nats,
            run.path().display()
        );
    }
    println!(
        "mean over {} seeds: {:.4} nats per character",
        losses.len(),
        losses.iter().sum::<f64>() / losses.len() as f64
    );
    Ok(())
}
