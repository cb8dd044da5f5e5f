//! Dynamic tanh: a norm that measures nothing.
//!
//! `y = tanh(α·x) ⊙ gain + bias`, over the last axis; `x`, `y`: `[.., d]`, `α`: `[1]`, `gain`, `bias`: `[d]`.
//!
//! Zhu et al. 2025, *Transformers without Normalization*, <https://arxiv.org/abs/2503.10622>.
//!
//! Tensors have `tanh`, `mul` and `add`, so four lines would do. The op below does it in one pass over memory, and shows
//! how an op with a backward written by hand comes from outside.
//!
//! ```
//! use formwork::{Builder, ModelConfig, Module, Pass, Seed, Tensor};
//!
//! let config = ModelConfig::from_json(outside_crate::CONFIG)?; // its final norm is ours, with alpha 0.5
//! let model = Builder::new(config).hooks(&outside_crate::hooks()).build(&Seed::new(1))?;
//! let norm = model.norm.expect("the config has one");
//! let y = norm.forward(&Tensor::from_vec(vec![2.0f32; 24], &[1, 24])?, &mut Pass::infer())?;
//! assert!((y.to_vec::<f32>()?[0] - 1.0f32.tanh()).abs() < 1e-6);
//! # Ok::<(), formwork::Error>(())
//! ```

use formwork::{
    At, Error, GradSink, Module, Norm, Op, Outputs, Param, Pass, Result, Saved, Tensor, Visit, VisitMut,
    model::Place,
    module::Init,
    tensor::{Scalar, Write, dispatch},
};
use serde::Deserialize;

/// What stands under `params` in the config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DytConfig {
    /// Where α starts; the paper uses 0.5 for most models.
    alpha: f64,
}

/// Dynamic tanh; see the file's head.
#[derive(Debug)]
pub struct Dyt {
    /// `[1]`.
    pub alpha: Param,
    /// `[d]`; named `weight`, drawn as ones.
    pub gain: Param,
    /// `[d]`; drawn as zeros.
    pub bias: Param,
}

impl Dyt {
    /// For a hook.
    ///
    /// # Errors
    /// Params other than a number `alpha`, or what the source refuses.
    pub fn new(place: &Place<'_>) -> Result<Self> {
        let DytConfig { alpha } = place.read()?;
        let param = |name, len, start| place.scope.param(name, &[len], Init::Constant(start));
        Ok(Self {
            alpha: param("alpha", 1, alpha)?,
            gain: param("weight", place.dim, 1.0)?,
            bias: param("bias", place.dim, 0.0)?,
        })
    }
}

impl Module for Dyt {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (alpha, gain, bias) = (pass.take(&self.alpha)?, pass.take(&self.gain)?, pass.take(&self.bias)?);
        Tensor::apply1(DytOp, &[x, &alpha, &gain, &bias])
    }

    fn visit(&self, v: &mut dyn Visit) {
        v.param("alpha", &self.alpha);
        v.param("weight", &self.gain);
        v.param("bias", &self.bias);
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.param("alpha", &mut self.alpha).at("alpha")?;
        v.param("weight", &mut self.gain).at("weight")?;
        v.param("bias", &mut self.bias).at("bias")
    }
}

/// The residual sum and its norm: the default, an addition and then the norm, is all that this one needs.
impl Norm for Dyt {}

/// Inputs `x [.., d]`, `α [1]`, `gain [d]`, `bias [d]`; output `[.., d]`.
#[derive(Debug)]
struct DytOp;

impl Op for DytOp {
    fn name(&self) -> &'static str {
        "dyt"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let &[x, alpha, gain, bias] = inputs else {
            return Err(Error::invalid(
                "dyt",
                "x, alpha, gain and bias",
                format_args!("{} inputs", inputs.len()),
            ));
        };
        let d = gain.len();
        if x.shape().last() != Some(&d) || bias.len() != d || alpha.len() != 1 {
            let expected = format!("x [.., {d}] and bias [{d}] for gain [{d}]");
            return Err(Error::shape("dyt", expected, format_args!("{} and {}", x.shape(), bias.shape())));
        }
        let x = x.compact()?;
        let [t, y] = dispatch!(x.dtype(), T => squash::<T>(&x, [alpha, gain, bias])?);
        saved.keep([x, t, alpha.clone(), gain.clone()]);
        Ok(y.into())
    }

    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        dispatch!(dy.dtype(), T => adjoint::<T>(saved, dy, into))
    }
}

/// `t = tanh(α·x)` and `y = t ⊙ gain + bias`, in one pass.
fn squash<T: Scalar>(x: &Tensor, [alpha, gain, bias]: [&Tensor; 3]) -> Result<[Tensor; 2]> {
    let (mut t, mut y) = (x.buffer::<T>(x.len()), x.buffer::<T>(x.len()));
    let alpha = alpha.slice::<T>()?[0];
    let columns = gain.slice::<T>()?.iter().zip(bias.slice::<T>()?).cycle();
    for (((x, t), y), (gain, bias)) in x.slice::<T>()?.iter().zip(&mut t[..]).zip(&mut y[..]).zip(columns) {
        *t = (alpha * *x).fast_tanh(); // exact in f64, where gradients are checked
        *y = *t * *gain + *bias;
    }
    Ok([Tensor::from_buffer(t, x.shape())?, Tensor::from_buffer(y, x.shape())?])
}

/// With `t = tanh(α·x)` and `s = dy ⊙ gain ⊙ (1 − t²)`: `dx = α·s`, `dα = Σ s·x`, and, summed over the rows,
/// `dgain = Σ dy·t`, `dbias = Σ dy`.
fn adjoint<T: Scalar>(saved: &Saved, dy: &Tensor, into: &mut GradSink<'_>) -> Result<()> {
    let [x, t, alpha, gain] = &saved[..] else { return Err(Error::missing("what dyt saved")) };
    let (xs, ts, dys) = (x.slice::<T>()?, t.slice::<T>()?, dy.slice::<T>()?);
    let (alpha, gains) = (alpha.slice::<T>()?[0], gain.slice::<T>()?);
    let mut s = x.buffer::<T>(x.len());
    for (((s, dy), t), gain) in s.iter_mut().zip(dys).zip(ts).zip(gains.iter().cycle()) {
        *s = *dy * *gain * (T::of(1.0) - *t * *t);
    }
    into.give::<T>(0, |dx, write| {
        for (dx, s) in dx.iter_mut().zip(&s[..]) {
            *dx = write.combine(*dx, alpha * *s);
        }
    })?;
    into.give::<T>(1, |dalpha, write| columns(dalpha, write, s.iter().zip(xs).map(|(s, x)| *s * *x)))?;
    into.give::<T>(2, |dgain, write| columns(dgain, write, dys.iter().zip(ts).map(|(dy, t)| *dy * *t)))?;
    into.give::<T>(3, |dbias, write| columns(dbias, write, dys.iter().copied()))
}

/// The sum over the rows of numbers that come row by row, each as wide as `to`.
fn columns<T: Scalar>(to: &mut [T], write: Write, numbers: impl Iterator<Item = T>) {
    let mut sums = vec![T::of(0.0); to.len()];
    for (i, number) in numbers.enumerate() {
        sums[i % to.len()] += number;
    }
    for (to, sum) in to.iter_mut().zip(sums) {
        *to = write.combine(*to, sum);
    }
}
