//! Softmax over rows and the logarithm of a sum of exponentials.
//!
//! `y = exp(scale · x − m) / Σ exp(scale · x − m)` with `m = max(scale · x)`; `x, y`: `[r, n]`.
//! A row without a finite entry (all −∞: everything masked) gives zeros, not NaN.
//!
//! ```
//! use formwork_kernels::softmax::softmax;
//!
//! let mut y = [0.0_f64; 2];
//! softmax(&[0.0, 3.0_f64.ln()], 2, 1.0, &mut y);
//! assert!((y[1] - 0.75).abs() < 1e-15);
//! ```

use crate::{
    Element,
    dest::Dest,
    disjoint::{Disjoint, for_row_ranges, rows_per_task},
    isa::{self, LANES},
    reduce::{max, sum_lanes, sum_map, sum_map2},
};

/// Softmax of `scale · x` over each row of `x: [r, n]` into `y: [r, n]`; `scale` must be positive.
///
/// # Panics
/// If lengths do not fit or `scale` is not positive.
pub fn softmax<T: Element>(x: &[T], n: usize, scale: T, y: &mut [T]) {
    let rows = check(x, n, y);
    assert!(scale > T::zero(), "softmax: the scale must be positive");
    let y = Disjoint::new(y);
    for_row_ranges(rows, rows_per_task(n), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |_| {
                for r in range {
                    // SAFETY: row r belongs to this task alone.
                    softmax_row(&x[r * n..(r + 1) * n], scale, unsafe { y.slice(r * n..(r + 1) * n) });
                }
            },
        );
    });
}

#[inline(always)]
fn softmax_row<T: Element>(x: &[T], scale: T, y: &mut [T]) {
    let top = finite_max(x);
    for (y, &x) in y.iter_mut().zip(x) {
        *y = ((x - top) * scale).fast_exp();
    }
    let sum = sum_map(y, |v| v);
    let factor = if sum == T::zero() { T::zero() } else { sum.recip() };
    for y in y.iter_mut() {
        *y *= factor;
    }
}

/// Adjoint of [`softmax`]: `dx = scale · y · (dy − Σ y · dy)`, the direct term and the normaliser's.
///
/// `y` is the saved output; all are `[r, n]`.
///
/// # Panics
/// If lengths do not fit.
pub fn softmax_adjoint<T: Element>(y: &[T], dy: &[T], n: usize, scale: T, dx: Dest<'_, T>) {
    let Dest { data: dx, write } = dx;
    let rows = check(y, n, dx);
    assert_eq!(y.len(), dy.len(), "softmax_adjoint: y and dy differ in length");
    let dx = Disjoint::new(dx);
    for_row_ranges(rows, rows_per_task(n), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |_| {
                for r in range {
                    let (y, dy) = (&y[r * n..(r + 1) * n], &dy[r * n..(r + 1) * n]);
                    // SAFETY: row r belongs to this task alone.
                    let dx = unsafe { dx.slice(r * n..(r + 1) * n) };
                    let along = sum_map2(y, dy, |y, dy| y * dy);
                    for (dx, (&y, &dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
                        *dx = write.combine(*dx, scale * y * (dy - along));
                    }
                }
            },
        );
    });
}

/// `ln Σ exp(x)` of each row of `x: [r, n]`, into `out: [r]`; −∞ for a row of −∞.
///
/// # Panics
/// If lengths do not fit.
pub fn log_sum_exp<T: Element>(x: &[T], n: usize, out: &mut [T]) {
    assert_eq!(x.len(), n * out.len(), "log_sum_exp: x must be [{}, {n}]", out.len());
    let rows = out.len();
    let out = Disjoint::new(out);
    for_row_ranges(rows, rows_per_task(n), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |_| {
                for r in range {
                    // SAFETY: row r belongs to this task alone.
                    let out = unsafe { out.slice(r..r + 1) };
                    out[0] = log_sum_exp_row(&x[r * n..(r + 1) * n]);
                }
            },
        );
    });
}

/// The largest entry, or 0 where all are −∞: −∞ − −∞ would be NaN, while against any finite number every entry of
/// such a row becomes exp(−∞) = 0.
#[inline(always)]
pub(crate) fn finite_max<T: Element>(x: &[T]) -> T {
    let top = max(x);
    if top == T::neg_infinity() { T::zero() } else { top }
}

