//! The squared rectifier: `y = max(x, 0)²`, elementwise.
//!
//! So et al. 2021, *Primer*, <https://arxiv.org/abs/2109.08668>. Made of what is there, so it needs no backward.
//!
//! ```
//! use formwork::{Activation, Tensor};
//!
//! let y = outside_crate::ReluSquared.apply(&Tensor::from_vec(vec![-2.0f32, 3.0], &[2])?)?;
//! assert_eq!(y.to_vec::<f32>()?, [0.0, 9.0]);
//! # Ok::<(), formwork::Error>(())
//! ```

use formwork::{Activation, Result, Tensor, activation::Relu};

/// `max(x, 0)²`; see the file's head.
#[derive(Clone, Copy, Debug)]
pub struct ReluSquared;

impl Activation for ReluSquared {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = Relu {}.apply(x)?;
        y.mul(&y)
    }
}
