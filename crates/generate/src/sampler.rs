//! From logits to a token: a chain of processors and a choice.
//!
//! The usual order is penalties, what is forbidden, temperature, top-k, top-p, min-p, as in transformers; [`Settings`](crate::Settings)
//! makes that chain. Any other order is a list in that order.
//!
//! - [`Choice::Greedy`] takes the largest logit, of equal ones the lowest id.
//! - [`Choice::Sample`] draws by the inverse of the cumulative distribution, in order of ids: with `p = softmax(logits)`
//!   and `u` uniform in [0, 1), the first token at which the sum of `p` exceeds `u`. `u` is a function of
//!   (seed, stream, position) and of nothing else, so a row draws the same numbers in any batch, after a roll-back and
//!   after a restart.
//!
//! ```
//! use formwork_generate::{Choice, History, Sampler, TopK};
//! let sampler = Sampler::new(Choice::Sample { seed: 42 }).with(TopK::new(1)?);
//! assert_eq!(sampler.pick(&mut [0.5, 2.5, 1.5], &History::new(&[0]), 0)?, 1);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::rng;
use formwork_module::{At, Error, Kind, Result};

use crate::{
    History, Processor,
    processor::{exp, highest},
};

/// How the chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The likeliest token.
    Greedy,
    /// A token drawn with its probability.
    Sample {
        /// The same seed draws the same text.
        seed: u64,
    },
}

/// A chain of processors and the choice at its end.
#[derive(Debug)]
pub struct Sampler {
    /// Applied from first to last.
    pub processors: Vec<Box<dyn Processor>>,
    /// What ends the chain.
    pub choice: Choice,
}

impl Sampler {
    /// A choice without processors.
    pub fn new(choice: Choice) -> Self {
        Self { processors: Vec::new(), choice }
    }

    /// The likeliest token of the model's own logits.
    pub fn greedy() -> Self {
        Self::new(Choice::Greedy)
    }

    /// Adds a processor behind those that are there.
    #[must_use]
    pub fn with(mut self, processor: impl Processor + 'static) -> Self {
        self.processors.push(Box::new(processor));
        self
    }

    /// Chooses the token that follows `history`; `logits` `[vocab]` are used up on the way.
    ///
    /// `stream` tells texts apart that are drawn with one seed; a session gives each row its own.
    ///
    /// # Errors
    /// A logit that is NaN or +∞, from the model or from a processor; no token that is allowed; those of the processors.
    pub fn pick(&self, logits: &mut [f32], history: &History, stream: u64) -> Result<u32> {
        legal(logits, "the model's weights may have diverged, or hold NaN")?;
        for processor in &self.processors {
            processor.process(logits, history)?;
        }
        if !self.processors.is_empty() {
            legal(logits, "one of the processors made it")?;
        }
        let top = highest(logits);
        if top == f32::NEG_INFINITY {
            let found = format!("{} tokens, each with logit −∞", logits.len());
            return Err(Error::invalid("sampler", "a token that may be chosen", found)
                .hint("the processors forbid every token; loosen a ban or an allow list"));
        }
        let id = match self.choice {
            Choice::Greedy => logits.iter().position(|&x| x == top),
            Choice::Sample { seed } => {
                draw(logits, top, rng::unit(rng::mix(seed, stream), history.len() as u64))
            }
        };
        Ok(id.expect("the largest logit is finite, so it has an id and a probability") as u32)
    }

    /// [`pick`](Self::pick) from logits that stay as they are: `scratch` is what is used up. The row stands in errors.
    pub(crate) fn pick_in(
        &self,
        row: usize,
        logits: &[f32],
        scratch: &mut Vec<f32>,
        (history, stream): (&History, u64),
    ) -> Result<u32> {
        let picked = match self.likeliest(logits) {
            Some(id) => Ok(id),
            None => {
                scratch.clear();
                scratch.extend_from_slice(logits);
                self.pick(scratch, history, stream)
            }
        };
        picked.at(format_args!("row {row}"))
    }

