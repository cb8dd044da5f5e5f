//! The metadata of GGUF files: what it means, what is written, what is refused.

use std::collections::BTreeMap;

use formwork_model::{
    Builder, ModelConfig, Outline, Result,
    attention::Biases,
    diff,
    position::{LinearScaling, Llama3Scaling, Pairs, Ramp, RopeConfig, RopeScaling, YarnScaling},
    presets,
    published::{self, Family, Gguf, Published, Tensors, with_pairs},
};
use serde_json::{Map, Value, json};

use crate::{
    common::attentions,
    published_config::{Chance, drawn, read, rope},
};

/// What a file of these tensors says, each a name and a shape.
fn from_gguf(
    metadata: &Map<String, Value>,
    shapes: &BTreeMap<String, Vec<usize>>,
    rope_freqs: Option<Vec<f32>>,
) -> Result<Published> {
    published::from_gguf(metadata, &Tensors { shape: &|name| shapes.get(name).cloned(), rope_freqs })
}

/// A number as a file holds it.
fn stored(key: &str, value: &Value) -> Value {
    match value.as_f64().filter(|_| value.is_f64() && !key.starts_with("formwork.")) {
        Some(x) => f64::from(x as f32).into(),
        None => value.clone(),
    }
}

/// A model written to a file and read again.
fn through_a_file(family: Family, config: &ModelConfig) -> Published {
    let Gguf { metadata, rope_freqs } = family.to_gguf(config).unwrap();
    let keys = metadata.len();
    let metadata: Map<_, _> = metadata
        .into_iter()
        .map(|(key, value)| {
            let value = stored(&key, &value);
            (key, value)
        })
        .collect();
    assert_eq!(metadata.len(), keys, "no key twice");
    let names = family.gguf_names(config).unwrap();
    let shapes = names.pieces().iter().map(|piece| (piece.theirs.clone(), vec![config.vocab, config.dim]));
    from_gguf(&metadata, &shapes.collect(), rope_freqs).unwrap()
}

fn interleaved(config: &ModelConfig) -> ModelConfig {
    with_pairs(config, Pairs::Interleaved)
}

#[test]
fn every_preset_is_the_same_after_a_file() {
    for preset in presets::ALL {
        let config = (preset.config)();
        let found = through_a_file(preset.layout, &config);
        assert_eq!(diff(&found.config, &interleaved(&config)), [], "{}", preset.name);
        assert_eq!(with_pairs(&found.config, Pairs::Halves), config, "{}", preset.name);
        assert_eq!((found.family, found.notes), (preset.layout, vec![]), "{}", preset.name);
    }
}

#[test]
fn a_drawn_model_is_the_same_after_a_file() {
    let mut chance = Chance(11);
    for _ in 0..2000 {
        let Published { family, config, .. } = read(&drawn(&mut chance));
        let found = through_a_file(family, &config);
        let mut expected = interleaved(&config);
        // A factor of 1 interpolates nothing, and a file says nothing of it.
        let is_nothing = |rope: &RopeConfig| match &rope.scaling {
            Some(RopeScaling::Linear(LinearScaling { factor })) => *factor == 1.0,
            Some(RopeScaling::Llama3(_)) => {
                let plain = RopeConfig { scaling: None, ..rope.clone() };
                let head_dim = config.blocks[0].multi_head().unwrap().head_dim(config.dim);
                let of = |rope: &RopeConfig| rope.spectrum(head_dim, 1).unwrap().frequencies;
                of(rope).iter().zip(of(&plain)).all(|(a, b)| (b / a) as f32 == 1.0)
            }
            _ => false,
        };
        if rope(&config).is_some_and(is_nothing) {
            attentions(&mut expected).for_each(|attn| {
                if let formwork_model::position::PositionConfig::Rope(rope) = &mut attn.position {
                    rope.scaling = None;
                }
            });
        }
        assert_eq!(diff(&found.config, &expected), [], "{:#?}", family.to_gguf(&config));
    }
}

/// SmolLM2 135M as llama.cpp's converter describes it.
fn smollm2() -> Map<String, Value> {
    let metadata = json!({
        "general.architecture": "llama", "general.type": "model", "general.name": "smollm2-135m",
        "general.languages": ["en"], "general.file_type": 3, "general.quantization_version": 2,
        "llama.block_count": 30, "llama.context_length": 8192, "llama.embedding_length": 576,
        "llama.feed_forward_length": 1536, "llama.attention.head_count": 9, "llama.attention.head_count_kv": 3,
        "llama.rope.freq_base": 100000.0, "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-6,
        "llama.vocab_size": 49152, "llama.rope.dimension_count": 64, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.bos_token_id": 1,
    });
    metadata.as_object().unwrap().clone()
}

