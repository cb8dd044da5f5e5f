//! The memory of a training step, as it was predicted and as the pool counted it.

use formwork_model::{
    Builder, Description, HeadConfig, ModelConfig, TrainingMemory,
    module::{DType, Flat, Param, Pass, Pool, Seed, TokenModel, params},
};
use serde_json::json;

use crate::common::{ids, residuals};

/// What the prediction is held to.
const WITHIN: f64 = 0.05;

fn config(norm: &str, attn: &serde_json::Value, ffn: &serde_json::Value) -> ModelConfig {
    let norm = json!({"kind": norm, "eps": 1e-5});
    ModelConfig::from_value(json!({
        "schema": 1, "name": "measured", "vocab": 211, "context": 64, "dim": 96,
        "blocks": {"layers": 3, "each": {
            "kind": "pre_norm", "attn_norm": norm, "attn": attn, "ffn_norm": norm, "ffn": ffn,
        }},
        "norm": norm, "head": {"kind": "tied"}, "init": {"std": 0.02},
    }))
    .unwrap()
}

/// Forward and backward over a batch `[b, t]`, parameters and gradients in flat memory; the most bytes in use.
fn measured(config: &ModelConfig, [b, t]: [usize; 2]) -> u64 {
    let model = config.build(&Seed::new(1)).unwrap();
    let mut learning: Vec<Param> = Vec::new();
    for (_, param) in params(&model) {
        if !learning.iter().any(|p| p.is(&param)) {
            learning.push(param);
        }
    }
    let pool: Pool = learning[0].value().unwrap().pool().unwrap().clone();
    let _flat = Flat::gather(&learning, Some(&pool)).unwrap();
    let (tokens, targets) = (ids(b, t, config.vocab), ids(b, t, config.vocab));
    for step in 0..2 {
        let loss = model.loss(tokens.view(), targets.view(), &mut Pass::train(1, step)).unwrap();
        assert_eq!(loss.mean.dtype(), DType::F32);
        loss.mean.backward().unwrap();
    }
    pool.stats().peak
}

#[test]
fn the_peak_of_a_step_is_predicted_within_a_twentieth() {
    let multi = json!({"kind": "multi_head", "heads": 4, "bias": "all"});
    let grouped = json!({
        "kind": "multi_head", "heads": 4, "kv_heads": 2,
        "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"},
    });
    let mlp = json!({"kind": "mlp", "hidden": 384, "activation": {"kind": "gelu_tanh"}, "bias": "learned"});
    let gated = json!({"kind": "gated", "hidden": 256, "activation": {"kind": "silu"}});
    let (gpt, llama) = (config("layer", &multi, &mlp), config("rms", &grouped, &gated));
    let mut dropped = gpt.clone();
    residuals(&mut dropped).for_each(|parts| parts.dropout = 0.1);
    let mut untied = llama.clone();
    untied.head = HeadConfig::Untied {};
    let mut wide = llama.clone();
    wide.vocab = 20_011;
    for (name, config) in
        [("gpt", gpt), ("llama", llama), ("dropped", dropped), ("untied", untied), ("wide", wide)]
    {
        for batch in [[16, 64], [5, 61], [31, 7]] {
            let predicted = TrainingMemory::of(&Builder::new(config.clone()), batch).unwrap();
            // No moments here.
            let (predicted, found) = (predicted.peak() - predicted.moments, measured(&config, batch));
            let off = predicted as f64 / found as f64 - 1.0;
            assert!(off.abs() <= WITHIN, "{name} {batch:?}: predicted {predicted}, found {found}: {off:+.3}");
        }
    }
}

#[test]
fn what_no_machine_holds_is_told_as_the_largest_number() {
    let mut config = formwork_model::presets::llama2_7b();
    config.context = 1 << 47;
    let builder = Builder::new(config);
    for batch in [[usize::MAX, 2], [1, usize::MAX], [1 << 40, 1 << 20]] {
        assert_eq!(TrainingMemory::of(&builder, batch).unwrap().peak(), u64::MAX, "{batch:?}");
    }
    let description = Description::of(&builder).unwrap();
    assert_eq!((description.training_bytes, description.flops_per_token), (u64::MAX, u64::MAX));
}
