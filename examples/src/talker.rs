//! A tiny model that talks, in the layout in which models are published: what examples use when no path is given.

use std::path::{Path, PathBuf};

use formwork::{
    Error, ModelConfig, Result, Seed, Tokenizer, Transformer,
    recipes::{
        self, Convert, Plan,
        chat::{ChatTemplate, Message, Next},
    },
    tokenizer::BpeTrainer,
    train::{Tokens, TrainConfig, Trainer, Window},
};
use serde_json::json;

use crate::Options;

/// All that it has been told; it knows nothing else.
const TALK: [[&str; 2]; 4] = [
    ["Who are you?", "I am a very small model."],
    ["What is the capital of France?", "The capital of France is Paris."],
    ["What do you eat?", "Only tokens, thank you."],
    ["Are you sure?", "I was told so."],
];

/// The template of SmolLM2 and others, but for its default system prompt.
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The model of `--model`, or the talker, taught now and written to `folder` as a published folder.
///
/// # Errors
/// Those of training it and of writing.
pub fn model_or_talker(options: &Options, folder: &Path) -> Result<PathBuf> {
    match options.model.clone().or_else(|| options.rest.first().map(PathBuf::from)) {
        Some(path) => Ok(path),
        None => {
            eprintln!("no --model given: teaching a tiny one, which takes a moment");
            talker(folder, if options.tiny { 60 } else { 250 })
        }
    }
}

fn talker(folder: &Path, steps: u64) -> Result<PathBuf> {
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
    let words = TALK.concat().join("\n").repeat(8);
    let trainer = BpeTrainer { special, ..BpeTrainer::new(320) };
    let tokenizer = trainer.train([words.as_str()]).map_err(Error::external)?;
    let model = taught(&tokenizer, steps)?;
    let (ours, published) = (folder.join("ours"), folder.join("talker"));
    recipes::save(&ours, &model, Some(&tokenizer))?;
    std::fs::write(ours.join("chat_template.jinja"), TEMPLATE).map_err(Error::external)?;
    recipes::convert(&ours, &published, &Convert::default())?;
    Ok(published)
}

fn taught(tokenizer: &Tokenizer, steps: u64) -> Result<Transformer> {
    let config = ModelConfig::from_value(json!({
        "schema": 1, "name": "talker", "vocab": tokenizer.vocab(), "context": 256, "dim": 64,
        "blocks": {"layers": 2, "each": {
            "kind": "pre_norm",
            "attn_norm": {"kind": "rms", "eps": 1e-5},
            "attn": {"kind": "multi_head", "heads": 4, "kv_heads": 2,
                     "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
            "ffn_norm": {"kind": "rms", "eps": 1e-5},
            "ffn": {"kind": "gated", "hidden": 128, "activation": {"kind": "silu"}},
        }},
        "norm": {"kind": "rms", "eps": 1e-5}, "head": {"kind": "tied"}, "init": {"std": 0.05},
    }))?;
    let model = config.build(&Seed::new(1))?;
    // Conversations of two turns in every order, so that what came before matters little.
    let template = ChatTemplate::new(TEMPLATE)?;
    let mut ids = Vec::new();
    for (first, second) in (0..TALK.len() * TALK.len()).map(|i| (i / TALK.len(), i % TALK.len())) {
        let messages: Vec<_> = [TALK[first], TALK[second]]
            .into_iter()
            .flat_map(|[question, answer]| [Message::user(question), Message::assistant(answer)])
            .collect();
        ids.extend(template.encode(tokenizer, &messages, Next::Nothing)?);
    }
    let settings: TrainConfig =
        serde_json::from_value(json!({"seed": 1, "schedule": {"kind": "constant", "lr": 3e-3}}))
            .map_err(Error::external)?;
    let mut trainer = Trainer::new(&model, settings)?;
    let text = Tokens::new(ids).split(0.9)?;
    recipes::fit(
        &model,
        &mut trainer,
        &text,
        &Plan::new(steps, Window { rows: 8, length: 64 }),
        None,
        &mut |_| std::ops::ControlFlow::Continue(()),
    )?;
    Ok(model)
}
