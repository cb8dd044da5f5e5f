//! The feed-forward layer of the Transformer.
//!
//! `y = W_down · f(W_up · x + b_up) + b_down`, for each token alone; `x`, `y`: `[.., d]`, hidden: `[.., f]`.
//!
//! Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>, with ReLU; GPT and BERT put GELU there.
//!
//! ```
//! use formwork_feedforward::{Mlp, Settings};
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
//! let mlp = Mlp::new(&Scope::root(&Seed::new(1)), &settings, Box::new(Square))?;
//! let y = mlp.forward(&Tensor::from_vec(vec![1.0f32, 3.0], &[1, 2])?, &mut Pass::infer())?;
//! assert_eq!(y.to_vec::<f32>()?, [24.0, 24.0]); // three hidden numbers (1 + 3)², each times 0.5
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Activation, At, Dropout, Linear, Module, Pass, Result, Scope, Site, Tensor, children};

use crate::{
    Settings,
    down::{Inward, Rest},
};

/// Up, activation, down; see the [module](self).
#[derive(Debug)]
pub struct Mlp {
    /// `[f, d]`.
    pub up: Linear,
    /// `[d, f]`.
    pub down: Linear,
    /// Between the two.
    pub activation: Box<dyn Activation>,
    /// After the activation.
    pub dropout: Dropout,
    site: Site,
}

impl Mlp {
    /// A layer with parameters `up` and `down`, in this order.
    ///
    /// # Errors
    /// A size of 0, or what the source refuses.
    pub fn new(scope: &Scope<'_>, settings: &Settings, activation: Box<dyn Activation>) -> Result<Self> {
        settings.check(scope)?;
        let up = settings.inward(scope, "up")?;
        let down = settings.outward(scope, "down")?;
        Ok(Self { up, down, activation, dropout: settings.dropout, site: scope.site() })
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let up = self.up.forward(x, pass).at("up")?; // [.., f]
        let Self { activation, dropout, down, site, .. } = self;
        let rest = Rest { activation: &**activation, dropout: *dropout, down, site };
        rest.forward(&Inward::Plain(up), pass) // [.., d]
    }

    children!(up, down);
}
