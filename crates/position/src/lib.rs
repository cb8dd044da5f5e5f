//! Position encodings: [`Learned`] tables on the embeddings, [`Rope`] on queries and keys, or [`NoPosition`].
//!
//! Each implements [`Position`]. Positions come from the pass, so that padding on either
//! side and a cache of earlier tokens are accounted for.
//!
//! ```
//! use formwork_module::{Init, Pass, Scope, Seed, Tensor};
//! use formwork_position::{Pairs, Place, PositionConfig, RopeConfig};
//!
//! let config = PositionConfig::Rope(RopeConfig::new(10_000.0, Pairs::Halves));
//! let place = Place { dim: 2, context: 8, heads: None, init: Init::Normal { std: 0.02 } };
//! let rope = config.build(&Scope::root(&Seed::new(1)), &place)?;
//! let x = Tensor::from_vec(vec![1.0f64, 0.0, 1.0, 0.0], &[1, 2, 1, 2])?; // two tokens, one head
//! let y = rope.rotate(&x, &mut Pass::infer())?.to_vec::<f64>()?;
//! assert!((y[2] - 1.0f64.cos()).abs() < 1e-12 && (y[3] - 1.0f64.sin()).abs() < 1e-12);
//! # Ok::<(), formwork_module::Error>(())
//! ```
//!
//! Contexts longer than the one a model was trained on: [`RopeScaling`].
//!
//! A new encoding is one file here and one line in the list below.
#![forbid(unsafe_code)]

mod grown;
mod table;

pub use rope::{
    DynamicScaling, FactorsScaling, LinearScaling, Llama3Scaling, Pairs, Ramp, RopeScaling, Spectrum,
    YarnScaling,
};

use std::sync::Arc;

use formwork_kernels::scratch::List;
use formwork_module::{Init, Position, Result, RowSpan, Scope};

/// What an encoding must know of the place where it will stand.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The width that it acts on: of embeddings, or of one head.
    pub dim: usize,
    /// The longest text of the model.
    pub context: usize,
    /// The heads of the attention around it; `None` anywhere else. An encoding that differs between heads needs them.
    pub heads: Option<Heads>,
    /// How its parameters, if it has any, are drawn.
    pub init: Init,
}

/// Numbers of heads of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads, `h`.
    pub heads: usize,
    /// Key and value heads, `g`.
    pub kv_heads: usize,
}

/// Declares each encoding's file and puts it behind [`PositionConfig`].
macro_rules! positions {
    ($($file:ident: $Variant:ident($Config:ident) builds $Position:ident = $kind:literal;)*) => {
        $(pub mod $file;
        pub use $file::{$Config, $Position};)*

        formwork_module::choice! {
            /// Which position encoding, told apart by the field `kind`.
            pub enum PositionConfig { $($Variant($Config) = $kind),* }
        }

        impl PositionConfig {
            /// The encoding, its parameters asked of the scope's source. One without parameters can be shared by layers.
            ///
            /// # Errors
            /// A setting out of range, what the source refuses, and kind `custom`, which only a builder's hook makes.
            pub fn build(&self, scope: &Scope<'_>, place: &Place) -> Result<Arc<dyn Position>> {
                match self {
                    $(PositionConfig::$Variant(config) => Ok(Arc::new($Position::new(scope, place, config)?)),)*
                    PositionConfig::Custom(custom) => Err(scope.locate(custom.without_hook("position"))),
                }
            }
        }
    };
}

positions! {
    none: None(NoConfig) builds NoPosition = "none";
    learned: Learned(LearnedConfig) builds Learned = "learned";
    rope: Rope(RopeConfig) builds Rope = "rope";
}

/// The position of every token of a batch `[b, t]`, row-major; 0 for padding, where it does not matter.
fn of_tokens(spans: &[RowSpan], t: usize) -> List<u32> {
    let mut positions = List::repeated(0, spans.len() * t);
    for (row, span) in positions.chunks_exact_mut(t.max(1)).zip(spans) {
        for (i, position) in row[span.tokens.clone()].iter_mut().enumerate() {
            *position = u32::try_from(span.position + i).unwrap_or(u32::MAX);
        }
    }
    positions
}
