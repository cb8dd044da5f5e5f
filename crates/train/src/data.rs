//! Text as token ids: a training part and a held-out part, random windows to learn from, windows in order to judge by.
//!
//! A window of length `t` takes `t + 1` neighbouring ids: the first `t` are read, the last `t` are to be predicted.
//! Which windows a step reads is a function of seed and step alone, so a resumed run needs no state to go on.
//!
//! ```
//! use formwork_train::{Draw, Tokens, Window};
//!
//! let text = Tokens::new((0..100).collect::<Vec<u32>>());
//! let split = text.split(0.9)?;
//! assert_eq!((split.train.len(), split.held_out.len()), (90, 10));
//!
//! let batch = split.train.draw(Window { rows: 2, length: 5 }, Draw { seed: 1, step: 0, micro: 0 })?;
//! assert_eq!(batch.tokens.dim(), (2, 5));
//! assert_eq!(batch.targets[[1, 3]], batch.tokens[[1, 3]] + 1); // what follows, in this text
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::{ops::Range, sync::Arc};

use formwork_kernels::rng;
use formwork_module::{Error, Result, Rows};
use ndarray::Array2;

/// Tells the stream of windows from those of initial weights and of dropout under the same seed.
const STREAM: u64 = 0x77_69_6e_64_6f_77_73;

/// What a model learns from or is judged by at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Ids read: `[b, t]`.
    pub tokens: Array2<u32>,
    /// The id that follows each: `[b, t]`; [`HeadLoss::IGNORE`](formwork_module::HeadLoss::IGNORE) does not count.
    pub targets: Array2<u32>,
    /// Which tokens are real; the default is all.
    pub rows: Rows,
}

impl Batch {
    /// A batch without padding.
    pub fn new(tokens: Array2<u32>, targets: Array2<u32>) -> Self {
        Self { tokens, targets, rows: Rows::default() }
    }

    /// Says which tokens are real. The targets of padding should be ignored ones.
    #[must_use]
    pub fn padded(mut self, rows: Rows) -> Self {
        self.rows = rows;
        self
    }
}

/// The size of a batch of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Windows at once, `b`.
    pub rows: usize,
    /// Tokens of each, `t`.
    pub length: usize,
}

/// Which batch of a run: equal draws give equal windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The seed of the run.
    pub seed: u64,
    /// Steps done before this one.
    pub step: u64,
    /// Which of the step's accumulated batches. Two batches of 6 rows draw what one of 12 would.
    pub micro: u64,
}

/// A text as ids in shared memory; parts of it are views.
#[derive(Clone, Debug)]
pub struct Tokens {
    ids: Arc<[u32]>,
    part: Range<usize>,
}

/// A text cut in two.
#[derive(Clone, Debug)]
pub struct Split {
    /// The first part, to learn from.
    pub train: Tokens,
    /// The rest, to judge by.
    pub held_out: Tokens,
}

impl Tokens {
    /// All of a text.
    pub fn new(ids: impl Into<Arc<[u32]>>) -> Self {
        let ids = ids.into();
        Self { part: 0..ids.len(), ids }
    }

    /// The ids.
    pub fn as_slice(&self) -> &[u32] {
        &self.ids[self.part.clone()]
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.part.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.part.is_empty()
    }

    /// The first `⌊train · len⌋` ids to learn from, the rest to judge by.
    ///
    /// # Errors
    /// A share outside `(0, 1)`, or one that leaves a part empty.
    pub fn split(&self, train: f64) -> Result<Split> {
        if !(train > 0.0 && train < 1.0) {
            return Err(Error::invalid("split", "a share between 0 and 1 for training", train));
        }
        let cut = (train * self.len() as f64) as usize;
        if cut == 0 || cut >= self.len() {
            let found = format!("{} tokens, {cut} of them for training", self.len());
            return Err(
                Error::invalid("split", "a text with tokens for both parts", found).hint("use a longer text")
            );
        }
        let part = |range: Range<usize>| Self {
            ids: self.ids.clone(),
            part: self.part.start + range.start..self.part.start + range.end,
        };
        Ok(Split { train: part(0..cut), held_out: part(cut..self.len()) })
    }

    /// Windows from random places, with replacement, every place equally likely.
    ///
    /// # Errors
    /// A window of size 0, or a text too short for one.
    pub fn draw(&self, window: Window, draw: Draw) -> Result<Batch> {
        let places = self.places(window)? as u64;
        let key = rng::mix(rng::mix(draw.seed, STREAM), draw.step);
        let first = draw.micro.wrapping_mul(window.rows as u64);
        // The upper half of a product of 64 bits by the count: uniform to one part in 2⁶⁴ / places.
        let place = |row: u64| {
            ((u128::from(rng::bits(key, first.wrapping_add(row))) * u128::from(places)) >> 64) as usize
        };
        let starts: Vec<usize> = (0..window.rows as u64).map(place).collect();
        Ok(self.cut(&starts, window.length))
    }

