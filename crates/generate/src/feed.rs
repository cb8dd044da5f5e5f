//! How tokens reach the model.
//!
//! Rows that are behind (tokens in the text that the cache has not taken in) are padded on the left, so that all end in
//! the last column, and go through the model in chunks of columns; only the last chunk asks for logits.
//! `[b, t]` tokens in, `[b, vocab]` logits out.

use std::ops::Range;

use formwork_kernels::Element;
use formwork_module::{Error, Pass, Positions, Result, Rows, Tensor};
use formwork_tensor::dispatch;
use ndarray::ArrayView2;

use crate::{Session, session::Row};

/// Memory that every pass uses again.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// `[b, t]`
    tokens: Vec<u32>,
    /// Tokens of each row that the cache lacks.
    behind: Vec<usize>,
    /// Real tokens of each row in the chunk at hand.
    real: Vec<usize>,
}

impl Session<'_> {
    /// Gives each row text to go on from, and computes the logits that follow it.
    ///
    /// The first prompt of a row, and any later one: it follows all that the row holds, with the same result as if
    /// everything had been one prompt. A row with an empty slice rests.
    ///
    /// # Errors
    /// Another number of prompts than rows; a first prompt without a token; a text longer than the capacity;
    /// cancellation; those of the model. The session is then as before.
    pub fn prompt(&mut self, prompts: &[&[u32]]) -> Result<()> {
        self.check(prompts)?;
        let before: Vec<_> = self.rows.iter().map(|row| (row.history.clone(), row.awake)).collect();
        for (row, prompt) in self.rows.iter_mut().zip(prompts) {
            row.awake = !prompt.is_empty();
            if row.awake {
                row.history.extend_prompt(prompt);
                // A session may be made for more than a text will ever reach; the cache has its memory anyway.
                row.history.reserve(self.capacity, self.model.vocab());
            }
        }
        let done = self.advance();
        if done.is_err() {
            for (index, (history, awake)) in before.into_iter().enumerate() {
                let row = &mut self.rows[index];
                (row.history, row.awake) = (history, awake);
                self.settle(index)?;
            }
        }
        done
    }

    fn check(&self, prompts: &[&[u32]]) -> Result<()> {
        let rows = self.rows.len();
        if prompts.len() != rows {
            return Err(Error::invalid("prompt", format_args!("one for each of {rows} rows"), prompts.len())
                .hint("make a session with as many rows as there are prompts"));
        }
        let nothing = prompts.iter().all(|prompt| prompt.is_empty());
        for (index, (row, prompt)) in self.rows.iter().zip(prompts).enumerate() {
            if prompt.is_empty() && (nothing || row.history.is_empty()) {
                return Err(Error::invalid(
                    "prompt",
                    "at least one token",
                    format_args!("none in row {index}"),
                )
                .hint("begin with the model's begin token where the text is empty"));
            }
            let held = row.history.len();
            if held + prompt.len() > self.capacity {
                return Err(self.too_long(index, held, prompt.len()));
            }
        }
        Ok(())
    }

    pub(crate) fn too_long(&self, row: usize, held: usize, more: usize) -> Error {
        let (limit, hint) = match self.model.context() {
            Some(context) if context <= self.capacity => ("the context of the model", "shorten the prompt"),
            _ => (
                "the capacity of the session",
                "shorten the prompt, or make a session with a larger capacity",
            ),
        };
        let found = match held {
            0 => format!("{more} in row {row}"),
            _ => format!("{more} after {held} in row {row}"),
        };
        Error::invalid("prompt", format_args!("a text of at most {} tokens, {limit}", self.capacity), found)
            .hint(hint)
    }

    /// Takes into the cache whatever the rows that are awake have new, so that their [`logits`](Session::logits) are
    /// those that follow their whole text. [`step`](Session::step) does this by itself.
    ///
    /// # Errors
    /// Cancellation; those of the model. What was taken in until then stays so.
    pub fn advance(&mut self) -> Result<()> {
        let missing = |(index, row): (usize, &Row)| match row.awake && !row.is_ready() {
            true => row.history.len() - self.cache.len(index),
            false => 0,
        };
        self.feed.behind.clear();
        self.feed.behind.extend(self.rows.iter().enumerate().map(missing));
        let width = self.feed.behind.iter().copied().max().unwrap_or(0);
        let some_rest = self.feed.behind.contains(&0);
        let mut from = 0;
        while from < width {
            let mut to = width.min(from.saturating_add(self.chunk));
            // The logits of the last real token are wanted of every row, and a resting one has none in this pass.
            // One column by itself is asked for all of its positions instead.
            if some_rest && to == width && to - from > 1 {
                to -= 1;
            }
            self.pass(from..to, width)?;
            from = to;
        }
        Ok(())
    }

    /// Sends some columns of the left-padded batch through the model.
    fn pass(&mut self, columns: Range<usize>, width: usize) -> Result<()> {
        let (b, t) = (self.rows.len(), columns.len());
        let feed = &mut self.feed;
        feed.tokens.clear();
        feed.tokens.resize(b * t, 0);
        feed.real.clear();
        for ((row, &behind), tokens) in
            self.rows.iter().zip(&feed.behind).zip(feed.tokens.chunks_exact_mut(t))
        {
            let start = columns.start.max(width - behind);
            let real = columns.end.saturating_sub(start);
            if let Some(missing) = width.checked_sub(columns.end).filter(|_| real > 0) {
                let text = row.history.tokens();
                let end = text.len() - missing;
                tokens[t - real..].copy_from_slice(&text[end - real..end]);
            }
            feed.real.push(real);
        }
        let rows = match feed.real.iter().all(|&real| real == t) {
            true => Rows::default(),
            false => Rows::left_padded(&feed.real, t)?,
        };
        let tokens = ArrayView2::from_shape((b, t), &feed.tokens).map_err(Error::external)?;
        let mut pass = Pass::infer().rows(rows).cached(&mut *self.cache).in_precision(self.precision);
        if let Some(flag) = &self.cancel {
            pass = pass.cancelled_by(flag);
        }
        pass.check_cancelled()?;
        if columns.end < width {
            self.model.hidden(tokens, &mut pass)?;
        } else {
            let which = if feed.real.contains(&0) { Positions::All } else { Positions::Last };
            let logits = self.model.logits(tokens, which, &mut pass)?;
            self.keep(&logits)?;
        }
        self.check_cache(width - columns.end)
    }

    /// Copies `[b, vocab]` (or `[b, 1, vocab]`) to the rows that had a token in the pass.
    fn keep(&mut self, logits: &Tensor) -> Result<()> {
        let (b, vocab) = (self.rows.len(), self.model.vocab());
        if logits.shape().rows() != (b, vocab) {
            return Err(Error::shape("generate", format_args!("logits [{b}, {vocab}]"), logits.shape()));
        }
        let logits = logits.compact()?;
        match logits.slice::<f32>() {
            Ok(all) => self.keep_rows(all, |row, new| row.extend_from_slice(new)),
            Err(_) => dispatch!(logits.dtype(), T => {
                self.keep_rows(logits.slice::<T>()?, |row, new| row.extend(new.iter().map(|x| x.f64() as f32)));
            }),
        }
        Ok(())
    }

    fn keep_rows<T>(&mut self, all: &[T], copy: impl Fn(&mut Vec<f32>, &[T])) {
        let all = all.chunks_exact(self.model.vocab().max(1));
        for ((row, new), &real) in self.rows.iter_mut().zip(all).zip(&self.feed.real) {
            if real > 0 {
                row.logits.clear();
                copy(&mut row.logits, new);
                row.ready_at = Some(row.history.len());
            }
        }
    }

    /// A model that does not commit its cache would be given the same tokens for ever.
    fn check_cache(&self, left: usize) -> Result<()> {
        let taken = |(index, row): (usize, &Row)| {
            let (behind, real) = (self.feed.behind[index], self.feed.real[index]);
            let expected =
                if real == 0 { self.cache.len(index) } else { row.history.len() - left.min(behind) };
            (self.cache.len(index) != expected).then(|| (index, expected, self.cache.len(index)))
        };
        match self.rows.iter().enumerate().find_map(taken) {
            None => Ok(()),
            Some((row, expected, found)) => Err(Error::invalid(
                "generate",
                format_args!("{expected} tokens in row {row} of the cache"),
                found,
            )
            .hint("a model with a `hidden` of its own must call `advance` on the cache of its pass")),
        }
    }
}
