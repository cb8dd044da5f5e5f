//! The presence penalty: a token generated since the last prompt becomes less likely, once.
//!
//! `logit ← logit − α` where the count is above 0, the count being that of generated tokens; the prompt does not count.
//! This is how OpenAI's interface, <https://platform.openai.com/docs/advanced-usage>, and vLLM count; transformers has no
//! such penalty, and llama.cpp's counts the end of the prompt too. A negative `α` favours what was said before.
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
