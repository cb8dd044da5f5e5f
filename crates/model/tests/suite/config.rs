//! Reading, writing and refusing configs.

use formwork_model::{
    AttentionConfig, BlockConfig, ModelConfig, Outline, diff,
    module::{self, config::Custom},
    position::{LearnedConfig, PositionConfig},
    presets,
};
use serde_json::{Value, json};

use crate::common::{attentions, gpt2, llama};

/// A small model as JSON values, layers written once.
fn values(config: &ModelConfig) -> Value {
    serde_json::from_str(&config.to_json()).unwrap()
}

/// The value at a dotted path, which is made if it does not exist.
fn set(config: &mut Value, path: &str, value: Value) {
    let (parent, last) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = parent.split('.').filter(|s| !s.is_empty()).fold(config, |at, segment| &mut at[segment]);
    parent[last] = value;
}

#[test]
fn an_error_names_the_full_path_what_was_found_and_what_was_meant() {
    let check = |path: &str, value: Value, message: &str| {
        let mut config = values(&llama());
        set(&mut config, path, value);
        let error = ModelConfig::from_value(config).unwrap_err().to_string();
        assert_eq!(error, message);
    };
    check(
        "blocks.each.attn.position.teta",
        json!(3.0),
        "blocks.0.attn.position.teta: expected one of the fields theta, pairs, rotary_dim, scaling, found an unknown one; did you mean `theta`?",
    );
    check(
        "blocks.each.attn.heads",
        json!({"cycle": [6, "six"]}),
        "blocks.1.attn.heads: expected usize, found string \"six\"",
    );
    check(
        "blocks.each.attn.heads",
        json!({"cycle": [1, 2, 3]}),
        "blocks.each.attn.heads: cycle: expected 1 to 2 items, as there are 2 layers, found 3",
    );
    check(
        "blocks.each.ffn.kind",
        json!("mpl"),
        "blocks.0.ffn.kind: expected one of mlp, gated, custom, found `mpl`; did you mean `mlp`?",
    );
    check(
        "blocks.each.kind",
        json!("sandwich"),
        "blocks.0.kind: expected one of pre_norm, post_norm, custom, found `sandwich`",
    );
    check(
        "blocks.each.attn.mask",
        json!("casual"),
        "blocks.0.attn.mask: expected one of causal, bidirectional, found `casual`; did you mean `causal`?",
    );
    check("blocks.layers", json!(-1), "blocks.layers: expected a whole number from 1 to 2048, found -1");
    check("norm.eps", json!("small"), "norm.eps: expected f64, found string \"small\"");
    check("head.bias", json!(true), "head.bias: expected no field here, found an unknown one");
    check(
        "colour",
        json!(1),
        "colour: expected one of the fields schema, name, vocab, context, dim, embed, blocks, norm, head, init, found an unknown one",
    );
    check(
        "schema",
        json!(2),
        "schema: expected 1, found 2; the config was written by a newer version of formwork; update this one",
    );
    check("schema", json!(0), "schema: expected 1, found 0");
    check("schema", json!("1"), "schema: expected u32, found string \"1\"");
    check("vocab", json!(1.5), "vocab: expected usize, found floating point `1.5`");
}

#[test]
fn text_that_is_no_config_is_refused() {
    let check = |found: formwork_model::Result<ModelConfig>, message: &str| {
        let error = found.unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    };
    check(ModelConfig::from_json("{\"schema\": 1,"), "config: expected JSON, found EOF while parsing");
    check(ModelConfig::from_json("[]"), "config: expected an object, found []");
    check(ModelConfig::from_json("{}"), "schema: expected a value, found no such field");
    check(ModelConfig::from_json("{\"schema\": 1}"), "name: expected a value, found no such field");
    check(
        ModelConfig::from_json("{\"schema\": 1, \"dim\": 4, \"dim\": 8}"),
        "config: expected JSON, found field `dim` given twice at line 1",
    );
    check(ModelConfig::from_toml("schema = "), "config: expected TOML, found TOML parse error");
    check(ModelConfig::from_toml("schema = 3"), "schema: expected 1, found 3");
}

