//! A logit processor: tokens within `n` standard deviations of the best logit stay.
//!
//! `logit ≥ max − n·σ`, `σ` that of the logits which are not forbidden. Noise of many small logits stays out at any
//! temperature: both sides of the comparison are divided by it.
//!
//! Tang et al. 2024, <https://arxiv.org/abs/2411.07641>, with `n` = 1.
//!
//! ```
//! use formwork::generate::{History, Processor};
//! use outside_crate::TopNSigma;
//!
//! let mut logits = [7.0, 5.0, 1.0, f32::NEG_INFINITY, 3.0]; // σ = √5
//! TopNSigma::new(1.0)?.process(&mut logits, &History::default())?;
//! let none = f32::NEG_INFINITY;
//! assert_eq!(logits, [7.0, 5.0, none, none, none]);
//! # Ok::<(), formwork::Error>(())
//! ```

use formwork::{
    Error, Result,
    generate::{History, Processor},
};

/// Keeps tokens by their distance from the best; see the file's head.
#[derive(Clone, Copy, Debug)]
pub struct TopNSigma {
    n: f64,
}

impl TopNSigma {
    /// Keeps what is at most `n` standard deviations below the best; 0 keeps the best alone.
    ///
    /// # Errors
    /// A negative number, or one that is not finite.
    pub fn new(n: f64) -> Result<Self> {
        match n.is_finite() && n >= 0.0 {
            true => Ok(Self { n }),
            false => Err(Error::invalid("top_n_sigma", "a number of 0 or more", n)),
        }
    }
}

impl Processor for TopNSigma {
    fn process(&self, logits: &mut [f32], _: &History) -> Result<()> {
        let allowed = || logits.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x));
        let count = allowed().count() as f64;
        let mean = allowed().sum::<f64>() / count;
        let variance = allowed().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let least = allowed().fold(f64::NEG_INFINITY, f64::max) - self.n * variance.sqrt();
        logits.iter_mut().filter(|x| f64::from(**x) < least).for_each(|x| *x = f32::NEG_INFINITY);
        Ok(())
    }
}
