//! Min-p: tokens at least `p` times as likely as the likeliest stay
//! (Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>).
//!
//! `logit ≥ max + ln p`. Where the model is sure few stay, where it is not many.
//!
//! ```
//! use formwork_generate::{History, MinP, Processor};
//! let mut logits = [0.05f32.ln(), 0.8f32.ln(), 0.15f32.ln()];
//! MinP::new(0.1)?.process(&mut logits, &History::default())?;
//! assert_eq!(logits, [f32::NEG_INFINITY, 0.8f32.ln(), 0.15f32.ln()]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor, processor::highest};

/// Keeps tokens by their probability beside that of the likeliest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinP {
    p: f64,
}

impl MinP {
    /// Keeps tokens at least `p` times as likely as the likeliest, `p` in [0, 1]; 0 keeps all.
    ///
    /// # Errors
    /// A number outside [0, 1].
    pub fn new(p: f64) -> Result<Self> {
        match (0.0..=1.0).contains(&p) {
            true => Ok(Self { p }),
            false => {
                Err(Error::invalid("min_p", "a share in [0, 1]", p).hint("leave it out to keep every token"))
            }
        }
    }
}

impl Processor for MinP {
    fn process(&self, logits: &mut [f32], _: &History) -> Result<()> {
        let least = f64::from(highest(logits)) + self.p.ln(); // −∞ for p = 0
        logits.iter_mut().filter(|x| f64::from(**x) < least).for_each(|x| *x = f32::NEG_INFINITY);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn the_likeliest_sets_the_measure() {
        let check = |p: f64, expected: [bool; 4]| {
            let mut logits = [0.6f32.ln(), 0.25f32.ln(), NO, 0.15f32.ln()];
            MinP::new(p).unwrap().process(&mut logits, &History::default()).unwrap();
            assert_eq!(logits.map(|x| x > NO), expected, "{p}");
        };
        check(0.0, [true, true, false, true]);
        check(0.24, [true, true, false, true]);
        check(0.26, [true, true, false, false]);
        check(0.5, [true, false, false, false]);
        check(1.0, [true, false, false, false]);
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(
                MinP::new(bad)
                    .unwrap_err()
                    .to_string()
                    .starts_with("min_p: expected a share in [0, 1], found")
            );
        }
    }
}
