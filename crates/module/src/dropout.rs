//! Dropout: each number is zeroed with probability `rate`, the others are divided by `1 − rate`.
//!
//! The mask comes from a counter, keyed by seed, step and place, so it is never stored and a recomputed block draws
//! the same one. Srivastava et al. 2014, <https://jmlr.org/papers/v15/srivastava14a.html>.

use formwork_kernels::{Dest, rng};
use formwork_tensor::{GradSink, Op, Outputs, Saved, dispatch};

use crate::{Error, Mode, Pass, Result, Site, Tensor};

/// A rate in `[0, 1)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout(f64);

impl Dropout {
    /// # Errors
    /// A rate outside `[0, 1)`.
    pub fn new(rate: f64) -> Result<Self> {
        match (0.0..1.0).contains(&rate) {
            true => Ok(Self(rate)),
            false => Err(Error::invalid("dropout", "a rate in [0, 1)", rate).hint("0 switches it off")),
        }
    }

    /// The probability of a zero.
    pub fn rate(self) -> f64 {
        self.0
    }

    /// The key of this pass's mask at a place; `None` when nothing is dropped.
    /// `salt` tells several masks of one place apart.
    pub fn key(self, site: &Site, salt: u64, pass: &Pass<'_>) -> Option<u64> {
        match pass.mode() {
            Mode::Train { seed, step } if self.0 > 0.0 => {
                Some(rng::mix(rng::mix(seed, step), rng::mix(site.key, salt)))
            }
            _ => None,
        }
    }
}

/// `x` with dropout in a training pass, and `x` itself otherwise.
///
/// # Errors
/// None for numbers in host memory.
pub fn dropout(x: &Tensor, rate: Dropout, site: &Site, salt: u64, pass: &Pass<'_>) -> Result<Tensor> {
    match rate.key(site, salt, pass) {
        Some(key) => Tensor::apply1(DropoutOp { key, rate: rate.0 }, &[x]),
        None => Ok(x.clone()),
    }
}

#[derive(Debug)]
struct DropoutOp {
    key: u64,
    rate: f64,
}

impl DropoutOp {
    fn mask(&self) -> rng::Dropout {
        rng::Dropout { key: self.key, first: 0, probability: self.rate }
    }
}

impl Op for DropoutOp {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let x = inputs[0].compact()?;
        let y = dispatch!(x.dtype(), T => {
            let mut y = x.buffer::<T>(x.len());
            self.mask().apply(x.slice::<T>()?, Dest::store(&mut y));
            Tensor::from_buffer(y, x.shape())?
        });
        Ok(y.into())
    }

    /// dx = dy under the same mask and scale.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        dispatch!(dy.dtype(), T => {
            let dy = dy.slice::<T>()?;
            into.give::<T>(0, |dx, write| self.mask().apply(dy, Dest { data: dx, write }))
        })
    }
}
