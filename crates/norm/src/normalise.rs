//! The arithmetic behind both norms, with or without the residual addition before it, for use without a module.
//!
//! `u = x` or `x + delta`; `y = (u − mean) / sqrt(var + eps) · gain + bias`, or
//! `y = u / sqrt(mean(u²) + eps) · gain`.
//! `x`, `delta`, `y`: `[.., d]`; `gain`, `bias`: `[d]`.
//!
//! ```
//! use formwork_module::{Tensor};
//! use formwork_norm::{Normalise, Statistic};
//!
//! let norm = Normalise { statistic: Statistic::MeanSquare, eps: 1e-6 };
//! let q = Tensor::from_vec(vec![3.0f64, 4.0, 0.0, 5.0], &[2, 2])?; // two heads of width 2, say
//! let y = norm.apply(&q, &Tensor::from_vec(vec![1.0f64, 2.0], &[2])?, None)?.to_vec::<f64>()?;
//! assert!((y[1] - 8.0 / 12.5f64.sqrt()).abs() < 1e-6 && (y[3] - 10.0 / 12.5f64.sqrt()).abs() < 1e-6);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::{
    Dest,
    norm::{self, NormAdjoint, ResidualAdd},
};
use formwork_module::{Error, Kind, Result, Tensor};
use formwork_tensor::{GradSink, Op, Outputs, Saved, Scalar, dispatch};

/// What a row is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Layer norm: the mean is taken off, the deviation divided out.
    MeanAndVariance,
    /// RMS norm: the root of the mean square is divided out.
    MeanSquare,
}

/// A normalisation over the last axis, as a function of tensors; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Normalise {
    /// What a row is measured by.
    pub statistic: Statistic,
    /// Added to the measure under the root.
    pub eps: f64,
}

impl Normalise {
    /// The normed rows of `x [.., d]`; an RMS norm takes no bias.
    ///
    /// # Errors
    /// Shapes or types of numbers that do not fit, or a bias where none can be.
    pub fn apply(&self, x: &Tensor, gain: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let op = NormOp { of: *self, rows: 1 };
        match bias {
            Some(bias) => Tensor::apply1(op, &[x, gain, bias]),
            None => Tensor::apply1(op, &[x, gain]),
        }
    }

    /// `x + delta` and its normed rows, in one pass over memory.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), and a delta of another shape than `x`.
    pub fn add_apply(
        &self,
        x: &Tensor,
        delta: &Tensor,
        gain: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let op = NormOp { of: *self, rows: 2 };
        let outputs = match bias {
            Some(bias) => Tensor::apply(op, &[x, delta, gain, bias])?,
            None => Tensor::apply(op, &[x, delta, gain])?,
        };
        outputs.exactly().map(|[sum, y]| (sum, y))
    }
}

/// Refuses what no norm can be built with.
pub(crate) fn check_settings(dim: usize, eps: f64) -> Result<()> {
    if dim == 0 {
        return Err(Error::invalid("norm", "a dim of at least 1", dim));
    }
    if !(eps.is_finite() && eps > 0.0) {
        return Err(Error::invalid("eps", "a positive number", eps).hint("published models use 1e-5 or 1e-6"));
    }
    Ok(())
}

/// Inputs `x [.., d]`, with a residual `delta [.., d]`, then `gain [d]` and perhaps `bias [d]`.
#[derive(Clone, Copy, Debug)]
struct NormOp {
    of: Normalise,
    /// 1: `x`; 2: `x` and `delta`, whose sum is an output as well.
    rows: usize,
}

