//! Keeps the likeliest tokens until their weights add up to enough, without sorting and without memory.
//!
//! A float's bits, with the sign straightened out, rise with its value, so the smallest logit that stays is found digit
//! by digit from a histogram of weights: three passes (11 + 11 + 10 bits), each over what shares the digits found so
//! far. Weight 1 makes it top-k, the probability makes it top-p. Ties go to the lowest ids, as in a greedy choice, so
//! that the same logits keep the same tokens everywhere.

/// One digit of the search: 2048 buckets.
const DIGIT: usize = 1 << 11;

/// Bits in order of value; −0 counts as 0.
fn rank(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The float of a rank.
fn value(rank: u32) -> f32 {
    f32::from_bits(if rank >> 31 == 1 { rank & !(1 << 31) } else { !rank })
}

/// Forbids all but the fewest largest logits whose weights, by falling logit, sum to `enough(total weight)`.
///
/// At least one stays. `weight` is not negative and does not fall as the logit rises.
pub(crate) fn keep(logits: &mut [f32], weight: impl Fn(f32) -> f64, enough: impl Fn(f64) -> f64) {
    let mut missing = f64::NAN; // what is to be gathered from `low..=high`, once that is narrower than all
    let (mut low, mut high) = (f32::MIN, f32::MAX);
    for (shift, bits) in [(21, 11), (10, 11), (0, 10)] {
        let mut weights = [0.0; DIGIT];
        for &x in logits.iter().filter(|x| (low..=high).contains(*x)) {
            weights[(rank(x) >> shift) as usize % (1 << bits)] += weight(x);
        }
        if missing.is_nan() {
            missing = enough(weights.iter().sum());
        }
        // Rounding may leave a little missing below the last bucket; then that one is it.
        let mut digit: Option<usize> = None;
        for (bucket, &here) in weights.iter().enumerate().rev().filter(|(_, w)| **w > 0.0) {
            if let Some(above) = digit.replace(bucket) {
                missing -= weights[above];
            }
            if here >= missing {
                break;
            }
        }
        let Some(digit) = digit else { return };
        let digits_above = rank(low).checked_shr(shift + bits).unwrap_or(0) << bits;
        let first = (digits_above | digit as u32) << shift;
        (low, high) = (value(first), value(first | ((1 << shift) - 1)));
    }
    let mut ties = 0;
    for x in logits.iter_mut().filter(|x| **x <= low) {
        if *x == low && (ties == 0 || missing > 0.0) {
            ties += 1;
            missing -= weight(*x);
        } else {
            *x = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use formwork_kernels::rng;

    use super::*;

    /// The same by sorting.
    fn keep_by_sorting(logits: &mut [f32], weight: impl Fn(f32) -> f64, enough: f64) {
        let mut order: Vec<usize> = (0..logits.len()).filter(|&i| logits[i] > f32::NEG_INFINITY).collect();
        order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
        let mut sum = 0.0;
        for (place, &id) in order.iter().enumerate() {
            let here = weight(logits[id]);
            if place > 0 && sum >= enough {
                logits[id] = f32::NEG_INFINITY;
            }
            sum += here;
        }
    }

    #[test]
    fn the_digits_find_what_sorting_finds() {
        for case in 0..200u64 {
            let n = 1 + (rng::bits(1, case) % 97) as usize;
            let spread = [1e-3, 1.0, 30.0][(case % 3) as usize];
            // Some are forbidden, and a third of the cases is full of ties.
            let logit = |i: u64| match rng::bits(case, i) % 11 {
                0 => f32::NEG_INFINITY,
                _ if case % 3 == 1 => (rng::normal(case, i) * spread).round() as f32,
                _ => (rng::normal(case, i) * spread) as f32,
            };
            let logits: Vec<f32> = (0..n as u64).map(logit).collect();
            for k in [1, 2, 7, 200] {
                let (mut a, mut b) = (logits.clone(), logits.clone());
                keep(&mut a, |_| 1.0, |_| k as f64);
                keep_by_sorting(&mut b, |_| 1.0, k as f64);
                assert_eq!(a, b, "case {case}, the {k} largest of {logits:?}");
            }
        }
    }

    #[test]
    fn zeros_of_both_signs_are_one_value() {
        let mut logits = [-0.0, 0.0, -1e-30];
        keep(&mut logits, |_| 1.0, |_| 1.0);
        assert_eq!(logits, [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn nothing_to_keep_is_left_alone() {
        keep(&mut [], |_| 1.0, |_| 1.0);
        let mut logits = [f32::NEG_INFINITY; 3];
        keep(&mut logits, |_| 1.0, |_| 1.0);
        assert_eq!(logits, [f32::NEG_INFINITY; 3]);
    }
}
