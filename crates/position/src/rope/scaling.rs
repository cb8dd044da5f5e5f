//! What carries rotary positions past the context that a model was trained on: other frequencies for the pairs.
//!
//! Without scaling, pair `i` of a rotary width `w` turns by `f_i = θ^(−2i/w)` per position. A scaling gives other
//! numbers, [`Spectrum`]: `[w/2]` frequencies, and a factor of all cosines and sines that is 1 except in YaRN.
//! In a config it stands under `scaling`, told apart by `kind`; each kind is a file beside this one.
//!
//! ```
//! use formwork_position::{LinearScaling, Pairs, RopeConfig, RopeScaling};
//!
//! let scaling = Some(RopeScaling::Linear(LinearScaling { factor: 4.0 }));
//! let config = RopeConfig { scaling, ..RopeConfig::new(100.0, Pairs::Halves) };
//! let spectrum = config.spectrum(4, 1)?; // heads of width 4: two pairs
//! assert!((spectrum.frequencies[0] - 1.0 / 4.0).abs() < 1e-15);
//! assert!((spectrum.frequencies[1] - 0.1 / 4.0).abs() < 1e-15);
//! assert_eq!(spectrum.scale, 1.0);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::rope;
use formwork_module::{Error, Result, config};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{DynamicScaling, FactorsScaling, LinearScaling, Llama3Scaling, YarnScaling};

/// How fast each pair turns, and what its cosines and sines are multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// Radians per position of each pair, `[w/2]`; elsewhere called inverse frequencies.
    pub frequencies: Vec<f64>,
    /// What cosines and sines are multiplied with, in queries and keys both: scores grow by its square.
    pub scale: f64,
}

impl Spectrum {
    /// Pure rotations.
    fn rotating(frequencies: Vec<f64>) -> Self {
        Self { frequencies, scale: 1.0 }
    }

    /// As the kernel wants it.
    pub(crate) fn view(&self) -> rope::Spectrum<'_> {
        rope::Spectrum { frequencies: &self.frequencies, scale: self.scale }
    }
}

impl From<Vec<f64>> for Spectrum {
    fn from(frequencies: Vec<f64>) -> Self {
        Self::rotating(frequencies)
    }
}

/// What a scaling acts on: a legal rotary width and base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    /// `w`
    pub(crate) width: usize,
    /// `θ`
    pub(crate) theta: f64,
}

impl Base {
    /// `θ^(−2i/w)`: `[w/2]`.
    pub(crate) fn frequencies(&self) -> Vec<f64> {
        rope::inverse_frequencies(self.width, self.theta)
    }
}

/// What each kind of scaling is.
pub(crate) trait Scale {
    /// Refuses settings that make no sense.
    fn check(&self, base: &Base) -> Result<()>;

    /// The spectrum for a text of `length` tokens.
    fn spectrum(&self, base: &Base, length: usize) -> Spectrum;

    /// The length from which on the spectrum depends on the length, if it ever does.
    fn grows_past(&self) -> Option<usize> {
        None
    }
}

/// Puts each kind of scaling behind [`RopeScaling`].
macro_rules! scalings {
    ($($(#[$doc:meta])* $Variant:ident($Scaling:ty) = $kind:literal;)*) => {
        /// Which scaling, told apart by the field `kind`.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        pub enum RopeScaling {
            $(
                #[doc = concat!("Kind `", $kind, "`.")]
                $(#[$doc])*
                #[serde(rename = $kind)]
                $Variant($Scaling),
            )*
        }

        impl<'de> Deserialize<'de> for RopeScaling {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let mut fields = config::Fields::deserialize(deserializer)?;
                let kind = config::kind::<D::Error>(&mut fields, &[$($kind),*])?;
                $(
                    if kind == $kind {
                        return config::variant::<$Scaling, D::Error>(fields).map(RopeScaling::$Variant);
                    }
                )*
                Err(de::Error::custom("a kind without a variant"))
            }
        }

        impl RopeScaling {
            fn scale(&self) -> &dyn Scale {
                match self {
                    $(RopeScaling::$Variant(scaling) => scaling,)*
                }
            }
        }
    };
}

scalings! {
    /// Position interpolation: all frequencies are divided by one number.
    Linear(LinearScaling) = "linear";
    /// Dynamic NTK: the base grows with the length of the text.
    Dynamic(DynamicScaling) = "dynamic";
    /// YaRN: slow pairs are interpolated, fast ones are not, and scores are sharpened.
    Yarn(YarnScaling) = "yarn";
    /// LLaMA 3.1: slow pairs are interpolated, fast ones are not.
    Llama3(Llama3Scaling) = "llama3";
    /// A divisor for each pair, as files in GGUF hold them.
    Factors(FactorsScaling) = "factors";
}

impl RopeScaling {
    pub(crate) fn check(&self, base: &Base) -> Result<()> {
        self.scale().check(base).map_err(|error| error.at("scaling"))
    }

    pub(crate) fn spectrum(&self, base: &Base, length: usize) -> Spectrum {
        self.scale().spectrum(base, length)
    }

    pub(crate) fn grows_past(&self) -> Option<usize> {
        self.scale().grows_past()
    }
}

/// A factor by which the context grows.
pub(crate) fn check_factor(kind: &'static str, factor: f64) -> Result<()> {
    match factor.is_finite() && factor >= 1.0 {
        true => Ok(()),
        false => Err(Error::invalid(kind, "a factor of 1 or more", factor)
            .hint("it is the new context over the old one; leave scaling out for none")),
    }
}

/// The context that a model was trained on before it was scaled.
pub(crate) fn check_context(kind: &'static str, original_context: usize) -> Result<()> {
    match original_context {
        0 => Err(Error::invalid(kind, "an original_context of 1 or more", 0)
            .hint("give the context that the model was trained on before it was scaled")),
        _ => Ok(()),
    }
}

/// A number that must be finite and above 0.
pub(crate) fn check_positive(kind: &'static str, field: &str, value: f64) -> Result<()> {
    match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(Error::invalid(kind, format_args!("{field} above 0"), value)),
    }
}
