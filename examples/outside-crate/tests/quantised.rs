//! Quantised weights as a stranger meets them: a source of our own hands them out, an adapter of our own learns around
//! them.

mod common;

use std::sync::Arc;

use common::ids;
use formwork::{
    ModelConfig, Pass, Positions, Result, Seed, Source, TokenModel, Transformer, Weight,
    kernels::blocks::Format,
    module::{Given, Held, Precision, Spec, config, held},
    params, presets,
    quant::{self, Report},
    train::{Batch, Trainer},
};
use ndarray::s;
use outside_crate::{Lora, LoraConfig};
use serde_json::json;

/// Widths are multiples of 32, the block of the format.
fn tiny() -> Result<ModelConfig> {
    let mut config = (presets::find("llama3-8b")?.config)();
    (config.vocab, config.dim, config.context) = (23, 64, 16);
    config.blocks.truncate(2);
    Ok(config)
}

/// Every projection of a block in `Q8_0`; the table and the head stay numbers.
fn in_blocks(model: &mut Transformer) -> Result<Report> {
    quant::quantise(model, &|name, _| name.starts_with("blocks.").then_some(Format::Q8_0))
}

fn lora() -> LoraConfig {
    LoraConfig { rank: 3, alpha: 6.0, targets: ["attn.q", "attn.v", "ffn.down"].map(String::from).into() }
}

/// With activations as they are, so that a difference comes from the weights' blocks alone.
fn logits(model: &Transformer) -> Result<Vec<f32>> {
    let mut pass = Pass::infer().in_precision(Precision::Full);
    model.logits(ids(2, 11, 23).view(), Positions::All, &mut pass)?.to_vec()
}

/// Name and bytes of every matrix that is in blocks.
fn blocks(model: &Transformer) -> Vec<(String, Vec<u8>)> {
    let list = held(model).into_iter().filter_map(|(name, held)| match held {
        Held::Blocks(blocks) => Some((name, blocks.bytes().to_vec())),
        Held::Param(_) => None,
    });
    list.collect()
}

/// Draws as a seed does, and hands every projection out in blocks: the model never holds their numbers.
#[derive(Debug)]
struct InBlocks(Seed);

impl Source for InBlocks {
    fn param(&self, path: &str, spec: &Spec) -> Result<Given> {
        self.0.param(path, spec)
    }

    fn weight(&self, path: &str, spec: &Spec) -> Result<Option<Arc<dyn Weight>>> {
        if !path.starts_with("blocks.") {
            return Ok(None);
        }
        let [out, inp] = [spec.shape[0], spec.shape[1]];
        let Some(drawn) = self.param(path, spec)?.value else { return Ok(None) };
        let bytes = quant::encode(Format::Q8_0, &drawn.to_vec::<f32>()?, inp)?.bytes;
        quant::weight(path, [out, inp], Format::Q8_0, bytes).map(Some)
    }
}

#[test]
fn a_source_of_our_own_hands_out_weights_in_blocks() -> Result<()> {
    let model = tiny()?.build(&InBlocks(Seed::new(1)))?;
    let mut afterwards = tiny()?.build(&Seed::new(1))?;
    in_blocks(&mut afterwards)?;
    assert_eq!(blocks(&model).len(), 2 * 7);
    assert!(blocks(&model) == blocks(&afterwards), "the same blocks, whoever made them");
    assert_eq!(logits(&model)?, logits(&afterwards)?);
    assert!(params(&model).iter().all(|(name, _)| !name.contains("attn.q") && !name.contains("ffn.up")));
    Ok(())
}

#[test]
fn an_adapter_learns_around_blocks_that_stay() -> Result<()> {
    let plain = tiny()?.build(&Seed::new(1))?;
    let mut model = tiny()?.build(&Seed::new(1))?;
    let report = in_blocks(&mut model)?;
    assert_eq!(report.tensors.len(), 2 * 7);
    let apart = logits(&model)?.iter().zip(logits(&plain)?).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart > 0.0 && apart < 1e-2, "blocks of 8 bits change a little: {apart}");

    let quantised = logits(&model)?;
    assert_eq!(Lora::adapt(&mut model, &Seed::new(2), &lora())?, 6);
    assert_eq!(logits(&model)?, quantised, "before training nothing is corrected");
    let before = blocks(&model);
    assert_eq!(before.len(), 14);

    let settings = config::read(json!({"seed": 1, "schedule": {"kind": "constant", "lr": 1e-2}}))?;
    let mut trainer = Trainer::new(&model, settings)?;
    let tokens = ids(4, 12, 23);
    let batch = Batch::new(tokens.slice(s![.., ..11]).to_owned(), tokens.slice(s![.., 1..]).to_owned());
    let mut losses = Vec::new();
    for _ in 0..20 {
        losses.push(trainer.step(&model, std::slice::from_ref(&batch))?.loss);
    }
    assert!(losses[19] < losses[0] - 0.1, "{losses:?}");
    drop(trainer);
    assert!(blocks(&model) == before, "training changed a block");
    assert!(params(&model).iter().all(|(name, param)| param.is_trainable() == name.contains(".lora_")));
    Ok(())
}
