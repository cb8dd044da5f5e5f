//! Keys and values of earlier tokens.
//!
//! Every row of a batch has its own length: prompts differ, a draft is rolled back, a beam is forked.
//! A pass appends to each layer's slot behind the committed length; [`KvCache::advance`] commits once all layers have
//! run, so that a pass that failed half-way has changed nothing.
//!
//! A cache is made for one [`CacheType`]: numbers as they are computed, bf16 or blocks of 8-bit integers, which take
//! less memory and, in long texts, less time to read.
//!
//! ```
//! use formwork_module::{CacheType, DenseCache, KvCache, RowSpan, Tensor};
//!
//! let mut cache = DenseCache::new(1, 8).stored(CacheType::Bf16);
//! let k = Tensor::from_vec(vec![1.0f32, 1.0 + 1.0 / 1024.0], &[1, 1, 1, 2])?; // [b, t, g, e]
//! let spans = [RowSpan::new(0..1, 0)];
//! let [k, _] = cache.store(0, &k, &k, &spans)?;
//! cache.advance(&spans)?;
//! assert_eq!(k.narrow(1)?.numbers(formwork_module::DType::F32)?.to_vec::<f32>()?, [1.0, 1.0]); // rounded to 8 bits
//! # Ok::<(), formwork_module::Error>(())
//! ```

mod contents;
mod slot;

use std::fmt::Debug;

use crate::{DType, Error, Pool, Result, RowSpan, Tensor};
use slot::{Placement, Slot};

pub use contents::{CacheBlocks, CacheTensor, CacheType};

/// A cache of keys and values.
pub trait KvCache: Debug + Send {
    /// Rows of the batch.
    fn rows(&self) -> usize;

    /// Tokens that row `row` holds.
    fn len(&self, row: usize) -> usize;

    /// The most tokens a row can hold.
    fn capacity(&self) -> usize;

    /// Whether no row holds a token.
    fn is_empty(&self) -> bool {
        (0..self.rows()).all(|row| self.len(row) == 0)
    }

    /// Writes the real tokens' keys and values `[b, t, g, e]` behind what each row holds in `slot`, and gives all of
    /// that slot as numbers `[b, g, capacity, e]`; row `r` is valid up to `spans[r].first + spans[r].tokens.len()`.
    ///
    /// # Errors
    /// A row that would grow past the capacity, spans that do not begin where the rows end or reach past `t`, or
    /// shapes that differ from the slot's.
    fn append(&mut self, slot: usize, k: &Tensor, v: &Tensor, spans: &[RowSpan]) -> Result<(Tensor, Tensor)>;

    /// [`append`](Self::append) that gives what the slot holds as it lies in memory, without decoding what is stored
    /// in blocks: what attention calls.
    ///
    /// # Errors
    /// Those of `append`.
    fn store(&mut self, slot: usize, k: &Tensor, v: &Tensor, spans: &[RowSpan]) -> Result<[CacheTensor; 2]> {
        let (k, v) = self.append(slot, k, v, spans)?;
        Ok([k, v].map(CacheTensor::Plain))
    }

    /// Commits what the pass has appended to every slot.
    ///
    /// # Errors
    /// Another number of rows, spans that do not begin where the rows end, or a row past the capacity.
    fn advance(&mut self, spans: &[RowSpan]) -> Result<()>;

    /// Forgets what row `row` holds from `len` on.
    ///
    /// # Errors
    /// A row that does not exist, or that holds less.
    fn truncate(&mut self, row: usize, len: usize) -> Result<()>;

    /// Row `i` becomes what `rows[i]` was; rows may be repeated or dropped.
    ///
    /// # Errors
    /// A row that does not exist.
    fn reorder(&mut self, rows: &[usize]) -> Result<()>;

    /// A second cache with the same contents. Memory is shared until one of the two is written.
    fn fork(&self) -> Box<dyn KvCache>;
}

/// A cache in dense memory, allocated per layer when it is first used.
///
/// Tokens are written in place: a step copies nothing that an earlier one has stored, unless a fork shares it.
#[derive(Clone)]
pub struct DenseCache {
    lens: Vec<usize>,
    capacity: usize,
    kind: CacheType,
    slots: Vec<Option<Slot>>,
    pool: Option<Pool>,
}

impl DenseCache {
    /// An empty cache for `rows` rows of at most `capacity` tokens, of numbers as they are computed.
    pub fn new(rows: usize, capacity: usize) -> Self {
        Self { lens: vec![0; rows], capacity, kind: CacheType::default(), slots: Vec::new(), pool: None }
    }

