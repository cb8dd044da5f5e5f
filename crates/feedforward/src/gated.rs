//! The gated feed-forward layer.
//!
//! `y = W_down · (f(W_gate · x) ⊙ (W_up · x))`, for each token alone; `x`, `y`: `[.., d]`, gate, up: `[.., f]`.
//!
//! Shazeer 2020, <https://arxiv.org/abs/2002.05202>; with SiLU it is SwiGLU, which LLaMA uses.
//!
//! ```
//! use formwork_feedforward::{GatedMlp, Settings};
//! use formwork_module::{Activation, Init, Module, Pass, Result, Scope, Seed, Tensor};
//!
//! #[derive(Debug)]
//! struct Square;
//! impl Activation for Square {
//!     fn apply(&self, x: &Tensor) -> Result<Tensor> {
//!         x.mul(x)
//!     }
//! }
//!
//! let [init, residual_init] = [Init::Constant(1.0), Init::Constant(0.5)];
//! let settings = Settings { init, residual_init, ..Settings::new(2, 3) };
//! let mlp = GatedMlp::new(&Scope::root(&Seed::new(1)), &settings, Box::new(Square))?;
//! let y = mlp.forward(&Tensor::from_vec(vec![1.0f32, 3.0], &[1, 2])?, &mut Pass::infer())?;
//! assert_eq!(y.to_vec::<f32>()?, [96.0, 96.0]); // three hidden numbers (1 + 3)² · (1 + 3), each times 0.5
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{
    Activation, Dropout, Linear, Module, Pass, Result, Scope, Site, Tensor, children, linears,
};

use crate::{
    Settings,
    down::{Inward, Rest},
};

/// Gate and up, activation on the gate, down; see the [module](self).
#[derive(Debug)]
pub struct GatedMlp {
    /// `[f, d]`: what the activation acts on.
    pub gate: Linear,
    /// `[f, d]`.
    pub up: Linear,
    /// `[d, f]`.
    pub down: Linear,
    /// Of the gate.
    pub activation: Box<dyn Activation>,
    /// After the product of gate and up.
    pub dropout: Dropout,
    site: Site,
}

impl GatedMlp {
    /// A layer with parameters `gate`, `up` and `down`, in this order.
    ///
    /// # Errors
    /// A size of 0, or what the source refuses.
    pub fn new(scope: &Scope<'_>, settings: &Settings, activation: Box<dyn Activation>) -> Result<Self> {
        settings.check(scope)?;
        let gate = settings.inward(scope, "gate")?;
        let up = settings.inward(scope, "up")?;
        let down = settings.outward(scope, "down")?;
        Ok(Self { gate, up, down, activation, dropout: settings.dropout, site: scope.site() })
    }
}

impl Module for GatedMlp {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [gate, up] = linears([("gate", &self.gate), ("up", &self.up)], x, pass)?; // [.., f] each
        let Self { activation, dropout, down, site, .. } = self;
        let rest = Rest { activation: &**activation, dropout: *dropout, down, site };
        rest.forward(&Inward::Gated(gate, up), pass) // [.., d]
    }

    children!(gate, up, down);
}
