//! A stranger's parts in a model of ours: written down, built, trained, decoded.

use std::sync::Arc;

use formwork_model::{
    AttentionConfig, BlockConfig, Builder, FeedForwardConfig, Hooks, ModelConfig, Place, Result,
    activation::{ActivationConfig, Relu},
    attention::{Attention, Settings},
    module::{
        Activation, Acts, At, Init, Linear, Module, Norm, Outline, Param, Pass, Position, Scope, ScoreBias,
        Seed, Tensor, TokenModel, Visit, VisitMut, children, config::Custom, params,
    },
    norm::NormConfig,
    position::{NoConfig, NoPosition, PositionConfig},
};
use ndarray::s;
use serde::Deserialize;
use serde_json::json;

use crate::common::{AdamW, close, enliven, gpt2, gradients, ids, logits, residuals};

/// `gain · x / |x|₁`, a norm that nobody has published.
#[derive(Debug)]
struct SumNorm {
    gain: Param,
    eps: f64,
}

impl Module for SumNorm {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [b, t, d] = x.dims()?;
        let size = x.mul(x)?.offset(self.eps)?.sqrt()?.sum_axis(2)?.reshape(&[b, t, 1])?; // [b, t, 1]
        x.div(&size)?.scale(d as f64)?.mul(&pass.take(&self.gain)?) // [b, t, d]
    }
    fn visit(&self, v: &mut dyn Visit) {
        v.param("gain", &self.gain);
    }
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.param("gain", &mut self.gain)
    }
}

impl Norm for SumNorm {}

fn sum_norm(place: &Place<'_>) -> Result<SumNorm> {
    #[derive(Deserialize)]
    struct Settings {
        eps: f64,
    }
    let eps = place.read::<Settings>()?.eps;
    Ok(SumNorm { gain: place.scope.param("gain", &[place.dim], Init::Constant(1.0))?, eps })
}

/// Our attention behind a learned gate.
#[derive(Debug)]
struct Gated {
    gate: Linear,
    inner: Attention,
}

impl Module for Gated {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let gate = self.gate.forward(x, pass).at("gate")?; // [b, t, d]
        self.inner.forward(x, pass).at("inner")?.mul(&gate)
    }
    children!(gate, inner);
}

fn gated(place: &Place<'_>) -> Result<Gated> {
    let Place { dim, init, residual_init, .. } = *place;
    let settings = Settings { kv_heads: Some(1), init, residual_init, ..Settings::new(dim, 3) };
    Ok(Gated {
        gate: Linear::with_init(&place.scope.child("gate"), dim, dim, init)?
            .biased(&place.scope.child("gate"))?,
        inner: Attention::new(&place.scope.child("inner"), &settings, Arc::new(NoPosition))?,
    })
}

/// ALiBi: `−2^(−8(head + 1)/heads) · distance` is added to the scores. Press et al. 2021, <https://arxiv.org/abs/2108.12409>.
#[derive(Debug)]
struct Alibi {
    heads: usize,
}

impl Position for Alibi {
    fn acts(&self) -> Acts {
        Acts::Scores
    }
    fn bias(&self, _: &mut Pass<'_>) -> Result<Option<ScoreBias>> {
        let heads = self.heads as f64;
        let slope = move |head: usize| 2f64.powf(-8.0 * (head + 1) as f64 / heads);
        Ok(Some(ScoreBias::Fixed(Arc::new(move |head, query, key| {
            -slope(head) * query.abs_diff(key) as f64
        }))))
    }
}

/// A learned number per head and distance.
#[derive(Debug)]
struct Distances {
    table: Param,
}

impl Position for Distances {
    fn acts(&self) -> Acts {
        Acts::Scores
    }
    fn bias(&self, pass: &mut Pass<'_>) -> Result<Option<ScoreBias>> {
        let width = self.table.shape()[1];
        let index =
            move |head: usize, query: usize, key: usize| head * width + query.abs_diff(key).min(width - 1);
        Ok(Some(ScoreBias::Table { table: pass.take(&self.table)?, index: Arc::new(index) }))
    }
    fn visit(&self, v: &mut dyn Visit) {
        v.param("table", &self.table);
    }
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.param("table", &mut self.table)
    }
}