    /// Neighbouring windows that do not overlap, from the first token on, in batches of up to `window.rows`.
    /// Tokens after the last whole window are left out.
    ///
    /// # Errors
    /// A window of size 0, or a text too short for one.
    pub fn windows(&self, window: Window) -> Result<impl Iterator<Item = Batch> + use<'_>> {
        self.places(window)?;
        let count = (self.len() - 1) / window.length;
        Ok((0..count).step_by(window.rows).map(move |first| {
            let starts: Vec<usize> =
                (first..count.min(first + window.rows)).map(|i| i * window.length).collect();
            self.cut(&starts, window.length)
        }))
    }

    /// The number of places where a window can start.
    fn places(&self, window: Window) -> Result<usize> {
        let Window { rows, length } = window;
        if rows == 0 || length == 0 {
            return Err(Error::invalid(
                "window",
                "at least one row and one token",
                format_args!("[{rows}, {length}]"),
            ));
        }
        if self.len() <= length {
            let expected = format!(
                "at least {} tokens, a window of {length} and the one that follows",
                length.saturating_add(1)
            );
            let hint =
                if self.is_empty() { "the text is empty" } else { "use a longer text or a shorter window" };
            return Err(Error::invalid("text", expected, self.len()).hint(hint));
        }
        Ok(self.len() - length)
    }

    fn cut(&self, starts: &[usize], length: usize) -> Batch {
        let ids = self.as_slice();
        let shape = (starts.len(), length);
        let tokens = Array2::from_shape_fn(shape, |(row, i)| ids[starts[row] + i]); // [b, t]
        let targets = Array2::from_shape_fn(shape, |(row, i)| ids[starts[row] + i + 1]); // [b, t]
        Batch::new(tokens, targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: u32) -> Tokens {
        Tokens::new((0..n).collect::<Vec<_>>())
    }

    #[test]
    fn equal_draws_are_equal_and_others_are_not() {
        let text = text(10_007);
        let (window, first) = (Window { rows: 3, length: 7 }, Draw { seed: 5, step: 11, micro: 0 });
        let of = |draw| text.draw(window, draw).unwrap();
        assert_eq!(of(first), of(first));
        for other in [Draw { seed: 6, ..first }, Draw { step: 12, ..first }, Draw { micro: 1, ..first }] {
            assert_ne!(of(first), of(other), "{other:?}");
        }
    }

    #[test]
    fn micro_batches_draw_what_one_batch_would() {
        let (text, draw) = (text(10_007), Draw { seed: 5, step: 11, micro: 0 });
        let whole = text.draw(Window { rows: 6, length: 7 }, draw).unwrap();
        for micro in 0..3 {
            let part = text.draw(Window { rows: 2, length: 7 }, Draw { micro, ..draw }).unwrap();
            let at = 2 * micro as usize;
            assert_eq!(part.tokens, whole.tokens.slice_axis(ndarray::Axis(0), (at..at + 2).into()));
        }
    }

    #[test]
    fn every_place_is_drawn_and_about_equally_often() {
        let (text, places) = (text(12), 7);
        let mut seen = vec![0; places];
        for step in 0..7000 {
            let batch = text.draw(Window { rows: 1, length: 5 }, Draw { seed: 1, step, micro: 0 }).unwrap();
            seen[batch.tokens[[0, 0]] as usize] += 1;
            assert_eq!(batch.targets[[0, 4]], batch.tokens[[0, 0]] + 5);
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
    }

    #[test]
    fn windows_in_order_cover_the_text_once() {
        let check = |len: u32, window: Window, firsts: &[&[u32]]| {
            let text = text(len);
            let found: Vec<Vec<u32>> =
                text.windows(window).unwrap().map(|batch| batch.tokens.column(0).to_vec()).collect();
            assert_eq!(found, firsts, "{len} {window:?}");
        };
        check(36, Window { rows: 3, length: 5 }, &[&[0, 5, 10], &[15, 20, 25], &[30]]);
        check(35, Window { rows: 3, length: 5 }, &[&[0, 5, 10], &[15, 20, 25]]); // the last has no follower
        check(6, Window { rows: 3, length: 5 }, &[&[0]]);
    }

    #[test]
    fn a_part_is_cut_within_itself() {
        let split = text(101).split(0.9).unwrap();
        assert_eq!(split.held_out.as_slice(), (90..101).collect::<Vec<_>>());
        let inner = split.held_out.split(0.5).unwrap();
        assert_eq!(inner.held_out.as_slice(), (95..101).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_too_short_is_refused_with_the_numbers() {
        let check = |result: Result<()>, words: &[&str]| {
            let error = result.unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        let draw = Draw { seed: 1, step: 0, micro: 0 };
        let of = |len, rows, length| text(len).draw(Window { rows, length }, draw).map(|_| ());
        check(of(5, 2, 5), &["at least 6 tokens", "found 5", "longer text"]);
        check(of(0, 2, 5), &["at least 6 tokens", "found 0", "empty"]);
        check(of(9, 0, 5), &["[0, 5]"]);
        check(of(9, 2, 0), &["[2, 0]"]);
        check(text(5).windows(Window { rows: 1, length: usize::MAX }).map(|_| ()), &["found 5"]);
        check(text(1).split(0.5).map(|_| ()), &["1 tokens, 0 of them"]);
        check(text(9).split(1.0).map(|_| ()), &["between 0 and 1", "found 1"]);
        check(text(9).split(f64::NAN).map(|_| ()), &["between 0 and 1"]);
    }
}