    /// The likeliest token in one pass over the logits, where nothing but greed is asked for and all of them are legal.
    fn likeliest(&self, logits: &[f32]) -> Option<u32> {
        if self.choice != Choice::Greedy || !self.processors.is_empty() {
            return None;
        }
        let mut best = [f32::NEG_INFINITY; LANES];
        let mut sums = [0.0; LANES];
        let (rows, rest) = logits.as_chunks::<LANES>();
        for row in rows {
            for lane in 0..LANES {
                best[lane] = if row[lane] > best[lane] { row[lane] } else { best[lane] };
                // NaN for NaN and for +∞ (∞ · 0), 0 for any other number; −∞ is legal and is not multiplied.
                sums[lane] += if row[lane] == f32::NEG_INFINITY { 0.0 } else { row[lane] * 0.0 };
            }
        }
        legal(rest, "").ok()?;
        let top = best.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        let is_legal = sums.iter().all(|sum| *sum == 0.0) && top > f32::NEG_INFINITY;
        is_legal.then(|| logits.iter().position(|&x| x == top))?.map(|id| id as u32)
    }
}

/// Logits that are looked at side by side.
const LANES: usize = 16;

/// Every logit is a number or −∞.
fn legal(logits: &[f32], hint: &str) -> Result<()> {
    let illegal = |x: &f32| x.is_nan() || *x == f32::INFINITY;
    match logits.iter().position(illegal) {
        None => Ok(()),
        Some(id) => {
            let what = format!("the logit {} of token {id}", logits[id]);
            Err(Error::from(Kind::NonFinite { what }).hint(hint))
        }
    }
}

