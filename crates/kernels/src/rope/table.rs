//! Cosines and sines by position: what rows are turned by.
//!
//! Pair `i` at position `p` is turned by `p · fᵢ`, in the paper `fᵢ = base^(−2i/w)`; `cos`, `sin`: `[positions, w/2]`.
//! Angles are computed in f64 and their sines rounded afterwards: in f32 position 100 000 alone is uncertain by 0.008
//! radians.
//!
//! ```
//! use formwork_kernels::rope::{Spectrum, fill_table, inverse_frequencies};
//! let frequencies = inverse_frequencies(4, 100.0);
//! let (mut cos, mut sin) = ([0.0_f64; 6], [0.0; 6]); // three positions of two pairs
//! fill_table(&Spectrum { frequencies: &frequencies, scale: 1.0 }, 0.0, &mut cos, &mut sin);
//! assert!((sin[2 * 2 + 1] - 0.2_f64.sin()).abs() < 1e-15); // position 2, pair 1: 2 · 100^(−2/4)
//! ```

use crate::Element;

/// `base^(−2i/w)` for `i < w/2`.
///
/// # Panics
/// If the width is odd.
pub fn inverse_frequencies(width: usize, base: f64) -> Vec<f64> {
    assert!(width.is_multiple_of(2), "rope: expected an even width, found {width}");
    (0..width / 2).map(|i| libm::pow(base, -2.0 * i as f64 / width as f64)).collect()
}

/// How fast each pair turns, and what its cosines and sines are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spectrum<'a> {
    /// Radians per position of each pair: `[w/2]`.
    pub frequencies: &'a [f64],
    /// 1 for a rotation; any other number stretches what is turned, as YaRN does.
    pub scale: f64,
}

/// `scale` times the cosines and sines of `(first + p) · frequencies[i]`, for as many positions `p` as the tables hold.
///
/// # Panics
/// If the tables differ in length or hold a part of a row.
pub fn fill_table<T: Element>(spectrum: &Spectrum<'_>, first: f64, cos: &mut [T], sin: &mut [T]) {
    let &Spectrum { frequencies, scale } = spectrum;
    let pairs = frequencies.len();
    assert_eq!(cos.len(), sin.len(), "rope: tables differ in length");
    if pairs == 0 {
        assert!(cos.is_empty(), "rope: tables of {} elements without frequencies", cos.len());
        return;
    }
    assert!(cos.len().is_multiple_of(pairs), "rope: {} elements are no rows of {pairs}", cos.len());
    let rows = cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs));
    for (p, (cos, sin)) in rows.enumerate() {
        for (i, &frequency) in frequencies.iter().enumerate() {
            let (s, c) = libm::sincos((first + p as f64) * frequency);
            (cos[i], sin[i]) = (T::of(scale * c), T::of(scale * s));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_positions_keep_their_angle_in_f32() {
        let (mut cos, mut sin) = ([0.0_f32], [0.0_f32]);
        fill_table(&Spectrum { frequencies: &[1.0], scale: 1.0 }, 1_000_003.0, &mut cos, &mut sin);
        assert!((f64::from(cos[0]) - 1_000_003.0_f64.cos()).abs() < 1e-7);
        assert!((f64::from(sin[0]) - 1_000_003.0_f64.sin()).abs() < 1e-7);
    }
}
