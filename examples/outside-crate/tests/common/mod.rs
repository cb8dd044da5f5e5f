//! What the tests share: numbers that nobody chose, and gradients against finite differences.
#![allow(dead_code, reason = "each test file uses its part")]

use formwork::{
    Builder, DType, ModelConfig, Module, Param, Pass, Result, Seed, Tensor, Transformer, Variable,
    module::Record, params,
};
use ndarray::Array2;
use outside_crate::{CONFIG, hooks};

/// Half the distance of the two points of a difference.
const STEP: f64 = 1e-5;
/// What a central difference of this step leaves in f64 for functions of size 1: `STEP²` and `2⁻⁵² / STEP`, with room.
const SLOPE: f64 = 1e-7;
/// Numbers of each tensor that are moved.
const PLACES: usize = 12;

/// The model of the crate, in f64, its gains and biases away from 1 and 0.
pub fn model(seed: u64) -> Result<Transformer> {
    let model = Builder::new(ModelConfig::from_json(CONFIG)?)
        .hooks(&hooks())
        .build(&Seed::new(seed).dtype(DType::F64))?;
    stir(&model)?;
    Ok(model)
}

/// Adds a little to every parameter, so that none is as it was drawn.
pub fn stir(module: &dyn Module) -> Result<()> {
    for (i, (_, param)) in params(module).iter().enumerate() {
        param.set(&param.value()?.add(&numbers(i as f64, param.shape(), 0.1)?)?)?;
    }
    Ok(())
}

/// Numbers in ±scale that follow no pattern a part could exploit.
pub fn numbers(seed: f64, dims: &[usize], scale: f64) -> Result<Tensor> {
    let len = dims.iter().product::<usize>();
    Tensor::from_vec(
        (0..len).map(|i| scale * (1.7 * i as f64 + 0.3 * (i * i) as f64 + seed).sin()).collect(),
        dims,
    )
}

/// Token ids below `vocab`.
pub fn ids(rows: usize, len: usize, vocab: u32) -> Array2<u32> {
    Array2::from_shape_fn((rows, len), |(row, i)| (row * 7 + i * i * 5 + i * 3) as u32 % vocab)
}

/// A pass that records, without dropout.
pub fn recording<'a>() -> Pass<'a> {
    Pass::infer().recording(Record::Tape)
}

/// The gradients of every parameter and of the input `x`, against central differences.
pub fn check_module(name: &str, module: &dyn Module, x: &Tensor) -> Result<()> {
    stir(module)?;
    // A weighted sum, or a gradient that forgets a factor could hide behind a sum of ones.
    let sum = |x: &Tensor| {
        let y = module.forward(x, &mut recording())?;
        y.mul(&numbers(9.0, y.shape(), 1.0)?)?.sum()
    };
    let input = Variable::new(x.clone());
    sum(&input.tensor())?.backward()?;
    let grad = input.grad().expect("the output depends on the input");
    compare(&format!("{name}: input"), x, &grad, &|moved| sum(moved)?.item())?;
    module_params(name, module, &|| sum(x))
}

/// The gradients of every parameter of a loss, against central differences.
pub fn check_loss(name: &str, module: &dyn Module, loss: &dyn Fn() -> Result<Tensor>) -> Result<()> {
    loss()?.backward()?;
    module_params(name, module, loss)
}

fn module_params(name: &str, module: &dyn Module, loss: &dyn Fn() -> Result<Tensor>) -> Result<()> {
    for (path, param) in params(module).iter().filter(|(_, param)| param.is_trainable()) {
        let grad = param.grad().unwrap_or_else(|| panic!("{name}: {path} got no gradient"));
        compare(&format!("{name}: {path}"), &param.value()?, &grad, &|moved| with(param, moved, loss))?;
    }
    Ok(())
}

fn with(param: &Param, moved: &Tensor, loss: &dyn Fn() -> Result<Tensor>) -> Result<f64> {
    let old = param.value()?;
    param.set(moved)?;
    let value = loss()?.item();
    param.set(&old)?;
    value
}

fn compare(name: &str, at: &Tensor, grad: &Tensor, loss: &dyn Fn(&Tensor) -> Result<f64>) -> Result<()> {
    let (values, grads) = (at.to_vec::<f64>()?, grad.to_vec::<f64>()?);
    let moved = |i: usize, by: f64| {
        let mut values = values.clone();
        values[i] += by;
        loss(&Tensor::from_vec(values, at.shape())?)
    };
    for i in (0..values.len()).step_by(values.len().div_ceil(PLACES)) {
        let slope = (moved(i, STEP)? - moved(i, -STEP)?) / (2.0 * STEP);
        let close = (slope - grads[i]).abs() <= SLOPE * slope.abs().max(1.0);
        assert!(close, "{name}[{i}]: the slope is {slope}, the gradient {}", grads[i]);
    }
    Ok(())
}
