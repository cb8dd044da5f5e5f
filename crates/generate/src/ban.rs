//! Tokens that are never chosen: `logit ← −∞`.
//!
//! ```
//! use formwork_generate::{Ban, History, Processor};
//! let mut logits = [1.0, 3.0, 2.0];
//! Ban::new(&[1]).process(&mut logits, &History::default())?;
//! assert_eq!(logits, [1.0, f32::NEG_INFINITY, 2.0]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};

use crate::{History, Processor};

/// Forbids tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    ids: Vec<u32>,
}

impl Ban {
    /// Forbids the tokens `ids`.
    pub fn new(ids: &[u32]) -> Self {
        Self { ids: ids.to_vec() }
    }
}

impl Processor for Ban {
    fn process(&self, logits: &mut [f32], _: &History) -> Result<()> {
        for &id in &self.ids {
            *entry("ban", logits, id)? = f32::NEG_INFINITY;
        }
        Ok(())
    }
}

/// The logit of a token that a list names.
pub(crate) fn entry<'l>(what: &str, logits: &'l mut [f32], id: u32) -> Result<&'l mut f32> {
    let vocab = logits.len();
    let error = || {
        Error::invalid(what, format_args!("ids below the vocabulary of {vocab}"), id)
            .hint("the list may have been made for another model")
    };
    logits.get_mut(id as usize).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_for_another_model_is_refused() {
        let error = Ban::new(&[2, 7]).process(&mut [0.0; 5], &History::default()).unwrap_err().to_string();
        assert!(error.starts_with("ban: expected ids below the vocabulary of 5, found 7;"), "{error}");
    }
}
