//! Top-p, the nucleus: the fewest likeliest tokens whose probabilities sum to `p` stay
//! (Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>).
//!
//! Probabilities are those of the logits as they arrive: what an earlier processor forbade has none, and the rest sums
//! to 1 again. Ties go to the lowest ids.
//!
//! ```
//! use formwork_generate::{History, Processor, TopP};
//! let mut logits = [0.2f32.ln(), 0.5f32.ln(), 0.3f32.ln()];
//! TopP::new(0.6)?.process(&mut logits, &History::default())?;
//! assert_eq!(logits, [f32::NEG_INFINITY, 0.5f32.ln(), 0.3f32.ln()]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{
    History, Processor, likeliest,
    processor::{exp, highest},
};

/// Keeps a share of the probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopP {
    p: f64,
}

impl TopP {
    /// Keeps a share of the probability, in (0, 1]; 1 keeps all.
    ///
    /// # Errors
    /// A share outside (0, 1].
    pub fn new(p: f64) -> Result<Self> {
        match p > 0.0 && p <= 1.0 {
            true => Ok(Self { p }),
            false => {
                Err(Error::invalid("top_p", "a share in (0, 1]", p).hint("leave it out to keep every token"))
            }
        }
    }
}

impl Processor for TopP {
    fn process(&self, logits: &mut [f32], _: &History) -> Result<()> {
        if self.p < 1.0 {
            let top = highest(logits);
            likeliest::keep(logits, |x| f64::from(exp(x - top)), |total| self.p * total);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn the_smallest_set_that_reaches_the_share_stays() {
        let check = |p: f64, expected: [bool; 5]| {
            let mut logits = [0.1f32, 0.4, 0.0, 0.2, 0.3].map(f32::ln);
            TopP::new(p).unwrap().process(&mut logits, &History::default()).unwrap();
            assert_eq!(logits.map(|x| x > NO), expected, "{p}");
        };
        check(1e-300, [false, true, false, false, false]);
        check(0.39, [false, true, false, false, false]);
        check(0.41, [false, true, false, false, true]);
        check(0.71, [false, true, false, true, true]);
        check(0.91, [true, true, false, true, true]);
        check(1.0, [true, true, false, true, true]);
    }

    #[test]
    fn of_equal_tokens_the_lowest_ids_stay() {
        let mut logits = [1.5; 8];
        TopP::new(0.3).unwrap().process(&mut logits, &History::default()).unwrap();
        assert_eq!(logits.map(|x| x > NO), [true, true, true, false, false, false, false, false]);
    }

    #[test]
    fn a_share_outside_its_range_is_refused() {
        for bad in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(
                TopP::new(bad)
                    .unwrap_err()
                    .to_string()
                    .starts_with("top_p: expected a share in (0, 1], found")
            );
        }
    }
}
