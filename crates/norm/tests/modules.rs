//! The norms as modules: names, configs, gradients of their parameters.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_module::{
    Bias, DType, Error, Module, Pass, Scope, Seed, Tensor,
    config::{Custom, read},
    params,
};
use formwork_norm::{LayerConfig, LayerNorm, NormConfig, Normalise, RmsConfig, Statistic};
use formwork_testkit::{F64, assert_close, normals, tensor};
use serde_json::json;

const D: usize = 7;

fn all() -> [NormConfig; 3] {
    let layer = |bias| NormConfig::Layer(LayerConfig { eps: 1e-5, bias });
    [layer(Bias::None), layer(Bias::Learned), NormConfig::Rms(RmsConfig { eps: 1e-6 })]
}

#[test]
fn parameters_are_visited_as_they_are_built() {
    let check = |config: &NormConfig, names: &[&str]| {
        let source = Seed::new(1);
        let scope = Scope::root(&source);
        let norm = config.build(&scope.child("norm"), D).unwrap();
        let found: Vec<_> = params(&*norm).into_iter().map(|(name, _)| format!("norm.{name}")).collect();
        assert_eq!(found, names);
        assert_eq!(scope.built(), names);
    };
    let [plain, biased, rms] = all();
    check(&plain, &["norm.weight"]);
    check(&biased, &["norm.weight", "norm.bias"]);
    check(&rms, &["norm.weight"]);
}

#[test]
fn adding_and_norming_at_once_is_adding_then_norming() {
    for config in all() {
        let norm = config.build(&Scope::root(&Seed::new(1).dtype(DType::F64)), D).unwrap();
        let [x, delta] = [1, 2].map(|seed| tensor(&normals(seed, &[2, 3, D]), DType::F64, None));
        let (sum, y) = norm.add_norm(&x, &delta, &mut Pass::infer()).unwrap();
        let apart = x.add(&delta).unwrap();
        assert_close(&sum, &apart, F64, "sum");
        assert_close(&y, &norm.forward(&apart, &mut Pass::infer()).unwrap(), F64, "normed");
    }
}

#[test]
fn every_parameter_learns_in_a_training_pass_and_none_in_inference() {
    for config in all() {
        let norm = config.build(&Scope::root(&Seed::new(1)), D).unwrap();
        let x = tensor(&normals(1, &[5, D]), DType::F32, None);
        assert!(!norm.forward(&x, &mut Pass::infer()).unwrap().is_tracked());
        norm.forward(&x, &mut Pass::train(1, 1)).unwrap().sum().unwrap().backward().unwrap();
        for (name, param) in params(&*norm) {
            assert!(param.grad().is_some(), "{config:?}: {name}");
        }
    }
}

#[test]
fn configs_are_read_and_written_alike() {
    let check = |json: serde_json::Value, config: NormConfig| {
        assert_eq!(read::<NormConfig>(json.clone()).unwrap(), config);
        assert_eq!(serde_json::to_value(config).unwrap(), json);
    };
    check(json!({"kind": "layer", "eps": 1e-5, "bias": "learned"}), all()[1].clone());
    check(json!({"kind": "rms", "eps": 1e-6}), all()[2].clone());
    let short = read::<NormConfig>(json!({"kind": "layer", "eps": 1e-5})).unwrap();
    assert_eq!(short, all()[0], "a bias is what one asks for");
}

#[test]
fn wrong_settings_are_named() {
    let check = |error: Error, words: &str| assert!(error.to_string().contains(words), "{error}");
    let read = |value| read::<NormConfig>(value).unwrap_err();
    check(read(json!({"kind": "layer"})), "eps: expected a value, found no such field");
    check(read(json!({"kind": "rms", "eps": 1e-5, "bias": "none"})), "bias: expected one of the fields eps");
    check(read(json!({"kind": "rsm", "eps": 1e-5})), "did you mean `rms`?");
    let source = Seed::new(1);
    let scope = Scope::root(&source).child("norm");
    let build = |config: NormConfig, dim| config.build(&scope, dim).unwrap_err();
    for eps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        check(build(NormConfig::Rms(RmsConfig { eps }), D), "norm: eps: expected a positive number, found");
    }
    check(build(all()[0].clone(), 0), "norm: norm: expected a dim of at least 1, found 0");
    let mine = NormConfig::Custom(Custom { name: "mine".into(), params: json!(null) });
    check(build(mine, D), "norm: custom norm: expected a hook of the builder named `mine`, found none");
}

#[test]
fn mixed_types_of_numbers_and_a_bias_of_an_rms_norm_are_refused() {
    let norm =
        LayerNorm::new(&Scope::root(&Seed::new(1)), D, &LayerConfig { eps: 1e-5, bias: Bias::None }).unwrap();
    let x = tensor(&normals(1, &[2, D]), DType::F64, None);
    let error = norm.forward(&x, &mut Pass::infer()).unwrap_err().to_string();
    assert_eq!(error, "layer_norm: expected f64, found f32");
    let one = Tensor::full(1.0, &[D], DType::F64, None).unwrap();
    let rms = Normalise { statistic: Statistic::MeanSquare, eps: 1e-5 };
    let error = rms.apply(&x, &one, Some(&one)).unwrap_err().to_string();
    assert_eq!(error, "rms_norm: expected no bias, found one; add it to the result");
}