/// The square of ReLU.
#[derive(Debug)]
struct Squared;

impl Activation for Squared {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let x = Relu {}.apply(x)?;
        x.mul(&x)
    }
}

/// A whole layer: attention and feed-forward side by side, both on the same rows.
#[derive(Debug)]
struct Parallel {
    attn: Attention,
    ffn: Linear,
}

impl Module for Parallel {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        x.add(&self.attn.forward(x, pass).at("attn")?)?.add(&self.ffn.forward(x, pass).at("ffn")?)
    }
    children!(attn, ffn);
}

fn parallel(place: &Place<'_>) -> Result<Parallel> {
    let scope: &Scope<'_> = place.scope;
    let settings = Settings { init: place.init, ..Settings::new(place.dim, 2) };
    Ok(Parallel {
        attn: Attention::new(&scope.child("attn"), &settings, Arc::new(NoPosition))?,
        ffn: Linear::with_init(&scope.child("ffn"), place.dim, place.dim, place.init)?,
    })
}

fn hooks() -> Hooks {
    Hooks::default()
        .with_norm("sum", sum_norm)
        .with_attention("gated", gated)
        .with_position("alibi", |place| {
            Ok(Alibi { heads: place.heads.expect("it stands in attention").heads })
        })
        .with_position("distances", |place| {
            let heads = place.heads.expect("it stands in attention").heads;
            Ok(Distances { table: place.scope.param("table", &[heads, 5], Init::Constant(0.0))? })
        })
        .with_activation("squared", |_| Ok(Squared))
        .with_feedforward("linear", |place| Linear::with_init(place.scope, place.dim, place.dim, place.init))
        .with_block("parallel", parallel)
}

fn custom(name: &str) -> Custom {
    Custom { name: name.to_owned(), params: json!(null) }
}

/// GPT-2 with a stranger's part in every joint that there is.
fn strange() -> ModelConfig {
    let mut config = gpt2();
    config.name = "strange".to_owned();
    config.embed.position = PositionConfig::None(NoConfig {});
    config.blocks.push(config.blocks[0].clone());
    let parts: Vec<_> = residuals(&mut config).collect();
    let [first, second, third] = <[_; 3]>::try_from(parts).unwrap();
    first.attn_norm = NormConfig::Custom(Custom { params: json!({"eps": 1e-3}), ..custom("sum") });
    for (layer, name) in [(&mut *first, "alibi"), (second, "distances")] {
        let AttentionConfig::MultiHead(attn) = &mut layer.attn else { panic!("GPT-2 has heads") };
        attn.position = PositionConfig::Custom(custom(name));
        let FeedForwardConfig::Mlp(ffn) = &mut layer.ffn else { panic!("GPT-2 has an MLP") };
        ffn.activation = ActivationConfig::Custom(custom("squared"));
    }
    third.attn = AttentionConfig::Custom(custom("gated"));
    third.ffn = FeedForwardConfig::Custom(custom("linear"));
    config.blocks.push(BlockConfig::Custom(custom("parallel")));
    config
}

#[test]
fn a_strange_config_is_written_and_read_back() {
    let config = strange();
    assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
    assert_eq!(ModelConfig::from_toml(&config.to_toml().unwrap()).unwrap(), config);
}

#[test]
fn strange_parameters_stand_in_the_tree_of_names() {
    let model = Builder::new(strange()).hooks(&hooks()).build(&Outline).unwrap();
    let names: Vec<_> = params(&model).into_iter().map(|(name, _)| name).collect();
    for name in [
        "blocks.0.attn_norm.gain",
        "blocks.1.attn.position.table",
        "blocks.2.attn.gate.bias",
        "blocks.2.attn.inner.q.weight",
        "blocks.2.ffn.weight",
        "blocks.3.attn.o.weight",
        "blocks.3.ffn.weight",
    ] {
        assert!(names.contains(&name.to_owned()), "{name} not in {names:?}");
    }
}