fn tokens(vocab: usize, dim: usize) -> BTreeMap<String, Vec<usize>> {
    BTreeMap::from([("token_embd.weight".to_owned(), vec![vocab, dim])])
}

#[test]
fn a_converted_file_is_the_published_model() {
    let found = from_gguf(&smollm2(), &tokens(49152, 576), None).unwrap();
    let mut expected = interleaved(&presets::smollm2_135m());
    expected.init.std = 0.02; // which the file does not say
    assert_eq!((found.config, found.notes), (expected, vec![]));
    let parameters =
        |published: &Published| Outline::of(&Builder::new(published.config.clone())).unwrap().parameters();
    assert_eq!(parameters(&from_gguf(&smollm2(), &tokens(49152, 576), None).unwrap()), 134_515_008);
    // A head of its own is a tensor of its own.
    let mut tensors = tokens(49152, 576);
    tensors.insert("output.weight".to_owned(), vec![49152, 576]);
    assert_eq!(parameters(&from_gguf(&smollm2(), &tensors, None).unwrap()), 134_515_008 + 49152 * 576);
}

#[test]
fn gpt2_is_read_as_its_converter_writes_it() {
    let metadata = json!({
        "general.architecture": "gpt2", "gpt2.block_count": 12, "gpt2.context_length": 1024,
        "gpt2.embedding_length": 768, "gpt2.feed_forward_length": 3072, "gpt2.attention.head_count": 12,
        "gpt2.attention.layer_norm_epsilon": 9.999999747378752e-6, "general.file_type": 1,
    });
    let found = from_gguf(metadata.as_object().unwrap(), &tokens(50257, 768), None).unwrap();
    assert_eq!(ModelConfig { name: "gpt2-small".to_owned(), ..found.config }, presets::gpt2_small());
}

#[test]
fn tensors_tell_which_projections_have_a_bias() {
    let check = |names: &[&str], bias: Biases| {
        let mut tensors = tokens(49152, 576);
        tensors.extend(names.iter().map(|name| ((*name).to_owned(), vec![576])));
        let found = from_gguf(&smollm2(), &tensors, None).unwrap().config;
        assert_eq!(found.blocks[29].multi_head().unwrap().bias, bias);
        through_a_file(Family::Llama, &found).config == found
    };
    assert!(check(&[], Biases::None));
    assert!(check(&["blk.0.attn_q.bias"], Biases::Qkv));
    assert!(check(&["blk.0.attn_q.bias", "blk.0.attn_output.bias", "blk.0.ffn_up.bias"], Biases::All));
}

/// The factors as llama.cpp's converter computes them, in f32.
fn converted(base: f32, head_dim: usize, [factor, low, high, original]: [f32; 4]) -> Vec<f32> {
    let factors = (0..head_dim / 2).map(|i| {
        let frequency = 1.0 / base.powf(2.0 * i as f32 / head_dim as f32);
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    });
    factors.collect()
}