/// `x[i] ← exp(x[i] − top)`; gives their sum, in the order of [`reduce`](crate::reduce).
#[inline(always)]
pub(crate) fn exponentials<T: Element>(x: &mut [T], top: T) -> T {
    let mut lanes = [T::zero(); LANES];
    let (chunks, tail) = x.as_chunks_mut::<LANES>();
    for x in chunks {
        for l in 0..LANES {
            x[l] = (x[l] - top).fast_exp();
            lanes[l] += x[l];
        }
    }
    // −∞ past the end adds 0.
    let mut last = [T::neg_infinity(); LANES];
    last[..tail.len()].copy_from_slice(tail);
    for l in 0..LANES {
        last[l] = (last[l] - top).fast_exp();
        lanes[l] += last[l];
    }
    tail.copy_from_slice(&last[..tail.len()]);
    sum_lanes(lanes)
}

#[inline(always)]
pub(crate) fn log_sum_exp_row<T: Element>(x: &[T]) -> T {
    let top = finite_max(x);
    top + sum_map(
        x,
        #[inline(always)]
        |v| (v - top).fast_exp(),
    )
    .ln()
}

fn check<T>(x: &[T], n: usize, y: &[T]) -> usize {
    assert_eq!(x.len(), y.len(), "softmax: input and output differ in length");
    let rows = x.len().checked_div(n).unwrap_or(0);
    assert_eq!(x.len(), rows * n, "softmax: {} elements are no rows of {n}", x.len());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Write, testing::*};

    fn check_values<T: Element>() {
        for (r, n) in [(0, 5), (1, 1), (2, 3), (3, 16), (5, 37), (400, 65)] {
            let x = numbers::<T>(1, r * n);
            let y = same_bits_on_any_threads(|| {
                let mut y = junk(r * n);
                softmax(&x, n, T::of(1.7), &mut y);
                y
            });
            let mut lse = junk::<T>(r);
            log_sum_exp(&x, n, &mut lse);
            for (row, (y, lse)) in x.chunks(n).zip(y.chunks(n).zip(&lse)) {
                let e: Vec<f64> = row.iter().map(|v| (1.7 * v.f64()).exp()).collect();
                let want: Vec<T> = e.iter().map(|v| T::of(v / e.iter().sum::<f64>())).collect();
                close("softmax", y, &want, tolerance::<T>());
                let want = row.iter().map(|v| v.f64().exp()).sum::<f64>().ln();
                close("log_sum_exp", &[*lse], &[T::of(want)], tolerance::<T>());
            }
        }
    }

    #[test]
    fn values_agree_with_the_formula_on_every_path() {
        on_every_isa(check_values::<f32>);
        on_every_isa(check_values::<f64>);
    }

    #[test]
    fn the_adjoint_agrees_with_finite_differences_and_adds() {
        for (r, n) in [(2, 7), (1, 1), (3, 18)] {
            let (x, dy, scale) = (numbers::<f64>(1, r * n), numbers::<f64>(2, r * n), 0.6);
            let forward = |x: &[f64]| {
                let mut y = junk(x.len());
                softmax(x, n, scale, &mut y);
                y
            };
            let (y, mut dx) = (forward(&x), junk(r * n));
            for write in [Write::Store, Write::Add] {
                softmax_adjoint(&y, &dy, n, scale, Dest { data: &mut dx, write });
            }
            check_gradient("dx", &x, &dx, |x| {
                2.0 * forward(x).iter().zip(&dy).map(|(a, b)| a * b).sum::<f64>()
            });
        }
    }

    #[test]
    fn a_masked_entry_gets_nothing_and_a_masked_row_is_zero() {
        let no = f32::NEG_INFINITY;
        let mut y = junk(6);
        softmax(&[1.0, no, 1.0, no, no, no], 3, 1.0, &mut y);
        assert_eq!(y, [0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
        let mut lse = junk(2);
        log_sum_exp(&[1.0, no, no, no], 2, &mut lse);
        assert_eq!(lse, [1.0, no]);
    }

    #[test]
    fn large_entries_do_not_overflow_and_nan_is_reported() {
        let mut y = junk(4);
        softmax(&[1e4_f32, 1e4, f32::NAN, 0.0], 2, 1.0, &mut y);
        assert_eq!(y[..2], [0.5, 0.5]);
        assert!(y[2].is_nan() && y[3].is_nan());
    }
}
