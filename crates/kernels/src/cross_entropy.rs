//! Cross-entropy of target ids under the softmax of logits, for a chunk of rows at a time.
//!
//! `loss[r] = lse(logits[r, :]) − logits[r, target[r]]`, in nats; `logits`: `[r, n]`, `target, lse, loss`: `[r]`.
//! The head and the loss are computed in row chunks, so that `[b·t, n]` is never held: forward and adjoint of a
//! chunk are one call, which overwrites the chunk's logits with their gradient.
//!
//! ```
//! use formwork_kernels::cross_entropy::{cross_entropy, cross_entropy_with_adjoint};
//!
//! let mut logits = [0.0_f64, 3.0_f64.ln()]; // probabilities 1/4 and 3/4
//! let (mut lse, mut loss) = ([0.0], [0.0]);
//! cross_entropy(&logits, &[1], &mut lse, &mut loss);
//! assert!((loss[0] - (4.0_f64 / 3.0).ln()).abs() < 1e-15);
//! cross_entropy_with_adjoint(&mut logits, &[1], 1.0, &mut loss);
//! assert!((logits[0] - 0.25).abs() < 1e-15 && (logits[1] + 0.25).abs() < 1e-15);
//! ```

use crate::{
    Element,
    disjoint::{Disjoint, for_row_ranges, rows_per_task},
    isa,
    softmax::{exponentials, finite_max, log_sum_exp_row},
};

/// The target of a row that does not count: its loss and its gradient are 0.
pub const IGNORE: u32 = u32::MAX;

/// Loss and log-sum-exp of each row; the number of classes is `logits.len() / targets.len()`.
///
/// # Panics
/// If lengths do not fit, or a target is neither a class nor [`IGNORE`].
pub fn cross_entropy<T: Element>(logits: &[T], targets: &[u32], lse: &mut [T], loss: &mut [T]) {
    let (rows, n) = check(logits, targets);
    assert!(lse.len() == rows && loss.len() == rows, "cross_entropy: lse and loss must be [{rows}]");
    let (lse, loss) = (Disjoint::new(lse), Disjoint::new(loss));
    for_row_ranges(rows, rows_per_task(n), |_, range| {
        // SAFETY: the task's own rows.
        let (lse, loss) = unsafe { (lse.rows(&range, 1), loss.rows(&range, 1)) };
        isa::dispatch(
            #[inline(always)]
            |_| {
                for (r, (lse, loss)) in range.zip(lse.iter_mut().zip(loss)) {
                    let row = &logits[r * n..(r + 1) * n];
                    *lse = log_sum_exp_row(row);
                    *loss = if targets[r] == IGNORE { T::zero() } else { *lse - row[targets[r] as usize] };
                }
            },
        );
    });
}

/// [`cross_entropy`] and its adjoint in one go: writes each row's loss, and overwrites each logit with its gradient
/// `scale · (softmax(logits) − [it is the target])`, the terms of the normaliser and of the target; rows to ignore
/// become 0.
///
/// Each exponential is computed once for both. `scale` is the gradient of each row's loss, usually one over the number
/// of rows that count.
///
/// # Panics
/// As [`cross_entropy`].
pub fn cross_entropy_with_adjoint<T: Element>(logits: &mut [T], targets: &[u32], scale: T, loss: &mut [T]) {
    let (rows, n) = check(logits, targets);
    assert_eq!(loss.len(), rows, "cross_entropy: loss must be [{rows}]");
    let (logits, loss) = (Disjoint::new(logits), Disjoint::new(loss));
    for_row_ranges(rows, rows_per_task(n), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |_| {
                for r in range {
                    // SAFETY: row r belongs to this task alone, in both.
                    let (row, loss) = unsafe { (logits.slice(r * n..(r + 1) * n), loss.slice(r..r + 1)) };
                    loss[0] = row_with_adjoint(row, targets[r], scale);
                }
            },
        );
    });
}

/// The loss of a row, whose logits become their gradient.
#[inline(always)]
fn row_with_adjoint<T: Element>(row: &mut [T], target: u32, scale: T) -> T {
    if target == IGNORE {
        row.fill(T::zero());
        return T::zero();
    }
    let target = target as usize;
    let (top, hit) = (finite_max(row), row[target]);
    let sum = exponentials(row, top);
    let factor = scale / sum;
    for v in row.iter_mut() {
        *v *= factor;
    }
    row[target] -= scale;
    top + sum.ln() - hit
}

