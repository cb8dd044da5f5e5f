//! Phrases that are never completed: the last token of a phrase is forbidden where the text ends with the rest of it.
//!
//! `logit[p_k] ← −∞` if the text ends with `p_1 … p_{k−1}`. A phrase of one token is forbidden everywhere. Published
//! settings call it `bad_words_ids` (and leave out a phrase that is nothing but an end token). A word can be written as
//! several phrases of tokens, with and without a space before it: each needs an entry.
//!
//! ```
//! use formwork_generate::{BanPhrases, History, Processor};
//! let mut logits = [1.0; 4];
//! BanPhrases::new(&[vec![1, 2], vec![2, 3]])?.process(&mut logits, &History::new(&[0, 1]))?;
//! assert_eq!(logits, [1.0, 1.0, f32::NEG_INFINITY, 1.0]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor, ban::entry};

/// Forbids sequences of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanPhrases {
    phrases: Vec<Vec<u32>>,
}

impl BanPhrases {
    /// Forbids the phrases.
    ///
    /// # Errors
    /// A phrase without a token.
    pub fn new(phrases: &[Vec<u32>]) -> Result<Self> {
        match phrases.iter().position(Vec::is_empty) {
            Some(at) => Err(Error::invalid(format_args!("ban_phrases.{at}"), "at least one token", "none")
                .hint("leave it out to forbid nothing")),
            None => Ok(Self { phrases: phrases.to_vec() }),
        }
    }
}

impl Processor for BanPhrases {
    fn process(&self, logits: &mut [f32], history: &History) -> Result<()> {
        // A list for another model is refused at once, not when the text happens to come near one of its phrases.
        if let Some(&largest) = self.phrases.iter().flatten().max() {
            entry("ban_phrases", logits, largest)?;
        }
        for (&last, before) in self.phrases.iter().filter_map(|phrase| phrase.split_last()) {
            if history.tokens().ends_with(before) {
                logits[last as usize] = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_forbidden_where_it_would_be_completed() {
        let check = |text: &[u32], forbidden: &[usize]| {
            let mut logits = [0.5; 5];
            let phrases = [vec![4], vec![1, 2], vec![0, 1, 3]];
            BanPhrases::new(&phrases).unwrap().process(&mut logits, &History::new(text)).unwrap();
            let found: Vec<_> = (0..5).filter(|&id| logits[id] == f32::NEG_INFINITY).collect();
            assert_eq!(found, forbidden, "{text:?}");
        };
        check(&[], &[4]);
        check(&[0], &[4]);
        check(&[1], &[2, 4]);
        check(&[0, 1], &[2, 3, 4]);
        check(&[1, 0], &[4]);
    }

    #[test]
    fn what_can_be_no_phrase_is_refused() {
        let error = BanPhrases::new(&[vec![1], vec![]]).unwrap_err().to_string();
        assert!(error.starts_with("ban_phrases.1: expected at least one token, found none;"), "{error}");
        let phrases = BanPhrases::new(&[vec![7, 1]]).unwrap();
        let error = phrases.process(&mut [0.0; 5], &History::default()).unwrap_err().to_string();
        assert!(
            error.starts_with("ban_phrases: expected ids below the vocabulary of 5, found 7;"),
            "{error}"
        );
    }
}
