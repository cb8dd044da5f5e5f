//! Tokens that no answer begins with: `logit ← −∞` for the first token after a prompt.
//!
//! Published settings call it `begin_suppress_tokens`.
//!
//! ```
//! use formwork_generate::{BanFirst, History, Processor};
//! let mut history = History::new(&[0]);
//! let mut logits = [1.0, 3.0];
//! BanFirst::new(&[1]).process(&mut logits, &history)?;
//! assert_eq!(logits, [1.0, f32::NEG_INFINITY]);
//! history.push(0);
//! let mut logits = [1.0, 3.0];
//! BanFirst::new(&[1]).process(&mut logits, &history)?;
//! assert_eq!(logits, [1.0, 3.0]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::Result;

use crate::{History, Processor, ban::entry};

/// Forbids tokens at the beginning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanFirst {
    ids: Vec<u32>,
}

impl BanFirst {
    /// Forbids the tokens `ids` right after a prompt.
    pub fn new(ids: &[u32]) -> Self {
        Self { ids: ids.to_vec() }
    }
}

impl Processor for BanFirst {
    fn process(&self, logits: &mut [f32], history: &History) -> Result<()> {
        if history.generated().is_empty() {
            for &id in &self.ids {
                *entry("ban_first", logits, id)? = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_begins_an_answer() {
        let check = |history: &History, forbidden: bool| {
            let mut logits = [0.5; 3];
            BanFirst::new(&[0, 2]).process(&mut logits, history).unwrap();
            assert_eq!(logits.map(|x| x == f32::NEG_INFINITY), [forbidden, false, forbidden]);
        };
        let mut history = History::new(&[1]);
        check(&history, true);
        history.push(1);
        check(&history, false);
        history.extend_prompt(&[1]);
        check(&history, true);
        let error = BanFirst::new(&[3]).process(&mut [0.0; 3], &history).unwrap_err().to_string();
        assert!(error.starts_with("ban_first: expected ids below the vocabulary of 3, found 3;"), "{error}");
    }
}
