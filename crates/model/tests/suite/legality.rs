//! Every pair of switches of the config either works, forward, backward and cached, or is refused by an error that
//! names both fields.

use formwork_model::{
    BlockConfig, FeedForwardConfig, HeadConfig, ModelConfig, ResidualInit,
    activation::{ActivationConfig, Relu, Silu},
    attention::Biases,
    module::{Bias, Mask, Pass, Seed, TokenModel},
    norm::{LayerConfig, NormConfig, RmsConfig},
    position::{LearnedConfig, NoConfig, Pairs, PositionConfig, RopeConfig},
};
use ndarray::s;

use crate::common::{attentions, close, enliven, gradients, ids, llama, logits, residuals};

type Set = fn(&mut ModelConfig);

/// A field and what it may be set to.
struct Switch {
    field: &'static str,
    settings: &'static [(&'static str, Set)],
}

fn rope(config: &mut ModelConfig, pairs: Pairs, rotary_dim: Option<usize>) {
    attentions(config).for_each(|a| {
        a.position = PositionConfig::Rope(RopeConfig { rotary_dim, ..RopeConfig::new(100.0, pairs) });
    });
}

fn norms(config: &mut ModelConfig, norm: &NormConfig) {
    residuals(config).for_each(|r| (r.attn_norm, r.ffn_norm) = (norm.clone(), norm.clone()));
}

const RMS: NormConfig = NormConfig::Rms(RmsConfig { eps: 1e-5 });
const LAYER: NormConfig = NormConfig::Layer(LayerConfig { eps: 1e-5, bias: Bias::None });
const LAYER_BIAS: NormConfig = NormConfig::Layer(LayerConfig { eps: 1e-5, bias: Bias::Learned });

fn mlp(config: &mut ModelConfig, bias: Bias) {
    let activation = ActivationConfig::Relu(Relu {});
    let mlp = formwork_model::MlpConfig { hidden: 13, activation, bias, dropout: 0.0 };
    residuals(config).for_each(|r| r.ffn = FeedForwardConfig::Mlp(mlp.clone()));
}

fn gated(config: &mut ModelConfig, bias: Bias) {
    let activation = ActivationConfig::Silu(Silu {});
    let gated = formwork_model::GatedMlpConfig { hidden: 13, activation, bias, dropout: 0.0 };
    residuals(config).for_each(|r| r.ffn = FeedForwardConfig::Gated(gated.clone()));
}

const SWITCHES: &[Switch] = &[
    Switch {
        field: "kind",
        settings: &[
            ("pre_norm", |_| {}),
            ("post_norm", |c| {
                for block in &mut c.blocks {
                    if let BlockConfig::PreNorm(parts) = block.clone() {
                        *block = BlockConfig::PostNorm(parts);
                    }
                }
            }),
        ],
    },
    Switch {
        field: "attn.position",
        settings: &[
            ("halves", |c| rope(c, Pairs::Halves, None)),
            ("interleaved", |c| rope(c, Pairs::Interleaved, None)),
            ("partial", |c| rope(c, Pairs::Halves, Some(2))),
            ("wide", |c| rope(c, Pairs::Halves, Some(4))),
            ("none", |c| attentions(c).for_each(|a| a.position = PositionConfig::None(NoConfig {}))),
            ("learned", |c| {
                attentions(c)
                    .for_each(|a| a.position = PositionConfig::Learned(LearnedConfig { context: None }));
            }),
        ],
    },
    Switch {
        field: "embed.position",
        settings: &[
            ("none", |_| {}),
            ("learned", |c| c.embed.position = PositionConfig::Learned(LearnedConfig { context: None })),
            ("short", |c| c.embed.position = PositionConfig::Learned(LearnedConfig { context: Some(7) })),
        ],
    },
    Switch { field: "context", settings: &[("long", |_| {}), ("short", |c| c.context = 7)] },
    Switch {
        field: "kv_heads",
        settings: &[
            ("own", |c| attentions(c).for_each(|a| a.kv_heads = None)),
            ("grouped", |c| attentions(c).for_each(|a| a.kv_heads = Some(3))),
            ("one", |c| attentions(c).for_each(|a| a.kv_heads = Some(1))),
        ],
    },
    Switch {
        field: "heads",
        settings: &[
            ("6", |_| {}),
            ("3", |c| attentions(c).for_each(|a| a.heads = 3)),
            ("4", |c| attentions(c).for_each(|a| a.heads = 4)),
            ("5", |c| attentions(c).for_each(|a| a.heads = 5)),
        ],
    },
    Switch {
        field: "head_dim",
        settings: &[
            ("dim / heads", |_| {}),
            ("4", |c| attentions(c).for_each(|a| a.head_dim = Some(4))),
            ("5", |c| attentions(c).for_each(|a| a.head_dim = Some(5))),
        ],
    },
    Switch {
        field: "attn.bias",
        settings: &[
            ("none", |_| {}),
            ("qkv", |c| attentions(c).for_each(|a| a.bias = Biases::Qkv)),
            ("all", |c| attentions(c).for_each(|a| a.bias = Biases::All)),
        ],
    },
    Switch {
        field: "mask",
        settings: &[
            ("causal", |_| {}),
            ("bidirectional", |c| attentions(c).for_each(|a| a.mask = Mask::Bidirectional)),
        ],
    },
    Switch {
        field: "attn_norm",
        settings: &[
            ("rms", |c| norms(c, &RMS)),
            ("layer", |c| norms(c, &LAYER)),
            ("layer, bias", |c| norms(c, &LAYER_BIAS)),
        ],
    },
    Switch {
        field: "ffn",
        settings: &[
            ("mlp", |c| mlp(c, Bias::None)),
            ("mlp, bias", |c| mlp(c, Bias::Learned)),
            ("gated", |c| gated(c, Bias::None)),
            ("gated, bias", |c| gated(c, Bias::Learned)),
        ],
    },
    Switch { field: "norm", settings: &[("rms", |_| {}), ("none", |c| c.norm = None)] },
    Switch {
        field: "embed.norm",
        settings: &[("none", |_| {}), ("layer", |c| c.embed.norm = Some(LAYER_BIAS))],
    },
    Switch { field: "head", settings: &[("untied", |_| {}), ("tied", |c| c.head = HeadConfig::Tied {})] },
    Switch {
        field: "residual",
        settings: &[("plain", |_| {}), ("scaled", |c| c.init.residual = ResidualInit::DepthScaled)],
    },
];