fn check<T>(logits: &[T], targets: &[u32]) -> (usize, usize) {
    let rows = targets.len();
    let n = logits.len().checked_div(rows).unwrap_or(0);
    assert_eq!(logits.len(), rows * n, "cross_entropy: {} logits for {rows} rows", logits.len());
    for &target in targets {
        assert!(target == IGNORE || (target as usize) < n, "cross_entropy: target {target} of {n} classes");
    }
    (rows, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn targets(r: usize, n: usize) -> Vec<u32> {
        (0..r).map(|i| if i % 5 == 3 { IGNORE } else { (i * 7 % n) as u32 }).collect()
    }

    fn losses<T: Element>(logits: &[T], targets: &[u32]) -> [Vec<T>; 2] {
        let (mut lse, mut loss) = (junk(targets.len()), junk(targets.len()));
        cross_entropy(logits, targets, &mut lse, &mut loss);
        [lse, loss]
    }

    fn check_values<T: Element>() {
        for (r, n) in [(0, 3), (1, 1), (5, 11), (6, 37), (400, 65)] {
            let (x, targets) = (numbers::<T>(1, r * n), targets(r, n));
            let got = same_bits_on_any_threads(|| losses(&x, &targets).concat());
            let wide: Vec<f64> = x.iter().map(|v| v.f64()).collect();
            let lse: Vec<f64> =
                wide.chunks(n).map(|row| row.iter().map(|v| v.exp()).sum::<f64>().ln()).collect();
            let loss = (0..r)
                .map(|i| if targets[i] == IGNORE { 0.0 } else { lse[i] - wide[i * n + targets[i] as usize] });
            let want: Vec<T> = lse.iter().copied().chain(loss).map(T::of).collect();
            close("lse and loss", &got, &want, tolerance::<T>());
            let dx = same_bits_on_any_threads(|| {
                let (mut dx, mut loss) = (x.clone(), junk(r));
                cross_entropy_with_adjoint(&mut dx, &targets, T::of(0.7), &mut loss);
                close("the same loss", &loss, &got[r..], tolerance::<T>());
                dx
            });
            let want: Vec<T> = (0..r * n)
                .map(|i| match targets[i / n] {
                    IGNORE => T::zero(),
                    t => T::of(0.7 * ((wide[i] - lse[i / n]).exp() - f64::from(i % n == t as usize))),
                })
                .collect();
            close("dlogits", &dx, &want, tolerance::<T>());
        }
    }

    #[test]
    fn values_agree_with_the_formula_on_every_path() {
        on_every_isa(check_values::<f32>);
        on_every_isa(check_values::<f64>);
    }

    #[test]
    fn the_adjoint_agrees_with_finite_differences() {
        let (r, n) = (5, 11);
        let (x, targets) = (numbers::<f64>(1, r * n), targets(r, n));
        let mut dx = x.clone();
        cross_entropy_with_adjoint(&mut dx, &targets, 0.25, &mut junk(r));
        check_gradient("dlogits", &x, &dx, |x| 0.25 * losses(x, &targets)[1].iter().sum::<f64>());
    }

    #[test]
    fn a_certain_answer_costs_nothing_and_an_impossible_one_infinity() {
        let mut logits = [1e4_f32, 0.0, f32::NEG_INFINITY, 0.0];
        let [_, loss] = losses(&logits, &[0, 0]);
        assert_eq!(loss, [0.0, f32::INFINITY]);
        let mut again = [f32::NAN; 2];
        cross_entropy_with_adjoint(&mut logits, &[0, 0], 1.0, &mut again);
        assert_eq!((again, logits), ([0.0, f32::INFINITY], [0.0, 0.0, -1.0, 1.0]));
    }

    #[test]
    fn a_logit_that_is_nan_is_reported() {
        let (mut logits, mut loss) = ([0.0_f32, f32::NAN], [0.0]);
        cross_entropy_with_adjoint(&mut logits, &[0], 1.0, &mut loss);
        assert!(loss[0].is_nan());
    }

    #[test]
    #[should_panic(expected = "target 3 of 3 classes")]
    fn a_target_past_the_classes_is_refused() {
        losses(&[0.0_f32; 3], &[3]);
    }
}
