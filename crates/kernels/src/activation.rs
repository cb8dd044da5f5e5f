//! The activations of feed-forward layers, plain and gated.
//!
//! | | value | slope |
//! |---|---|---|
//! | ReLU | `max(x, 0)` | `1` for `x > 0`, else `0` |
//! | GELU (erf) | `x · Φ(x)`, `Φ(x) = (1 + erf(x/√2)) / 2` | `Φ(x) + x · φ(x)`, `φ(x) = exp(−x²/2) / √(2π)` |
//! | GELU (tanh) | `x · (1 + tanh u) / 2`, `u = √(2/π) (x + 0.044715 x³)` | `(1 + tanh u)/2 + x (1 − tanh² u)/2 · u'` |
//! | SiLU | `x · σ(x)`, `σ(x) = 1 / (1 + exp(−x))` | `σ(x) (1 + x (1 − σ(x)))` |
//!
//! Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415> (both GELUs; GPT-2 uses the tanh form, BERT the
//! other); SiLU also after Elfwing et al. 2017, <https://arxiv.org/abs/1702.03118>. The gated form
//! `act(gate) · up` is Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
//!
//! ```
//! use formwork_kernels::{activation::Activation, dest::Dest};
//!
//! let mut y = [0.0_f64; 2];
//! Activation::GeluErf.apply(&[1.0, -1.0], Dest::store(&mut y));
//! assert!((y[0] - 0.841_344_746).abs() < 1e-9 && (y[1] + 0.158_655_254).abs() < 1e-9);
//! ```

use crate::{
    Element, Write,
    dest::Dest,
    disjoint::{Disjoint, for_row_ranges, rows_per_task},
    elementwise, isa,
};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

/// An activation function; see the [module](self) for the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x · Φ(x)` with the exact normal distribution.
    GeluErf,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x · σ(x)`, also called swish.
    Silu,
}

/// Gradients of the two inputs of [`Activation::gated`].
#[derive(Debug)]
pub struct GatedGradients<'a, T> {
    /// Receives the gradient of the gate.
    pub dgate: Dest<'a, T>,
    /// Receives the gradient of the other branch.
    pub dup: Dest<'a, T>,
}

/// Value and slope of an activation at one point; both halves share what they can.
#[derive(Clone, Copy)]
struct Point<T> {
    value: T,
    slope: T,
}

/// Runs `$run` with `$f` bound to the function that gives value and slope; what is unused is not computed, since
/// everything is inlined. Hand `$f` on as `#[inline(always)] |x| $f(x)`: a function by its name may stay a call, and then
/// nothing is vectorised.
macro_rules! with_function {
    ($activation:expr, $f:ident => $run:expr) => {
        match $activation {
            Activation::Relu => {
                let $f = relu::<T>;
                $run
            }
            Activation::GeluErf => {
                let $f = gelu_erf::<T>;
                $run
            }
            Activation::GeluTanh => {
                let $f = gelu_tanh::<T>;
                $run
            }
            Activation::Silu => {
                let $f = silu::<T>;
                $run
            }
        }
    };
}

