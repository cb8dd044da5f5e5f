//! No n-gram twice: a token that would repeat `n` tokens in a row which stand in the text already is forbidden.
//!
//! With the last `n − 1` tokens `p`: `logit[x] ← −∞` for every `x` that follows `p` anywhere in the text, the prompt
//! included. For `n = 1` no token of the text comes again. Paulus, Xiong & Socher 2017,
//! <https://arxiv.org/abs/1705.04304>, section 2.5, for `n = 3`. It forbids names and fixed phrases as well: choose `n`
//! larger than theirs. Padding is no text here; transformers finds n-grams in the padding of a shorter row, too.
//!
//! ```
//! use formwork_generate::{History, NoRepeat, Processor};
//! let mut logits = [1.0; 4];
//! NoRepeat::new(2)?.process(&mut logits, &History::new(&[1, 2, 3, 1]))?;
//! assert_eq!(logits, [1.0, 1.0, f32::NEG_INFINITY, 1.0]); // "1 2" stands there already
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor};

/// Forbids n-grams of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRepeat {
    size: usize,
}

impl NoRepeat {
    /// Forbids to repeat `size` tokens in a row.
    ///
    /// # Errors
    /// 0.
    pub fn new(size: usize) -> Result<Self> {
        match size {
            0 => Err(Error::invalid("no_repeat_ngram", "at least 1", 0)
                .hint("leave it out to allow every repetition")),
            _ => Ok(Self { size }),
        }
    }
}

impl Processor for NoRepeat {
    fn process(&self, logits: &mut [f32], history: &History) -> Result<()> {
        let tokens = history.tokens();
        let Some(start) = (tokens.len() + 1).checked_sub(self.size) else { return Ok(()) };
        let last = &tokens[start..];
        for seen in tokens.windows(self.size).filter(|seen| seen.starts_with(last)) {
            if let Some(x) = logits.get_mut(seen[self.size - 1] as usize) {
                *x = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_complete_a_repetition_is_forbidden() {
        let check = |size: usize, text: &[u32], forbidden: &[usize]| {
            let mut logits = [0.5; 5];
            NoRepeat::new(size).unwrap().process(&mut logits, &History::new(text)).unwrap();
            let found: Vec<_> = (0..5).filter(|&id| logits[id] == f32::NEG_INFINITY).collect();
            assert_eq!(found, forbidden, "{size} in {text:?}");
        };
        check(1, &[3, 1, 3], &[1, 3]);
        check(1, &[], &[]);
        check(2, &[3, 1, 3, 2, 3], &[1, 2]);
        check(2, &[3], &[]);
        check(2, &[3, 3], &[3]);
        check(3, &[0, 1, 2, 0, 1], &[2]);
        check(3, &[0, 1, 2, 1], &[]);
        check(3, &[1], &[]);
        check(9, &[0, 1, 2, 0, 1], &[]);
        check(2, &[3, 9, 3], &[]); // an id that the logits do not have
        let error = NoRepeat::new(0).unwrap_err().to_string();
        assert!(error.starts_with("no_repeat_ngram: expected at least 1, found 0;"), "{error}");
    }
}