    /// Sets how keys and values are stored. Nothing may have been stored yet: what has is forgotten.
    #[must_use]
    pub fn stored(self, kind: CacheType) -> Self {
        Self { kind, slots: Vec::new(), lens: vec![0; self.lens.len()], ..self }
    }

    /// How keys and values are stored.
    pub fn kind(&self) -> CacheType {
        self.kind
    }

    /// Bytes of keys and values: room for the whole capacity in every layer that has stored something.
    ///
    /// ```
    /// use formwork_module::{CacheType, DenseCache, KvCache, RowSpan, Tensor};
    /// let bytes = |kind| {
    ///     let mut cache = DenseCache::new(1, 8).stored(kind);
    ///     let k = Tensor::from_vec(vec![0.5f32; 2 * 64], &[1, 1, 2, 64])?; // [b, t, g, e]
    ///     cache.store(0, &k, &k, &[RowSpan::new(0..1, 0)])?;
    ///     Ok::<_, formwork_module::Error>(cache.bytes())
    /// };
    /// assert_eq!((bytes(CacheType::F32)?, bytes(CacheType::Bf16)?), (2 * 2 * 8 * 256, 2 * 2 * 8 * 128));
    /// # Ok::<(), formwork_module::Error>(())
    /// ```
    pub fn bytes(&self) -> usize {
        self.slots.iter().flatten().map(Slot::bytes).sum()
    }

    /// Takes its memory from a pool.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = Some(pool);
        self
    }

    fn row(&self, row: usize) -> Result<usize> {
        let rows = self.lens.len();
        let len = self.lens.get(row).copied();
        len.ok_or_else(|| Error::invalid("cache", format_args!("a row below {rows}"), row))
    }

    /// Whether the spans continue every row, within the capacity.
    fn check(&self, spans: &[RowSpan]) -> Result<()> {
        if spans.len() != self.lens.len() {
            return Err(Error::shape("cache", format_args!("{} rows", self.lens.len()), spans.len()));
        }
        for (row, (span, &len)) in spans.iter().zip(&self.lens).enumerate() {
            if span.first != len {
                let found = format!("one that begins at {}", span.first);
                return Err(Error::invalid(
                    "cache",
                    format_args!("a span from {len} on in row {row}"),
                    found,
                )
                .hint("ask the pass for its spans before the cache has taken them in"));
            }
            if span.tokens.len() > self.capacity - len {
                let found = format!("{} more after {len} in row {row}", span.tokens.len());
                return Err(Error::invalid(
                    "cache",
                    format_args!("at most {} tokens a row", self.capacity),
                    found,
                )
                .hint("make the cache larger, or truncate it"));
            }
        }
        Ok(())
    }

    /// Writes keys and values `[b, t, g, e]` to their place in a slot.
    fn write(&mut self, slot: usize, [k, v]: [&Tensor; 2], spans: &[RowSpan]) -> Result<&Slot> {
        let [b, t, g, e] = k.dims()?;
        if b != self.lens.len() || spans.len() != b || k.shape() != v.shape() || k.dtype() != v.dtype() {
            let expected = format!("keys and values of {} rows, alike", self.lens.len());
            return Err(Error::shape("cache", expected, format_args!("{} and {}", k.shape(), v.shape())));
        }
        if k.is_tracked() || v.is_tracked() {
            return Err(Error::invalid("cache", "a pass that records nothing", "a pass with a tape")
                .hint("gradients do not flow through a cache; use Pass::infer()"));
        }
        self.check(spans)?;
        if let Some((row, span)) = spans.iter().enumerate().find(|(_, s)| s.tokens.end > t) {
            let found = format!("tokens {:?} of row {row}", span.tokens);
            return Err(Error::invalid("cache", format_args!("spans within {t} tokens"), found));
        }
        let dims = [b, g, self.capacity, e];
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        let place = &mut self.slots[slot];
        if place.is_none() {
            *place = Some(Slot::new(dims, self.kind, k.dtype(), self.pool.as_ref().or(k.pool()))?);
        }
        let place = place.as_mut().expect("filled above");
        if place.dims() != dims {
            let expected = format!("keys and values [.., {}, {}]", place.dims()[1], place.dims()[3]);
            return Err(Error::shape("cache", expected, k.shape()));
        }
        place.write([k, v], &Placement { spans, width: t, dims })?;
        Ok(place)
    }
}

impl KvCache for DenseCache {
    fn rows(&self) -> usize {
        self.lens.len()
    }