#[test]
fn numbers_that_do_not_fit_together_are_named_together() {
    let check = |change: &dyn Fn(&mut ModelConfig), message: &str| {
        let mut config = llama();
        change(&mut config);
        let error = config.build(&module::Outline).unwrap_err().to_string();
        assert!(error.starts_with(message), "expected {message}\nfound {error}");
    };
    fn each(change: impl Fn(&mut formwork_model::MultiHeadConfig)) -> impl Fn(&mut ModelConfig) {
        move |config| attentions(config).for_each(&change)
    }
    check(
        &each(|a| (a.heads, a.kv_heads, a.head_dim) = (7, None, None)),
        "blocks.0.attn: heads: expected a divisor of dim 18, found 7; give head_dim",
    );
    check(&each(|a| a.kv_heads = Some(4)), "blocks.0.attn: kv_heads: expected a divisor of heads 6, found 4");
    check(&each(|a| a.heads = 0), "blocks.0.attn: heads: expected at least 1, found 0");
    check(&each(|a| a.kv_heads = Some(0)), "blocks.0.attn: kv_heads: expected at least 1, found 0");
    check(&each(|a| a.head_dim = Some(0)), "blocks.0.attn: head_dim: expected at least 1, found 0");
    check(
        &each(|a| a.head_dim = Some(5)),
        "blocks.0.attn.position: rope: expected even head width, found 5; set head_dim to an even number",
    );
    check(
        &each(|a| a.head_dim = Some(usize::MAX / 2)),
        "blocks.0.attn: head_dim: expected a size that fits memory for heads 6 and dim 18",
    );
    check(&each(|a| a.dropout = 1.0), "blocks.0.attn: dropout: expected a rate in [0, 1), found 1");
    check(
        &each(|a| a.position = PositionConfig::Learned(LearnedConfig { context: None })),
        "blocks.0.attn.position: position: expected an encoding that acts on heads or scores, found `learned`, which acts on embeddings; move it to embed.position",
    );
    check(
        &|c| c.embed.position = c.blocks[0].multi_head().unwrap().position.clone(),
        "embed.position: position: expected an encoding that acts on embeddings, found `rope`, which acts on queries and keys; move it to blocks.*.attn.position",
    );
    check(
        &|c| c.embed.position = PositionConfig::Learned(LearnedConfig { context: Some(18) }),
        "embed.position: context, position: expected an encoding that reaches context 19, found one that ends after 18 positions; lower context",
    );
    check(&|c| c.vocab = 0, "vocab: expected at least 1, found 0");
    check(&|c| c.vocab = usize::MAX, "vocab: expected at most 4294967295");
    check(&|c| c.context = 0, "context: expected at least 1, found 0");
    check(&|c| c.dim = 0, "dim: expected at least 1, found 0");
    check(&|c| c.dim = usize::MAX / 2, "vocab, dim: expected a product of at most");
    check(&|c| c.blocks.clear(), "blocks: expected at least one layer, found none");
    check(&|c| c.embed.dropout = -0.1, "embed: dropout: expected a rate in [0, 1), found -0.1");
    check(&|c| c.embed.dropout = f64::NAN, "embed: dropout: expected a rate in [0, 1), found NaN");
    check(&|c| c.init.std = -1.0, "init: std: expected a standard deviation of 0 or more, found -1");
    check(&|c| c.schema = 9, "schema: expected 1, found 9; the config was written by a newer version");
    check(
        &|c| {
            crate::common::residuals(c).for_each(|r| {
                r.ffn = serde_json::from_value(
                    json!({"kind": "mlp", "hidden": 0, "activation": {"kind": "relu"}}),
                )
                .unwrap();
            });
        },
        "blocks.0.ffn: hidden: expected at least 1, found 0",
    );
    check(
        &|c| {
            crate::common::residuals(c).for_each(|r| {
                r.attn_norm = serde_json::from_value(json!({"kind": "rms", "eps": 0.0})).unwrap();
            });
        },
        "blocks.0.attn_norm: eps: expected a positive number, found 0",
    );
}

