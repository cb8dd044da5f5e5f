//! Published `config.json` files: what they mean, in the spelling of their time and of today, and what is refused.

use std::collections::BTreeMap;

use formwork_model::{
    Builder, ModelConfig, Outline,
    position::{Pairs, PositionConfig, RopeConfig},
    presets,
    published::{self, Family, Published},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One file as the reference implementation sees it; see `tests/golden/published.py`.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) given: Value,
    pub(crate) saved: Value,
    parameters: u64,
    frequencies: Option<Vec<f64>>,
    scale: Option<f64>,
    longest: Option<usize>,
    frequencies_longest: Option<Vec<f64>>,
    pub(crate) tensors: Option<BTreeMap<String, Vec<usize>>>,
}

pub(crate) fn cases() -> BTreeMap<String, Case> {
    let golden: Value = serde_json::from_str(include_str!("../golden/published.json")).unwrap();
    serde_json::from_value(golden["cases"].clone()).unwrap()
}

pub(crate) fn read(value: &Value) -> Published {
    published::read(value).unwrap_or_else(|error| panic!("{error}\n{value:#}"))
}

pub(crate) fn rope(config: &ModelConfig) -> Option<&RopeConfig> {
    match &config.blocks[0].multi_head()?.position {
        PositionConfig::Rope(rope) => Some(rope),
        _ => None,
    }
}

/// The reference computes frequencies in f32.
const F32: f64 = 2e-6;

#[test]
fn a_file_means_what_it_means_to_the_reference() {
    for (name, case) in cases() {
        let Published { config, notes, .. } = read(&case.given);
        let parameters = Outline::of(&Builder::new(config.clone())).unwrap().parameters();
        assert_eq!(parameters, case.parameters, "{name}");
        let unknown: Vec<_> = notes.iter().filter(|note| note.contains("not known")).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        let Some(rope) = rope(&config) else { continue };
        assert_eq!(rope.pairs, Pairs::Halves, "{name}");
        let head_dim = config.blocks[0].multi_head().unwrap().head_dim(config.dim);
        let check = |length: usize, frequencies: &[f64], scale: f64| {
            let found = rope.spectrum(head_dim, length).unwrap();
            assert!((found.scale - scale).abs() < F32, "{name}: scale {} and {scale}", found.scale);
            assert_eq!(found.frequencies.len(), frequencies.len(), "{name}");
            for (found, expected) in found.frequencies.iter().zip(frequencies) {
                assert!((found / expected - 1.0).abs() < F32, "{name} at {length}: {found} and {expected}");
            }
        };
        check(1, case.frequencies.as_deref().unwrap(), case.scale.unwrap());
        if let (Some(longest), Some(frequencies)) = (case.longest, &case.frequencies_longest) {
            assert_eq!(config.context, longest, "{name}: dynamic scaling goes on past its original context");
            check(longest, frequencies, 1.0);
        }
    }
}

#[test]
fn todays_spelling_means_the_same_as_the_old_one() {
    for (name, case) in cases() {
        let (old, new) = (read(&case.given), read(&case.saved));
        let config = ModelConfig { name: old.config.name.clone(), ..new.config };
        assert_eq!(config, old.config, "{name}");
        let ours = old.family.to_config_json(&old.config).unwrap();
        // What we write is what transformers writes, as far as the two say the same fields.
        for (field, value) in ours.as_object().unwrap() {
            let saved = &case.saved[field];
            let same = match (value, saved) {
                (Value::Object(ours), Value::Object(saved)) => {
                    ours.iter().all(|(field, value)| value.as_f64() == saved[field].as_f64())
                }
                (value, saved) => {
                    saved.is_null()
                        || value == saved
                        || value.as_f64().is_some_and(|x| Some(x) == saved.as_f64())
                }
            };
            assert!(same, "{name}: {field}: {value} and {saved}");
        }
        assert_eq!(read(&ours).config, old.config, "{name}");
        assert_eq!(read(&ours).notes, [""; 0], "{name}");
    }
}

#[test]
fn the_famous_files_are_the_presets() {
    let check = |case: &str, preset: &str| {
        let expected = (presets::find(preset).unwrap().config)();
        let found = ModelConfig { name: preset.to_owned(), ..read(&cases()[case].given).config };
        assert_eq!(found, expected, "{case}");
    };
    check("gpt2", "gpt2-small");
    check("llama-7b", "llama1-7b");
    check("llama-2-7b", "llama2-7b");
    check("llama-2-70b", "llama2-70b");
    check("llama-3-8b", "llama3-8b");
    check("llama-3.2-1b", "llama3.2-1b");
    check("codellama-7b", "codellama-7b");
    check("smollm2-135m", "smollm2-135m");
}

#[test]
fn every_preset_is_the_same_after_its_published_file() {
    for preset in presets::ALL {
        let config = (preset.config)();
        assert_eq!(Family::of(&config).unwrap(), preset.layout, "{}", preset.name);
        let found = read(&preset.layout.to_config_json(&config).unwrap());
        assert_eq!((found.family, found.config), (preset.layout, config), "{}", preset.name);
        assert_eq!(found.notes, [""; 0], "{}", preset.name);
    }
}

