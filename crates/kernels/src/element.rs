//! The two floating point types that kernels are generic over, and their fast transcendental functions.
//!
//! `f32` is what models compute in; `f64` is what gradients are checked in, through the same code.
//! For `f32`, [`Element::fast_exp`], [`Element::fast_tanh`] and [`Element::erf`] are polynomials without a branch
//! or a call, so that a loop over them becomes vector instructions under [`isa::dispatch`](crate::isa::dispatch);
//! they are within 4 units in the last place wherever the result is a normal number (asserted below), and NaN, ±∞ and −0
//! behave as in IEEE.
//! For `f64` they are the standard library's and libm's, since there accuracy is the point.
//!
//! - `exp x = 2ⁿ · (1 + expm1 r)` with `n = round(x / ln 2)` and `r = x − n ln 2`, Cody & Waite 1980.
//! - `tanh x = m / (m + 2)` with `m = expm1 2x`, which loses nothing near zero.
//! - `erf x = x · S(x²)` up to 1 and `1 − exp(−Q(|x|))` past it; `S`, `Q`, and the polynomial of `expm1`
//!   interpolate at Chebyshev nodes.
//!
//! ```
//! use formwork_kernels::Element;
//! assert_eq!(0.0_f32.fast_exp(), 1.0);
//! assert!((1.0_f32.erf() - 0.842_700_8).abs() < 1e-7);
//! assert_eq!(f32::of(0.5).f64(), 0.5);
//! ```

use num_traits::{Float, FromPrimitive};
use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{AddAssign, MulAssign, SubAssign};

mod sealed {
    use crate::matmul::tile::Tiled;

    pub trait Sealed: Tiled {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A floating point type that every kernel runs in; implemented for `f32` and `f64` alone.
pub trait Element:
    sealed::Sealed
    + Float
    + FromPrimitive
    + Default
    + Debug
    + Display
    + Send
    + Sync
    + AddAssign
    + SubAssign
    + MulAssign
    + Sum
    + 'static
{
    /// The name of the type, for messages: `"f32"` or `"f64"`.
    const NAME: &'static str;

    /// The nearest value to `v`.
    fn of(v: f64) -> Self;

    /// This value, exactly.
    fn f64(self) -> f64;

    /// `eˣ`; overflows to infinity. In `f32` what is below the smallest normal number is 0, since a denormal one
    /// costs a hundred times as much and no softmax can tell it from 0; in `f64` it underflows gradually.
    fn fast_exp(self) -> Self;

    /// The hyperbolic tangent; odd to the last bit.
    fn fast_tanh(self) -> Self;

    /// The error function `2/√π ∫₀ˣ exp(−u²) du`; odd to the last bit.
    fn erf(self) -> Self;
}

impl Element for f64 {
    const NAME: &'static str = "f64";

    #[inline(always)]
    fn of(v: f64) -> f64 {
        v
    }

    #[inline(always)]
    fn f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn fast_exp(self) -> f64 {
        self.exp()
    }

    #[inline(always)]
    fn fast_tanh(self) -> f64 {
        self.tanh()
    }

    #[inline(always)]
    fn erf(self) -> f64 {
        libm::erf(self)
    }
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    #[inline(always)]
    fn of(v: f64) -> f32 {
        v as f32
    }

    #[inline(always)]
    fn f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn fast_exp(self) -> f32 {
        // Past the upper end the result is infinity in any case. The lower one must be applied before the product as
        // well as after it: the CPU takes its slow path when a product is denormal, whatever becomes of it later.
        let x = clamp(self, LEAST_EXPONENT, 89.5);
        let Reduced { expm1, n } = reduce(x);
        // 2ⁿ in two factors, or it would overflow while the product does not.
        let half = n >> 1;
        let y = (1.0 + expm1) * power_of_two(half) * power_of_two(n.wrapping_sub(half));
        // Not `self >= LEAST_EXPONENT`, which NaN would fail.
        if self < LEAST_EXPONENT { 0.0 } else { y }
    }

    #[inline(always)]
    fn fast_tanh(self) -> f32 {
        // tanh 10 rounds to 1 already.
        let Reduced { expm1, n } = reduce(clamp(self.abs(), 0.0, 10.0) * 2.0);
        let scale = power_of_two(n);
        let m = scale * expm1 + (scale - 1.0);
        (m / (m + 2.0)).copysign(self)
    }

