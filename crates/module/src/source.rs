//! Where a parameter's numbers come from: a seed, nothing (an outline), or, in its own crate, a checkpoint.

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use formwork_kernels::rng;
use formwork_tensor::{Shape, dispatch};

use crate::{Buffer, DType, Pool, Result, Stored, Tensor, Weight};

/// How a seed draws a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// The same number everywhere: 0 for a bias, 1 for a gain.
    Constant(f64),
    /// Independent normal numbers of mean 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// Independent numbers, uniform in `[−bound, bound]`.
    Uniform {
        /// The largest magnitude.
        bound: f64,
    },
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Init::Constant(value) => write!(f, "{value}"),
            Init::Normal { std } => write!(f, "normal(0, {std:.6})"),
            Init::Uniform { bound } => write!(f, "uniform(±{bound:.6})"),
        }
    }
}

/// What a builder asks of a source.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The lengths of the axes.
    pub shape: Shape,
    /// How a seed would draw it.
    pub init: Init,
}

/// What a source answers.
#[derive(Clone, Debug)]
pub struct Given {
    /// The numbers; `None` in an outline.
    pub value: Option<Tensor>,
    /// The type in which a file holds them.
    pub stored: Stored,
}

/// Where parameters come from.
pub trait Source: Debug {
    /// The numbers of the parameter at `path`, of exactly the shape asked for.
    ///
    /// # Errors
    /// A parameter that the source does not have, or has with another shape.
    fn param(&self, path: &str, spec: &Spec) -> Result<Given>;

    /// A matrix that the source holds in a layout of its own, such as blocks that stay as a file has them; `None`, the
    /// default, where [`param`](Source::param) is to be asked instead.
    ///
    /// # Errors
    /// A matrix that the source does not have, or has with another shape.
    fn weight(&self, path: &str, spec: &Spec) -> Result<Option<Arc<dyn Weight>>> {
        let _ = (path, spec);
        Ok(None)
    }
}

/// Draws every parameter from a seed: the same numbers for the same seed and path, whatever is built around it.
#[derive(Clone, Debug)]
pub struct Seed {
    seed: u64,
    dtype: DType,
    pool: Pool,
}

impl Seed {
    /// A source of `f32` parameters with a pool of its own.
    pub fn new(seed: u64) -> Self {
        Self { seed, dtype: DType::F32, pool: Pool::new() }
    }

    /// Another type of numbers. The same seed gives the same numbers up to rounding.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Another pool for the parameters, and so for all that is computed from them.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }
}

impl Source for Seed {
    fn param(&self, path: &str, spec: &Spec) -> Result<Given> {
        let key = rng::mix(self.seed, path_key(path));
        let value = dispatch!(self.dtype, T => {
            let mut values = Buffer::<T>::new(spec.shape.len(), Some(&self.pool));
            match spec.init {
                Init::Constant(value) => values.fill(<T as formwork_kernels::Element>::of(value)),
                Init::Normal { std } => rng::fill_normal(key, std, &mut values),
                Init::Uniform { bound } => rng::fill_uniform(key, -bound, bound, &mut values),
            }
            Tensor::from_buffer(values, &spec.shape)?
        });
        Ok(Given { value: Some(value), stored: self.dtype.into() })
    }
}

/// A number for a path, the same in every build: FNV-1a, mixed further by whoever draws from it.
pub(crate) fn path_key(path: &str) -> u64 {
    path.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Gives no numbers, so that any model can be built, listed and counted without memory for its weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outline;

impl Source for Outline {
    fn param(&self, _: &str, _: &Spec) -> Result<Given> {
        Ok(Given { value: None, stored: Stored::F32 })
    }
}
