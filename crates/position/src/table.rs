//! Cosines and sines by position, computed when first needed and shared from then on.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use formwork_kernels::{AlignedVec, Element, rope};

/// Cosines and sines of the positions from 0 on.
pub(crate) struct Angles<T: Element> {
    /// `[positions, w/2]`
    pub(crate) cos: AlignedVec<T>,
    /// `[positions, w/2]`
    pub(crate) sin: AlignedVec<T>,
}

/// The most positions of the first table: long contexts are not paid for until a text is long.
const FIRST: usize = 4096;

/// A table that grows by doubling. An entry depends on its position alone, so growth never changes a bit.
pub(crate) struct Table<T: Element> {
    angles: RwLock<Option<Arc<Angles<T>>>>,
}

impl<T: Element> Default for Table<T> {
    fn default() -> Self {
        Self { angles: RwLock::new(None) }
    }
}

impl<T: Element> Table<T> {
    /// Angles of at least `positions` positions; `context` is a guess at how many will be wanted.
    pub(crate) fn angles(&self, frequencies: &[f64], positions: usize, context: usize) -> Arc<Angles<T>> {
        let enough = |angles: &&Arc<Angles<T>>| angles.cos.len() >= positions * frequencies.len();
        let held = self.angles.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(angles) = held.as_ref().filter(enough) {
            return angles.clone();
        }
        drop(held);
        let mut held = self.angles.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(angles) = held.as_ref().filter(enough) {
            return angles.clone(); // another thread was faster
        }
        let rows = positions.next_power_of_two().max(context.min(FIRST));
        let new = || AlignedVec::zeroed(rows * frequencies.len());
        let (mut cos, mut sin) = (new(), new());
        rope::fill_table(frequencies, 0.0, &mut cos, &mut sin);
        held.insert(Arc::new(Angles { cos, sin })).clone()
    }
}

impl<T: Element> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.angles.read().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Table({} numbers)", held.as_ref().map_or(0, |angles| angles.cos.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_once_and_grows_without_changing() {
        let (table, frequencies) = (Table::<f64>::default(), [1.0, 0.1]);
        assert_eq!(format!("{table:?}"), "Table(0 numbers)");
        let small = table.angles(&frequencies, 3, 5);
        assert_eq!(small.cos.len(), 2 * 5);
        assert!(Arc::ptr_eq(&small, &table.angles(&frequencies, 5, 5)));
        let large = table.angles(&frequencies, 6, 5);
        assert_eq!(
            (large.cos.len(), &large.cos[..10], &large.sin[..10]),
            (2 * 8, &small.cos[..], &small.sin[..])
        );
        assert_eq!(large.sin[7 * 2 + 1], (7.0f64 * 0.1).sin());
    }
}
