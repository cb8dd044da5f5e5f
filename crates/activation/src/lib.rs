//! Activations of feed-forward layers: [`Relu`], [`Gelu`], [`GeluTanh`] and [`Silu`].
//!
//! Each implements [`Activation`](formwork_module::Activation): plain, and gated (`f(gate) ⊙ up`) in one pass over
//! memory. A config is the activation itself, named by its kind:
//!
//! ```
//! use formwork_activation::{ActivationConfig, Silu};
//! use formwork_module::{Tensor};
//!
//! let silu = ActivationConfig::Silu(Silu {}).build()?;
//! let y = silu.apply(&Tensor::from_vec(vec![0.0f64, 2.0], &[2])?)?.to_vec::<f64>()?;
//! assert!(y[0] == 0.0 && (y[1] - 2.0 / (1.0 + (-2.0f64).exp())).abs() < 1e-12);
//! # Ok::<(), formwork_module::Error>(())
//! ```
//!
//! A new activation is one file here and one line in the list below.
#![forbid(unsafe_code)]

mod op;

/// Declares each activation's file and puts it behind [`ActivationConfig`].
macro_rules! activations {
    ($($file:ident: $Activation:ident = $kind:literal;)*) => {
        $(pub mod $file;
        pub use $file::$Activation;)*

        formwork_module::choice! {
            /// Which activation, told apart by the field `kind`.
            pub enum ActivationConfig { $($Activation($Activation) = $kind),* }
        }

        impl ActivationConfig {
            /// The activation itself.
            ///
            /// # Errors
            /// Kind `custom`, which only a builder's hook makes.
            pub fn build(&self) -> formwork_module::Result<Box<dyn formwork_module::Activation>> {
                match self {
                    $(ActivationConfig::$Activation(activation) => Ok(Box::new(*activation)),)*
                    ActivationConfig::Custom(custom) => Err(custom.without_hook("activation")),
                }
            }
        }

        $(impl From<$Activation> for ActivationConfig {
            fn from(activation: $Activation) -> Self {
                Self::$Activation(activation)
            }
        })*
    };
}

activations! {
    relu: Relu = "relu";
    gelu: Gelu = "gelu";
    gelu_tanh: GeluTanh = "gelu_tanh";
    silu: Silu = "silu";
}