#[test]
fn layers_may_differ_in_any_field_and_are_written_short() {
    let mut config = values(&llama());
    set(&mut config, "blocks.layers", json!(4));
    set(&mut config, "blocks.each.attn.kv_heads", json!({"cycle": [6, 2]}));
    set(
        &mut config,
        "blocks.each.attn.position",
        json!({"ranges": [
            {"from": 0, "to": 3, "value": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
            {"from": 3, "to": 4, "value": {"kind": "none"}},
        ]}),
    );
    let config = ModelConfig::from_value(config).unwrap();
    let kv_heads: Vec<_> = config.blocks.iter().map(|block| block.multi_head().unwrap().kv_heads()).collect();
    assert_eq!(kv_heads, [6, 2, 6, 2]);
    assert!(matches!(config.blocks[3].multi_head().unwrap().position, PositionConfig::None(_)));
    let written = values(&config);
    assert_eq!(written["blocks"]["each"]["attn"]["kv_heads"], json!({"cycle": [6, 2]}));
    assert_eq!(written["blocks"]["each"]["ffn"]["hidden"], 23);
    assert_eq!(ModelConfig::from_value(written).unwrap(), config);
    assert_eq!(ModelConfig::from_toml(&config.to_toml().unwrap()).unwrap(), config);
    let outline = Outline::shown_by(&config.build(&module::Outline).unwrap());
    let keys: Vec<_> =
        outline.lines.iter().filter(|l| l.name.ends_with("attn.k.weight")).map(|l| l.shape[0]).collect();
    assert_eq!(keys, [24, 8, 24, 8]);
}

#[test]
fn a_config_literal_with_one_layer_of_another_kind_round_trips() {
    let mut config = gpt2();
    config.blocks.push(BlockConfig::Custom(Custom {
        name: "mine".into(),
        params: json!({"cycle": [1, 2], "deep": {"cycle": [0]}}),
    }));
    config.blocks.push(BlockConfig::Custom(Custom { name: "mine".into(), params: Value::Null }));
    let BlockConfig::PreNorm(parts) = &mut config.blocks[0] else { panic!("GPT-2 is pre-norm") };
    parts.attn = AttentionConfig::Custom(Custom { name: "theirs".into(), params: json!({"x": 0.1}) });
    config.init.std = 0.1 + 0.2; // needs all 17 digits
    assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
    assert_eq!(ModelConfig::from_toml(&config.to_toml().unwrap()).unwrap(), config);
}

#[test]
fn two_configs_differ_in_the_fields_that_differ() {
    assert_eq!(diff(&gpt2(), &gpt2()), []);
    let mut other = gpt2();
    attentions(&mut other).nth(1).unwrap().dropout = 0.25;
    other.embed.dropout = 0.5;
    let lines: Vec<_> = diff(&gpt2(), &other).iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["blocks.*.attn.dropout: 0.1 | {\"cycle\":[0.1,0.25]}", "embed.dropout: 0.1 | 0.5"]);
    let families: Vec<_> =
        diff(&presets::gpt2_small(), &presets::llama1_7b()).into_iter().map(|d| d.field).collect();
    for field in [
        "blocks.*.attn_norm.kind",
        "blocks.*.ffn.kind",
        "head.kind",
        "blocks.*.attn.position.theta",
        "blocks.layers",
    ] {
        assert!(families.contains(&field.to_owned()), "{field} not in {families:?}");
    }
    assert!(
        !families.contains(&"schema".to_owned()) && !families.contains(&"blocks.*.kind".to_owned()),
        "{families:?}"
    );
}
