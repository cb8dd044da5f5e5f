//! The only tokens that may be chosen: every other `logit ← −∞`.
//!
//! ```
//! use formwork_generate::{Allow, History, Processor};
//! let mut logits = [1.0, 3.0, 2.0];
//! Allow::new(&[2, 0])?.process(&mut logits, &History::default())?;
//! assert_eq!(logits, [1.0, f32::NEG_INFINITY, 2.0]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor, ban::entry};

/// Forbids all tokens but some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// Rising, each once.
    ids: Vec<u32>,
}

impl Allow {
    /// Allows only the tokens `ids`.
    ///
    /// # Errors
    /// No token at all.
    pub fn new(ids: &[u32]) -> Result<Self> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        match ids.is_empty() {
            true => Err(Error::invalid("allow", "at least one token", "none")
                .hint("leave it out to allow every token")),
            false => Ok(Self { ids }),
        }
    }
}

impl Processor for Allow {
    fn process(&self, logits: &mut [f32], _: &History) -> Result<()> {
        if let Some(&last) = self.ids.last() {
            entry("allow", logits, last)?;
        }
        let mut from = 0;
        for &id in &self.ids {
            logits[from..id as usize].fill(f32::NEG_INFINITY);
            from = id as usize + 1;
        }
        logits[from..].fill(f32::NEG_INFINITY);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_others_are_forbidden() {
        let check = |ids: &[u32], expected: [bool; 5]| {
            let mut logits = [1.0; 5];
            Allow::new(ids).unwrap().process(&mut logits, &History::default()).unwrap();
            assert_eq!(logits.map(|x| x == 1.0), expected, "{ids:?}");
        };
        check(&[0], [true, false, false, false, false]);
        check(&[4, 1, 4], [false, true, false, false, true]);
        check(&[0, 1, 2, 3, 4], [true; 5]);
        assert!(Allow::new(&[]).is_err());
        let error =
            Allow::new(&[0, 5]).unwrap().process(&mut [0.0; 5], &History::default()).unwrap_err().to_string();
        assert!(error.starts_with("allow: expected ids below the vocabulary of 5, found 5;"), "{error}");
    }
}
