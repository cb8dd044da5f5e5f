//! Texts under way: their tokens, and a model's cache of them.
//!
//! A session is a list of rows, each with a text of its own length. [`prompt`](Session::prompt) gives rows text to go on
//! from, the first time and any later time; [`step`](Session::step) adds one chosen token to every row that is awake;
//! [`write`](Session::write) does so until each row's end. A token goes through the model once, when logits behind it are
//! first wanted: the last token of a finished text costs nothing until a second prompt follows it.
//!
//! A row that rests (finished, or left out of a prompt) grows by nothing: it takes no cache and no attention, and rides
//! through the passes of the others as padding, one position wide, because a pass reads every weight once for all rows.
//! When no row is awake there is no pass.
//!
//! ```no_run
//! # fn of(model: &dyn formwork_module::TokenModel) -> formwork_module::Result<()> {
//! use formwork_generate::{Sampler, Session};
//! let mut session = Session::new(model, 1, 256)?;
//! session.prompt(&[&[11, 7, 5]])?;
//! let next = session.step(&Sampler::greedy())?[0];
//! session.truncate(0, 2)?; // as if 5 and what followed had never been
//! session.prompt(&[&[3]])?;
//! assert_eq!(session.history(0).expect("there is a row 0").tokens(), [11, 7, 3]);
//! # Ok(()) }
//! ```

use std::sync::{Arc, atomic::AtomicBool};

use formwork_module::{CacheType, Error, KvCache, Precision, Result, TokenModel};

use crate::{History, Sampler, feed::Feed};

/// The texts of a batch and a model's cache of them.
#[derive(Debug)]
pub struct Session<'m> {
    pub(crate) model: &'m dyn TokenModel,
    pub(crate) cache: Box<dyn KvCache>,
    pub(crate) rows: Vec<Row>,
    /// The most tokens of a row.
    pub(crate) capacity: usize,
    pub(crate) chunk: usize,
    pub(crate) precision: Precision,
    pub(crate) cancel: Option<Arc<AtomicBool>>,
    pub(crate) feed: Feed,
    /// What the last step chose.
    picked: Vec<Option<u32>>,
    /// Logits on their way through a sampler, so that those of the row stay as the model gave them.
    scratch: Vec<f32>,
}

/// A text.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) history: History,
    pub(crate) stream: u64,
    pub(crate) awake: bool,
    /// `[vocab]`, those that follow the first `ready_at` tokens.
    pub(crate) logits: Vec<f32>,
    pub(crate) ready_at: Option<usize>,
}

impl Row {
    fn new(stream: u64) -> Self {
        Self { history: History::default(), stream, awake: false, logits: Vec::new(), ready_at: None }
    }

    /// Whether the logits are those that follow the whole text.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready_at == Some(self.history.len())
    }
}

impl<'m> Session<'m> {
    /// The most tokens of a row that go through the model at once, unless [`chunked`](Self::chunked) says otherwise.
    pub const CHUNK: usize = 512;

    /// `rows` empty texts of at most `capacity` tokens, or as many as the model's context holds where that is less.
    ///
    /// The cache's memory is taken for the whole capacity when the first prompt arrives.
    ///
    /// # Errors
    /// No rows, or no capacity.
    pub fn new(model: &'m dyn TokenModel, rows: usize, capacity: usize) -> Result<Self> {
        let capacity = model.context().map_or(capacity, |context| capacity.min(context));
        Self::with_cache(model, Box::new(model.cache(rows, capacity)))
    }

    /// Empty texts over an empty cache of another kind, as many as it has rows.
    ///
    /// # Errors
    /// No rows, no capacity, or a cache that holds something already.
    pub fn with_cache(model: &'m dyn TokenModel, cache: Box<dyn KvCache>) -> Result<Self> {
        let capacity = model.context().map_or(cache.capacity(), |context| cache.capacity().min(context));
        if cache.rows() == 0 || capacity == 0 {
            let found = format!("{} rows of {capacity} tokens", cache.rows());
            return Err(Error::invalid("session", "at least one row of at least one token", found));
        }
        if !cache.is_empty() {
            return Err(Error::invalid("session", "an empty cache", format_args!("{cache:?}")));
        }
        let rows: Vec<_> = (0..cache.rows()).map(|row| Row::new(row as u64)).collect();
        let picked = vec![None; rows.len()];
        let (feed, scratch) = (Feed::default(), Vec::new());
        let (chunk, precision) = (Self::CHUNK, Precision::default());
        Ok(Self { model, cache, rows, capacity, chunk, precision, cancel: None, feed, picked, scratch })
    }

