//! Normalisations over the last axis: [`LayerNorm`] and [`RmsNorm`].
//!
//! Both implement [`Norm`](formwork_module::Norm), whose `add_norm` adds the residual and norms the sum in one pass
//! over memory. A config names its kind:
//!
//! ```
//! use formwork_module::{Module, Pass, Scope, Seed, Tensor};
//! use formwork_norm::{NormConfig, RmsConfig};
//!
//! let norm = NormConfig::Rms(RmsConfig { eps: 1e-5 }).build(&Scope::root(&Seed::new(1)), 2)?;
//! let x = Tensor::from_vec(vec![3.0f32, 4.0], &[1, 2])?;
//! let y = norm.forward(&x, &mut Pass::infer())?.to_vec::<f32>()?;
//! assert!((y[0] - 3.0 / 12.5f32.sqrt()).abs() < 1e-5);
//! # Ok::<(), formwork_module::Error>(())
//! ```
//!
//! A new norm is one file here and one line in the list below.
#![forbid(unsafe_code)]

pub mod normalise;

pub use normalise::{Normalise, Statistic};

/// Declares each norm's file and puts it behind [`NormConfig`].
macro_rules! norms {
    ($($file:ident: $Variant:ident($Config:ident) builds $Norm:ident = $kind:literal;)*) => {
        $(pub mod $file;
        pub use $file::{$Config, $Norm};)*

        formwork_module::choice! {
            /// Which normalisation, told apart by the field `kind`.
            pub enum NormConfig { $($Variant($Config) = $kind),* }
        }

        impl NormConfig {
            /// The norm of rows of width `dim`, its parameters asked of the scope's source.
            ///
            /// # Errors
            /// A setting out of range, what the source refuses, and kind `custom`, which only a builder's hook makes.
            pub fn build(&self, scope: &formwork_module::Scope<'_>, dim: usize) -> formwork_module::Result<Box<dyn formwork_module::Norm>> {
                match self {
                    $(NormConfig::$Variant(config) => Ok(Box::new($Norm::new(scope, dim, config)?)),)*
                    NormConfig::Custom(custom) => Err(scope.locate(custom.without_hook("norm"))),
                }
            }
        }
    };
}

norms! {
    layer: Layer(LayerConfig) builds LayerNorm = "layer";
    rms: Rms(RmsConfig) builds RmsNorm = "rms";
}
