//! Cosines and sines by position, computed when first needed and shared from then on.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use formwork_kernels::{
    AlignedVec, Element,
    rope::{self, Spectrum},
};

/// Cosines and sines of the positions from 0 on.
pub(crate) struct Angles<T: Element> {
    /// `[positions, w/2]`
    pub(crate) cos: AlignedVec<T>,
    /// `[positions, w/2]`
    pub(crate) sin: AlignedVec<T>,
}

impl<T: Element> Angles<T> {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self { cos: AlignedVec::zeroed(len), sin: AlignedVec::zeroed(len) }
    }
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
    pub(crate) fn angles(&self, spectrum: &Spectrum<'_>, positions: usize, context: usize) -> Arc<Angles<T>> {
        let pairs = spectrum.frequencies.len();
        let enough = |angles: &&Arc<Angles<T>>| angles.cos.len() >= positions * pairs;
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
        let mut angles = Angles::zeroed(rows * pairs);
        rope::fill_table(spectrum, 0.0, &mut angles.cos, &mut angles.sin);
        held.insert(Arc::new(angles)).clone()
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
        let (table, scale) = (Table::<f64>::default(), 2.0);
        let spectrum = Spectrum { frequencies: &[1.0, 0.1], scale };
        assert_eq!(format!("{table:?}"), "Table(0 numbers)");
        let small = table.angles(&spectrum, 3, 5);
        assert_eq!(small.cos.len(), 2 * 5);
        assert!(Arc::ptr_eq(&small, &table.angles(&spectrum, 5, 5)));
        let large = table.angles(&spectrum, 6, 5);
        assert_eq!(
            (large.cos.len(), &large.cos[..10], &large.sin[..10]),
            (2 * 8, &small.cos[..], &small.sin[..])
        );
        assert_eq!(large.sin[7 * 2 + 1], scale * (7.0f64 * 0.1).sin());
    }
}