    /// Stores keys and values as `kind`, in a new cache of the model's in place of the one before: `bf16` takes half the
    /// memory of `f32` and `q8_0` about a quarter, and long texts are read faster. Logits change by as much as that rounds.
    ///
    /// # Errors
    /// A session that holds a text already.
    pub fn cached_in(mut self, kind: CacheType) -> Result<Self> {
        if let Some(row) = self.rows.iter().position(|row| !row.history.is_empty()) {
            return Err(Error::invalid("session", "empty texts", format_args!("one that is not, row {row}"))
                .hint("choose how the cache stores before the first prompt"));
        }
        self.cache = Box::new(self.model.cache(self.rows.len(), self.capacity).stored(kind));
        Ok(self)
    }

    /// Sets in which numbers products are computed, [`Precision::AsStored`] unless this says otherwise. A text that is in
    /// the cache already stays as it was computed.
    #[must_use]
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Sends long prompts through the model in pieces of at most `tokens` per row: less memory, the same logits up to
    /// rounding. 0 counts as 1.
    ///
    /// A position encoding that depends on the length of the text (dynamic NTK, past the original context) knows the text
    /// up to the end of a piece: with such a model only a prompt in one piece has the logits of one pass over all of it.
    #[must_use]
    pub fn chunked(mut self, tokens: usize) -> Self {
        self.chunk = tokens.max(1);
        self
    }

    /// Stops once the flag is true, also inside a pass; the session stays usable, and goes on once it is false again.
    #[must_use]
    pub fn cancelled_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Sets which stream of random numbers each row draws from, so that a row can draw what it would in another batch.
    /// Without it, row `r` draws from stream `r`.
    ///
    /// # Errors
    /// Another number of streams than rows.
    pub fn streams(mut self, streams: &[u64]) -> Result<Self> {
        if streams.len() != self.rows.len() {
            return Err(Error::invalid(
                "streams",
                format_args!("one for each of {} rows", self.rows.len()),
                streams.len(),
            ));
        }
        self.rows.iter_mut().zip(streams).for_each(|(row, &stream)| row.stream = stream);
        Ok(self)
    }

    /// Number of texts.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The most tokens that a row can have.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The text of a row; `None` past the last row.
    pub fn history(&self, row: usize) -> Option<&History> {
        self.rows.get(row).map(|row| &row.history)
    }

    /// The logits `[vocab]` that follow the whole text of a row, as the model gave them; `None` where they are not
    /// known: see [`advance`](Self::advance).
    pub fn logits(&self, row: usize) -> Option<&[f32]> {
        self.rows.get(row).filter(|row| row.is_ready()).map(|row| &row.logits[..])
    }

