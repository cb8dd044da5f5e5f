//! Temperature: `logit ← (logit − max) / T`.
//!
//! Below 1 the distribution becomes sharper, above 1 flatter, towards 0 greedy (Ackley, Hinton & Sejnowski 1985,
//! <https://doi.org/10.1207/s15516709cog0901_7>). Taking the maximum off first changes no probability, and no
//! temperature, however small, can then overflow.
//!
//! ```
//! use formwork_generate::{History, Processor, Temperature};
//! let mut logits = [1.0, 2.0, 4.0];
//! Temperature::new(0.5)?.process(&mut logits, &History::default())?;
//! assert_eq!(logits, [-6.0, -4.0, 0.0]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor, processor::highest};

/// Divides the logits by a number above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    temperature: f64,
}

impl Temperature {
    /// A temperature above 0.
    ///
    /// # Errors
    /// Any other number; 0 is no temperature but the greedy [`Choice`](crate::Choice).
    pub fn new(temperature: f64) -> Result<Self> {
        match temperature > 0.0 && temperature.is_finite() {
            true => Ok(Self { temperature }),
            false => Err(Error::invalid("temperature", "a finite number above 0", temperature)
                .hint("for the likeliest token every time, choose greedily")),
        }
    }
}

impl Processor for Temperature {
    fn process(&self, logits: &mut [f32], _: &History) -> Result<()> {
        let top = highest(logits);
        if top > f32::NEG_INFINITY {
            // In f64, where no legal temperature rounds to 0.
            logits.iter_mut().for_each(|x| *x = (f64::from(*x - top) / self.temperature) as f32);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_stay_legal() {
        let check = |temperature: f64, expected: [f32; 3]| {
            let mut logits = [3.0, f32::NEG_INFINITY, 1.0];
            Temperature::new(temperature).unwrap().process(&mut logits, &History::default()).unwrap();
            assert_eq!(logits, expected, "{temperature}");
        };
        check(1.0, [0.0, f32::NEG_INFINITY, -2.0]);
        check(4.0, [0.0, f32::NEG_INFINITY, -0.5]);
        check(1e-300, [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
        check(1e300, [0.0, f32::NEG_INFINITY, 0.0]);
        let mut nothing = [f32::NEG_INFINITY; 2];
        Temperature::new(0.5).unwrap().process(&mut nothing, &History::default()).unwrap();
        assert_eq!(nothing, [f32::NEG_INFINITY; 2]);
    }

    #[test]
    fn what_is_no_temperature_is_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Temperature::new(bad).unwrap_err().to_string();
            assert!(error.starts_with("temperature: expected a finite number above 0, found"), "{error}");
        }
    }
}