/// The token at `u` of the cumulative distribution; the logits become the unnormalised probabilities.
fn draw(logits: &mut [f32], top: f32, u: f64) -> Option<usize> {
    let mut total = 0.0;
    for x in logits.iter_mut() {
        *x = exp(*x - top);
        total += f64::from(*x);
    }
    let mut rest = u * total;
    let mut last = None;
    for (id, &p) in logits.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        last = Some(id);
        rest -= f64::from(p);
        if rest < 0.0 {
            break;
        }
    }
    last // also where rounding leaves a little of `rest` at the end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ban, Temperature, TopK};

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn greedy_takes_the_lowest_of_equal_ids() {
        let check = |logits: &[f32], id: u32| {
            assert_eq!(
                Sampler::greedy().pick(&mut logits.to_vec(), &History::new(&[0]), 0).unwrap(),
                id,
                "{logits:?}"
            );
        };
        check(&[0.0, 2.0, 2.0, 1.0], 1);
        check(&[NO, NO, -3.0, NO], 2);
        check(&[-0.0, 0.0], 0);
    }

    #[test]
    fn the_fast_way_of_greed_agrees_with_the_slow_one() {
        for case in 0..300u64 {
            let logit = |i: u64| match rng::bits(case, i) % 97 {
                0 if case % 5 == 0 => f32::NAN,
                1 if case % 5 == 1 => f32::INFINITY,
                2..30 => NO,
                _ => (rng::normal(case, i) * 2.0).round() as f32,
            };
            let logits: Vec<f32> = (0..case % 70).map(logit).collect();
            let (greedy, history) = (Sampler::greedy(), History::new(&[0]));
            let slow = greedy.pick(&mut logits.clone(), &history, 0).at("row 3");
            let fast = greedy.pick_in(3, &logits, &mut Vec::new(), (&history, 0));
            let told = |picked: Result<u32>| picked.map_err(|error| error.to_string());
            assert_eq!(told(fast), told(slow), "{logits:?}");
        }
    }

    #[test]
    fn the_draw_inverts_the_cumulative_distribution() {
        let logits = [0.1f32.ln(), NO, 0.6f32.ln(), 0.3f32.ln(), NO];
        for (u, id) in
            [(0.0, 0), (0.09, 0), (0.11, 2), (0.69, 2), (0.71, 3), (1.0 - f64::EPSILON / 2.0, 3), (1.0, 3)]
        {
            assert_eq!(draw(&mut logits.clone(), 0.6f32.ln(), u), Some(id), "{u}");
        }
    }

    #[test]
    fn a_thousand_draws_have_the_frequencies_of_the_distribution() {
        let p = [0.1f32, 0.6, 0.3];
        let sampler = Sampler::new(Choice::Sample { seed: 7 });
        let mut counts = [0usize; 3];
        let mut history = History::new(&[0]);
        for _ in 0..10_000 {
            counts[sampler.pick(&mut p.map(f32::ln), &history, 3).unwrap() as usize] += 1;
            history.push(0);
        }
        for (count, p) in counts.iter().zip(p) {
            let five_deviations = 5.0 * (10_000.0 * p * (1.0 - p)).sqrt();
            assert!((*count as f32 - 10_000.0 * p).abs() < five_deviations, "{counts:?}");
        }
    }

    #[test]
    fn a_draw_depends_on_seed_stream_and_position_alone() {
        let draw = |seed: u64, stream: u64, len: usize, filler: u32| {
            let history = History::new(&vec![filler; len]);
            let sampler = Sampler::new(Choice::Sample { seed });
            sampler.pick(&mut [0.0; 1009], &history, stream).unwrap()
        };
        assert_eq!(draw(1, 2, 3, 0), draw(1, 2, 3, 5));
        assert_ne!(draw(1, 2, 3, 0), draw(2, 2, 3, 0));
        assert_ne!(draw(1, 2, 3, 0), draw(1, 3, 3, 0));
        assert_ne!(draw(1, 2, 3, 0), draw(1, 2, 4, 0));
    }

    #[test]
    fn the_chain_runs_in_its_order() {
        // The ban comes after top-k in one chain and before it in the other: the second-best token survives only there.
        let pick = |sampler: Sampler| sampler.pick(&mut [1.0, 3.0, 2.0], &History::new(&[0]), 0);
        assert_eq!(pick(Sampler::greedy().with(Ban::new(&[1])).with(TopK::new(1).unwrap())).unwrap(), 2);
        let error =
            pick(Sampler::greedy().with(TopK::new(1).unwrap()).with(Ban::new(&[1]))).unwrap_err().to_string();
        assert!(error.starts_with("sampler: expected a token that may be chosen, found 3 tokens"), "{error}");
    }

    #[test]
    fn what_is_no_logit_is_refused_with_its_token() {
        let check = |logits: &[f32], message: &str| {
            let sampler = Sampler::new(Choice::Sample { seed: 0 }).with(Temperature::new(0.7).unwrap());
            let error = sampler.pick_in(5, logits, &mut Vec::new(), (&History::new(&[0]), 0)).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
        };
        check(&[0.0, f32::NAN, 1.0], "row 5: the logit NaN of token 1 is not finite; the model's weights");
        check(
            &[0.0, 1.0, f32::INFINITY],
            "row 5: the logit inf of token 2 is not finite; the model's weights",
        );
        check(
            &[NO, NO],
            "row 5: sampler: expected a token that may be chosen, found 2 tokens, each with logit −∞",
        );
        check(&[], "row 5: sampler: expected a token that may be chosen, found 0 tokens");
    }

    #[test]
    fn a_processor_that_makes_nan_is_told_apart_from_the_model() {
        #[derive(Debug)]
        struct Broken;
        impl Processor for Broken {
            fn process(&self, logits: &mut [f32], _: &History) -> Result<()> {
                logits[1] = f32::NAN;
                Ok(())
            }
        }
        let error = Sampler::greedy().with(Broken).pick(&mut [0.0; 3], &History::new(&[0]), 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the logit NaN of token 1 is not finite; one of the processors made it"
        );
    }
}
