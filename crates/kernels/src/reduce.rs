//! Sums and maxima of one row in a fixed order, written so that they vectorise.
//!
//! A sum keeps [`LANES`] partial sums, element `i` going to partial `i mod LANES`, and joins them as a fixed tree.
//! The order is the same for every thread count and instruction set.

use crate::{
    Element,
    isa::{self, LANES},
};

/// `Σ f(x[i])`.
#[inline(always)]
pub(crate) fn sum_map<T: Element>(x: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [T::zero(); LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for x in chunks {
        for l in 0..LANES {
            lanes[l] += f(x[l]);
        }
    }
    let x = padded(tail);
    for l in 0..LANES {
        lanes[l] += if l < tail.len() { f(x[l]) } else { T::zero() };
    }
    sum_lanes(lanes)
}

/// `Σ f(x[i], y[i])`.
#[inline(always)]
pub(crate) fn sum_map2<T: Element>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    assert_eq!(x.len(), y.len(), "sum: lengths differ");
    let mut lanes = [T::zero(); LANES];
    let ((xs, x_tail), (ys, y_tail)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            lanes[l] += f(x[l], y[l]);
        }
    }
    let (x, y) = (padded(x_tail), padded(y_tail));
    for l in 0..LANES {
        lanes[l] += if l < x_tail.len() { f(x[l], y[l]) } else { T::zero() };
    }
    sum_lanes(lanes)
}

/// [`isa::sum_lanes`] of sums that must pass through memory.
///
/// Else the compiler sees the tree that joins them, keeps the partial sums of a whole loop in pairs or one by one to
/// suit it, and the loop runs at a fraction of its speed. The blocks of [`matmul`](crate::matmul) need no such barrier,
/// and it would cost them a tenth.
#[inline(always)]
pub(crate) fn sum_lanes<T: Element>(lanes: [T; LANES]) -> T {
    isa::sum_lanes(std::hint::black_box(lanes))
}

/// The last elements of a row, filled up with zeros: adding them to partial sums one by one, at an index that the
/// compiler does not know, would keep the sums out of registers throughout.
#[inline(always)]
pub(crate) fn padded<T: Element>(tail: &[T]) -> [T; LANES] {
    let mut chunk = [T::zero(); LANES];
    chunk[..tail.len()].copy_from_slice(tail);
    chunk
}

/// The larger of two numbers; `b` where `a` is NaN, so that a NaN is left for the exponential to report.
#[inline(always)]
pub(crate) fn larger<T: Element>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// The largest element that is not NaN; −∞ for none.
#[inline(always)]
pub(crate) fn max<T: Element>(x: &[T]) -> T {
    let mut lanes = [T::neg_infinity(); LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for x in chunks {
        for l in 0..LANES {
            lanes[l] = larger(x[l], lanes[l]);
        }
    }
    let x = padded(tail);
    for l in 0..LANES {
        lanes[l] = if l < tail.len() { larger(x[l], lanes[l]) } else { lanes[l] };
    }
    lanes.into_iter().fold(T::neg_infinity(), |a, b| larger(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_counted_once_at_every_length() {
        for n in 0..70 {
            let x: Vec<f64> = (0..n).map(|i| (i * i) as f64).collect();
            let y: Vec<f64> = (0..n).map(|i| i as f64).collect();
            assert_eq!(sum_map(&x, |v| v), x.iter().sum::<f64>());
            assert_eq!(sum_map2(&x, &y, |a, b| a * b), x.iter().zip(&y).map(|(a, b)| a * b).sum::<f64>());
            assert_eq!(max(&x), x.last().copied().unwrap_or(f64::NEG_INFINITY));
        }
    }

    #[test]
    fn a_maximum_skips_nan() {
        assert_eq!(max(&[f32::NAN, -3.0, f32::NAN]), -3.0);
    }
}
