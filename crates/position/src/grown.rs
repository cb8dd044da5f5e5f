//! Cosines and sines that depend on how long a text is by now: dynamic NTK's, past the original context.
//!
//! Made anew whenever a text has grown, and shared by all layers of a pass.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use formwork_kernels::{
    Element,
    rope::{self, Spectrum},
};

use crate::table::Angles;

/// Angles that depend on how long a text is by now: those of the lengths last asked for, which all layers of a pass share.
pub(crate) struct Grown<T: Element> {
    held: RwLock<Option<Held<T>>>,
}

struct Held<T: Element> {
    lengths: Vec<usize>,
    angles: Arc<Angles<T>>,
}

impl<T: Element> Default for Grown<T> {
    fn default() -> Self {
        Self { held: RwLock::new(None) }
    }
}

impl<T: Element> Grown<T> {
    /// One after the other, the `length` positions of a text of each length, as `spectrum` of that length turns them.
    pub(crate) fn angles(
        &self,
        lengths: &[usize],
        pairs: usize,
        spectrum: impl Fn(usize) -> crate::Spectrum,
    ) -> Arc<Angles<T>> {
        let same = |held: &&Held<T>| held.lengths == lengths;
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = held.as_ref().filter(same) {
            return same.angles.clone();
        }
        drop(held);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = held.as_ref().filter(same) {
            return same.angles.clone(); // another thread was faster
        }
        let mut angles = Angles::zeroed(lengths.iter().sum::<usize>() * pairs);
        let mut from = 0;
        for &length in lengths {
            let block = from * pairs..(from + length) * pairs;
            fill(&spectrum(length), &mut angles.cos[block.clone()], &mut angles.sin[block]);
            from += length;
        }
        held.insert(Held { lengths: lengths.to_vec(), angles: Arc::new(angles) }).angles.clone()
    }
}

/// What [`rope::fill_table`] computes, with a sine for every `STRIDE`th position only: these tables are made anew for every
/// token. By the sum of two angles, `cos(a + b) = cos a cos b − sin a sin b` and `sin(a + b) = sin a cos b + cos a sin b`,
/// in f64, where the products add an error of one more rounding.
fn fill<T: Element>(spectrum: &crate::Spectrum, cos: &mut [T], sin: &mut [T]) {
    const STRIDE: usize = 64;
    let pairs = spectrum.frequencies.len();
    let rows = cos.len() / pairs.max(1);
    let mut far = Angles::<f64>::zeroed(rows.div_ceil(STRIDE) * pairs);
    let mut near = Angles::<f64>::zeroed(rows.min(STRIDE) * pairs);
    let strides: Vec<_> = spectrum.frequencies.iter().map(|f| f * STRIDE as f64).collect();
    let strides = Spectrum { frequencies: &strides, scale: spectrum.scale };
    rope::fill_table(&strides, 0.0, &mut far.cos, &mut far.sin);
    rope::fill_table(&Spectrum { scale: 1.0, ..spectrum.view() }, 0.0, &mut near.cos, &mut near.sin);
    let rows = cos.chunks_exact_mut(pairs.max(1)).zip(sin.chunks_exact_mut(pairs.max(1)));
    for (p, (cos, sin)) in rows.enumerate() {
        let (far_at, near_at) = (p / STRIDE * pairs, p % STRIDE * pairs);
        let far = far.cos[far_at..][..pairs].iter().zip(&far.sin[far_at..][..pairs]);
        let near = near.cos[near_at..][..pairs].iter().zip(&near.sin[near_at..][..pairs]);
        for ((cos, sin), ((a_cos, a_sin), (b_cos, b_sin))) in cos.iter_mut().zip(sin).zip(far.zip(near)) {
            *cos = T::of(a_cos * b_cos - a_sin * b_sin);
            *sin = T::of(a_sin * b_cos + a_cos * b_sin);
        }
    }
}

impl<T: Element> fmt::Debug for Grown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Grown(lengths {:?})", held.as_ref().map_or(&[][..], |held| &held.lengths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_angles_are_as_good_as_angles() {
        let spectrum = crate::Spectrum { frequencies: vec![1.0, 0.037, 1e-5], scale: 1.5 };
        for rows in [0, 1, 63, 64, 65, 4099] {
            let [mut found, mut expected] = [(); 2].map(|()| Angles::<f64>::zeroed(rows * 3));
            fill(&spectrum, &mut found.cos, &mut found.sin);
            rope::fill_table(&spectrum.view(), 0.0, &mut expected.cos, &mut expected.sin);
            let pairs =
                found.cos.iter().zip(&expected.cos[..]).chain(found.sin.iter().zip(&expected.sin[..]));
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 2e-12, "{worst:e} in {rows} rows"); // the angle 4099 itself is rounded at 5e-13
        }
    }

    #[test]
    fn grown_angles_stand_one_length_after_the_other_and_are_made_once() {
        let grown = Grown::<f64>::default();
        let spectrum = |length| crate::Spectrum::from(vec![1.0 / length as f64]);
        let angles = grown.angles(&[2, 3], 1, spectrum);
        let expected = [0.0, 0.5, 0.0, 1.0 / 3.0, 2.0 / 3.0].map(f64::sin);
        assert!(angles.sin.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{:?}", &angles.sin[..]);
        let again = grown.angles(&[2, 3], 1, |_| unreachable!("the angles are held"));
        assert!(Arc::ptr_eq(&angles, &again));
        assert_eq!(grown.angles(&[4], 1, spectrum).cos.len(), 4);
        assert_eq!(format!("{grown:?}"), "Grown(lengths [4])");
    }
}
