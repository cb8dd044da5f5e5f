//! The small JSON files of published models, damaged at random in memory: reading one is an error or a model, never a panic,
//! and takes no more memory than the rule for files from strangers allows.
//!
//! A million: `FORMWORK_MUTATIONS=1000000 cargo test --release -p formwork-recipes --test configs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod damage;
mod memory;
mod tiny;

use damage::mutated;
use formwork_model::{Builder, Description, Outline};
use formwork_recipes::{
    chat::{ChatTemplate, Message, Next},
    config_from_bytes,
    settings::from_files,
};
use formwork_testkit::FILE_SLACK;
use memory::{cost, seeds};
use serde_json::{Value, json};
use tiny::*;

/// Configs as they are published: both families, spellings from before and since transformers 5, every kind of scaling.
fn configs() -> Vec<Value> {
    let llama = |more: Value| {
        let mut config = llama_config(true);
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let scaled = |scaling: Value| llama(json!({"rope_scaling": scaling}));
    let mut since =
        llama(json!({"dtype": "float32", "head_dim": 8, "attention_bias": true, "mlp_bias": true,
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}));
    since.as_object_mut().unwrap().remove("rope_theta");
    vec![
        llama_config(false),
        gpt2_config(),
        since,
        scaled(json!({"type": "linear", "factor": 2.0})),
        scaled(json!({"rope_type": "dynamic", "factor": 4.0})),
        scaled(
            json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32,
            "beta_slow": 1, "mscale": 0.7, "attention_factor": 1.1}),
        ),
    ]
}

fn generations() -> Vec<Value> {
    vec![
        json!({"bos_token_id": 1, "eos_token_id": [2, 7], "pad_token_id": 0, "do_sample": true, "temperature": 0.6,
            "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1, "transformers_version": "4.51.0"}),
        json!({"bad_words_ids": [[1], [2, 3]], "stop_strings": ["a", "b"], "suppress_tokens": [4], "num_beams": 1,
            "max_new_tokens": 20, "min_new_tokens": 2, "no_repeat_ngram_size": 3, "begin_suppress_tokens": [5]}),
    ]
}

const TEMPLATE: &str = "{% for m in messages %}{{ '<s>' + m['role'] + ': ' + m.content | trim }}{% endfor %}";

fn tokenizer_configs() -> Vec<Value> {
    let named =
        json!([{"name": "default", "template": TEMPLATE}, {"name": "tools", "template": "{{ tools }}"}]);
    vec![
        json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "add_bos_token": true,
            "chat_template": TEMPLATE, "model_max_length": 1e30}),
        json!({"eos_token": "</s>", "chat_template": named, "unk_token": null}),
    ]
}

/// Damages each text `count` times in all, hands it to `read`, which says whether it was taken, and counts.
fn damaged(texts: &[Value], count: u64, read: &dyn Fn(&[u8]) -> Result<(), String>) {
    let alone = memory::alone();
    let texts: Vec<Vec<u8>> = texts.iter().map(|text| serde_json::to_vec_pretty(text).unwrap()).collect();
    for text in &texts {
        read(text).unwrap();
    }
    let (seeds, mut taken, mut refused) = (seeds(count), 0, 0);
    let count = seeds.end;
    for seed in seeds {
        let text = mutated(&texts[(seed % texts.len() as u64) as usize], seed);
        let (found, most) = cost(&alone, || read(&text));
        assert!(most <= 4 * text.len() + FILE_SLACK, "{seed}: {most} bytes for {}: {found:?}", text.len());
        match found {
            Ok(()) => taken += 1,
            Err(message) => {
                refused += 1;
                assert!(!message.is_empty() && message.len() < 2000, "{seed}: {message}");
                assert!(!message.contains(char::is_control), "{seed}: {message:?}");
            }
        }
    }
    assert!(
        taken > count / 20 && refused > count / 4,
        "{taken} taken, {refused} refused: the changes reach something"
    );
}

#[test]
fn a_damaged_config_is_an_error_or_a_model() {
    damaged(&configs(), 12_000, &|text| {
        let config = config_from_bytes("config.json", text).map_err(|error| error.to_string())?;
        // What a command shows of it computes with its numbers as well.
        Description::of(&Builder::new(config)).map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn what_a_config_claims_takes_no_memory_before_it_is_believed() {
    let alone = memory::alone();
    let check = |name: &str, value: u64, expected: Result<(), &str>| {
        let mut config = llama_config(true);
        (config["num_attention_heads"], config["num_key_value_heads"]) = (1.into(), 1.into());
        config[name] = value.into();
        let text = config.to_string();
        let (found, most) = cost(&alone, || {
            let config = config_from_bytes("config.json", text.as_bytes())?;
            Outline::of(&Builder::new(config)).map(|_| ())
        });
        assert!(most <= 4 * text.len() + FILE_SLACK, "{name} {value}: {most} bytes");
        match (found, expected) {
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, expected) => assert_eq!(found.is_ok(), expected.is_ok(), "{name} {value}: {found:?}"),
        }
    };
    check("hidden_size", 16384, Ok(()));
    check("hidden_size", 16386, Err("head_dim: expected at most 16384"));
    check("hidden_size", (1 << 31) - 2, Err("head_dim: expected at most 16384"));
    check("head_dim", (1 << 31) - 2, Err("head_dim: expected at most 16384"));
    check("num_hidden_layers", 2048, Ok(()));
    check("num_hidden_layers", 2049, Err("num_hidden_layers: expected a whole number from 1 to 2048"));
    check("vocab_size", (1 << 31) - 1, Ok(()));
    check("intermediate_size", (1 << 31) - 1, Ok(()));
    check("max_position_embeddings", (1 << 31) - 1, Ok(()));
}

#[test]
fn damaged_settings_are_an_error_or_settings() {
    damaged(&generations(), 6_000, &|text| {
        let file = |name: &str| (name == "generation_config.json").then(|| text.to_vec());
        let found = from_files(&file, VOCAB).map_err(|error| error.to_string())?;
        found.settings.request().map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn a_damaged_tokenizer_config_is_an_error_or_a_template() {
    let tokenizer = tokenizer();
    damaged(&tokenizer_configs(), 3_000, &|text| {
        let source = ChatTemplate::source_in(text).map_err(|error| error.to_string())?;
        let _ = tokenizer.clone().with_config(text).map_err(|error| error.to_string())?;
        let Some(source) = source else { return Ok(()) };
        let template = ChatTemplate::new(source).map_err(|error| error.to_string())?;
        template
            .render(&[Message::user("the cat")], Next::Answer)
            .map(|_| ())
            .map_err(|error| error.to_string())
    });
}
