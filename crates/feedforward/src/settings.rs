//! What a feed-forward layer is built from.

use formwork_module::{Bias, Dropout, Error, Init, Linear, Result, Scope};

/// Sizes, biases, dropout and initialisation of a feed-forward layer.
///
/// ```
/// use formwork_feedforward::Settings;
/// use formwork_module::{Bias, Dropout};
///
/// let settings = Settings { bias: Bias::Learned, dropout: Dropout::new(0.1)?, ..Settings::new(64, 256) };
/// assert_eq!((settings.dim, settings.hidden), (64, 256));
/// # Ok::<(), formwork_module::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Width `d` of input and output.
    pub dim: usize,
    /// Width `f` between the two.
    pub hidden: usize,
    /// Whether each projection has a bias.
    pub bias: Bias,
    /// Dropout between the activation and the projection down, as in T5; that of the residual is the block's.
    pub dropout: Dropout,
    /// How the projections into the hidden width are drawn.
    pub init: Init,
    /// How the projection back, which ends in the residual, is drawn.
    pub residual_init: Init,
}

impl Settings {
    /// No biases, no dropout, and every projection uniform in `±1/√in`.
    pub fn new(dim: usize, hidden: usize) -> Self {
        let uniform = |inp: usize| Init::Uniform { bound: 1.0 / (inp.max(1) as f64).sqrt() };
        Self {
            dim,
            hidden,
            bias: Bias::None,
            dropout: Dropout::default(),
            init: uniform(dim),
            residual_init: uniform(hidden),
        }
    }

    pub(crate) fn check(&self, scope: &Scope<'_>) -> Result<()> {
        match self {
            Settings { dim: 1.., hidden: 1.., .. } => Ok(()),
            Settings { dim, hidden, .. } => {
                let found = format!("dim {dim}, hidden {hidden}");
                Err(scope.locate(Error::invalid("feed-forward", "a dim and a hidden of at least 1", found)))
            }
        }
    }

    /// A projection from `dim` to `hidden`.
    pub(crate) fn inward(&self, scope: &Scope<'_>, name: &str) -> Result<Linear> {
        self.linear(&scope.child(name), [self.hidden, self.dim], self.init)
    }

    /// The projection from `hidden` to `dim`.
    pub(crate) fn outward(&self, scope: &Scope<'_>, name: &str) -> Result<Linear> {
        self.linear(&scope.child(name), [self.dim, self.hidden], self.residual_init)
    }

    fn linear(&self, scope: &Scope<'_>, [out, inp]: [usize; 2], init: Init) -> Result<Linear> {
        let linear = Linear::with_init(scope, out, inp, init)?;
        match self.bias {
            Bias::None => Ok(linear),
            Bias::Learned => linear.biased(scope),
        }
    }
}
