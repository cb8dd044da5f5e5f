//! What published `config.json` files are refused for, each by the field's name and in one sentence.

use formwork_model::{
    ModelConfig,
    attention::Biases,
    position::Pairs,
    presets,
    published::{self, Family},
};
use serde_json::{Value, json};

use crate::published_config::cases;

/// A good file with some fields replaced; null takes a field away.
pub(crate) fn changed(family: &str, fields: &Value) -> Value {
    let mut config = cases()[if family == "gpt2" { "gpt2-plain" } else { "llama-defaults" }].given.clone();
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

#[track_caller]
fn refused(family: &str, fields: &Value, message: &str) {
    let error =
        published::read(&changed(family, fields)).map(|found| found.config.name).unwrap_err().to_string();
    assert!(error.starts_with(message), "expected {message}\nfound    {error}");
    assert!(!error.contains('\n') && error.len() < 400, "{error}");
}

#[test]
fn a_field_that_changes_the_result_is_refused_by_name() {
    let hint = "; it changes what the model computes, and nothing else is supported";
    let llama = |fields: Value, message: &str| refused("llama", &fields, message);
    llama(json!({"sliding_window": 4096}), &format!("sliding_window: expected null, found 4096{hint}"));
    llama(
        json!({"layer_types": ["full_attention", "sliding_attention"]}),
        "layer_types.1: expected \"full_attention\"",
    );
    llama(
        json!({"layer_types": "full"}),
        "layer_types: expected a list of \"full_attention\", found \"full\"",
    );
    llama(
        json!({"quantization_config": {"bits": 4}}),
        "quantization_config: expected null, found an object of 1 fields",
    );
    llama(json!({"rope_interleaved": true}), "rope_interleaved: expected false, found true");
    llama(json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor: expected 1, found 0.5");
    llama(json!({"use_qk_norm": true}), "use_qk_norm: expected false, found true");
    llama(json!({"num_local_experts": 8}), "num_local_experts: expected 0 or 1, found 8");
    llama(json!({"add_cross_attention": true}), "add_cross_attention: expected false, found true");
    llama(json!({"is_encoder_decoder": true}), "is_encoder_decoder: expected false, found true");
    llama(json!({"pruned_heads": {"0": [1]}}), "pruned_heads: expected {}, found an object");
    llama(json!({"per_layer_config": {}}), "per_layer_config: expected null, found an object");
    llama(json!({"hidden_act": "quick_gelu"}), "hidden_act: expected one of gelu_new, ");
    let scaling = |scaling: Value, message: &str| llama(json!({"rope_scaling": scaling}), message);
    let kinds = "expected one of default, linear, dynamic, yarn, llama3";
    scaling(
        json!({"rope_type": "longrope", "factor": 2.0}),
        &format!("rope_scaling: rope_type: {kinds}, found \"longrope\""),
    );
    scaling(
        json!({"type": "mrope", "mrope_section": [1, 1]}),
        &format!("rope_scaling: type: {kinds}, found \"mrope\""),
    );
    scaling(json!({"type": 3}), "rope_scaling: type: expected a text, found 3");
    scaling(json!("linear"), "rope_scaling: expected an object, found \"linear\"");
    scaling(json!({"type": "linear"}), "rope_scaling: missing the field factor");
    scaling(
        json!({"type": "linear", "factor": 0.5}),
        "rope_scaling: factor: expected a number of 1 or more, found 0.5",
    );
    scaling(
        json!({"rope_type": "llama3", "factor": 8, "high_freq_factor": 4}),
        "rope_scaling: missing the field low_freq_factor",
    );
    scaling(
        json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}),
        "rope_scaling: high_freq_factor: expected above low_freq_factor 4, found 4",
    );
    scaling(
        json!({"rope_type": "yarn", "factor": 4, "beta_fast": -1}),
        "rope_scaling: beta_fast: expected a number above 0",
    );
    scaling(
        json!({"rope_type": "yarn", "factor": 4, "truncate": 1}),
        "rope_scaling: truncate: expected true or false, found 1",
    );
    scaling(
        json!({"rope_type": "linear", "factor": 2, "partial_rotary_factor": 0.25}),
        "rope_scaling: partial_rotary_factor: expected 1",
    );
    llama(
        json!({"rope_theta": null, "rope_parameters": {"full_attention": {"rope_theta": 1e4}}}),
        "rope_parameters: full_attention: expected a number or a name, found an object of 1 fields; settings that differ",
    );
    llama(
        json!({"rope_parameters": {"rope_theta": 0.5}}),
        "rope_parameters: rope_theta: expected a number above 1",
    );
    let gpt2 = |fields: Value, message: &str| refused("gpt2", &fields, message);
    gpt2(json!({"scale_attn_weights": false}), "scale_attn_weights: expected true, found false");
    gpt2(json!({"scale_attn_by_inverse_layer_idx": true}), "scale_attn_by_inverse_layer_idx: expected false");
    gpt2(json!({"activation_function": "mish"}), "activation_function: expected one of gelu_new");
    gpt2(json!({"add_cross_attention": true}), "add_cross_attention: expected false, found true");
    gpt2(json!({"hidden_size": 24}), "hidden_size: expected 20, as n_embd says, found 24");
}

