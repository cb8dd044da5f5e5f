//! AdamW over flat memory, in one pass, and the global norm of a gradient for clipping.
//!
//! With `g = grad_scale · grad` and step `k = 1, 2, …`:
//!
//! - `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`
//! - `p ← p · (1 − lr · weight_decay) − lr · m̂ / (√v̂ + eps)`, `m̂ = m / (1 − β₁ᵏ)`, `v̂ = v / (1 − β₂ᵏ)`
//!
//! Loshchilov & Hutter 2017, <https://arxiv.org/abs/1711.05101>, in the order of operations that PyTorch uses.
//! Clipping is the factor `grad_scale`, so it costs no pass of its own.
//!
//! ```
//! use formwork_kernels::adamw::{adamw, AdamW, Moments};
//!
//! let rule = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, step: 1, grad_scale: 1.0 };
//! let (mut p, mut m, mut v) = ([1.0_f64], [0.0], [0.0]);
//! adamw(&rule, &mut p, &[5.0], Moments { m: &mut m, v: &mut v });
//! assert!((p[0] - 0.9).abs() < 1e-9); // the first step has length lr, whatever the gradient
//! ```

use crate::{
    Element,
    disjoint::rows_per_task,
    isa::{self, Isa, LANES},
    memory,
    reduce::{padded, sum_lanes},
    scratch, team,
};

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Which step this is, counted from 1.
    pub step: u64,
    /// Every gradient is multiplied by this: the clipping factor, or one over the number of accumulated batches.
    pub grad_scale: f64,
}

/// The running moments, as long as the parameters; zero before the first step.
#[derive(Debug)]
pub struct Moments<'a, T> {
    /// Mean of the gradients.
    pub m: &'a mut [T],
    /// Mean of their squares.
    pub v: &'a mut [T],
}

/// Constants of a step in the type of the parameters, computed once in f64.
#[derive(Clone, Copy)]
struct Constants<T> {
    keep: T,
    grad_scale: T,
    beta1: T,
    rest1: T,
    beta2: T,
    rest2: T,
    step_size: T,
    root_correction: T,
    eps: T,
}

/// One step over flat memory. It is fastest where all four slices begin at the same distance from a boundary of 64
/// bytes, as parts of flat memory with the same range do: what comes before the boundary goes first, since vectors that
/// cross cache lines halve the speed.
///
/// # Panics
/// If lengths differ or `step` is 0.
pub fn adamw<T: Element>(rule: &AdamW, params: &mut [T], grads: &[T], moments: Moments<'_, T>) {
    let Moments { m, v } = moments;
    assert_eq!(params.len(), grads.len(), "adamw: params and grads differ in length");
    assert!(m.len() == params.len() && v.len() == params.len(), "adamw: moments and params differ in length");
    assert!(rule.step >= 1, "adamw: steps are counted from 1");
    let correction = |beta: f64| 1.0 - beta.powi(i32::try_from(rule.step).unwrap_or(i32::MAX));
    let c = Constants {
        keep: T::of(1.0 - rule.lr * rule.weight_decay),
        grad_scale: T::of(rule.grad_scale),
        beta1: T::of(rule.beta1),
        rest1: T::of(1.0 - rule.beta1),
        beta2: T::of(rule.beta2),
        rest2: T::of(1.0 - rule.beta2),
        step_size: T::of(rule.lr / correction(rule.beta1)),
        root_correction: T::of(1.0 / correction(rule.beta2).sqrt()),
        eps: T::of(rule.eps),
    };
    let (head, len) = (memory::before_line(params).min(params.len()), params.len());
    let (params, grads) = (params.split_at_mut(head), grads.split_at(head));
    let (m, v) = (m.split_at_mut(head), v.split_at_mut(head));
    let run = |memory: [&mut [T]; 3], grads: &[T]| {
        isa::dispatch(
            #[inline(always)]
            |isa| body(isa, memory, grads, c),
        );
    };
    run([params.0, m.0, v.0], grads.0);
    if head == len {
        return;
    }
    let chunk = rows_per_task(1);
    team::for_each_chunk3((params.1, chunk), (m.1, chunk), (v.1, chunk), |i, p, m, v| {
        let grads = &grads.1[i * chunk..i * chunk + p.len()];
        run([p, m, v], grads);
    });
}

#[inline(always)]
fn body<T: Element>(isa: Isa, [p, m, v]: [&mut [T]; 3], grads: &[T], c: Constants<T>) {
    for ((p, &g), (m, v)) in p.iter_mut().zip(grads).zip(m.iter_mut().zip(v)) {
        let g = g * c.grad_scale;
        *m = isa.mul_add(c.rest1, g, c.beta1 * *m);
        *v = isa.mul_add(c.rest2, g * g, c.beta2 * *v);
        let root = isa.mul_add(v.sqrt(), c.root_correction, c.eps);
        *p = *p * c.keep - c.step_size * *m / root;
    }
}