#[test]
fn what_is_left_out_is_assumed_and_said() {
    let found = read(&json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 4096}));
    assert_eq!(ModelConfig { name: "llama1-7b".to_owned(), ..found.config }, presets::llama1_7b());
    let assumed =
        |field: &str, value: usize| format!("config.json: field {field} is not there; {value} is assumed");
    assert_eq!(
        found.notes,
        [
            assumed("vocab_size", 32000),
            assumed("max_position_embeddings", 2048),
            assumed("num_hidden_layers", 32),
            assumed("num_attention_heads", 32),
            assumed("intermediate_size", 11008),
        ]
    );
    let found = read(&crate::published_refusals::changed(
        "llama",
        &json!({
            "colour": "green", "rope_scaling": {"type": "linear", "factor": 2, "shade": 1}, "sliding_window": null,
            "eos_token_id": [7, 100_000_000], "torch_dtype": 3,
        }),
    ));
    assert_eq!(
        found.notes,
        [
            "config.json: field colour is not known; ignored",
            "config.json: field rope_scaling.shade is not known; ignored",
        ]
    );
}

#[test]
fn a_file_of_nothing_but_unknown_fields_gives_a_few_notes() {
    let mut fields = cases()["llama-2-7b"].given.clone();
    for i in 0..1000 {
        fields[format!("{}{i}", "x".repeat(i))] = json!(i);
    }
    let notes = read(&fields).notes;
    assert_eq!((notes.len(), notes[32].as_str()), (33, "and more that is not known"));
    assert!(notes.iter().all(|note| note.len() < 200));
}

#[test]
fn where_two_fields_differ_the_one_that_counts_is_the_references() {
    let found = read(&crate::published_refusals::changed(
        "llama",
        &json!({
            "rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}, "rope_scaling": null,
        }),
    ));
    assert_eq!(rope(&found.config).unwrap().theta, 5e5);
    assert_eq!(
        found.notes,
        ["config.json: rope_parameters.rope_theta counts, rope_theta says something else"]
    );
    let found = read(&crate::published_refusals::changed(
        "llama",
        &json!({
            "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 5e5},
        }),
    ));
    assert_eq!(rope(&found.config).unwrap().theta, 25000.0);
    assert_eq!(found.notes, ["config.json: rope_scaling counts, rope_parameters says something else"]);
}

/// Numbers from a seed: xorshift.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    pub(crate) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

/// A legal file of either family, drawn.
pub(crate) fn drawn(chance: &mut Chance) -> Value {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    let heads = 1 + chance.below(7);
    let head_dim = 2 * (1 + chance.below(8));
    let context = 8 + chance.below(90);
    let is_llama = chance.below(3) > 0;
    set("vocab_size", (1 + chance.below(300)).into());
    set("initializer_range", chance.of(&[0.02, 0.0, 0.041]).into());
    set("tie_word_embeddings", chance.of(&[true, false]).into());
    if !is_llama {
        set("model_type", "gpt2".into());
        set("n_positions", context.into());
        set("n_head", heads.into());
        set("n_embd", (heads * head_dim).into());
        set("n_layer", (1 + chance.below(4)).into());
        set("n_inner", chance.of(&[Value::Null, 37.into(), (4 * heads * head_dim).into()]));
        set("activation_function", chance.of(&["gelu_new", "gelu_pytorch_tanh"]).into());
        set("resid_pdrop", chance.of(&[0.0, 0.1, 0.3]).into());
        set("embd_pdrop", chance.of(&[0.0, 0.1, 0.3]).into());
        set("attn_pdrop", chance.of(&[0.0, 0.1, 0.3]).into());
        set("layer_norm_epsilon", chance.of(&[1e-5, 1e-6, 3e-12]).into());
        return Value::Object(fields);
    }
    set("model_type", "llama".into());
    set("_name_or_path", chance.of(&["", "tiny", "some/where"]).into());
    set("max_position_embeddings", context.into());
    set("num_attention_heads", (2 * heads).into());
    set(
        "num_key_value_heads",
        chance.of(&[Value::Null, 1.into(), 2.into(), heads.into(), (2 * heads).into()]),
    );
    set("hidden_size", (2 * heads * chance.of(&[head_dim, head_dim + 2])).into());
    set("head_dim", head_dim.into());
    set("num_hidden_layers", (1 + chance.below(4)).into());
    set("intermediate_size", (1 + chance.below(99)).into());
    set("rms_norm_eps", chance.of(&[1e-5, 1e-6, 2.5e-7]).into());
    set("attention_bias", chance.of(&[true, false]).into());
    set("mlp_bias", chance.of(&[true, false]).into());
    set("attention_dropout", chance.of(&[0.0, 0.1]).into());
    set("rope_theta", chance.of(&[json!(10000), json!(5e5), json!(1234.5)]));
    let factor = chance.of(&[1.0, 2.0, 2.5, 8.0, 40.0]);
    let original = 1 + chance.below(context);
    let yarn = json!({"rope_type": "yarn", "factor": chance.of(&[2.0, 2.5, 8.0, 40.0]), "original_max_position_embeddings": original,
        "beta_fast": chance.of(&[32.0, 8.0]), "beta_slow": chance.of(&[1.0, 0.5]),
        "attention_factor": chance.of(&[Value::Null, json!(1.0), json!(1.3)])});
    let llama3 = json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": chance.of(&[1.0, 1.5]),
        "high_freq_factor": 4.0, "original_max_position_embeddings": original});
    let linear = json!({"type": "linear", "factor": factor});
    set("rope_scaling", chance.of(&[Value::Null, linear, yarn, llama3]));
    Value::Object(fields)
}

#[test]
fn a_drawn_model_is_the_same_after_its_published_file() {
    let mut chance = Chance(7);
    for _ in 0..2000 {
        let drawn = drawn(&mut chance);
        let Published { family, config, .. } = read(&drawn);
        let written = family.to_config_json(&config).unwrap();
        assert_eq!(read(&written), Published { family, config, notes: vec![] }, "{drawn:#}\n{written:#}");
    }
}