fn base() -> ModelConfig {
    let mut config = llama();
    (config.dim, config.context, config.vocab) = (12, 11, 17);
    attentions(&mut config).for_each(|a| (a.kv_heads, a.head_dim) = (None, None));
    gated(&mut config, Bias::None);
    rope(&mut config, Pairs::Halves, None);
    config
}

/// The two fields that must be named, if the config is one that no model can be built from.
fn refused(config: &ModelConfig) -> Option<[&'static str; 2]> {
    let attn = config.blocks[0].multi_head()?;
    if !attn.heads.is_multiple_of(attn.kv_heads()) {
        return Some(["kv_heads", "heads"]);
    }
    if attn.head_dim.is_none() && !config.dim.is_multiple_of(attn.heads) {
        return Some(["heads", "dim"]);
    }
    if matches!(config.embed.position, PositionConfig::Learned(LearnedConfig { context: Some(reach) }) if reach < config.context)
    {
        return Some(["context", "position"]);
    }
    let head_dim = attn.head_dim(config.dim);
    match &attn.position {
        PositionConfig::Learned(_) => Some(["attn.position", "embed.position"]),
        PositionConfig::Rope(RopeConfig { rotary_dim: None, .. }) if !head_dim.is_multiple_of(2) => {
            Some(["position", "head_dim"])
        }
        PositionConfig::Rope(RopeConfig { rotary_dim: Some(width), .. }) if *width > head_dim => {
            Some(["rotary_dim", "head_dim"])
        }
        _ => None,
    }
}

fn check(what: &str, config: &ModelConfig) -> bool {
    let built = config.build(&Seed::new(3).dtype(formwork_model::module::DType::F64));
    if let Some(fields) = refused(config) {
        let error = built.expect_err(what).to_string();
        assert!(fields.iter().all(|field| error.contains(field)), "{what}: {fields:?} not both in: {error}");
        return false;
    }
    let model = built.unwrap_or_else(|error| panic!("{what}: {error}"));
    enliven(&model);
    assert_eq!(&ModelConfig::from_json(&config.to_json()).unwrap(), config, "{what}");

    let tokens = ids(2, 6, config.vocab);
    let whole = logits(&model, tokens.slice(s![.., ..5]), &mut Pass::infer());
    assert!(whole.iter().all(|x| x.is_finite()), "{what}");
    for (name, grad) in
        gradients(&model, tokens.slice(s![.., ..5]), tokens.slice(s![.., 1..]), &mut Pass::train(1, 1))
            .unwrap()
    {
        assert!(grad.is_some_and(|g| g.iter().all(|g| g.is_finite())), "{what}: {name}");
    }
    let mut cache = model.cache(2, 5);
    let attn = config.blocks[0].multi_head().unwrap();
    if attn.mask == Mask::Bidirectional {
        let error =
            model.hidden(tokens.view(), &mut Pass::infer().cached(&mut cache)).unwrap_err().to_string();
        assert!(error.contains("causal mask") && error.contains("cache"), "{what}: {error}");
        return true;
    }
    for (from, to) in [(0, 3), (3, 5)] {
        let step = logits(&model, tokens.slice(s![.., from..to]), &mut Pass::infer().cached(&mut cache));
        close(
            &step,
            &whole.slice(s![.., from..to, ..]).to_owned().into_dyn(),
            1e-11,
            format!("{what}, tokens {from} to {to}"),
        );
    }
    true
}

#[test]
fn every_pair_of_switches_works_or_is_refused_by_name() {
    let (mut works, mut refusals) = (0, 0);
    for (i, a) in SWITCHES.iter().enumerate() {
        for b in &SWITCHES[i + 1..] {
            for ((set_a, a_name), (set_b, b_name)) in
                a.settings.iter().flat_map(|(an, a)| b.settings.iter().map(move |(bn, b)| ((a, an), (b, bn))))
            {
                let mut config = base();
                set_a(&mut config);
                set_b(&mut config);
                let what = format!("{} {a_name}, {} {b_name}", a.field, b.field);
                if check(&what, &config) { works += 1 } else { refusals += 1 }
            }
        }
    }
    assert!(works > 500 && refusals > 100, "{works} work, {refusals} are refused: the table tests both");
}
