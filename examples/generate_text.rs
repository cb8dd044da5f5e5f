//! Every way to choose the next token, several prompts at once, a second prompt on the same cache, and stopping.
//! Run: cargo run --release --example generate_text [-- --model FOLDER] [-- PROMPT] [-- --tiny]

use std::{error::Error, ops::ControlFlow};

use formwork::{
    ModelConfig, Seed, Tokenizer, Transformer,
    generate::{Session, Settings, Text},
    recipes::{self, Decode},
    train::{Draw, Tokens, TrainConfig, Trainer, Window},
};
use formwork_examples::Options;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    let (model, tokenizer) = match &options.model {
        Some(folder) => {
            let loaded = recipes::load(folder)?;
            (
                loaded.model,
                loaded.tokenizer.ok_or_else(|| formwork::Error::missing("tokenizer.json in that folder"))?,
            )
        }
        None => teach(if options.tiny { 40 } else { 300 })?,
    };
    let prompt = options.rest.first().map_or("the cat ", String::as_str);
    let ids = tokenizer.encode(prompt)?;

    let plain = Settings { max_tokens: 40, ..Settings::default() };
    let ways = [
        ("greedy", Settings { temperature: 0.0, ..plain.clone() }),
        ("temperature 1.2", Settings { temperature: 1.2, ..plain.clone() }),
        ("the best 3", Settings { top_k: Some(3), ..plain.clone() }),
        ("the likeliest 80 %", Settings { top_p: Some(0.8), ..plain.clone() }),
        ("a tenth of the best", Settings { min_p: Some(0.1), ..plain.clone() }),
        ("no repetition", Settings { temperature: 0.0, repetition_penalty: 1.5, ..plain.clone() }),
        ("until `sat`", Settings { temperature: 0.0, stop: vec!["sat".to_owned()], ..plain.clone() }),
    ];
    for (name, settings) in &ways {
        let mut session = Session::new(&model, 1, 128)?;
        session.prompt(&[&ids])?;
        let written = write(&mut session, &tokenizer, settings)?;
        println!("{name:20} {prompt}{}", written[0]);
    }

    // Rows of a batch may have any lengths; each is written as if it were alone.
    let prompts = ["the dog ", "a", "the mat the mat "]
        .map(|p| tokenizer.encode(p))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let mut session = Session::new(&model, prompts.len(), 128)?;
    session.prompt(&prompts.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    for (prompt, text) in prompts.iter().zip(write(&mut session, &tokenizer, &ways[0].1)?) {
        println!("{:20} {}{text}", "in a batch", tokenizer.decode(prompt)?);
    }

    // A second prompt goes on from what is already in the cache.
    let mut session = Session::new(&model, 1, 128)?;
    session.prompt(&[&ids])?;
    let few = Settings { max_tokens: 12, ..ways[0].1.clone() };
    let first = write(&mut session, &tokenizer, &few)?;
    session.prompt(&[&tokenizer.encode(" and a dog ")?])?;
    println!(
        "{:20} {prompt}{} and a dog {}",
        "two prompts",
        first[0],
        write(&mut session, &tokenizer, &few)?[0]
    );
    Ok(())
}

/// Lets every row write; gives their texts.
fn write(
    session: &mut Session<'_>,
    tokenizer: &Tokenizer,
    settings: &Settings,
) -> Result<Vec<String>, Box<dyn Error>> {
    let mut texts: Vec<_> =
        (0..session.rows()).map(|_| Box::new(Decode::new(tokenizer)) as Box<dyn Text>).collect();
    let outputs = session.write(&settings.request()?, &mut texts, |_| ControlFlow::Continue(()))?;
    Ok(outputs.into_iter().map(|output| output.text).collect())
}

/// A small model that has read about cats and mats.
fn teach(steps: u64) -> Result<(Transformer, Tokenizer), Box<dyn Error>> {
    let text = "the cat sat on the mat. a dog ran to the cat. the dog sat on a mat. a cat ran on the mat. "
        .repeat(30);
    let tokenizer = Tokenizer::characters(&text)?;
    let config = ModelConfig::from_value(json!({
        "schema": 1, "name": "cats", "vocab": tokenizer.vocab(), "context": 128, "dim": 48,
        "blocks": {"layers": 2, "each": {
            "kind": "pre_norm",
            "attn_norm": {"kind": "rms", "eps": 1e-5},
            "attn": {"kind": "multi_head", "heads": 3, "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
            "ffn_norm": {"kind": "rms", "eps": 1e-5},
            "ffn": {"kind": "gated", "hidden": 96, "activation": {"kind": "silu"}},
        }},
        "norm": {"kind": "rms", "eps": 1e-5}, "head": {"kind": "tied"}, "init": {"std": 0.05},
    }))?;
    let model = config.build(&Seed::new(1))?;
    let settings: TrainConfig =
        serde_json::from_value(json!({"seed": 1, "schedule": {"kind": "constant", "lr": 3e-3}}))?;
    let mut trainer = Trainer::new(&model, settings)?;
    let tokens = Tokens::new(tokenizer.encode(&text)?);
    for step in 0..steps {
        trainer.step(
            &model,
            &[tokens.draw(Window { rows: 8, length: 48 }, Draw { seed: 1, step, micro: 0 })?],
        )?;
    }
    Ok((model, tokenizer))
}
