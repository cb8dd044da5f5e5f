//! Top-k: only the `k` likeliest tokens stay (Fan, Lewis & Dauphin 2018, <https://arxiv.org/abs/1805.04833>).
//!
//! Of tokens that tie for the last place the lowest ids stay, so that there are exactly `k`; transformers keeps all.
//!
//! ```
//! use formwork_generate::{History, Processor, TopK};
//! let mut logits = [1.0, 3.0, 2.0];
//! TopK::new(2)?.process(&mut logits, &History::default())?;
//! assert_eq!(logits, [f32::NEG_INFINITY, 3.0, 2.0]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor, likeliest};

/// Keeps a number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    k: usize,
}

impl TopK {
    /// Keeps `k` tokens; more than the vocabulary keeps all.
    ///
    /// # Errors
    /// 0.
    pub fn new(k: usize) -> Result<Self> {
        match k {
            0 => Err(Error::invalid("top_k", "at least 1", 0).hint("leave it out to keep every token")),
            _ => Ok(Self { k }),
        }
    }
}

impl Processor for TopK {
    fn process(&self, logits: &mut [f32], _: &History) -> Result<()> {
        if self.k < logits.len() {
            likeliest::keep(logits, |_| 1.0, |_| self.k as f64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn exactly_k_stay_and_ties_go_to_the_lowest_ids() {
        let check = |k: usize, expected: [f32; 5]| {
            let mut logits = [2.0, -1.0, 2.0, NO, 2.0];
            TopK::new(k).unwrap().process(&mut logits, &History::default()).unwrap();
            assert_eq!(logits, expected, "{k}");
        };
        check(1, [2.0, NO, NO, NO, NO]);
        check(2, [2.0, NO, 2.0, NO, NO]);
        check(4, [2.0, -1.0, 2.0, NO, 2.0]);
        check(usize::MAX, [2.0, -1.0, 2.0, NO, 2.0]);
        assert!(TopK::new(0).unwrap_err().to_string().starts_with("top_k: expected at least 1, found 0;"));
    }
}
