//! A logit processor: no run of `n` tokens stands twice in a text.
//!
//! Paulus, Xiong & Socher 2017, <https://arxiv.org/abs/1705.04304>, with trigrams.
//!
//! ```
//! use formwork::generate::{History, Sampler};
//! use outside_crate::NoRepeat;
//!
//! let sampler = Sampler::greedy().with(NoRepeat::new(2)?);
//! let history = History::new(&[0, 1, 2, 0]); // 0 1 is there already
//! assert_eq!(sampler.pick(&mut [1.0, 9.0, 5.0], &history, 0)?, 2);
//! # Ok::<(), formwork::Error>(())
//! ```

use formwork::{
    Error, Result,
    generate::{History, Processor},
};

/// Forbids every token that would repeat a run; see the file's head.
#[derive(Clone, Copy, Debug)]
pub struct NoRepeat {
    n: usize,
}

impl NoRepeat {
    /// For runs of `n` tokens.
    ///
    /// # Errors
    /// Runs of no token.
    pub fn new(n: usize) -> Result<Self> {
        match n {
            0 => Err(Error::invalid("no_repeat", "runs of at least 1 token", n)),
            _ => Ok(Self { n }),
        }
    }
}

impl Processor for NoRepeat {
    fn process(&self, logits: &mut [f32], history: &History) -> Result<()> {
        let tokens = history.tokens();
        let Some(begun) = tokens.len().checked_sub(self.n - 1).map(|at| &tokens[at..]) else { return Ok(()) };
        for run in tokens.windows(self.n).filter(|run| run.starts_with(begun)) {
            if let Some(logit) = logits.get_mut(run[self.n - 1] as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}