    /// Whether [`step`](Self::step) adds to a row.
    pub fn is_awake(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|row| row.awake)
    }

    /// Lets a row rest until the next prompt, [`wake`](Self::wake) or [`truncate`](Self::truncate).
    ///
    /// # Errors
    /// A row that does not exist.
    pub fn rest(&mut self, row: usize) -> Result<()> {
        self.row(row)?.awake = false;
        Ok(())
    }

    /// Lets a resting row go on.
    ///
    /// # Errors
    /// A row that does not exist, or that has no text to go on from.
    pub fn wake(&mut self, row: usize) -> Result<()> {
        let text = self.row(row)?;
        if text.history.is_empty() {
            return Err(Error::invalid("wake", "a row with a text", format_args!("an empty one, row {row}"))
                .hint("give it a prompt"));
        }
        text.awake = true;
        Ok(())
    }

    /// Adds a token to a row without asking a sampler.
    ///
    /// # Errors
    /// A row that does not exist or is full, or an id past the vocabulary.
    pub fn push(&mut self, row: usize, id: u32) -> Result<()> {
        let (capacity, vocab) = (self.capacity, self.model.vocab());
        let text = self.row(row)?;
        if id as usize >= vocab {
            return Err(Error::invalid("push", format_args!("an id below the vocabulary of {vocab}"), id));
        }
        if text.history.len() >= capacity {
            let expected = format!("a row of less than {capacity} tokens");
            return Err(Error::invalid("push", expected, format_args!("row {row}, which is full")));
        }
        text.history.push(id);
        Ok(())
    }

    /// Adds one token to every row that is awake and has room, and says which; `None` for the other rows.
    ///
    /// A row that is full rests from then on.
    ///
    /// # Errors
    /// No prompt yet; cancellation; those of the model and of the sampler. The texts are then as before.
    pub fn step(&mut self, sampler: &Sampler) -> Result<&[Option<u32>]> {
        if self.rows.iter().all(|row| row.history.is_empty()) {
            return Err(Error::invalid("step", "a prompt to go on from", "an empty session")
                .hint("call prompt first"));
        }
        for row in &mut self.rows {
            row.awake &= row.history.len() < self.capacity;
        }
        self.advance()?;
        for (index, (row, picked)) in self.rows.iter().zip(&mut self.picked).enumerate() {
            *picked = None;
            if row.awake {
                let text = (&row.history, row.stream);
                *picked = Some(sampler.pick_in(index, &row.logits, &mut self.scratch, text)?);
            }
        }
        for (row, picked) in self.rows.iter_mut().zip(&self.picked) {
            picked.iter().for_each(|&id| row.history.push(id));
        }
        Ok(&self.picked)
    }

    /// Forgets what a row holds from `len` on, and wakes it unless nothing is left.
    ///
    /// # Errors
    /// A row that does not exist, or that holds less; those of the cache.
    pub fn truncate(&mut self, row: usize, len: usize) -> Result<()> {
        let text = self.row(row)?;
        let held = text.history.len();
        if len > held {
            return Err(Error::invalid(
                "truncate",
                format_args!("a length up to {held}, what row {row} holds"),
                len,
            ));
        }
        text.history.truncate(len);
        text.awake = len > 0;
        self.settle(row)
    }

    /// A second session with the same texts; cache memory is shared until one of the two writes.
    #[must_use]
    pub fn fork(&self) -> Self {
        let (picked, feed, scratch) = (self.picked.clone(), Feed::default(), Vec::new());
        let (rows, cache, cancel) = (self.rows.clone(), self.cache.fork(), self.cancel.clone());
        Self {
            model: self.model,
            cache,
            rows,
            capacity: self.capacity,
            chunk: self.chunk,
            precision: self.precision,
            cancel,
            feed,
            picked,
            scratch,
        }
    }

    /// Row `i` becomes what `rows[i]` was; rows may be repeated or dropped. One prompt fed once becomes the beginning of
    /// many texts this way. Row `i` draws from stream `i` afterwards, or copies would draw the same.
    ///
    /// # Errors
    /// No rows, or one that does not exist; those of the cache.
    pub fn reorder(&mut self, rows: &[usize]) -> Result<()> {
        if rows.is_empty() {
            return Err(Error::invalid("reorder", "at least one row", "none"));
        }
        rows.iter().try_for_each(|&row| self.row(row).map(|_| ()))?;
        self.cache.reorder(rows)?;
        let moved = |(stream, &row): (usize, &usize)| Row { stream: stream as u64, ..self.rows[row].clone() };
        self.rows = rows.iter().enumerate().map(moved).collect();
        self.picked = vec![None; rows.len()];
        Ok(())
    }

    pub(crate) fn row(&mut self, row: usize) -> Result<&mut Row> {
        let rows = self.rows.len();
        self.rows
            .get_mut(row)
            .ok_or_else(|| Error::invalid("session", format_args!("a row below {rows}"), row))
    }

    /// Brings the cache back to a text that became shorter.
    pub(crate) fn settle(&mut self, row: usize) -> Result<()> {
        let text = &mut self.rows[row];
        let len = text.history.len();
        if text.ready_at.is_some_and(|at| at > len) {
            text.ready_at = None;
        }
        // Without its logits the last token has to go through the model again.
        let keep = if text.is_ready() { len } else { len.saturating_sub(1) };
        match self.cache.len(row) > keep {
            true => self.cache.truncate(row, keep),
            false => Ok(()),
        }
    }
}