#[allow(clippy::redundant_closure, reason = "a function by its name is not inlined; see `with_function`")]
impl Activation {
    /// `y = act(x)`.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn apply<T: Element>(self, x: &[T], y: Dest<'_, T>) {
        with_function!(self, f => elementwise::map(x, y, #[inline(always)] |_, x| f(x).value));
    }

    /// Adjoint of [`Activation::apply`]: `dx = dy · act'(x)`.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn apply_adjoint<T: Element>(self, x: &[T], dy: &[T], dx: Dest<'_, T>) {
        with_function!(self, f => elementwise::map2(x, dy, dx, #[inline(always)] |_, x, dy| dy * f(x).slope));
    }

    /// [`apply`](Activation::apply) again together with its adjoint, for a backward that wants `y` as well: what is
    /// recomputed costs one store, and need not be kept from the forward on.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn apply_with_adjoint<T: Element>(self, x: &[T], dy: &[T], y: &mut [T], dx: Dest<'_, T>) {
        let (n, Dest { data: dx, write }) = (x.len(), dx);
        assert!(dy.len() == n && y.len() == n && dx.len() == n, "apply_with_adjoint: lengths differ");
        let (y, dx) = (Disjoint::new(y), Disjoint::new(dx));
        with_function!(self, f => for_row_ranges(n, rows_per_task(1), |_, range| {
            // SAFETY: the task's own elements.
            let (y, dx) = unsafe { (y.slice(range.clone()), dx.slice(range.clone())) };
            isa::dispatch(#[inline(always)] |_| both_body([&x[range.clone()], &dy[range]], y, (dx, write), #[inline(always)] |x| f(x)));
        }));
    }

    /// `y = act(gate) · up`.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn gated<T: Element>(self, gate: &[T], up: &[T], y: Dest<'_, T>) {
        with_function!(self, f => elementwise::map2(gate, up, y, #[inline(always)] |_, gate, up| f(gate).value * up));
    }

    /// Adjoint of [`Activation::gated`]: `dgate = dy · up · act'(gate)`, `dup = dy · act(gate)`.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn gated_adjoint<T: Element>(self, gate: &[T], up: &[T], dy: &[T], into: GatedGradients<'_, T>) {
        let n = gate.len();
        assert!(up.len() == n && dy.len() == n, "gated_adjoint: inputs differ in length");
        let GatedGradients {
            dgate: Dest { data: dgate, write: gate_write },
            dup: Dest { data: dup, write: up_write },
        } = into;
        assert!(dgate.len() == n && dup.len() == n, "gated_adjoint: gradients must be as long as the inputs");
        let (dgate, dup) = (Disjoint::new(dgate), Disjoint::new(dup));
        with_function!(self, f => for_row_ranges(n, rows_per_task(1), |_, range| {
            let (gate, up, dy) = (&gate[range.clone()], &up[range.clone()], &dy[range.clone()]);
            // SAFETY: the task's own elements.
            let (dgate, dup) = unsafe { (dgate.slice(range.clone()), dup.slice(range.clone())) };
            isa::dispatch(#[inline(always)] |_| {
                let n = gate.len();
                gated_adjoint_body([gate, &up[..n], &dy[..n]], (&mut dgate[..n], gate_write), (&mut dup[..n], up_write), #[inline(always)] |x| f(x));
            });
        }));
    }

    /// [`gated`](Activation::gated) again together with its adjoint; see
    /// [`apply_with_adjoint`](Activation::apply_with_adjoint).
    ///
    /// # Panics
    /// If lengths differ.
    pub fn gated_with_adjoint<T: Element>(
        self,
        [gate, up, dy]: [&[T]; 3],
        y: &mut [T],
        into: GatedGradients<'_, T>,
    ) {
        let GatedGradients {
            dgate: Dest { data: dgate, write: gate_write },
            dup: Dest { data: dup, write: up_write },
        } = into;
        let n = gate.len();
        let others = [up.len(), dy.len(), y.len(), dgate.len(), dup.len()];
        assert!(others.iter().all(|&len| len == n), "gated_with_adjoint: lengths differ");
        let (y, dgate, dup) = (Disjoint::new(y), Disjoint::new(dgate), Disjoint::new(dup));
        with_function!(self, f => for_row_ranges(n, rows_per_task(1), |_, range| {
            // SAFETY: the task's own elements.
            let (y, dgate, dup) = unsafe { (y.slice(range.clone()), dgate.slice(range.clone()), dup.slice(range.clone())) };
            isa::dispatch(#[inline(always)] |_| {
                let inputs = [&gate[range.clone()], &up[range.clone()], &dy[range]];
                gated_both_body(inputs, y, (dgate, gate_write), (dup, up_write), #[inline(always)] |x| f(x));
            });
        }));
    }
}

/// [`Activation::apply`] and its adjoint for one task.
#[inline(always)]
fn both_body<T: Element>(
    [x, dy]: [&[T]; 2],
    y: &mut [T],
    (dx, write): (&mut [T], Write),
    f: impl Fn(T) -> Point<T>,
) {
    for ((&x, &dy), (y, dx)) in x.iter().zip(dy).zip(y.iter_mut().zip(dx)) {
        let Point { value, slope } = f(x);
        *y = value;
        *dx = write.combine(*dx, dy * slope);
    }
}

/// [`Activation::gated`] and its adjoint for one task.
#[inline(always)]
fn gated_both_body<T: Element>(
    [gate, up, dy]: [&[T]; 3],
    y: &mut [T],
    (dgate, gate_write): (&mut [T], Write),
    (dup, up_write): (&mut [T], Write),
    f: impl Fn(T) -> Point<T>,
) {
    let inputs = gate.iter().zip(up).zip(dy);
    for (((&gate, &up), &dy), (y, (dgate, dup))) in inputs.zip(y.iter_mut().zip(dgate.iter_mut().zip(dup))) {
        let Point { value, slope } = f(gate);
        *y = value * up;
        *dgate = gate_write.combine(*dgate, dy * up * slope);
        *dup = up_write.combine(*dup, dy * value);
    }
}

#[inline(always)]
fn gated_adjoint_body<T: Element>(
    [gate, up, dy]: [&[T]; 3],
    (dgate, gate_write): (&mut [T], Write),
    (dup, up_write): (&mut [T], Write),
    f: impl Fn(T) -> Point<T>,
) {
    for (((&gate, &up), &dy), (dgate, dup)) in gate.iter().zip(up).zip(dy).zip(dgate.iter_mut().zip(dup)) {
        let Point { value, slope } = f(gate);
        *dgate = gate_write.combine(*dgate, dy * up * slope);
        *dup = up_write.combine(*dup, dy * value);
    }
}

#[inline(always)]
fn relu<T: Element>(x: T) -> Point<T> {
    // Asked this way round so that NaN is not turned into 0.
    let off = x <= T::zero();
    Point { value: if off { T::zero() } else { x }, slope: if off { T::zero() } else { T::one() } }
}

#[inline(always)]
fn gelu_erf<T: Element>(x: T) -> Point<T> {
    let half = T::of(0.5);
    let below = half + half * (x * T::of(FRAC_1_SQRT_2)).erf();
    let density = (-half * x * x).fast_exp() * T::of(1.0 / (2.0 * PI).sqrt());
    Point { value: x * below, slope: below + x * density }
}

#[inline(always)]
fn gelu_tanh<T: Element>(x: T) -> Point<T> {
    let (half, one) = (T::of(0.5), T::one());
    let (root, cubic) = (T::of(FRAC_2_PI.sqrt()), T::of(0.044_715));
    let tanh = (root * (x + cubic * x * x * x)).fast_tanh();
    let inner_slope = root * (one + T::of(3.0) * cubic * x * x);
    let below = half * (one + tanh);
    Point { value: x * below, slope: below + half * x * (one - tanh * tanh) * inner_slope }
}

#[inline(always)]
fn silu<T: Element>(x: T) -> Point<T> {
    let one = T::one();
    let sigmoid = one / (one + (-x).fast_exp());
    Point { value: x * sigmoid, slope: sigmoid * (one + x * (one - sigmoid)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    const ALL: [Activation; 4] =
        [Activation::Relu, Activation::GeluErf, Activation::GeluTanh, Activation::Silu];

    /// The formulas, in f64 through libm.
    fn reference(a: Activation, x: f64) -> f64 {
        match a {
            Activation::Relu => x.max(0.0),
            Activation::GeluErf => x * 0.5 * libm::erfc(-x / 2.0_f64.sqrt()),
            Activation::GeluTanh => {
                x / (1.0 + libm::exp(-2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))))
            }
            Activation::Silu => x / (1.0 + libm::exp(-x)),
        }
    }

    fn stored<T: Element>(n: usize, f: impl FnOnce(Dest<'_, T>)) -> Vec<T> {
        let mut out = junk(n);
        f(Dest::store(&mut out));
        out
    }

    fn check_values<T: Element>() {
        for a in ALL {
            for n in [0, 1, 7, 40_037] {
                let x: Vec<T> = numbers::<T>(1, n).iter().map(|&v| v * T::of(5.0)).collect();
                let up = numbers::<T>(2, n);
                let want: Vec<T> = x.iter().map(|x| T::of(reference(a, x.f64()))).collect();
                let got = same_bits_on_any_threads(|| stored(n, |y| a.apply(&x, y)));
                close("apply", &got, &want, tolerance::<T>());
                let want: Vec<T> = want.iter().zip(&up).map(|(&w, &u)| w * u).collect();
                close("gated", &stored(n, |y| a.gated(&x, &up, y)), &want, 2.0 * tolerance::<T>());
            }
        }
    }

    fn check_recomputation<T: Element>() {
        for a in ALL {
            for n in [0, 1, 7, 40_037] {
                let [x, up, dy] = [1, 2, 3].map(|seed| numbers::<T>(seed, n));
                let (mut y, want) = (junk(n), stored(n, |y| a.apply(&x, y)));
                let dx = stored(n, |dx| a.apply_with_adjoint(&x, &dy, &mut y, dx));
                assert_eq!(y, want, "{a:?}: the same bits as in the forward");
                assert_eq!(dx, stored(n, |dx| a.apply_adjoint(&x, &dy, dx)));
                let (mut y, want) = (junk(n), stored(n, |y| a.gated(&x, &up, y)));
                let (mut dgate, mut dup) = (junk(n), up.clone());
                let into = GatedGradients { dgate: Dest::store(&mut dgate), dup: Dest::add(&mut dup) };
                a.gated_with_adjoint([&x, &up, &dy], &mut y, into);
                assert_eq!(y, want, "{a:?}: the same bits as in the forward");
                let (mut dgate2, mut dup2) = (junk(n), up.clone());
                let into = GatedGradients { dgate: Dest::store(&mut dgate2), dup: Dest::add(&mut dup2) };
                a.gated_adjoint(&x, &up, &dy, into);
                assert_eq!((dgate, dup), (dgate2, dup2));
            }
        }
    }

    #[test]
    fn a_recomputed_value_has_the_bits_of_the_first_beside_its_adjoint() {
        on_every_isa(check_recomputation::<f32>);
        on_every_isa(check_recomputation::<f64>);
    }

    #[test]
    fn values_agree_with_libm_on_every_path() {
        on_every_isa(check_values::<f32>);
        on_every_isa(check_values::<f64>);
    }

    #[test]
    fn adjoints_agree_with_finite_differences_and_add() {
        let n = 37;
        let (x, up, dy) = (numbers::<f64>(1, n), numbers::<f64>(2, n), numbers::<f64>(3, n));
        let dot = |a: &[f64]| a.iter().zip(&dy).map(|(a, b)| a * b).sum::<f64>();
        for a in ALL {
            let mut dx = stored(n, |g| a.apply_adjoint(&x, &dy, g));
            a.apply_adjoint(&x, &dy, Dest::add(&mut dx));
            check_gradient("dx", &x, &dx, |x| 2.0 * dot(&stored(n, |y| a.apply(x, y))));
            let (mut dgate, mut dup) = (junk(n), junk(n));
            for write in [Write::Store, Write::Add] {
                let (dgate, dup) = (Dest { data: &mut dgate, write }, Dest { data: &mut dup, write });
                a.gated_adjoint(&x, &up, &dy, GatedGradients { dgate, dup });
            }
            check_gradient("dgate", &x, &dgate, |x| 2.0 * dot(&stored(n, |y| a.gated(x, &up, y))));
            check_gradient("dup", &up, &dup, |up| 2.0 * dot(&stored(n, |y| a.gated(&x, up, y))));
        }
    }

    #[test]
    fn adjoints_agree_between_f32_paths_and_f64() {
        let n = 40_037;
        let (x, up, dy) = (numbers::<f32>(1, n), numbers::<f32>(2, n), numbers::<f32>(3, n));
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        for a in ALL {
            let narrow = |v: Vec<f64>| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
            let want = narrow(stored(n, |g| a.apply_adjoint(&wide(&x), &wide(&dy), g)));
            let mut dup = junk::<f64>(n);
            let dgate = stored(n, |dgate| {
                a.gated_adjoint(
                    &wide(&x),
                    &wide(&up),
                    &wide(&dy),
                    GatedGradients { dgate, dup: Dest::store(&mut dup) },
                );
            });
            let (want_gate, want_up) = (narrow(dgate), narrow(dup));
            on_every_isa(|| {
                close(
                    "dx",
                    &same_bits_on_any_threads(|| stored(n, |g| a.apply_adjoint(&x, &dy, g))),
                    &want,
                    F32,
                );
                let mut dup = junk(n);
                let dgate = stored(n, |dgate| {
                    a.gated_adjoint(&x, &up, &dy, GatedGradients { dgate, dup: Dest::store(&mut dup) });
                });
                close("dgate", &dgate, &want_gate, 2.0 * F32);
                close("dup", &dup, &want_up, F32);
            });
        }
    }

    #[test]
    fn far_from_zero_the_value_is_the_input_or_nothing_and_nan_stays() {
        for a in ALL {
            let y = stored(4, |y| a.apply(&[60.0_f32, -200.0, f32::NAN, 0.0], y));
            assert!(y[0] == 60.0 && y[1].abs() < 1e-30 && y[2].is_nan() && y[3] == 0.0, "{a:?}: {y:?}");
            let slope = stored(3, |g| a.apply_adjoint(&[60.0_f32, -200.0, 1.0], &[1.0, 1.0, f32::NAN], g));
            assert!(slope[0] == 1.0 && slope[1].abs() < 1e-30 && slope[2].is_nan(), "{a:?}: {slope:?}");
        }
    }
}
