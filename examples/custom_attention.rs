//! An attention of one's own where ours stands: trained, saved, loaded again, inside an otherwise ordinary model.
//! Run: cargo run --release --example custom_attention [-- --tiny]

use std::error::Error;

use formwork::{
    At, Linear, ModelConfig, Module, Pass, Result, Seed, Tensor, children,
    model::{Hooks, Place},
    recipes::{self, load_with},
    train::{Draw, Tokens, TrainConfig, Trainer, Window, evaluate},
};
use formwork_examples::{Options, run_folder};
use serde::Deserialize;
use serde_json::json;

/// Each token takes a mixture of itself and the tokens up to `reach` before it, with weights that do not look at them.
/// It is no match for attention, but it is causal, cheap, and ours.
#[derive(Debug)]
struct Blend {
    v: Linear,
    o: Linear,
    reach: usize,
}

/// What stands under `params` in the config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlendConfig {
    reach: usize,
}

impl Blend {
    fn new(place: &Place<'_>) -> Result<Self> {
        let BlendConfig { reach } = place.read()?;
        let linear =
            |name: &str, init| Linear::with_init(&place.scope.child(name), place.dim, place.dim, init);
        Ok(Self { v: linear("v", place.init)?, o: linear("o", place.residual_init)?, reach })
    }
}

impl Module for Blend {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [b, t, d] = x.dims()?;
        if pass.cache().is_some() {
            // It would have to remember values; saying so is better than writing nonsense.
            return Err(formwork::Error::invalid("blend", "a pass without a cache", "one with a cache"));
        }
        let v = self.v.forward(x, pass).at("v")?; // [b, t, d]
        let mut sum = v.clone();
        for back in 1..=self.reach.min(t - 1) {
            // `back` rows of zeros, then the values moved down: token i sees token i − back.
            let zeros = Tensor::zeros(&[b, back, d], x.dtype(), x.pool())?;
            let moved = Tensor::cat(&[&zeros, &v.narrow(1, 0, t - back)?], 1)?; // [b, t, d]
            sum = sum.add_scaled(&moved, 1.0 / (1 + back) as f64)?;
        }
        self.o.forward(&sum, pass).at("o") // [b, t, d]
    }
    children!(v, o);
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    let config = ModelConfig::from_value(json!({
        "schema": 1, "name": "blend", "vocab": 27, "context": 32, "dim": 32,
        "blocks": {"layers": 2, "each": {
            "kind": "pre_norm",
            "attn_norm": {"kind": "rms", "eps": 1e-5},
            // Ours in the first layer, attention in the second: one pattern language for every field.
            "attn": {"cycle": [
                {"kind": "custom", "name": "blend", "params": {"reach": 3}},
                {"kind": "multi_head", "heads": 2, "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
            ]},
            "ffn_norm": {"kind": "rms", "eps": 1e-5},
            "ffn": {"kind": "gated", "hidden": 64, "activation": {"kind": "silu"}},
        }},
        "norm": {"kind": "rms", "eps": 1e-5}, "head": {"kind": "tied"}, "init": {"std": 0.05},
    }))?;
    let hooks = Hooks::default().with_attention("blend", Blend::new);
    let model = formwork::Builder::new(config).hooks(&hooks).build(&Seed::new(1))?;

    // Letters of a rhyme; the model shall learn what follows what.
    let rhyme = "one two buckle my shoe three four knock at the door five six pick up sticks ".repeat(40);
    let letters = rhyme.bytes().map(|b| if b == b' ' { 0 } else { u32::from(b - b'a') + 1 });
    let text = Tokens::new(letters.collect::<Vec<_>>()).split(0.9)?;
    let window = Window { rows: 8, length: 32 };
    let settings: TrainConfig =
        serde_json::from_value(json!({"seed": 1, "schedule": {"kind": "constant", "lr": 3e-3}}))?;
    let mut trainer = Trainer::new(&model, settings)?;
    println!("before    {:.3} nats per letter", evaluate(&model, &text.held_out, window)?.nats);
    for step in 0..if options.tiny { 20 } else { 200 } {
        trainer.step(&model, &[text.train.draw(window, Draw { seed: 1, step, micro: 0 })?])?;
    }
    let trained = evaluate(&model, &text.held_out, window)?.nats;
    println!("after     {trained:.3} nats per letter");

    let folder = run_folder(&options, "custom_attention")?;
    recipes::save(&folder, &model, None)?;
    let loaded = load_with(&folder, &hooks)?;
    let again = evaluate(&loaded.model, &text.held_out, window)?.nats;
    assert_eq!(again.to_bits(), trained.to_bits(), "what was saved is what was trained");
    println!("loaded    {again:.3} nats per letter, from {}", folder.display());
    if let Err(error) = recipes::load(&folder) {
        println!("without   {error}"); // a program that does not know the part
    }
    Ok(())
}
