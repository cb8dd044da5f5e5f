//! Keys and values of earlier tokens.
//!
//! Every row of a batch has its own length: prompts differ, a draft is rolled back, a beam is forked.
//! A pass appends to each layer's slot behind the committed length; [`KvCache::advance`] commits once all layers have
//! run, so that a pass that failed half-way has changed nothing.

use std::{fmt::Debug, sync::Arc};

use formwork_tensor::{Scalar, Storage, dispatch};

use crate::{At, Buffer, Error, Kind, Pool, Result, RowSpan, Shape, Tensor};

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
    /// that slot as `[b, g, capacity, e]`; row `r` is valid up to `spans[r].first + spans[r].tokens.len()`.
    ///
    /// # Errors
    /// A row that would grow past the capacity, spans that do not begin where the rows end or reach past `t`, or
    /// shapes that differ from the slot's.
    fn append(&mut self, slot: usize, k: &Tensor, v: &Tensor, spans: &[RowSpan]) -> Result<(Tensor, Tensor)>;

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

/// A cache in dense memory, of the type of the keys, allocated per layer when it is first used.
#[derive(Clone)]
pub struct DenseCache {
    lens: Vec<usize>,
    capacity: usize,
    slots: Vec<Option<Slot>>,
    pool: Option<Pool>,
}

#[derive(Clone)]
struct Slot {
    k: Storage,
    v: Storage,
    /// `[g, e]`
    heads: [usize; 2],
}

impl DenseCache {
    /// An empty cache for `rows` rows of at most `capacity` tokens.
    pub fn new(rows: usize, capacity: usize) -> Self {
        Self { lens: vec![0; rows], capacity, slots: Vec::new(), pool: None }
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

    fn slot(&mut self, slot: usize, k: &Tensor, heads: [usize; 2]) -> Result<&mut Slot> {
        let size = Shape::new(&[self.lens.len(), heads[0], self.capacity, heads[1]]).at("cache")?.len();
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        let pool = self.pool.as_ref().or(k.pool());
        let place = &mut self.slots[slot];
        if place.is_none() {
            let [k, v] =
                [(); 2].map(|()| dispatch!(k.dtype(), T => T::store(Arc::new(Buffer::<T>::new(size, pool)))));
            *place = Some(Slot { k, v, heads });
        }
        let place = place.as_mut().expect("filled above");
        if place.heads != heads {
            let (expected, found) = (format!("[.., {}, {}]", place.heads[0], place.heads[1]), k.shape());
            return Err(Error::shape("cache", format_args!("keys and values {expected}"), found));
        }
        Ok(place)
    }
}

/// Where one tensor's tokens go.
struct Placement<'a> {
    spans: &'a [RowSpan],
    capacity: usize,
    /// Tokens per row of the source.
    width: usize,
    heads: [usize; 2],
}

impl Placement<'_> {
    /// `[b, t, g, e]` into `[b, g, capacity, e]`.
    fn copy<T: Scalar>(&self, source: &[T], to: &mut [T]) {
        let [g, e] = self.heads;
        for (row, span) in self.spans.iter().enumerate() {
            for (i, token) in span.tokens.clone().enumerate() {
                for head in 0..g {
                    let from = ((row * self.width + token) * g + head) * e;
                    let at = ((row * g + head) * self.capacity + span.first + i) * e;
                    to[at..at + e].copy_from_slice(&source[from..from + e]);
                }
            }
        }
    }

    fn write(&self, source: &Tensor, to: &mut Storage) -> Result<()> {
        let source = source.compact()?;
        dispatch!(to.dtype(), T => {
            let source = source.slice::<T>()?;
            own::<T>(to)?;
            let to = to.unique_mut::<T>()?.ok_or(Kind::Busy { what: "the cache" })?;
            self.copy(source, to);
            Ok(())
        })
    }
}

/// Makes memory that a fork shares our own.
fn own<T: Scalar>(storage: &mut Storage) -> Result<()> {
    if storage.unique_mut::<T>()?.is_none() {
        let shared = Tensor::from_storage(storage.clone(), 0, &[storage.len()])?;
        let mut copy = shared.buffer::<T>(shared.len());
        copy.copy_from_slice(shared.slice::<T>()?);
        *storage = T::store(Arc::new(copy));
    }
    Ok(())
}

/// Rows of `[b, ..]` in another order, in memory of their own.
fn gather_rows(storage: &Storage, from: usize, rows: &[usize]) -> Result<Storage> {
    let all = Tensor::from_storage(storage.clone(), 0, &[storage.len()])?;
    let size = all.len() / from.max(1);
    dispatch!(storage.dtype(), T => {
        let old = all.slice::<T>()?;
        let mut new = all.buffer::<T>(rows.len() * size);
        for (to, &row) in new.chunks_exact_mut(size.max(1)).zip(rows) {
            to.copy_from_slice(&old[row * size..(row + 1) * size]);
        }
        Ok(T::store(Arc::new(new)))
    })
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
        let capacity = self.capacity;
        let slot = self.slot(slot, k, [g, e])?;
        let place = Placement { spans, capacity, width: t, heads: [g, e] };
        place.write(k, &mut slot.k)?;
        place.write(v, &mut slot.v)?;
        let whole = |s: &Storage| Tensor::from_storage(s.clone(), 0, &[b, g, capacity, e]);
        Ok((whole(&slot.k)?, whole(&slot.v)?)) // [b, g, capacity, e]
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
            let moved = |s: &Storage| gather_rows(s, self.lens.len(), rows);
            slots.push(match slot {
                Some(s) => Some(Slot { k: moved(&s.k)?, v: moved(&s.v)?, heads: s.heads }),
                None => None,
            });
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
        write!(f, "DenseCache(lengths {:?} of {})", self.lens, self.capacity)
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

    fn held(cache: &mut DenseCache, row: usize) -> Vec<f32> {
        let nothing: Vec<_> = (0..cache.rows()).map(|r| RowSpan::new(0..0, cache.len(r))).collect();
        let (k, _) =
            cache.append(0, &tokens(cache.rows(), 1, 0.0), &tokens(cache.rows(), 1, 0.0), &nothing).unwrap();
        let k = k.view::<f32>().unwrap();
        (0..cache.len(row)).map(|i| k[[row, G - 1, i, E - 1]]).collect()
    }

    #[test]
    fn rows_grow_roll_back_fork_and_change_places() {
        let mut cache = DenseCache::new(2, 5);
        feed(&mut cache, 3, 10.0, &[1..3, 0..3]); // the first row is padded on the left
        assert_eq!(held(&mut cache, 0), [11.0, 12.0]);
        assert_eq!(held(&mut cache, 1), [13.0, 14.0, 15.0]);
        let mut fork = cache.clone();
        cache.truncate(1, 1).unwrap();
        feed(&mut cache, 1, 20.0, &[0..1, 0..1]);
        assert_eq!(held(&mut cache, 1), [13.0, 21.0]);
        assert_eq!(held(&mut fork, 1), [13.0, 14.0, 15.0]);
        fork.reorder(&[1, 1, 0]).unwrap();
        assert_eq!(held(&mut fork, 0), [13.0, 14.0, 15.0]);
        assert_eq!(held(&mut fork, 2), [11.0, 12.0]);
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
