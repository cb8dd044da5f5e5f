//! A model of parts that are all our own learns a rhyme, is saved, loaded again, writes, and is adapted to another rhyme.
//! Run: cargo run
#![forbid(unsafe_code)]

use std::{error::Error, ops::ControlFlow, path::Path};

use formwork::{
    Builder, ModelConfig, Seed, TokenModel, Tokenizer, checkpoint,
    formats::Archive,
    generate::{Choice, NoRepeat, Request, Sampler, Session},
    module::config,
    params,
    recipes::{self, Decode},
    train::{Draw, Tokens, TrainConfig, Trainer, Window, evaluate},
};
use outside_crate::{CONFIG, Lora, LoraConfig, TopNSigma, hooks};
use serde_json::json;

const RHYME: &str = "one two buckle my shoe three four knock at the door five six pick up sticks ";
const OTHER: &str = "seven eight lay them straight nine ten a big fat hen ";
const WINDOW: Window = Window { rows: 8, length: 32 };

fn main() -> Result<(), Box<dyn Error>> {
    // The config names our parts; `hooks` makes them.
    let tokenizer = Tokenizer::characters(&(RHYME.to_owned() + OTHER))?;
    let mut config = ModelConfig::from_json(CONFIG)?;
    config.vocab = tokenizer.vocab();
    let mut model = Builder::new(config.clone()).hooks(&hooks()).build(&Seed::new(1))?;

    let rhyme = Tokens::new(tokenizer.encode(&RHYME.repeat(20))?);
    let before = evaluate(&model, &rhyme, WINDOW)?.nats;
    train(&model, &rhyme, 250)?;
    println!(
        "rhyme     {before:.3} nats per letter, after training {:.3}",
        evaluate(&model, &rhyme, WINDOW)?.nats
    );

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/outsider");
    recipes::save(&folder, &model, Some(&tokenizer))?;
    let loaded = recipes::load_with(&folder, &hooks())?.model;
    println!(
        "loaded    {:.3} nats per letter, from {}",
        evaluate(&loaded, &rhyme, WINDOW)?.nats,
        folder.display()
    );
    println!("writes    {}", write(&loaded, &tokenizer, "one two ")?);

    // Another rhyme, for which only small corrections of some matrices learn.
    // The table of tokens is the head as well: wrapping one adapts both.
    let targets = ["embed.tokens", "attn.q", "attn.v", "ffn.up", "ffn.down"].map(String::from);
    let lora = LoraConfig { rank: 8, alpha: 16.0, targets: targets.into() };
    let other = Tokens::new(tokenizer.encode(&OTHER.repeat(20))?);
    let before = evaluate(&model, &other, WINDOW)?.nats;
    let wrapped = Lora::adapt(&mut model, &Seed::new(2), &lora)?;
    train(&model, &other, 150)?;
    let (all, learning) = params(&model).iter().fold((0, 0), |(all, learning), (_, p)| {
        let n = p.shape().len();
        (all + n, learning + if p.is_trainable() { n } else { 0 })
    });
    let after = evaluate(&model, &other, WINDOW)?.nats;
    println!("adapted   {before:.3} to {after:.3}: {wrapped} matrices, {learning} of {all} numbers learned");

    // A model that was changed after it was built is loaded by doing the same again.
    let bytes = checkpoint::to_bytes(&params(&model), checkpoint::Keep::Exact)?;
    let again = checkpoint::load(&Archive::from_bytes(bytes)?, |source| {
        let mut model = Builder::new(config.clone()).hooks(&hooks()).build(source)?;
        Lora::adapt(&mut model, source, &lora)?;
        Ok(model)
    })?;
    assert_eq!(
        evaluate(&again, &other, WINDOW)?.nats.to_bits(),
        after.to_bits(),
        "what was saved is what was trained"
    );
    println!("writes    {}", write(&again, &tokenizer, "seven ")?);
    Ok(())
}

fn train(model: &dyn TokenModel, text: &Tokens, steps: u64) -> Result<(), Box<dyn Error>> {
    let settings: TrainConfig =
        config::read(json!({"seed": 1, "schedule": {"kind": "constant", "lr": 5e-3}, "clip": 1.0}))?;
    let mut trainer = Trainer::new(model, settings)?;
    for step in 0..steps {
        trainer.step(model, &[text.draw(WINDOW, Draw { seed: 1, step, micro: 0 })?])?;
    }
    Ok(())
}

/// Letters that follow a prompt, of the likely ones; no eight of them twice.
fn write(model: &dyn TokenModel, tokenizer: &Tokenizer, prompt: &str) -> Result<String, Box<dyn Error>> {
    let sampler = Sampler::new(Choice::Sample { seed: 1 }).with(NoRepeat::new(8)?).with(TopNSigma::new(0.5)?);
    let mut session = Session::new(model, 1, 32)?;
    session.prompt(&[&tokenizer.encode(prompt)?])?;
    let mut texts: [Box<dyn formwork::generate::Text>; 1] = [Box::new(Decode::new(tokenizer))];
    let outputs = session.write(&Request::new(sampler), &mut texts, |_| ControlFlow::Continue(()))?;
    Ok(prompt.to_owned() + &outputs[0].text)
}
