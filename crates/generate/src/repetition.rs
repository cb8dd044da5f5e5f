//! The repetition penalty of CTRL: a token that stands in the text already, in the prompt or after it, becomes less
//! likely, once, however often it stands there (Keskar et al. 2019, <https://arxiv.org/abs/1909.05858>).
//!
//! `logit ← logit / θ` where it is positive, `logit · θ` where it is negative: the paper divides in both cases, which
//! would make a negative logit more likely; this is the form everybody uses. It is not invariant to a shift of the
//! logits, so it stands before the temperature. Padding is no text: a shorter row of a batch is penalised as it is alone.
//!
//! ```
//! use formwork_generate::{History, Processor, RepetitionPenalty};
//! let mut logits = [2.0, -2.0, 2.0];
//! RepetitionPenalty::new(2.0)?.process(&mut logits, &History::new(&[0, 1, 0]))?;
//! assert_eq!(logits, [1.0, -4.0, 2.0]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor};

/// Makes tokens of the text less likely by a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepetitionPenalty {
    penalty: f64,
}

impl RepetitionPenalty {
    /// A factor above 0: 1 changes nothing, the paper found 1.2 good, below 1 repetition is favoured.
    ///
    /// # Errors
    /// Any other number.
    pub fn new(penalty: f64) -> Result<Self> {
        match penalty > 0.0 && penalty.is_finite() {
            // As f32 where it fits: then a penalised logit is, to the bit, what f32 arithmetic gives elsewhere, and
            // logits that tie there tie here.
            true => {
                let single = penalty as f32;
                Ok(Self { penalty: if single.is_normal() { f64::from(single) } else { penalty } })
            }
            false => Err(Error::invalid("repetition_penalty", "a finite number above 0", penalty)
                .hint("1 changes nothing")),
        }
    }
}

impl Processor for RepetitionPenalty {
    fn process(&self, logits: &mut [f32], history: &History) -> Result<()> {
        for seen in history.seen() {
            if let Some(x) = logits.get_mut(seen.id as usize) {
                let penalised =
                    if *x > 0.0 { f64::from(*x) / self.penalty } else { f64::from(*x) * self.penalty };
                // A tiny factor must not carry a finite logit to +∞, which is no logit.
                *x = (penalised as f32).min(f32::MAX);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn each_token_of_prompt_and_text_is_penalised_once() {
        let check = |penalty: f64, expected: [f32; 5]| {
            let mut history = History::new(&[0, 0, 3]);
            [1, 1, 1].iter().for_each(|&id| history.push(id));
            let mut logits = [3.0, -3.0, 1.0, 0.0, NO];
            RepetitionPenalty::new(penalty).unwrap().process(&mut logits, &history).unwrap();
            assert_eq!(logits, expected, "{penalty}");
        };
        check(1.0, [3.0, -3.0, 1.0, 0.0, NO]);
        check(1.5, [2.0, -4.5, 1.0, 0.0, NO]);
        check(0.5, [6.0, -1.5, 1.0, 0.0, NO]);
        check(1e-300, [f32::MAX, 0.0, 1.0, 0.0, NO]);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(
                RepetitionPenalty::new(bad)
                    .unwrap_err()
                    .to_string()
                    .starts_with("repetition_penalty: expected")
            );
        }
    }
}
