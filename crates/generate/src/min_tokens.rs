//! No end before so many tokens: `logit ← −∞` for the end tokens while fewer were generated since the last prompt.
//!
//! Published settings call it `min_new_tokens`. Strings that end a text are none of its business: they are found in what
//! was written, when it is too late to choose another token.
//!
//! ```
//! use formwork_generate::{History, MinTokens, Processor};
//! let mut logits = [1.0, 3.0];
//! MinTokens::new(1, &[1]).process(&mut logits, &History::new(&[0, 0]))?;
//! assert_eq!(logits, [1.0, f32::NEG_INFINITY]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::Result;

use crate::{History, Processor, ban::entry};

/// Forbids end tokens at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinTokens {
    min: usize,
    end: Vec<u32>,
}

impl MinTokens {
    /// Forbids the tokens `end` until `min` tokens are generated.
    pub fn new(min: usize, end: &[u32]) -> Self {
        Self { min, end: end.to_vec() }
    }
}

impl Processor for MinTokens {
    fn process(&self, logits: &mut [f32], history: &History) -> Result<()> {
        if history.generated().len() < self.min {
            for &id in &self.end {
                *entry("min_tokens", logits, id)? = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_from_the_last_prompt() {
        let check = |history: &History, forbidden: bool| {
            let mut logits = [0.5; 3];
            MinTokens::new(2, &[2]).process(&mut logits, history).unwrap();
            assert_eq!(logits, [0.5, 0.5, if forbidden { f32::NEG_INFINITY } else { 0.5 }], "{history:?}");
        };
        let mut history = History::new(&[0, 1, 1]);
        check(&history, true);
        history.push(1);
        check(&history, true);
        history.push(0);
        check(&history, false);
        history.extend_prompt(&[0]);
        check(&history, true);
        let mut short = [0.0; 2];
        let error = MinTokens::new(1, &[2]).process(&mut short, &history).unwrap_err().to_string();
        assert!(error.starts_with("min_tokens: expected ids below the vocabulary of 2, found 2;"), "{error}");
    }
}
