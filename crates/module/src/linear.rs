//! `y = x·Wᵀ + b`, over the last axis; `x`: `[.., in]`, `y`: `[.., out]`, `W`: `[out, in]`, `b`: `[out]`.

use std::sync::Arc;

use crate::{At, Init, Module, Param, Pass, Result, Scope, Tensor, Visit, VisitMut, Weight};

/// A linear layer over any [`Weight`].
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Arc<dyn Weight>,
    /// `[out]`.
    pub bias: Option<Param>,
}

impl Linear {
    /// A layer without a bias, drawn uniform in `±1/√in` from a seed.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn new(scope: &Scope<'_>, out: usize, inp: usize) -> Result<Self> {
        Self::with_init(scope, out, inp, Init::Uniform { bound: 1.0 / (inp.max(1) as f64).sqrt() })
    }

    /// A layer without a bias, drawn as told.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn with_init(scope: &Scope<'_>, out: usize, inp: usize, init: Init) -> Result<Self> {
        Ok(Self { weight: scope.weight("weight", [out, inp], init)?, bias: None })
    }

    /// Adds a bias of zeros.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn biased(mut self, scope: &Scope<'_>) -> Result<Self> {
        self.bias = Some(scope.param("bias", &[self.weight.shape()[0]], Init::Constant(0.0))?);
        Ok(self)
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| pass.take(b)).transpose()?;
        self.weight.apply(x, bias.as_ref(), pass) // [.., out]
    }

    fn visit(&self, v: &mut dyn Visit) {
        self.weight.visit("weight", v);
        if let Some(bias) = &self.bias {
            v.param("bias", bias);
        }
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.weight("weight", &mut self.weight)?;
        match &mut self.bias {
            Some(bias) => v.param("bias", bias).at("bias"),
            None => Ok(()),
        }
    }
}
