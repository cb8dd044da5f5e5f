//! Files of strangers: whatever they hold, an answer or one sentence, never a panic, and no memory to speak of.

use formwork_model::published::{self, Tensors};
use serde_json::{Map, Value, json};

use crate::published_config::{Chance, cases, read};

/// A value that a field should not have, or might.
fn hostile(chance: &mut Chance) -> Value {
    let long = "é".repeat(1 + chance.below(500));
    let deep = (0..60).fold(Value::Null, |inner, _| json!([inner]));
    chance.of(&[
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(2),
        json!(3),
        json!(7),
        json!(10_000),
        json!(1_000_000_000),
        json!(i32::MAX),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(-1e300),
        json!(1e-320),
        json!(0.5),
        json!(1.0),
        json!(""),
        json!("yarn"),
        json!("llama3"),
        json!("dynamic"),
        json!("llama"),
        json!("gpt2"),
        json!([]),
        json!({}),
        json!(["LlamaForCausalLM"]),
        json!([1, "x", null]),
        json!({"type": "dynamic", "factor": 1e300}),
        json!({"rope_type": "yarn", "factor": 1e300, "original_max_position_embeddings": 1, "beta_slow": 1e-300}),
        json!({"rope_type": "llama3", "factor": 2, "low_freq_factor": 1e-300, "high_freq_factor": 1e300}),
        json!({"rope_theta": 1.0000000000000002, "rope_type": "yarn", "factor": 2}),
        json!(long),
        deep,
    ])
}

fn mutated(good: &Map<String, Value>, chance: &mut Chance) -> Map<String, Value> {
    let mut fields = good.clone();
    for _ in 0..=chance.below(4) {
        let names: Vec<_> = fields.keys().cloned().collect();
        if names.is_empty() {
            break;
        }
        let name = chance.of(&names);
        match chance.below(8) {
            0 => drop(fields.remove(&name)),
            1 => drop(fields.insert(format!("{name}x"), hostile(chance))),
            2 if fields[&name].is_object() => {
                let inner = mutated(fields[&name].as_object().unwrap(), chance);
                fields.insert(name, Value::Object(inner));
            }
            3 => drop(fields.insert(
                chance.of(&["rope_scaling", "rope_parameters", "head_dim", "n_inner"]).to_owned(),
                hostile(chance),
            )),
            _ => drop(fields.insert(name, hostile(chance))),
        }
    }
    fields
}

/// A good answer holds together; a bad one is short.
fn judge(found: formwork_model::Result<published::Published>, from: &Map<String, Value>) -> bool {
    match found {
        Ok(found) => {
            assert!(found.config.blocks.len() <= 2048);
            found.config.validate().unwrap();
            // The layout says what it was read from, or why it cannot.
            if let Ok(again) = found.family.to_config_json(&published::with_pairs(
                &found.config,
                formwork_model::position::Pairs::Halves,
            )) {
                published::read(&again).unwrap_or_else(|error| panic!("{error}\n{from:#?}\n{again:#}"));
            }
            true
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 1000 && !text.contains('\n'), "{text}");
            false
        }
    }
}

#[test]
fn ten_thousand_damaged_configs_are_read_or_refused() {
    let good: Vec<_> = cases()
        .into_values()
        .flat_map(|case| [case.given, case.saved])
        .map(|value| value.as_object().unwrap().clone())
        .collect();
    let mut chance = Chance(42);
    let mut counts = [0; 2];
    for _ in 0..10_000 {
        let fields = mutated(&chance.of(&good), &mut chance);
        counts[usize::from(judge(published::read(&Value::Object(fields.clone())), &fields))] += 1;
    }
    assert!(counts[0] > 2000 && counts[1] > 1000, "{counts:?}");
}

#[test]
fn ten_thousand_damaged_texts_are_read_or_refused() {
    let good: Vec<_> = cases().into_values().map(|case| case.given.to_string().into_bytes()).collect();
    let mut chance = Chance(43);
    let mut parsed = 0;
    for _ in 0..10_000 {
        let mut text = chance.of(&good);
        for _ in 0..=chance.below(3) {
            let at = chance.below(text.len());
            match chance.below(3) {
                0 => text[at] = chance.of(b"0123456789-.eE[]{},:\"tfn\xff\0"),
                1 => drop(text.remove(at)),
                _ => text.insert(at, chance.of(b"0123456789-.e[]{},:\"")),
            }
        }
        if let Ok(value) = serde_json::from_slice::<Value>(&text) {
            parsed += 1;
            judge(published::read(&value), &Map::new());
        }
    }
    assert!(parsed > 2000, "{parsed}");
}

#[test]
fn ten_thousand_damaged_metadata_are_read_or_refused() {
    let good: Vec<_> =
        ["gpt2", "llama-2-7b", "llama-3.1-8b", "llama-yarn-all", "llama-linear", "llama-biases"]
            .iter()
            .filter_map(|name| {
                let found = read(&cases()[*name].given);
                let gguf = found.family.to_gguf(&found.config).ok()?;
                Some((gguf.metadata.into_iter().collect::<Map<_, _>>(), gguf.rope_freqs))
            })
            .collect();
    assert!(good.len() >= 4);
    let mut chance = Chance(44);
    let mut counts = [0; 2];
    for _ in 0..10_000 {
        let (metadata, freqs) = chance.of(&good);
        let metadata = mutated(&metadata, &mut chance);
        let rope_freqs = match chance.below(4) {
            0 => Some(vec![chance.of(&[1.0, 0.0, -1.0, f32::NAN, 1e30, 1e-40]); chance.of(&[0, 2, 64])]),
            _ => freqs,
        };
        let shape =
            chance.of(&[Some(vec![7, 5]), Some(vec![]), Some(vec![usize::MAX, 2]), Some(vec![0, 0]), None]);
        let tensors = Tensors {
            shape: &|_: &str| shape.clone().filter(|_| !metadata.len().is_multiple_of(3)),
            rope_freqs,
        };
        counts[usize::from(judge(published::from_gguf(&metadata, &tensors), &metadata))] += 1;
    }
    assert!(counts[0] > 2000 && counts[1] > 300, "{counts:?}");
}