    #[inline(always)]
    fn erf(self) -> f32 {
        // erf 4 rounds to 1 already.
        let a = clamp(self.abs(), 0.0, 4.0);
        let near = a * polynomial(&ERF_NEAR, a * a);
        let Reduced { expm1, n } = reduce(-polynomial(&ERF_FAR, a));
        let scale = power_of_two(n);
        let far = (1.0 - scale) - scale * expm1;
        let erf = if a > 1.0 { far } else { near };
        erf.copysign(self)
    }
}

/// The least `x` for which `eˣ` is a normal number: `ln 2⁻¹²⁶`, rounded up.
const LEAST_EXPONENT: f32 = -87.336_54;

/// `(expm1(r) − r) / r²` for `|r| ≤ ln 2 / 2`.
const EXPM1: [f32; 6] = [0.5, 0.166_666_67, 0.041_666_456, 0.008_333_310_5, 0.001_393_454_1, 0.000_198_919_8];

/// `erf(√z) / √z` for `0 ≤ z ≤ 1`.
const ERF_NEAR: [f32; 7] = [
    std::f32::consts::FRAC_2_SQRT_PI,
    -0.376_126_26,
    0.112_835_94,
    -0.026_854_211,
    0.005_189_087_2,
    -0.000_801_686_43,
    7.875_875e-5,
];

/// `−ln(1 − erf a)` for `1 ≤ a ≤ 4`.
const ERF_FAR: [f32; 9] = [
    -0.000_320_138_06,
    1.130_233_4,
    0.631_826_04,
    0.110_080_086,
    -0.026_421_135,
    0.004_759_596,
    -0.000_596_805_65,
    4.605_804e-5,
    -1.637_151_4e-6,
];

/// `eˣ = 2ⁿ · (1 + expm1)`.
struct Reduced {
    expm1: f32,
    n: i32,
}

/// For `|x| ≤ 126 ln 2` or so; NaN gives NaN in `expm1` and some `n`.
#[inline(always)]
fn reduce(x: f32) -> Reduced {
    // Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the upper, 355 / 512, has so few bits that its product with n is exact.
    const LN2_UPPER: f32 = 0.693_359_4;
    const LN2_LOWER: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_UPPER) - n * LN2_LOWER;
    Reduced {
        expm1: r + r * r * polynomial(&EXPM1, r),
        n: (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32),
    }
}

/// `2ⁿ` for `−126 ≤ n ≤ 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `Σ c[i] · xⁱ` by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(c: &[f32; N], x: f32) -> f32 {
    let mut sum = c[N - 1];
    for &c in c[..N - 1].iter().rev() {
        sum = sum * x + c;
    }
    sum
}

/// Clamps and lets NaN through, in the form that becomes two instructions.
#[inline(always)]
#[allow(
    clippy::manual_clamp,
    reason = "`f32::clamp` asserts its bounds, which leaves a branch at low optimisation"
)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{self, Isa};

    /// Distance in units in the last place of the true value; below the smallest normal number only 0 is right.
    fn ulps(found: f32, truth: f64) -> f64 {
        if truth.abs() < f64::from(f32::MIN_POSITIVE) {
            return if found == 0.0 { 0.0 } else { f64::INFINITY };
        }
        let unit = (truth.abs().log2().floor() - 23.0).exp2();
        (f64::from(found) - truth).abs() / unit
    }

    /// Compares over every 997th `f32` in `[low, high]` and its negative, and reports the worst.
    fn check(name: &str, fast: fn(f32) -> f32, truth: fn(f64) -> f64, low: f32, high: f32, limit: f64) {
        let mut worst = (0.0, 0.0);
        for bits in (low.to_bits()..=high.to_bits()).step_by(997) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let truth = truth(f64::from(x));
                if truth > f64::from(f32::MAX) {
                    continue;
                }
                let error = ulps(fast(x), truth);
                if error > worst.0 || error.is_nan() {
                    worst = (error, x);
                }
            }
        }
        assert!(worst.0 <= limit, "{name}({}) is off by {} ulp", worst.1, worst.0);
    }

    #[test]
    fn the_polynomials_are_within_four_ulp() {
        check("exp", Element::fast_exp, f64::exp, 1e-6, 104.0, 4.0);
        check("tanh", Element::fast_tanh, f64::tanh, 1e-6, 30.0, 4.0);
        check("erf", Element::erf, libm::erf, 1e-6, 30.0, 4.0);
    }

    #[test]
    fn special_values_follow_ieee() {
        let inf = f32::INFINITY;
        for (x, exp, tanh, erf) in
            [(0.0, 1.0, 0.0, 0.0), (inf, inf, 1.0, 1.0), (-inf, 0.0, -1.0, -1.0), (-0.0, 1.0, -0.0, -0.0)]
        {
            assert_eq!(x.fast_exp(), exp);
            assert_eq!(x.fast_tanh().to_bits(), f32::to_bits(tanh));
            assert_eq!(Element::erf(x).to_bits(), f32::to_bits(erf));
        }
        for f in [Element::fast_exp, Element::fast_tanh, Element::erf] as [fn(f32) -> f32; 3] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!(89.0_f32.fast_exp(), inf);
        assert_eq!((-104.5_f32).fast_exp(), 0.0);
    }

    #[test]
    fn the_exponential_is_a_normal_number_or_zero() {
        assert!(f64::from(LEAST_EXPONENT).exp() >= f64::from(f32::MIN_POSITIVE));
        assert!(f64::from(LEAST_EXPONENT.next_down()).exp() < f64::from(f32::MIN_POSITIVE));
        assert!(LEAST_EXPONENT.fast_exp().is_normal());
        assert_eq!(LEAST_EXPONENT.next_down().fast_exp(), 0.0);
        assert_eq!(f32::MIN.fast_exp(), 0.0);
    }

    #[test]
    fn the_pieces_of_erf_meet() {
        let mut last = f32::NEG_INFINITY;
        let mut x = 0.999_f32;
        while x < 1.001 {
            let y = Element::erf(x);
            assert!(y >= last - 2.0 * f32::EPSILON, "erf falls at {x}");
            last = y;
            x = x.next_up();
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        fn map(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = f(x);
            }
        }
        let x: Vec<f32> = (0..1009).map(|i| (i as f32 - 504.0) * 0.0371).collect();
        let run = |isa| {
            let mut out = vec![0.0; 3 * x.len()];
            let (exp, rest) = out.split_at_mut(x.len());
            let (tanh, erf) = rest.split_at_mut(x.len());
            isa::with(isa, || {
                isa::dispatch(
                    #[inline(always)]
                    |_| {
                        map(exp, &x, Element::fast_exp);
                        map(tanh, &x, Element::fast_tanh);
                        map(erf, &x, Element::erf);
                    },
                );
            });
            out
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Scalar), "{isa:?}");
        }
    }
}