/// Elements whose squares are summed one after another.
const SHARD: usize = 32 * 1024;

/// `Σ x²` in f64: shards of a fixed length, joined pairwise in a tree that depends on the length alone.
pub fn sum_of_squares<T: Element>(x: &[T]) -> f64 {
    let shards = x.len().div_ceil(SHARD);
    scratch::with(shards, |sums: &mut [f64]| {
        team::for_each_chunk(sums, 1, |i, sum| {
            let x = &x[i * SHARD..x.len().min((i + 1) * SHARD)];
            sum[0] = isa::dispatch(
                #[inline(always)]
                |isa| square_body(isa, x),
            );
        });
        tree_sum(sums)
    })
}

#[inline(always)]
fn square_body<T: Element>(isa: Isa, x: &[T]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for x in chunks {
        for l in 0..LANES {
            lanes[l] = isa.mul_add(x[l].f64(), x[l].f64(), lanes[l]);
        }
    }
    let x = padded(tail);
    for l in 0..LANES {
        lanes[l] = isa.mul_add(x[l].f64(), x[l].f64(), lanes[l]);
    }
    sum_lanes(lanes)
}

fn tree_sum(x: &[f64]) -> f64 {
    match x {
        [] => 0.0,
        [one] => *one,
        _ => {
            let (left, right) = x.split_at(x.len() / 2);
            tree_sum(left) + tree_sum(right)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AlignedVec, testing::*};

    const RULE: AdamW =
        AdamW { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 0.5 };

    /// Three steps; params, m and v one after the other.
    fn run<T: Element>(n: usize) -> Vec<T> {
        let (mut p, mut m, mut v) = (numbers::<T>(1, n), vec![T::zero(); n], vec![T::zero(); n]);
        for step in 1..=3 {
            let grads = numbers::<T>(10 + step, n);
            adamw(&AdamW { step, ..RULE }, &mut p, &grads, Moments { m: &mut m, v: &mut v });
        }
        [p, m, v].concat()
    }

    fn reference(n: usize) -> Vec<f64> {
        let (mut p, mut m, mut v) = (numbers::<f64>(1, n), vec![0.0; n], vec![0.0; n]);
        for step in 1..=3 {
            for (i, g) in numbers::<f64>(10 + step, n).iter().map(|g| g * 0.5).enumerate() {
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.95 * v[i] + 0.05 * g * g;
                let (m, v) =
                    (m[i] / (1.0 - 0.9_f64.powi(step as i32)), v[i] / (1.0 - 0.95_f64.powi(step as i32)));
                p[i] -= 0.01 * 0.1 * p[i] + 0.01 * m / (v.sqrt() + 1e-8);
            }
        }
        [p, m, v].concat()
    }

    fn check_values<T: Element>() {
        for n in [0, 1, 37, 40_001] {
            let want: Vec<T> = reference(n).into_iter().map(T::of).collect();
            close("adamw", &same_bits_on_any_threads(|| run::<T>(n)), &want, tolerance::<T>());
        }
    }

    #[test]
    fn three_steps_agree_with_the_formula_on_every_path() {
        on_every_isa(check_values::<f32>);
        on_every_isa(check_values::<f64>);
    }

    #[test]
    fn where_the_memory_begins_changes_no_bit() {
        for start in [1, 5, 15] {
            let slices = |at: usize| {
                let (mut p, mut v) =
                    (AlignedVec::<f32>::zeroed(at + 40_001), AlignedVec::zeroed(at + 40_001));
                let (mut m, mut grads) = (AlignedVec::zeroed(at + 40_001), AlignedVec::zeroed(at + 40_001));
                p[at..].copy_from_slice(&numbers::<f32>(1, 40_001));
                grads[at..].copy_from_slice(&numbers::<f32>(2, 40_001));
                adamw(&RULE, &mut p[at..], &grads[at..], Moments { m: &mut m[at..], v: &mut v[at..] });
                [&p[at..], &m[at..], &v[at..]].concat()
            };
            on_every_isa(|| assert_eq!(slices(start), slices(0)));
        }
    }

    #[test]
    fn a_parameter_without_gradient_only_decays() {
        let (mut p, mut m, mut v) = ([2.0_f64], [0.0], [0.0]);
        adamw(&RULE, &mut p, &[0.0], Moments { m: &mut m, v: &mut v });
        assert_eq!(p, [2.0 * (1.0 - 0.01 * 0.1)]);
    }

    #[test]
    fn the_sum_of_squares_is_that_of_f64_and_reports_nan() {
        for n in [0, 1, 37, 100_003] {
            let x = numbers::<f32>(1, n);
            let want: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
            on_every_isa(|| {
                let got = same_bits_on_any_threads(|| vec![sum_of_squares(&x)]);
                assert!((got[0] - want).abs() <= 1e-12 * want);
            });
        }
        assert!(sum_of_squares(&[1.0_f32, f32::NAN]).is_nan());
    }
}
