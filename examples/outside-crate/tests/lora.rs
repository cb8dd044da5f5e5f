//! A weight of our own in a model of Formwork's: only the correction learns, and it is saved and loaded with the rest.

mod common;

use common::ids;
use formwork::{
    ModelConfig, Pass, Positions, Result, Seed, Source, TokenModel, Transformer, checkpoint,
    formats::Archive,
    module::config,
    params, presets,
    train::{Batch, Trainer},
};
use ndarray::s;
use outside_crate::{Lora, LoraConfig};
use serde_json::json;

fn tiny() -> Result<ModelConfig> {
    let mut config = (presets::find("llama3-8b")?.config)();
    (config.vocab, config.dim, config.context) = (23, 64, 16); // 32 heads of width 2, 8 of keys and values
    config.blocks.truncate(2);
    Ok(config)
}

fn lora() -> LoraConfig {
    LoraConfig { rank: 3, alpha: 6.0, targets: ["attn.q", "attn.v", "ffn.down"].map(String::from).into() }
}

fn adapted(source: &dyn Source) -> Result<Transformer> {
    let mut model = tiny()?.build(source)?;
    assert_eq!(Lora::adapt(&mut model, source, &lora())?, 6);
    Ok(model)
}

fn logits(model: &Transformer) -> Result<Vec<f32>> {
    model.logits(ids(2, 11, 23).view(), Positions::All, &mut Pass::infer())?.to_vec()
}

#[test]
fn only_the_correction_learns() -> Result<()> {
    let model = adapted(&Seed::new(1))?;
    assert_eq!(
        logits(&model)?,
        logits(&tiny()?.build(&Seed::new(1))?)?,
        "before training nothing is corrected"
    );

    let list = params(&model);
    let values = || list.iter().map(|(_, p)| p.value()?.to_vec::<f32>()).collect::<Result<Vec<_>>>();
    let before = values()?;
    let settings = config::read(json!({"seed": 1, "schedule": {"kind": "constant", "lr": 1e-2}}))?;
    let mut trainer = Trainer::new(&model, settings)?;
    let tokens = ids(4, 12, 23);
    let batch = Batch::new(tokens.slice(s![.., ..11]).to_owned(), tokens.slice(s![.., 1..]).to_owned());
    let mut losses = Vec::new();
    for _ in 0..20 {
        losses.push(trainer.step(&model, std::slice::from_ref(&batch))?.loss);
    }
    assert!(losses[19] < losses[0] - 0.1, "{losses:?}");
    for ((name, _), (before, after)) in list.iter().zip(before.iter().zip(values()?)) {
        assert_eq!(*before != after, name.contains(".lora_"), "{name}");
    }
    drop(trainer);

    let archive = Archive::from_bytes(checkpoint::to_bytes(&params(&model), checkpoint::Keep::Exact)?);
    let loaded = checkpoint::load(&archive.expect("just written"), adapted)?;
    assert_eq!(logits(&loaded)?, logits(&model)?);
    Ok(())
}

#[test]
fn a_target_that_is_no_layer_changes_nothing() -> Result<()> {
    let mut model = tiny()?.build(&Seed::new(1))?;
    let check = |model: &mut Transformer, config: LoraConfig, message: &str| {
        let error = Lora::adapt(model, &Seed::new(1), &config).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
        assert!(params(&*model).iter().all(|(name, param)| param.is_trainable() && !name.contains("lora")));
    };
    // `q` without a dot before it ends no path: `attn.q` is the layer, and `tn.q` is not.
    let wrong = LoraConfig { targets: vec!["attn.q".into(), "tn.q".into()], ..lora() };
    check(&mut model, wrong, "lora: expected a target that ends a layer's path, found `tn.q`");
    check(&mut model, LoraConfig { rank: 0, ..lora() }, "lora: expected a rank of at least 1, found 0");
    Ok(())
}
