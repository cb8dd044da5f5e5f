//! Both feed-forward layers against their formulas: names, values, gradients, biases, dropout, wrong settings.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_feedforward::{GatedMlp, Mlp, Settings};
use formwork_kernels::activation::Activation as Function;
use formwork_module::{
    Activation, Bias, DType, Dropout, Module, Outline, Pass, Result, Scope, Seed, Site, Tap, Tensor, params,
};
use formwork_testkit::{F64, OpCase, SLOPE, assert_close, check, normals, tensor};
use ndarray::{Array2, ArrayD, Ix2};

const D: usize = 5;
const F: usize = 11;

#[derive(Debug)]
struct Tanh;
impl Activation for Tanh {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.tanh()
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Gated,
}

fn build(kind: Kind, settings: &Settings, dtype: DType) -> Box<dyn Module> {
    let source = Seed::new(3).dtype(dtype);
    let scope = Scope::root(&source);
    let layer: Box<dyn Module> = match kind {
        Kind::Plain => Box::new(Mlp::new(&scope, settings, Box::new(Tanh)).unwrap()),
        Kind::Gated => Box::new(GatedMlp::new(&scope, settings, Box::new(Tanh)).unwrap()),
    };
    let names: Vec<_> = params(&*layer).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, scope.built(), "visited as built");
    // A seed draws biases as zeros: move them away, so that forgetting one shows.
    for (i, (_, param)) in
        params(&*layer).into_iter().enumerate().filter(|(_, (name, _))| name.ends_with("bias"))
    {
        param.set(&tensor(&normals(i as u64, param.shape()), dtype, None)).unwrap();
    }
    layer
}

fn value(layer: &dyn Module, name: &str) -> Option<ArrayD<f64>> {
    let found = params(layer).into_iter().find(|(found, _)| found == name)?;
    let value = found.1.value().unwrap();
    Some(formwork_tensor::dispatch!(value.dtype(), T => value.to_array::<T>().unwrap().mapv(f64::from)))
}

/// `x·Wᵀ + b` of the layer's parameter `name`.
fn project(layer: &dyn Module, name: &str, x: &Array2<f64>) -> Array2<f64> {
    let weight = value(layer, &format!("{name}.weight")).unwrap().into_dimensionality::<Ix2>().unwrap();
    let y = x.dot(&weight.t());
    match value(layer, &format!("{name}.bias")) {
        Some(bias) => y + &bias.into_dimensionality::<ndarray::Ix1>().unwrap(),
        None => y,
    }
}

fn formula(kind: Kind, layer: &dyn Module, x: &ArrayD<f64>) -> ArrayD<f64> {
    let shape = x.shape().to_vec();
    let rows = x.len() / D;
    let x = x.clone().into_shape_with_order((rows, D)).unwrap();
    let hidden = match kind {
        Kind::Plain => project(layer, "up", &x).mapv(f64::tanh),
        Kind::Gated => project(layer, "gate", &x).mapv(f64::tanh) * project(layer, "up", &x),
    };
    project(layer, "down", &hidden).into_shape_with_order(shape).unwrap()
}

#[test]
fn layers_are_their_formulas() {
    for kind in [Kind::Plain, Kind::Gated] {
        for bias in [Bias::None, Bias::Learned] {
            let settings = Settings { bias, ..Settings::new(D, F) };
            let [f32, f64] = [DType::F32, DType::F64].map(|dtype| build(kind, &settings, dtype));
            let truth = build(kind, &settings, DType::F64);
            // The f32 layer has the f64 one's numbers, rounded; the reference uses the rounded ones for both.
            for ((_, wide), ((_, exact), (_, narrow))) in
                params(&*f64).into_iter().zip(params(&*truth).into_iter().zip(params(&*f32)))
            {
                let rounded: Vec<f64> =
                    narrow.value().unwrap().to_vec::<f32>().unwrap().into_iter().map(f64::from).collect();
                for param in [wide, exact] {
                    param.set(&Tensor::from_vec(rounded.clone(), param.shape()).unwrap()).unwrap();
                }
            }
            let forward = move |x: &[Tensor]| {
                let layer = if x[0].dtype() == DType::F64 { &f64 } else { &f32 };
                Ok(vec![layer.forward(&x[0], &mut Pass::infer())?])
            };
            let name = format!("{kind:?} {bias:?}");
            let reference = move |x: &[ArrayD<f64>]| vec![formula(kind, &*truth, &x[0])];
            check(&[OpCase::new(&name, &["b t d"], forward, reference).dim("d", &[D]).refuses(
                "another width",
                &[&[2, 3, D + 1]],
                "linear: expected x [.., 5] for weight [11, 5]",
            )]);
        }
    }
}

#[test]
fn every_parameter_has_its_gradient() {
    for kind in [Kind::Plain, Kind::Gated] {
        let layer = build(kind, &Settings { bias: Bias::Learned, ..Settings::new(D, F) }, DType::F64);
        let x = normals(1, &[2, 3, D]);
        let input = tensor(&x, DType::F64, None);
        let loss = |pass: &mut Pass<'_>| {
            let y = layer.forward(&input, pass).unwrap();
            y.mul(&y).unwrap().sum().unwrap()
        };
        loss(&mut Pass::train(1, 1)).backward().unwrap();
        for (name, param) in params(&*layer) {
            let grad = param.grad().unwrap_or_else(|| panic!("{name} got none")).to_vec::<f64>().unwrap();
            let base = param.value().unwrap().to_vec::<f64>().unwrap();
            for i in [0, base.len() / 2, base.len() - 1] {
                let at = |step: f64| {
                    let mut moved = base.clone();
                    moved[i] += step;
                    param.set(&Tensor::from_vec(moved, param.shape()).unwrap()).unwrap();
                    loss(&mut Pass::infer()).item().unwrap()
                };
                let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                at(0.0);
                assert_close(&[grad[i]], &[slope], SLOPE, &format!("{kind:?} {name}[{i}]"));
            }
        }
    }
}

