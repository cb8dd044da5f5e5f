//! What may be done to scaled scores before biases and the mask: a function of each score.
//!
//! [`SoftCap`] is `cap · tanh(s / cap)`, which holds scores within ±cap: Bello et al. 2016,
//! <https://arxiv.org/abs/1611.09940>, and Gemma 2, <https://arxiv.org/abs/2408.00118>.
//!
//! ```
//! use formwork_kernels::attention::{SoftCap, Transform};
//!
//! let (mut scores, mut slopes) = ([0.0_f64, 100.0], [0.0; 2]);
//! SoftCap(50.0).apply_with_slopes(&mut scores, &mut slopes);
//! assert!((scores[1] - 50.0 * 2.0_f64.tanh()).abs() < 1e-12);
//! assert_eq!(slopes[0], 1.0);
//! ```

use crate::{
    Element,
    isa::{self, Isa},
};

/// A function of each scaled score, called once for a tile.
pub trait Transform<T>: Sync {
    /// `s = f(s)`.
    fn apply(&self, scores: &mut [T]);

    /// `slope = f′(s)` and `s = f(s)`: what the adjoint needs. Both slices are equally long.
    fn apply_with_slopes(&self, scores: &mut [T], slopes: &mut [T]);
}

/// `cap · tanh(s / cap)`; the cap is positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftCap<T>(pub T);

impl<T: Element> Transform<T> for SoftCap<T> {
    fn apply(&self, scores: &mut [T]) {
        isa::dispatch(
            #[inline(always)]
            |_| soft_cap(self.0, scores),
        );
    }

    fn apply_with_slopes(&self, scores: &mut [T], slopes: &mut [T]) {
        isa::dispatch(
            #[inline(always)]
            |isa| {
                soft_cap(self.0, scores);
                slopes_of(isa, self.0, scores, slopes);
            },
        );
    }
}

#[inline(always)]
fn soft_cap<T: Element>(cap: T, scores: &mut [T]) {
    let inverse = cap.recip();
    for s in scores {
        *s = cap * (*s * inverse).fast_tanh();
    }
}

/// `1 − tanh²`, from the capped score.
#[inline(always)]
fn slopes_of<T: Element>(isa: Isa, cap: T, scores: &[T], slopes: &mut [T]) {
    let inverse = cap.recip();
    for (&s, slope) in scores.iter().zip(slopes) {
        let t = s * inverse;
        *slope = isa.mul_add(-t, t, T::one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn slopes_of_the_soft_cap_are_those_of_finite_differences() {
        for cap in [0.5, 30.0] {
            let x: Vec<f64> = numbers(1, 37);
            let (mut y, mut slopes) = (x.clone(), vec![0.0; 37]);
            SoftCap(cap).apply_with_slopes(&mut y, &mut slopes);
            check_gradient("soft cap", &x, &slopes, |x| {
                let mut y = x.to_vec();
                SoftCap(cap).apply(&mut y);
                y.iter().sum()
            });
            assert!(y.iter().all(|y| y.abs() < cap));
        }
    }
}