#[test]
fn a_strange_model_trains_and_every_parameter_learns() {
    let config = ModelConfig::from_json(&strange().to_json()).unwrap();
    let model = Builder::new(config.clone()).hooks(&hooks()).build(&Seed::new(2)).unwrap();
    let tokens = ids(2, 8, config.vocab);
    let (inputs, targets) = (tokens.slice(s![.., ..7]), tokens.slice(s![.., 1..]));
    for (name, grad) in gradients(&model, inputs, targets, &mut Pass::train(1, 0)).unwrap() {
        assert!(grad.is_some_and(|g| g.iter().all(|g| g.is_finite())), "{name}");
    }
    let before: Vec<_> =
        params(&model).into_iter().map(|(_, p)| p.value().unwrap().to_vec::<f32>().unwrap()).collect();
    let mut adamw = AdamW::<f32>::new(&model, 0.01);
    let first = adamw.step(&model, inputs, targets)[0];
    let last = (0..40).map(|_| adamw.step(&model, inputs, targets)[0]).last().unwrap();
    assert!(last < 0.7 * first, "{first} to {last}");
    for ((name, param), before) in params(&model).into_iter().zip(before) {
        assert!(param.value().unwrap().to_vec::<f32>().unwrap() != before, "{name} did not move");
    }
}

#[test]
fn the_gradients_of_strange_parts_are_slopes() {
    const STEP: f64 = 1e-6;
    let config = strange();
    let seed = Seed::new(2).dtype(formwork_model::module::DType::F64);
    let model = Builder::new(config.clone()).hooks(&hooks()).build(&seed).unwrap();
    enliven(&model);
    let tokens = ids(2, 8, config.vocab);
    let (inputs, targets) = (tokens.slice(s![.., ..7]), tokens.slice(s![.., 1..]));
    let found = gradients(&model, inputs, targets, &mut Pass::train(1, 0)).unwrap();
    for name in ["blocks.0.attn_norm.gain", "blocks.1.attn.position.table", "blocks.2.attn.gate.weight"] {
        let grad = found.iter().find(|(n, _)| n == name).unwrap().1.clone().unwrap();
        let param = params(&model).into_iter().find(|(n, _)| n == name).unwrap().1;
        let value = param.value().unwrap().to_array::<f64>().unwrap();
        let scale = grad.iter().fold(0.0f64, |s, g| s.max(g.abs()));
        assert!(scale > 0.0, "{name}");
        for i in [1, grad.len() - 1] {
            let loss = |by: f64| {
                let mut value = value.clone();
                value.as_slice_mut().unwrap()[i] += by;
                param.set(&Tensor::from_array(value).unwrap()).unwrap();
                model.loss(inputs, targets, &mut Pass::train(1, 0)).unwrap().mean.item().unwrap()
            };
            let slope = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            let found = grad.as_slice().unwrap()[i];
            assert!((slope - found).abs() <= 1e-5 * scale, "{name}[{i}]: slope {slope}, gradient {found}");
        }
        param.set(&Tensor::from_array(value).unwrap()).unwrap();
    }
}

#[test]
fn a_strange_model_decodes_with_a_cache_as_without() {
    let config = strange();
    let model = Builder::new(config.clone()).hooks(&hooks()).build(&Seed::new(2)).unwrap();
    enliven(&model);
    let tokens = ids(1, 9, config.vocab);
    let whole = logits(&model, tokens.view(), &mut Pass::infer());
    let mut cache = model.cache(1, 9);
    for i in 0..9 {
        let step = logits(&model, tokens.slice(s![.., i..i + 1]), &mut Pass::infer().cached(&mut cache));
        close(&step, &whole.slice(s![.., i..i + 1, ..]).to_owned().into_dyn(), 1e-5, format!("token {i}"));
    }
}
