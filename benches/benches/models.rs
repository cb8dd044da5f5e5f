//! A training step and a decoded token of whole models.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formwork::{
    Builder, HeadLoss, ModelConfig, Pass, Positions, Seed, TokenModel, presets,
    train::{Batch, TrainConfig, Trainer},
};
use formwork_benches::print_roofline;
use ndarray::Array2;
use serde_json::json;

fn tokens(b: usize, t: usize, vocab: usize) -> Array2<u32> {
    Array2::from_shape_fn((b, t), |(row, i)| ((row * 7919 + i * 104_729) % vocab) as u32)
}

/// GPT-2's block on characters, the model of the example `train_characters`.
fn characters() -> ModelConfig {
    let norm = json!({"kind": "layer", "eps": 1e-5, "bias": "none"});
    ModelConfig::from_value(json!({
        "schema": 1, "name": "characters", "vocab": 65, "context": 64, "dim": 128,
        "embed": {"position": {"kind": "learned"}},
        "blocks": {"layers": 4, "each": {
            "kind": "pre_norm",
            "attn_norm": norm, "attn": {"kind": "multi_head", "heads": 4},
            "ffn_norm": norm, "ffn": {"kind": "mlp", "hidden": 512, "activation": {"kind": "gelu"}},
        }},
        "norm": norm, "head": {"kind": "tied"}, "init": {"std": 0.02},
    }))
    .expect("the config above is legal")
}

/// LLaMA-3's proportions at 135 million parameters.
fn llama_small(layers: usize) -> ModelConfig {
    let mut config = presets::llama3_8b();
    (config.vocab, config.context, config.dim) = (49152, 1024, 576);
    config.blocks.truncate(layers);
    for block in &mut config.blocks {
        let mut value = serde_json::to_value(&*block).expect("a config is plain data");
        (value["attn"]["heads"], value["attn"]["kv_heads"]) = (json!(9), json!(3));
        value["ffn"]["hidden"] = json!(1536);
        *block = formwork::module::config::read(value).expect("still legal");
    }
    config
}

fn train(c: &mut Criterion) {
    print_roofline();
    let mut group = c.benchmark_group("train_step");
    group.sample_size(10);
    for (name, config, b, t) in
        [("characters", characters(), 12, 64), ("llama_2_layers", llama_small(2), 2, 128)]
    {
        let model = Builder::new(config).build(&Seed::new(1)).expect("a legal config");
        let settings: TrainConfig = formwork::module::config::read(json!({
            "seed": 1, "schedule": {"kind": "constant", "lr": 1e-3}, "clip": 1.0
        }))
        .expect("legal settings");
        let mut trainer = Trainer::new(&model, settings).expect("a model that learns");
        let ids = tokens(b, t + 1, model.vocab());
        let batch = Batch::new(
            ids.slice(ndarray::s![.., ..t]).to_owned(),
            ids.slice(ndarray::s![.., 1..]).to_owned(),
        );
        assert!(batch.targets.iter().all(|&id| id != HeadLoss::IGNORE));
        let first = trainer.step(&model, std::slice::from_ref(&batch)).expect("a step").loss;
        group.throughput(Throughput::Elements((b * t) as u64));
        group.bench_function(format!("{name}/{b}x{t}"), |bench| {
            bench.iter(|| trainer.step(&model, std::slice::from_ref(&batch)).expect("a step"));
        });
        let last = trainer.step(&model, std::slice::from_ref(&batch)).expect("a step").loss;
        assert!(last < first, "{name}: what is timed must learn: {first} to {last}");
    }
    group.finish();
}

fn infer(c: &mut Criterion) {
    let model = Builder::new(llama_small(4)).build(&Seed::new(1)).expect("a legal config");
    let mut group = c.benchmark_group("infer");
    group.sample_size(10);
    for prompt in [1, 128] {
        let ids = tokens(1, prompt, model.vocab());
        group.throughput(Throughput::Elements(prompt as u64));
        group.bench_function(format!("llama_4_layers/tokens_{prompt}"), |bench| {
            bench.iter(|| {
                let mut cache = model.cache(1, 256);
                model
                    .logits(ids.view(), Positions::Last, &mut Pass::infer().cached(&mut cache))
                    .expect("legal tokens")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, train, infer);
criterion_main!(benches);