#[test]
fn dropout_is_on_in_training_alone_and_repeats() {
    let settings = Settings { dropout: Dropout::new(0.5).unwrap(), ..Settings::new(D, F) };
    for kind in [Kind::Plain, Kind::Gated] {
        let layer = build(kind, &settings, DType::F64);
        let x = tensor(&normals(1, &[2, 3, D]), DType::F64, None);
        let run = |mut pass: Pass<'_>| layer.forward(&x, &mut pass).unwrap().to_vec::<f64>().unwrap();
        let without = build(kind, &Settings::new(D, F), DType::F64);
        let plain = without.forward(&x, &mut Pass::infer()).unwrap();
        assert_close(&run(Pass::infer()), &plain.to_vec::<f64>().unwrap(), F64, "inference");
        assert_eq!(run(Pass::train(1, 2)), run(Pass::train(1, 2)));
        assert_ne!(run(Pass::train(1, 2)), run(Pass::train(1, 3)));
        assert_ne!(run(Pass::train(1, 2)), run(Pass::train(2, 2)));
        assert_ne!(run(Pass::train(1, 2)), run(Pass::infer()));
    }
}

#[test]
fn sizes_of_zero_are_named_and_outlines_count() {
    let scope = Scope::root(&Outline).child("ffn");
    let error = Mlp::new(&scope, &Settings::new(0, F), Box::new(Tanh)).unwrap_err().to_string();
    assert_eq!(error, "ffn: feed-forward: expected a dim and a hidden of at least 1, found dim 0, hidden 11");
    assert!(GatedMlp::new(&scope, &Settings::new(D, 0), Box::new(Tanh)).is_err());
    let gated =
        GatedMlp::new(&scope, &Settings { bias: Bias::Learned, ..Settings::new(D, F) }, Box::new(Tanh))
            .unwrap();
    let sizes: Vec<_> = params(&gated).into_iter().map(|(name, param)| (name, param.shape().len())).collect();
    let expected = [
        ("gate.weight", 55),
        ("gate.bias", 11),
        ("up.weight", 55),
        ("up.bias", 11),
        ("down.weight", 55),
        ("down.bias", 5),
    ];
    assert_eq!(sizes, expected.map(|(name, size)| (name.to_owned(), size)));
}

/// SiLU in elementary ops, which says or does not say that the kernels know it.
#[derive(Debug)]
struct Swish(Option<Function>);
impl Activation for Swish {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let half = Tensor::full(0.5, &[], x.dtype(), None)?;
        x.mul(&x.scale(0.5)?.tanh()?.scale(0.5)?.add(&half)?)
    }
    fn function(&self) -> Option<Function> {
        self.0
    }
}

/// Counts what it is shown.
#[derive(Default)]
struct Counts(usize);
impl Tap for Counts {
    fn see(&mut self, _: &Site, _: &str, _: &Tensor) {
        self.0 += 1;
    }
}

#[test]
fn hidden_rows_that_are_computed_again_change_no_value_and_no_gradient() {
    for kind in [Kind::Plain, Kind::Gated] {
        for bias in [Bias::None, Bias::Learned] {
            let settings = Settings { bias, ..Settings::new(D, F) };
            let run = |function: Option<Function>, tapped: bool| {
                let source = Seed::new(3).dtype(DType::F64);
                let (scope, swish) = (Scope::root(&source), Box::new(Swish(function)));
                let layer: Box<dyn Module> = match kind {
                    Kind::Plain => Box::new(Mlp::new(&scope, &settings, swish).unwrap()),
                    Kind::Gated => Box::new(GatedMlp::new(&scope, &settings, swish).unwrap()),
                };
                let x = formwork_tensor::Variable::new(tensor(&normals(1, &[2, 3, D]), DType::F64, None));
                let (mut counts, mut pass) = (Counts::default(), Pass::train(1, 0));
                if tapped {
                    pass = pass.tapped(&mut counts);
                }
                let y = layer.forward(&x.tensor(), &mut pass).unwrap();
                y.mul(&y).unwrap().sum().unwrap().backward().unwrap();
                let params = params(&*layer).into_iter().map(|(_, p)| p.grad().unwrap());
                let all = params.chain([x.grad().unwrap(), y]).flat_map(|t| t.to_vec::<f64>().unwrap());
                let all: Vec<f64> = all.collect();
                assert_eq!(counts.0, usize::from(tapped), "a tap sees the hidden rows");
                all
            };
            let expected = run(None, false);
            for tapped in [false, true] {
                let found = run(Some(Function::Silu), tapped);
                assert_eq!(found.len(), expected.len());
                for (f, e) in found.iter().zip(&expected) {
                    assert!((f - e).abs() <= 1e-12 * e.abs().max(1.0), "{kind:?}, {bias:?}: {f} is not {e}");
                }
            }
        }
    }
}