    fn len(&self, row: usize) -> usize {
        self.lens.get(row).copied().unwrap_or(0)
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn append(&mut self, slot: usize, k: &Tensor, v: &Tensor, spans: &[RowSpan]) -> Result<(Tensor, Tensor)> {
        let dtype: DType = k.dtype();
        let [k, v] = self.store(slot, k, v, spans)?;
        Ok((k.numbers(dtype)?, v.numbers(dtype)?)) // [b, g, capacity, e]
    }

    fn store(&mut self, slot: usize, k: &Tensor, v: &Tensor, spans: &[RowSpan]) -> Result<[CacheTensor; 2]> {
        self.write(slot, [k, v], spans)?.contents() // [b, g, capacity, e]
    }

    fn advance(&mut self, spans: &[RowSpan]) -> Result<()> {
        self.check(spans)?;
        for (len, span) in self.lens.iter_mut().zip(spans) {
            *len += span.tokens.len();
        }
        Ok(())
    }

    fn truncate(&mut self, row: usize, len: usize) -> Result<()> {
        let held = self.row(row)?;
        if len > held {
            return Err(Error::invalid(
                "cache",
                format_args!("a length up to {held}, what row {row} holds"),
                len,
            ));
        }
        self.lens[row] = len;
        Ok(())
    }

    fn reorder(&mut self, rows: &[usize]) -> Result<()> {
        let lens = rows.iter().map(|&row| self.row(row)).collect::<Result<Vec<_>>>()?;
        let mut slots = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            slots.push(slot.as_ref().map(|slot| slot.gather(rows)).transpose()?);
        }
        (self.lens, self.slots) = (lens, slots);
        Ok(())
    }

    fn fork(&self) -> Box<dyn KvCache> {
        Box::new(self.clone())
    }
}

