//! The presence penalty: a token generated since the last prompt becomes less likely, once.
//!
//! `logit ← logit − α` where the count is above 0, the count being that of generated tokens; the prompt does not count.
//! The formula is that of OpenAI's interface, <https://platform.openai.com/docs/advanced-usage>; a negative `α` favours
//! what was said before.
//!
//! ```
//! use formwork_generate::{PresencePenalty, History, Processor};
//! let mut history = History::new(&[0]);
//! [1, 1, 2].iter().for_each(|&id| history.push(id));
//! let mut logits = [1.0, 1.0, 1.0];
//! PresencePenalty::new(0.5)?.process(&mut logits, &history)?;
//! assert_eq!(logits, [1.0, 0.5, 0.5]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor};

/// Makes every generated token less likely by the same amount.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PresencePenalty {
    penalty: f64,
}

impl PresencePenalty {
    /// A finite amount, between −2 and 2 as a rule; 0 changes nothing.
    ///
    /// # Errors
    /// A number that is not finite.
    pub fn new(penalty: f64) -> Result<Self> {
        match penalty.is_finite() {
            true => Ok(Self { penalty }),
            false => {
                Err(Error::invalid("presence_penalty", "a finite number", penalty).hint("0 changes nothing"))
            }
        }
    }
}

impl Processor for PresencePenalty {
    fn process(&self, logits: &mut [f32], history: &History) -> Result<()> {
        for seen in history.seen().filter(|seen| seen.generated > 0) {
            if let Some(x) = logits.get_mut(seen.id as usize) {
                let penalised = f64::from(*x) - self.penalty;
                // A huge favour must not carry a finite logit to +∞, which is no logit.
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
    fn only_generated_tokens_are_penalised() {
        let check = |penalty: f64, expected: [f32; 4]| {
            let mut history = History::new(&[0, 0, 1]);
            [1, 1, 2, 1, 3].iter().for_each(|&id| history.push(id));
            let mut logits = [2.0, 2.0, 1.5, NO];
            PresencePenalty::new(penalty).unwrap().process(&mut logits, &history).unwrap();
            assert_eq!(logits, expected, "{penalty}");
        };
        check(0.0, [2.0, 2.0, 1.5, NO]);
        check(1.0, [2.0, 1.0, 0.5, NO]);
        check(-1.0, [2.0, 3.0, 2.5, NO]);
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(
                PresencePenalty::new(bad)
                    .unwrap_err()
                    .to_string()
                    .starts_with("presence_penalty: expected a finite number")
            );
        }
    }
}