#[test]
fn the_factors_of_llama_3_are_recognised_and_others_kept() {
    let check = |preset: ModelConfig, factor: f32| {
        let Gguf { metadata, rope_freqs } = Family::Llama.to_gguf(&preset).unwrap();
        let head_dim = preset.blocks[0].multi_head().unwrap().head_dim(preset.dim);
        let factors = converted(5e5, head_dim, [factor, 1.0, 4.0, 8192.0]);
        for (ours, theirs) in rope_freqs.unwrap().iter().zip(&factors) {
            assert!((ours / theirs - 1.0).abs() < 5e-6, "{ours} {theirs}");
        }
        // Without what only our own files say.
        let others = metadata.into_iter().filter(|(key, _)| !key.starts_with("formwork."));
        let others: Map<_, _> = others.collect();
        let mut shapes = tokens(preset.vocab, preset.dim);
        if preset.head == (formwork_model::HeadConfig::Untied {}) {
            shapes.insert("output.weight".to_owned(), vec![preset.vocab, preset.dim]);
        }
        let found = from_gguf(&others, &shapes, Some(factors.clone())).unwrap().config;
        assert_eq!(found, interleaved(&preset));
        let mut odd = factors;
        odd[3] = 1.5;
        let found = from_gguf(&others, &shapes, Some(odd.clone())).unwrap().config;
        match &rope(&found).unwrap().scaling {
            Some(RopeScaling::Factors(kept)) => {
                assert!(kept.factors.iter().zip(&odd).all(|(a, b)| *a == f64::from(*b)));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(through_a_file(Family::Llama, &found).config, found);
        let error = Family::Llama.to_config_json(&with_pairs(&found, Pairs::Halves)).unwrap_err().to_string();
        assert!(
            error.starts_with("attn.position.scaling: expected a scaling that config.json can say"),
            "{error}"
        );
    };
    check(presets::llama3_1_405b(), 8.0);
    check(presets::llama3_2_1b(), 32.0);
}

/// A model with another scaling.
fn scaled(scaling: RopeScaling) -> ModelConfig {
    let mut config = presets::smollm2_135m();
    attentions(&mut config).for_each(|attn| {
        if let formwork_model::position::PositionConfig::Rope(rope) = &mut attn.position {
            rope.scaling = Some(scaling.clone());
        }
    });
    config
}

#[test]
fn yarn_says_to_llama_cpp_what_it_means() {
    let yarn = YarnScaling { attention_factor: Some(1.3), ..YarnScaling::new(4.0, 2048) };
    let written: BTreeMap<_, _> =
        Family::Llama.to_gguf(&scaled(RopeScaling::Yarn(yarn))).unwrap().metadata.into_iter().collect();
    assert_eq!(written["llama.rope.scaling.type"], "yarn");
    // llama.cpp multiplies the paper's factor by this one.
    let times = written["llama.rope.scaling.attn_factor"].as_f64().unwrap();
    assert!((times * (0.1 * 4f64.ln() + 1.0) - 1.3).abs() < 1e-12);
    // A file that says only that.
    let mut metadata = smollm2();
    metadata.extend([
        ("llama.rope.scaling.type".to_owned(), "yarn".into()),
        ("llama.rope.scaling.factor".to_owned(), 4.0.into()),
        ("llama.rope.scaling.attn_factor".to_owned(), times.into()),
    ]);
    let found = from_gguf(&metadata, &tokens(49152, 576), None).unwrap().config;
    let spectrum = rope(&found).unwrap().spectrum(64, 1).unwrap();
    assert!((spectrum.scale - 1.3).abs() < 1e-6, "{}", spectrum.scale);
}

#[test]
fn what_a_file_cannot_say_is_not_written() {
    let check = |config: &ModelConfig, message: &str| {
        let error = Family::Llama.to_gguf(config).unwrap_err().to_string();
        assert!(error.starts_with(message), "expected {message}\nfound    {error}");
    };
    let dynamic = formwork_model::position::DynamicScaling { factor: 2.0, original_context: 4096 };
    check(
        &scaled(RopeScaling::Dynamic(dynamic)),
        "attn.position.scaling: expected a scaling that GGUF can say, found dynamic",
    );
    let exact = YarnScaling { ramp: Ramp::Exact, ..YarnScaling::new(4.0, 2048) };
    check(&scaled(RopeScaling::Yarn(exact)), "attn.position.scaling.ramp: expected whole");
    let mut gelu = presets::llama3_8b();
    crate::common::residuals(&mut gelu).for_each(|parts| {
        parts.ffn =
            serde_json::from_value(json!({"kind": "gated", "hidden": 14336, "activation": {"kind": "gelu"}}))
                .unwrap();
    });
    check(&gelu, "ffn.activation: expected silu");
    let llama3 =
        Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    assert!(Family::Llama.to_gguf(&scaled(RopeScaling::Llama3(llama3))).unwrap().rope_freqs.is_some());
}

#[test]
fn metadata_that_changes_the_result_is_refused_by_key() {
    let with =
        |fields: Value, tensors: &BTreeMap<String, Vec<usize>>, freqs: Option<Vec<f32>>, message: &str| {
            let mut metadata = smollm2();
            metadata.extend(fields.as_object().unwrap().clone());
            let error =
                from_gguf(&metadata, tensors, freqs).map(|found| found.config.name).unwrap_err().to_string();
            assert!(error.starts_with(message), "expected {message}\nfound    {error}");
        };
    let check = |fields: Value, message: &str| with(fields, &tokens(49152, 576), None, message);
    check(
        json!({"general.architecture": "qwen2"}),
        "general.architecture: expected one of gpt2, llama, found \"qwen2\"",
    );
    check(
        json!({"general.architecture": null}),
        "general.architecture: expected one of gpt2, llama, found nothing",
    );
    check(
        json!({"general.architecture": "clip"}),
        "general.architecture: expected one of gpt2, llama, found \"clip\"; the file holds the eyes of a vision model",
    );
    check(
        json!({"general.type": "adapter"}),
        "general.type: expected \"model\", found \"adapter\"; the file holds no model",
    );
    check(
        json!({"split.count": 3}),
        "split.count: expected 1, found 3; the model is in several files; join them",
    );
    check(json!({"llama.block_count": null}), "missing the key llama.block_count in the metadata");
    check(
        json!({"llama.block_count": 1_000_000_000}),
        "llama.block_count: expected a whole number from 1 to 2048",
    );
    check(
        json!({"llama.block_count": "30"}),
        "llama.block_count: expected a whole number from 1 to 2048, found \"30\"",
    );
    check(json!({"llama.expert_count": 8}), "llama.expert_count: expected 0, found 8");
    check(json!({"llama.logit_scale": 0.5}), "llama.logit_scale: expected 0 or 1, found 0.5");
    check(
        json!({"llama.attention.sliding_window": 4096}),
        "llama.attention.sliding_window: expected 0, found 4096",
    );
    check(json!({"llama.attention.causal": false}), "llama.attention.causal: expected true, found false");
    check(
        json!({"llama.attention.scale": 0.5}),
        "llama.attention.scale: expected 0.125, as head widths have it, found 0.5",
    );
    check(
        json!({"llama.attention.key_length": 32}),
        "llama.rope.dimension_count: expected 32, the width of a head, found 64",
    );
    check(json!({"llama.attention.value_length": 32}), "llama.attention.value_length: expected 64");
    check(
        json!({"llama.attention.head_count": 7}),
        "llama.attention.head_count: expected a divisor of llama.embedding_length 576",
    );
    check(
        json!({"llama.attention.head_count": [9, 8]}),
        "llama.attention.head_count: expected one number, as all layers are alike",
    );
    check(
        json!({"llama.attention.head_count_kv": 2}),
        "llama.attention.head_count_kv: expected a divisor of",
    );
    check(
        json!({"llama.rope.scaling.type": "longrope"}),
        "llama.rope.scaling.type: expected one of none, linear, yarn, found \"longrope\"",
    );
    check(
        json!({"llama.rope.scaling.factor": 0.25}),
        "llama.rope.scaling.factor: expected a number of 1 or more",
    );
    check(
        json!({"llama.rope.scaling.attn_factor": 1.5}),
        "llama.rope.scaling.attn_factor: expected 1, as the scaling is not yarn",
    );
    check(json!({"llama.rope.freq_base": -1.0}), "llama.rope.freq_base: expected a number above 1");
    let shape = |name: &str| {
        let mut tensors = tokens(49152, 576);
        tensors.insert(name.to_owned(), vec![1, 1]);
        tensors
    };
    with(
        json!({}),
        &shape("blk.0.attn_qkv.weight"),
        None,
        "blk.0.attn_qkv.weight: expected a tensor for each projection",
    );
    with(
        json!({}),
        &shape("blk.0.attn_output.bias"),
        None,
        "blk.0.attn_output.bias: expected biases of q, k and v too",
    );
    with(json!({"llama.vocab_size": null}), &BTreeMap::new(), None, "missing the matrix token_embd.weight");
    let freqs = |freqs: Vec<f32>, fields: Value, message: &str| {
        with(fields, &tokens(49152, 576), Some(freqs), message);
    };
    freqs(
        vec![2.0; 31],
        json!({}),
        "rope_freqs.weight: expected 32 factors, half the head width 64, found 31",
    );
    freqs(vec![-2.0; 32], json!({}), "rope_freqs.weight: expected factors above 0, found -2");
    freqs(vec![f32::NAN; 32], json!({}), "rope_freqs.weight: expected factors above 0, found NaN");
    freqs(
        vec![2.0; 32],
        json!({"llama.rope.scaling.factor": 4.0}),
        "llama.rope.scaling.type: expected none, as rope_freqs.weight",
    );
}

#[test]
fn layers_that_are_alike_may_be_listed_and_unknown_keys_are_noted() {
    let mut metadata = smollm2();
    metadata.insert("llama.attention.head_count_kv".to_owned(), json!(vec![3; 30]));
    metadata.insert("llama.colour".to_owned(), json!("green"));
    metadata.insert("quantize.imatrix.file".to_owned(), json!("x"));
    metadata.insert("llama.rope.scale_linear".to_owned(), json!(4.0));
    let found = from_gguf(&metadata, &tokens(49152, 576), Some(vec![1.0; 32])).unwrap();
    assert_eq!(found.config.blocks[3].multi_head().unwrap().kv_heads, Some(3));
    assert_eq!(found.notes, ["metadata: key llama.colour is not known; ignored"]);
    assert_eq!(
        rope(&found.config).unwrap().scaling,
        Some(RopeScaling::Linear(LinearScaling { factor: 4.0 }))
    );
}