impl Debug for DenseCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DenseCache(lengths {:?} of {}", self.lens, self.capacity)?;
        match self.kind {
            CacheType::F32 => f.write_str(")"),
            kind => write!(f, ", {kind})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: usize = 2;
    const E: usize = 3;

    /// Keys whose numbers say which token they belong to.
    fn tokens(b: usize, t: usize, base: f32) -> Tensor {
        let values = (0..b * t * G * E).map(|i| base + (i / (G * E)) as f32).collect();
        Tensor::from_vec(values, &[b, t, G, E]).unwrap()
    }

    fn feed(cache: &mut DenseCache, t: usize, base: f32, tokens_of: &[std::ops::Range<usize>]) {
        let spans: Vec<_> =
            tokens_of.iter().enumerate().map(|(row, r)| RowSpan::new(r.clone(), cache.len(row))).collect();
        let x = tokens(spans.len(), t, base);
        cache.append(0, &x, &x, &spans).unwrap();
        cache.advance(&spans).unwrap();
    }

    /// What the numbers 10 to 21 come back as: bf16 has 8 bits, and a block of q8_0 steps of a 127th of its largest, 21.
    const KINDS: [(CacheType, f32); 3] =
        [(CacheType::F32, 0.0), (CacheType::Bf16, 0.0), (CacheType::Q8_0, 0.5 * 21.0 / 127.0)];

    #[track_caller]
    fn assert_held(cache: &mut DenseCache, row: usize, expected: &[f32], tolerance: f32) {
        let found = held(cache, row);
        let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance * 1.01);
        assert!(found.len() == expected.len() && near, "{found:?} for {expected:?} in {cache:?}");
    }

    fn held(cache: &mut DenseCache, row: usize) -> Vec<f32> {
        let nothing: Vec<_> = (0..cache.rows()).map(|r| RowSpan::new(0..0, cache.len(r))).collect();
        let (k, _) =
            cache.append(0, &tokens(cache.rows(), 1, 0.0), &tokens(cache.rows(), 1, 0.0), &nothing).unwrap();
        let k = k.view::<f32>().unwrap();
        (0..cache.len(row)).map(|i| k[[row, G - 1, i, E - 1]]).collect()
    }

    #[test]
    fn rows_grow_roll_back_fork_and_change_places() {
        for (kind, tolerance) in KINDS {
            let mut cache = DenseCache::new(2, 5).stored(kind);
            feed(&mut cache, 3, 10.0, &[1..3, 0..3]); // the first row is padded on the left
            assert_held(&mut cache, 0, &[11.0, 12.0], tolerance);
            assert_held(&mut cache, 1, &[13.0, 14.0, 15.0], tolerance);
            let mut fork = cache.clone();
            cache.truncate(1, 1).unwrap();
            feed(&mut cache, 1, 20.0, &[0..1, 0..1]);
            assert_held(&mut cache, 1, &[13.0, 21.0], tolerance);
            assert_held(&mut fork, 1, &[13.0, 14.0, 15.0], tolerance);
            fork.reorder(&[1, 1, 0]).unwrap();
            assert_held(&mut fork, 0, &[13.0, 14.0, 15.0], tolerance);
            assert_held(&mut fork, 2, &[11.0, 12.0], tolerance);
        }
    }

    #[test]
    fn a_token_is_written_in_place() {
        for (kind, _) in KINDS {
            let mut cache = DenseCache::new(1, 5).stored(kind);
            let mut place = |len: usize| {
                let spans = [RowSpan::new(0..1, len)];
                let [k, _] = cache.store(0, &tokens(1, 1, 1.0), &tokens(1, 1, 1.0), &spans).unwrap();
                cache.advance(&spans).unwrap();
                match k {
                    CacheTensor::Plain(k) => k.slice::<f32>().unwrap().as_ptr().addr(),
                    CacheTensor::Blocks(k) => k.bytes().as_ptr().addr(),
                }
            };
            assert_eq!(place(0), place(1), "{kind}");
        }
    }

    #[test]
    fn numbers_of_a_wide_head_come_back_from_blocks() {
        // 40 numbers are a block of 32 and a part of one.
        let x: Vec<f32> = (0..2 * 3 * G * 40).map(|i| (i as f32 * 0.7).sin()).collect();
        let x = Tensor::from_vec(x, &[2, 3, G, 40]).unwrap();
        for (kind, tolerance) in
            [(CacheType::F32, 0.0), (CacheType::Bf16, 1.0 / 512.0), (CacheType::Q8_0, 0.5 / 127.0)]
        {
            let mut cache = DenseCache::new(2, 4).stored(kind);
            let spans = [RowSpan::new(0..3, 0), RowSpan::new(1..3, 0)];
            let [k, v] = cache.store(0, &x, &x, &spans).unwrap();
            let found = k.narrow(2).unwrap().numbers(DType::F32).unwrap();
            assert_eq!(
                found.to_vec::<f32>().unwrap(),
                v.narrow(2).unwrap().numbers(DType::F32).unwrap().to_vec::<f32>().unwrap()
            );
            let (found, x) = (found.view::<f32>().unwrap(), x.view::<f32>().unwrap());
            for ((row, head), (i, e)) in [(0, 0), (1, 1)].into_iter().zip([(1, 39), (0, 31)]) {
                let error: f32 = found[[row, head, i, e]] - x[[row, i + row, head, e]];
                assert!(error.abs() <= tolerance * 1.01, "{kind}: {error}");
            }
        }
    }

    #[test]
    fn a_row_past_the_capacity_changes_nothing() {
        let mut cache = DenseCache::new(1, 4);
        let all = 0..3;
        feed(&mut cache, 3, 0.0, std::slice::from_ref(&all));
        let spans = [RowSpan::new(0..2, 3)];
        let error = cache.append(0, &tokens(1, 2, 0.0), &tokens(1, 2, 0.0), &spans).unwrap_err().to_string();
        assert!(error.contains("at most 4 tokens") && error.contains("2 more after 3"), "{error}");
        assert!(cache.advance(&spans).is_err());
        assert_eq!(cache.len(0), 3);
        assert!(cache.truncate(0, 4).is_err() && cache.reorder(&[1]).is_err());
    }

    #[test]
    fn spans_that_leave_a_gap_or_the_batch_are_refused() {
        let mut cache = DenseCache::new(1, 4);
        let mut check = |tokens_of: std::ops::Range<usize>, first: usize, words: &str| {
            let spans = [RowSpan::new(tokens_of, first)];
            let x = tokens(1, 2, 0.0);
            let error = cache.append(0, &x, &x, &spans).unwrap_err().to_string();
            assert!(error.contains(words), "{words} in {error}");
        };
        check(0..2, 1, "a span from 0 on in row 0");
        check(1..3, 0, "spans within 2 tokens");
        check(0..5, 0, "at most 4 tokens");
        let error = DenseCache::new(1, usize::MAX)
            .append(0, &tokens(1, 1, 0.0), &tokens(1, 1, 0.0), &[RowSpan::new(0..1, 0)])
            .unwrap_err();
        assert!(error.to_string().contains("fits memory"), "{error}");
    }
}