impl NormOp {
    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        let (x, gain) = (inputs[0], inputs[self.rows]);
        let &[d] = &gain.shape()[..] else {
            return Err(Error::shape(self.name(), "a gain [d]", gain.shape()));
        };
        if x.shape().last() != Some(&d) {
            return Err(Error::shape(self.name(), format_args!("x [.., {d}] for gain [{d}]"), x.shape()));
        }
        if self.rows == 2 && inputs[1].shape() != x.shape() {
            return Err(Error::shape(
                self.name(),
                format_args!("delta {} as x", x.shape()),
                inputs[1].shape(),
            ));
        }
        if let Some(bias) = inputs.get(self.rows + 1)
            && bias.shape() != gain.shape()
        {
            return Err(Error::shape(self.name(), format_args!("bias [{d}]"), bias.shape()));
        }
        if inputs.len() > self.rows + 1 && self.of.statistic == Statistic::MeanSquare {
            return Err(Error::invalid(self.name(), "no bias", "one").hint("add it to the result"));
        }
        match inputs.iter().find(|t| t.dtype() != x.dtype()) {
            Some(t) => Err(Kind::DType { op: self.name(), expected: x.dtype(), found: t.dtype() }.into()),
            None => Ok(()),
        }
    }

    fn run<T: Scalar>(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let (x, gain) = (&inputs[0].compact()?, &inputs[self.rows].compact()?);
        let delta = inputs[1].compact()?; // the gain where there is no delta
        let bias = inputs.get(self.rows + 1).map(|bias| bias.compact()).transpose()?;
        let bias = bias.as_ref().map(|bias| bias.slice::<T>()).transpose()?;
        let (rows, _) = x.shape().rows();
        let (mut y, mut rstd) = (x.buffer::<T>(x.len()), x.buffer::<T>(rows));
        let mut sum = (self.rows == 2).then(|| x.buffer::<T>(x.len()));
        let mut mean = (self.of.statistic == Statistic::MeanAndVariance).then(|| x.buffer::<T>(rows));
        let add = match &mut sum {
            Some(sum) => Some(ResidualAdd { delta: delta.slice::<T>()?, sum }),
            None => None,
        };
        let (xs, gains, eps) = (x.slice::<T>()?, gain.slice::<T>()?, T::of(self.of.eps));
        match &mut mean {
            Some(mean) => {
                let (y, rstd) = (&mut y, &mut rstd);
                norm::layer_norm(norm::LayerNorm { x: xs, add, gain: gains, bias, eps, y, mean, rstd });
            }
            None => {
                let (y, rstd) = (&mut y, &mut rstd);
                norm::rms_norm(norm::RmsNorm { x: xs, add, gain: gains, eps, y, rstd });
            }
        }
        let y = Tensor::from_buffer(y, x.shape())?;
        let sum = sum.map(|sum| Tensor::from_buffer(sum, x.shape())).transpose()?;
        if saved.wanted() {
            let normed = sum.as_ref().unwrap_or(x).clone();
            saved.keep([normed, gain.clone(), Tensor::from_buffer(rstd, &[rows])?]);
            saved.keep(mean.map(|mean| Tensor::from_buffer(mean, &[rows])).transpose()?);
        }
        Ok(match sum {
            Some(sum) => [sum, y].into(),
            None => y.into(),
        })
    }

    fn adjoint<T: Scalar>(
        &self,
        saved: &Saved,
        grads: &[Option<&Tensor>],
        into: &mut GradSink<'_>,
    ) -> Result<()> {
        let (dsum, dy) = if self.rows == 2 { (grads[0], grads[1]) } else { (None, grads[0]) };
        let Some(dy) = dy else {
            // Only the sum was used: its gradient passes on as it is.
            let dsum = into.grad(grads, 0)?;
            return (0..self.rows).try_for_each(|i| into.add(i, dsum));
        };
        let (u, gain) = (&saved[0], &saved[1]);
        let at = self.rows; // where the gain stands among the inputs
        let wanted = |into: &GradSink<'_>, i: usize| i < into.inputs() && into.wants(i);
        let mut dgain = wanted(into, at).then(|| gain.buffer::<T>(gain.len()));
        let mut dbias = wanted(into, at + 1).then(|| gain.buffer::<T>(gain.len()));
        let views = Views::<T> {
            u: u.slice()?,
            gain: gain.slice()?,
            rstd: saved[2].slice()?,
            mean: saved.get(3).map_or(Ok(&[][..]), |mean| mean.slice())?,
            dy: dy.slice()?,
            dsum: dsum.map(|dsum| dsum.slice()).transpose()?,
        };
        let columns = [dgain.as_deref_mut(), dbias.as_deref_mut()];
        match self.rows {
            1 if into.wants(0) => {
                into.give::<T>(0, |data, write| {
                    views.adjoint(self.of.statistic, Some(Dest { data, write }), columns);
                })?;
            }
            2 if into.wants(0) || into.wants(1) => {
                // x and delta enter through their sum alone, so both get the same gradient.
                let mut dx = u.buffer::<T>(u.len());
                views.adjoint(self.of.statistic, Some(Dest::store(&mut dx)), columns);
                let dx = Tensor::from_buffer(dx, u.shape())?;
                into.add(0, &dx)?;
                into.add(1, &dx)?;
            }
            _ => views.adjoint(self.of.statistic, None, columns),
        }
        for (i, sums) in [(at, dgain), (at + 1, dbias)] {
            if let Some(sums) = sums {
                into.add(i, &Tensor::from_buffer(sums, gain.shape())?)?;
            }
        }
        Ok(())
    }
}

/// What the adjoint reads.
struct Views<'a, T> {
    u: &'a [T],
    gain: &'a [T],
    rstd: &'a [T],
    mean: &'a [T],
    dy: &'a [T],
    dsum: Option<&'a [T]>,
}

impl<T: Scalar> Views<'_, T> {
    fn adjoint(&self, statistic: Statistic, dx: Option<Dest<'_, T>>, [dgain, dbias]: [Option<&mut [T]>; 2]) {
        let Self { u: x, gain, rstd, mean, dy, dsum } = *self;
        let (dgain, dbias) = (dgain.map(Dest::store), dbias.map(Dest::store));
        let args = NormAdjoint { x, gain, mean, rstd, dy, dsum, dx, dgain, dbias };
        match statistic {
            Statistic::MeanAndVariance => norm::layer_norm_adjoint(args),
            Statistic::MeanSquare => norm::rms_norm_adjoint(args),
        }
    }
}

impl Op for NormOp {
    fn name(&self) -> &'static str {
        match self.of.statistic {
            Statistic::MeanAndVariance => "layer_norm",
            Statistic::MeanSquare => "rms_norm",
        }
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        self.check(inputs)?;
        dispatch!(inputs[0].dtype(), T => self.run::<T>(inputs, saved))
    }

    /// With `û = (u − mean) · rstd` and `dû = dy · gain`:
    /// du = rstd · (dû − mean(dû) − û · mean(dû · û)) + dsum, without mean(dû) where no mean is taken off;
    /// dx = ddelta = du, dgain = Σ dy · û, dbias = Σ dy over all rows.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        dispatch!(saved[0].dtype(), T => self.adjoint::<T>(saved, grads, into))
    }
}
