//! A steady state of whole models: what a decoded token and a training step ask of the system, once one like it has
//! been. Both tests count for the whole process, so they run one after the other and alone in their file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::sync::{Mutex, PoisonError};

use formwork_generate::{Session, Settings};
use formwork_model::ModelConfig;
use formwork_module::{CacheType, Pool, Seed};
use formwork_testkit::{Allocated, CountingAllocator};
use formwork_train::{Draw, Tokens, TrainConfig, Trainer, Window};
use serde_json::{Value, json};

/// Whatever grows with the vocabulary, the cache or the weights of these models is larger than this.
const LARGE: usize = 64 << 10;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new(LARGE);

/// Held while a test counts.
static ALONE: Mutex<()> = Mutex::new(());

const VOCAB: usize = 20_011; // logits of one token: 80 kB
const CONTEXT: usize = 256; // keys of one layer, three rows: 73 kB
const LAYERS: usize = 2;

/// Small allocations of one training step of two batches. Counted, not wished: a new one must be noticed.
const SMALL_PER_STEP: u64 = 700;

fn config(name: &str, embed: &Value, block: &Value, norm: &Value, head: &str) -> ModelConfig {
    ModelConfig::from_value(json!({
        "schema": 1, "name": name, "vocab": VOCAB, "context": CONTEXT, "dim": 24, "embed": embed,
        "blocks": {"layers": LAYERS, "each": block},
        "norm": norm, "head": {"kind": head}, "init": {"std": 0.1},
    }))
    .unwrap()
}

/// Learned positions, biases everywhere, tanh GELU, dropout in all its places, a tied head.
fn gpt2() -> ModelConfig {
    let norm = json!({"kind": "layer", "eps": 1e-5, "bias": "learned"});
    let block = json!({
        "kind": "pre_norm", "dropout": 0.1, "attn_norm": norm, "ffn_norm": norm,
        "attn": {"kind": "multi_head", "heads": 3, "bias": "all", "dropout": 0.1},
        "ffn": {"kind": "mlp", "hidden": 97, "bias": "learned", "activation": {"kind": "gelu_tanh"}},
    });
    config("gpt2", &json!({"position": {"kind": "learned"}, "dropout": 0.1}), &block, &norm, "tied")
}

/// Rotary positions, grouped keys, SwiGLU, a head of its own.
fn llama() -> ModelConfig {
    let norm = json!({"kind": "rms", "eps": 1e-5});
    let block = json!({
        "kind": "pre_norm", "attn_norm": norm, "ffn_norm": norm,
        "attn": {"kind": "multi_head", "heads": 6, "kv_heads": 3, "head_dim": 8,
                 "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
        "ffn": {"kind": "gated", "hidden": 97, "activation": {"kind": "silu"}},
    });
    config("llama", &json!({}), &block, &norm, "untied")
}

#[test]
fn a_decoded_token_takes_nothing_from_the_system() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cached = [CacheType::F32, CacheType::Bf16, CacheType::Q8_0];
    for (config, kind) in
        [gpt2(), llama()].into_iter().flat_map(|config| cached.map(|kind| (config.clone(), kind)))
    {
        let pool = Pool::new();
        let model = config.build(&Seed::new(1).pool(pool.clone())).unwrap();
        let settings =
            Settings { temperature: 0.9, top_k: Some(40), top_p: Some(0.95), ..Settings::default() };
        let sampler = settings.sampler().unwrap();
        let mut session = Session::new(&model, 3, CONTEXT).unwrap().cached_in(kind).unwrap();
        // Blocks are decoded 64 keys at a time, to working memory that grows until a text has as many.
        let (third, tokens) = if kind == CacheType::F32 { (vec![8; 11], 200) } else { (vec![8; 67], 150) };
        let (_, prompt) = ALLOCATOR.count(|| session.prompt(&[&[1, 2, 3, 4, 5], &[6, 7], &third]).unwrap());
        assert!(
            prompt.large.count > 0,
            "{}: what is large must be seen where it is first taken",
            config.name
        );
        // The first token is chosen from the prompt's logits; the second is the first to go through the model alone.
        for _ in 0..2 {
            session.step(&sampler).unwrap();
        }
        let start = pool.stats();
        for token in 0..tokens {
            let (picked, allocated) =
                ALLOCATOR.count(|| session.step(&sampler).unwrap().iter().flatten().count());
            assert_eq!(picked, 3);
            assert_eq!(allocated, Allocated::default(), "{}, {kind}: token {token}", config.name);
            assert_eq!(pool.stats().from_system, start.from_system, "{}, {kind}: token {token}", config.name);
        }
        assert!(
            pool.stats().taken >= start.taken + tokens * LAYERS as u64,
            "the model's tensors come from the pool"
        );
    }
}

#[test]
fn a_training_step_takes_no_tensor_memory_from_the_system() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = Tokens::new((0..3000u32).map(|i| (i * i / 7) % VOCAB as u32).collect::<Vec<_>>());
    let settings: TrainConfig =
        serde_json::from_value(json!({"seed": 5, "clip": 1.0, "schedule": {"kind": "constant", "lr": 1e-3}}))
            .unwrap();
    for config in [gpt2(), llama()] {
        let model = config.build(&Seed::new(1)).unwrap();
        let mut trainer = Trainer::new(&model, settings.clone()).unwrap();
        let window = Window { rows: 3, length: 31 };
        let mut stats = trainer.pool().stats();
        for step in 0..5 {
            let batches = [0, 1].map(|micro| text.draw(window, Draw { seed: 5, step, micro }).unwrap());
            let (report, Allocated { small, large }) =
                ALLOCATOR.count(|| trainer.step(&model, &batches).unwrap());
            assert_eq!(report.tokens, 2 * 3 * 31);
            let before = std::mem::replace(&mut stats, trainer.pool().stats());
            assert!(stats.taken > before.taken, "the run's tensors come from the pool");
            println!(
                "{}, step {step}: {} buffers of the pool, {} of them from the system; {} small allocations, {} large",
                config.name,
                stats.taken - before.taken,
                stats.from_system - before.from_system,
                small.count,
                large.count
            );
            match step {
                0 => assert!(stats.from_system > before.from_system, "the first step fills the pool"),
                _ => {
                    assert_eq!(stats.from_system, before.from_system, "{}: step {step}", config.name);
                    assert!(small.count <= SMALL_PER_STEP, "{}: {} in step {step}", config.name, small.count);
                }
            }
        }
    }
}