#[test]
fn a_field_of_another_type_or_size_is_refused_by_name() {
    let llama = |fields: Value, message: &str| refused("llama", &fields, message);
    let size = "expected a whole number from 1 to 2147483647, found";
    llama(json!({"hidden_size": "24"}), &format!("hidden_size: {size} \"24\""));
    llama(json!({"hidden_size": 24.5}), &format!("hidden_size: {size} 24.5"));
    llama(json!({"hidden_size": -24}), &format!("hidden_size: {size} -24"));
    llama(json!({"vocab_size": 0}), &format!("vocab_size: {size} 0"));
    llama(json!({"vocab_size": 1e300}), &format!("vocab_size: {size} 1e+300"));
    llama(json!({"num_attention_heads": [6, 6]}), &format!("num_attention_heads: {size} a list of 2"));
    llama(json!({"head_dim": 0}), &format!("head_dim: {size} 0"));
    llama(
        json!({"num_hidden_layers": 1_000_000_000}),
        "num_hidden_layers: expected a whole number from 1 to 2048, found 1000000000",
    );
    llama(
        json!({"num_hidden_layers": 1e300}),
        "num_hidden_layers: expected a whole number from 1 to 2048, found 1e+300",
    );
    llama(json!({"rms_norm_eps": 0.0}), "rms_norm_eps: expected a number above 0, found 0.0");
    llama(json!({"rope_theta": 1}), "rope_theta: expected a number above 1, found 1");
    llama(json!({"attention_dropout": 1.0}), "attention_dropout: expected a rate in [0, 1), found 1.0");
    llama(json!({"attention_bias": 0}), "attention_bias: expected true or false, found 0");
    llama(
        json!({"tie_word_embeddings": "yes"}),
        "tie_word_embeddings: expected true or false, found \"yes\"",
    );
    llama(json!({"initializer_range": -0.02}), "initializer_range: expected a number of 0 or more");
    llama(json!({"_name_or_path": 7}), "_name_or_path: expected a text, found 7");
    llama(json!({"hidden_act": "x".repeat(10_000)}), "hidden_act: expected one of");
    llama(
        json!({"num_attention_heads": 7}),
        "num_attention_heads: expected a divisor of hidden_size 24, as head_dim is not given, found 7",
    );
    llama(
        json!({"num_key_value_heads": 4}),
        "num_key_value_heads: expected a divisor of num_attention_heads 6, found 4",
    );
    llama(json!({"head_dim": 5}), "head_dim: expected an even number, as RoPE turns pairs, found 5");
    llama(
        json!({"architectures": "LlamaForCausalLM"}),
        "architectures: expected a list of names, found \"Llama",
    );
    llama(
        json!({"architectures": ["LlamaForSequenceClassification"]}),
        "architectures: expected [\"LlamaForCausalLM\"], found \"LlamaForSequenceClassification\"; of these models only those",
    );
    llama(
        json!({"architectures": ["LlamaModel"]}),
        "architectures: expected [\"LlamaForCausalLM\"], found \"LlamaModel\"",
    );
    refused("gpt2", &json!({"n_head": 3}), "n_head: expected a divisor of n_embd 20, found 3");
    refused("gpt2", &json!({"n_inner": 0}), &format!("n_inner: {size} 0"));
    // Each is legal alone; together they are more than memory can hold.
    llama(
        json!({"vocab_size": 2_000_000_000, "hidden_size": 2_000_000_002, "head_dim": 4}),
        "vocab, dim: expected a product of at most",
    );
}

#[test]
fn another_kind_of_model_is_refused_in_one_sentence() {
    let check = |value: Value, message: &str| {
        assert_eq!(published::read(&value).unwrap_err().to_string(), message);
    };
    for kind in ["mistral", "qwen2", "gemma", "bert", "mixtral", "gpt_neox"] {
        check(
            json!({"model_type": kind}),
            &format!("model_type: expected one of gpt2, llama, found \"{kind}\""),
        );
    }
    check(
        json!({"model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": {}}),
        "model_type: expected one of gpt2, llama, found \"llava\", a model of more than text, as it has vision_config",
    );
    check(json!({}), "model_type: expected one of gpt2, llama, found nothing");
    check(json!([1, 2]), "config.json: expected an object, found a list of 2");
    check(json!({"model_type": 4}), "model_type: expected one of gpt2, llama, found 4");
    check(
        json!({"architectures": ["BertModel"]}),
        "model_type: expected one of gpt2, llama, found nothing, and the architecture \"BertModel\"",
    );
}

#[test]
fn a_config_that_the_layout_cannot_say_is_refused_by_its_first_field() {
    let check = |family: Family, config: &ModelConfig, message: &str| {
        let error = family.to_config_json(config).unwrap_err().to_string();
        assert!(error.starts_with(message), "expected {message}\nfound    {error}");
    };
    let mut qkv = presets::llama3_8b();
    crate::common::attentions(&mut qkv).for_each(|attn| attn.bias = Biases::Qkv);
    check(Family::Llama, &qkv, "attn.bias: expected biases of q, k, v and the output, or none");
    let mut uneven = presets::llama3_8b();
    crate::common::attentions(&mut uneven).skip(3).for_each(|attn| attn.kv_heads = Some(4));
    check(Family::Llama, &uneven, "blocks.*.attn.kv_heads: expected 8, as the llama layout has it, found {");
    let mut normed = presets::gpt2_small();
    normed.embed.norm = normed.norm.clone();
    check(
        Family::Gpt2,
        &normed,
        "embed.norm.bias: expected nothing, as the gpt2 layout has it, found \"learned\"",
    );
    check(
        Family::Llama,
        &presets::gpt2_small(),
        "blocks: expected layers that the llama layout has, found layers of another",
    );
    check(Family::Gpt2, &crate::common::post_norm(), "blocks: expected layers that the gpt2 layout has");
    let interleaved = published::with_pairs(&presets::llama2_7b(), Pairs::Interleaved);
    check(Family::Llama, &interleaved, "attn.position.pairs: expected halves");
    assert!(Family::of(&crate::common::post_norm()).is_err());
}
