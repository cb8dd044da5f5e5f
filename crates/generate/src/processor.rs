//! What may change the logits of the next token before one is chosen.
//!
//! A processor is a function of the logits `[vocab]` and of the text so far; whatever it would remember, it reads from
//! the [`History`], so that a session can roll back, fork and go on. One of your own stands wherever ours do:
//!
//! ```
//! use formwork_generate::{Choice, History, Processor, Sampler};
//! use formwork_module::Result;
//!
//! /// Never the same token twice in a row.
//! #[derive(Debug)]
//! struct NoStutter;
//!
//! impl Processor for NoStutter {
//!     fn process(&self, logits: &mut [f32], history: &History) -> Result<()> {
//!         if let Some(&last) = history.tokens().last() {
//!             logits[last as usize] = f32::NEG_INFINITY;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let sampler = Sampler::new(Choice::Greedy).with(NoStutter);
//! let id = sampler.pick(&mut [0.0, 2.0, 1.0], &History::new(&[0, 1]), 0)?;
//! assert_eq!(id, 2);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::fmt::Debug;

use formwork_kernels::Element;
use formwork_module::Result;

use crate::History;

/// A link of the chain between a model's logits and the choice of a token.
pub trait Processor: Debug + Send + Sync {
    /// Changes `logits` `[vocab]` in place; −∞ forbids a token.
    ///
    /// On entry every logit is finite or −∞, on return it must be so again.
    ///
    /// # Errors
    /// A setting that does not fit these logits.
    fn process(&self, logits: &mut [f32], history: &History) -> Result<()>;
}

/// The largest logit, −∞ if there is none.
pub(crate) fn highest(logits: &[f32]) -> f32 {
    logits.iter().fold(f32::NEG_INFINITY, |top, &x| if x > top { x } else { top })
}

/// `eˣ` for `x ≤ 0`, and 0 where that is too small for a normal number: thousands of forbidden or hopeless tokens must
/// not go through the slow arithmetic of denormal ones.
pub(crate) fn exp(x: f32) -> f32 {
    const LEAST: f32 = -87.0;
    if x < LEAST { 0.0 } else { x.max(LEAST).fast_exp() }
}
