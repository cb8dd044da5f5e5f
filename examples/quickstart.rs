//! The whole way: a config becomes a model, learns from text, is saved, is loaded again from disk, and writes.
//! Run: cargo run --release --example quickstart [-- --tiny] [-- --text FILE] [-- --out FOLDER]

use std::{error::Error, io::Write, ops::ControlFlow};

use formwork::{
    ModelConfig, Seed,
    generate::{Session, Settings},
    params,
    recipes::{self, Decode, Plan, Run},
    tokenizer::BpeTrainer,
    train::{Tokens, TrainConfig, Trainer, Window, evaluate},
};
use formwork_examples::{Bar, Options, baseline, run_folder};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    let tiny = options.tiny;
    let text = options.text()?;
    let text = if tiny { text.chars().take(60_000).collect() } else { text };

    // 1. A tokenizer that knows this text: byte-level BPE, so that any other text can be written too.
    let vocab = if tiny { 320 } else { 1024 };
    let tokenizer = BpeTrainer::new(vocab).train([text.as_str()])?;
    let ids = Tokens::new(tokenizer.encode(&text)?);
    let split = ids.split(0.9)?;
    println!("text      {} bytes, {} tokens of a vocabulary of {vocab}", text.len(), ids.len());

    // 2. A small LLaMA: RMSNorm, rotary positions, grouped-query attention, SwiGLU. `each` stands for every layer.
    let (dim, layers, context, steps) = if tiny { (32, 2, 32, 30) } else { (192, 4, 128, 260) };
    let config = ModelConfig::from_value(json!({
        "schema": 1, "name": "quickstart", "vocab": vocab, "context": context, "dim": dim,
        "blocks": {"layers": layers, "each": {
            "kind": "pre_norm",
            "attn_norm": {"kind": "rms", "eps": 1e-5},
            "attn": {"kind": "multi_head", "heads": dim / 16, "kv_heads": dim / 32,
                     "position": {"kind": "rope", "theta": 10000.0, "pairs": "halves"}},
            "ffn_norm": {"kind": "rms", "eps": 1e-5},
            "ffn": {"kind": "gated", "hidden": dim * 8 / 3 / 16 * 16, "activation": {"kind": "silu"}},
        }},
        "norm": {"kind": "rms", "eps": 1e-5},
        "head": {"kind": "tied"},
        "init": {"std": 0.02, "residual": "depth_scaled"},
    }))?;
    let model = config.build(&Seed::new(1))?;
    let count: usize = params(&model).iter().map(|(_, p)| p.shape().len()).sum();
    println!("model     {layers} layers, width {dim}, {count} parameters");

    // 3. Training, with everything that it leaves behind in one folder.
    let settings: TrainConfig = serde_json::from_value(json!({
        "seed": 1,
        "schedule": {"kind": "warmup_cosine", "peak": 3e-3, "floor": 3e-4, "warmup": steps / 20, "steps": steps},
        "adamw": {"beta2": 0.99, "weight_decay": 0.1},
        "clip": 1.0,
    }))?;
    let mut trainer = Trainer::new(&model, settings.clone())?;
    let mut run = Run::create(run_folder(&options, "quickstart")?, &config, Some(&tokenizer), &settings)?;
    let window = Window { rows: if tiny { 4 } else { 16 }, length: context };
    let plan = Plan { evaluate_every: (steps / 4) as u64, ..Plan::new(steps as u64, window) };
    let bar = Bar::new(plan.steps);
    recipes::fit(&model, &mut trainer, &split, &plan, Some(&mut run), &mut |progress| {
        bar.show(progress);
        ControlFlow::Continue(())
    })?;
    bar.finish();
    println!("run       {}", run.path().display());

    // 4. From here on only what is on disk counts.
    drop(model);
    let loaded = recipes::load(run.path())?;
    let tokenizer = loaded.tokenizer.ok_or_else(|| formwork::Error::missing("the tokenizer of the run"))?;
    let held_out = evaluate(&loaded.model, &split.held_out, window)?;
    let read = tokenizer.decode(&split.held_out.as_slice()[1..=held_out.tokens])?;
    let learned = tokenizer.decode(split.train.as_slice())?;
    println!("held-out  {} bytes it has never seen, in bits per byte:", read.len());
    println!(
        "          {:.3}  bytes by their frequency",
        baseline::unigram(learned.as_bytes(), read.as_bytes())
    );
    println!(
        "          {:.3}  LZMA, primed with the training text",
        baseline::lzma(learned.as_bytes(), read.as_bytes())?
    );
    println!("          {:.3}  this model", held_out.bits_per_byte(read.len()));

    // 5. It writes, a piece at a time.
    let prompt = split.held_out.as_slice()[..8].to_vec();
    print!("\n{}", tokenizer.decode(&prompt)?);
    let settings = Settings {
        temperature: 0.8,
        top_p: Some(0.95),
        max_tokens: if tiny { 16 } else { 100 },
        ..Settings::default()
    };
    let mut session = Session::new(&loaded.model, 1, context)?;
    session.prompt(&[&prompt])?;
    session.write(&settings.request()?, &mut [Box::new(Decode::new(&tokenizer))], |event| {
        print!("{}", event.text);
        match std::io::stdout().flush() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()), // whoever was reading has gone
        }
    })?;
    println!();
    Ok(())
}
