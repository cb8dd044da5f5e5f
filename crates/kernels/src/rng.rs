//! Random numbers by counter: a draw is a function of a key and an index, so it is the same on any thread, in any
//! order and after a resume, and needs no state.
//!
//! `bits(key, index)` is the output function of SplitMix64 (Steele, Lea & Flood 2014) applied twice around the
//! addition of the index; uniform numbers take its upper bits; normal ones are Box & Muller 1958 on a pair of
//! uniforms, with logarithm, sine and cosine evaluated by our own series in f64, so that draws agree between
//! instruction sets and machines to the last bit.
//!
//! ```
//! use formwork_kernels::rng;
//!
//! let mut w = [0.0_f32; 1000];
//! rng::fill_normal(rng::mix(42, 7), 0.02, &mut w);
//! assert_eq!(w[77], (0.02 * rng::normal(rng::mix(42, 7), 77)) as f32);
//! let variance: f32 = w.iter().map(|v| v * v).sum::<f32>() / 1000.0;
//! assert!((variance.sqrt() - 0.02).abs() < 0.002);
//! ```

use crate::{
    Element, Write,
    dest::Dest,
    disjoint::{Disjoint, for_row_ranges, rows_per_task},
    isa,
};

/// The golden ratio's fraction in 64 bits: an odd constant without structure.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64: a bijection whose every output bit depends on every input bit.
#[inline(always)]
fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A new key from a key and a label (a seed and a site, a site and a step): order matters.
#[inline(always)]
pub fn mix(key: u64, label: u64) -> u64 {
    draw(stream(key), label)
}

/// 64 random bits.
#[inline(always)]
pub fn bits(key: u64, index: u64) -> u64 {
    mix(key, index)
}

/// The half of [`bits`] that does not depend on the index.
#[inline(always)]
pub(crate) fn stream(key: u64) -> u64 {
    finish(key.wrapping_add(GOLDEN))
}

/// The other half: `draw(stream(key), index)` is `bits(key, index)`.
#[inline(always)]
pub(crate) fn draw(stream: u64, index: u64) -> u64 {
    finish(stream.wrapping_add(index.wrapping_mul(GOLDEN)))
}

/// A uniform number in [0, 1): a multiple of 2⁻⁵².
#[inline(always)]
pub fn unit(key: u64, index: u64) -> f64 {
    // 52 random bits as the mantissa of a number in [1, 2): no conversion of integers, which older sets lack.
    f64::from_bits(1.0_f64.to_bits() | (bits(key, index) >> 12)) - 1.0
}

/// A standard normal number.
#[inline(always)]
pub fn normal(key: u64, index: u64) -> f64 {
    normal_pair(key, index >> 1)[(index & 1) as usize]
}

/// Numbers `2 · pair` and `2 · pair + 1` of the normal sequence.
#[inline(always)]
fn normal_pair(key: u64, pair: u64) -> [f64; 2] {
    // 1 − u lies in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * ln(1.0 - unit(key, 2 * pair))).sqrt();
    let [sin, cos] = sin_cos_turn(unit(key, 2 * pair + 1));
    [radius * cos, radius * sin]
}

/// Natural logarithm of a number in (0, 1], by `ln m = 2 artanh((m − 1) / (m + 1))` on `m` in [√½, √2).
#[inline(always)]
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    /// Coefficients of `artanh(s) / s` in s²: 1 / (2k + 1).
    const ARTANH: [f64; 11] = reciprocals([1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21]);
    // Subtracting the bits of √½ makes the exponent field count from there, so m stays around 1.
    let root_half = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    let offset = x.to_bits().wrapping_sub(root_half);
    // The field counts −1, −2, … for smaller numbers; biased, it becomes a mantissa and so a number.
    let biased = (offset >> 52).wrapping_add(2048) & 4095;
    let exponent = f64::from_bits(SHIFT.to_bits() + biased) - SHIFT - 2048.0;
    let m = f64::from_bits((offset & MANTISSA) + root_half);
    let s = (m - 1.0) / (m + 1.0);
    2.0 * s * polynomial(&ARTANH, s * s) + exponent * std::f64::consts::LN_2
}

/// 2⁵²: added to a small integer it leaves that in the low bits of the mantissa.
const SHIFT: f64 = (1_u64 << 52) as f64;

/// Sine and cosine of `2π u` for `u` in [0, 1): Taylor series on the nearest quarter turn.
#[inline(always)]
fn sin_cos_turn(u: f64) -> [f64; 2] {
    /// `(−1)ᵏ / (2k + 1)!` and `(−1)ᵏ / (2k)!`: those of `sin(a) / a` and `cos(a)` in a².
    const SIN: [f64; 10] = alternating(1);
    const COS: [f64; 10] = alternating(0);
    let shifted = 4.0 * u + SHIFT; // rounds to the nearest integer
    let quarter = shifted.to_bits();
    let a = (u - 0.25 * (shifted - SHIFT)) * std::f64::consts::TAU;
    let sin = a * polynomial(&SIN, a * a);
    let cos = polynomial(&COS, a * a);
    let (s, c) = if quarter & 1 == 0 { (sin, cos) } else { (cos, sin) };
    [if quarter & 2 == 0 { s } else { -s }, if (quarter + 1) & 2 == 0 { c } else { -c }]
}

/// `Σ c[i] · xⁱ` by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(c: &[f64; N], x: f64) -> f64 {
    let mut sum = c[N - 1];
    for &c in c[..N - 1].iter().rev() {
        sum = sum * x + c;
    }
    sum
}

const fn reciprocals<const N: usize>(of: [u32; N]) -> [f64; N] {
    let mut out = [0.0; N];
    let mut i = 0;
    while i < N {
        out[i] = 1.0 / of[i] as f64;
        i += 1;
    }
    out
}

/// `(−1)ᵏ / (2k + odd)!`.
const fn alternating<const N: usize>(odd: usize) -> [f64; N] {
    let mut out = [1.0; N];
    let mut k = 1;
    while k < N {
        out[k] = -out[k - 1] / ((2 * k + odd) * (2 * k + odd - 1)) as f64;
        k += 1;
    }
    out
}

/// `out[i] = low + (high − low) · unit(key, i)`.
pub fn fill_uniform<T: Element>(key: u64, low: f64, high: f64, out: &mut [T]) {
    crate::team::for_each_chunk(out, rows_per_task(1), |chunk, out| {
        let first = (chunk * rows_per_task(1)) as u64;
        isa::dispatch(
            #[inline(always)]
            |_| {
                for (i, out) in (first..).zip(out) {
                    *out = T::of(low + (high - low) * unit(key, i));
                }
            },
        );
    });
}

/// `out[i] = std · normal(key, i)`.
pub fn fill_normal<T: Element>(key: u64, std: f64, out: &mut [T]) {
    crate::team::for_each_chunk(out, rows_per_task(1), |chunk, out| {
        let first = (chunk * rows_per_task(1) / 2) as u64; // chunks are even
        isa::dispatch(
            #[inline(always)]
            |_| {
                let (pairs, last) = out.as_chunks_mut::<2>();
                for (i, pair) in (first..).zip(pairs.iter_mut()) {
                    *pair = normal_pair(key, i).map(|v| T::of(std * v));
                }
                if let [last] = last {
                    *last = T::of(std * normal_pair(key, first + pairs.len() as u64)[0]);
                }
            },
        );
    });
}

/// Which elements dropout removes: element `i` of a call is decided by `bits(key, first + i)`.
///
/// Srivastava et al. 2014, <https://jmlr.org/papers/v15/srivastava14a.html>, in the inverted form: what survives is
/// divided by the probability of surviving.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The stream of draws: mixed from seed, site and step.
    pub key: u64,
    /// The index of the first element's draw.
    pub first: u64,
    /// The probability of being removed: in [0, 1].
    pub probability: f64,
}

impl Dropout {
    /// `y[i] = x[i] / (1 − p)` where the element survives, else 0. It is its own adjoint: `dx` from `dy`.
    ///
    /// A removed element is 0 whatever `x` holds, NaN included.
    ///
    /// # Panics
    /// If lengths differ or the probability is not in [0, 1].
    pub fn apply<T: Element>(self, x: &[T], y: Dest<'_, T>) {
        let Dest { data: y, write } = y;
        assert_eq!(x.len(), y.len(), "dropout: input and output differ in length");
        assert!(
            (0.0..=1.0).contains(&self.probability),
            "dropout: probability {} is not in [0, 1]",
            self.probability
        );
        // 2³² · p of the upper halves are removed: at p = 1 all of them.
        let limit = (self.probability * (1_u64 << 32) as f64).round() as u64;
        let factor = if limit == 1 << 32 { T::zero() } else { T::of(1.0 / (1.0 - self.probability)) };
        let y = Disjoint::new(y);
        for_row_ranges(x.len(), rows_per_task(1), |_, range| {
            let first = self.first.wrapping_add(range.start as u64);
            // SAFETY: the task's own elements.
            let y = unsafe { y.slice(range.clone()) };
            isa::dispatch(
                #[inline(always)]
                |_| drop_body(&x[range], y, write, Draws { key: self.key, first, limit, factor }),
            );
        });
    }
}

#[derive(Clone, Copy)]
struct Draws<T> {
    key: u64,
    first: u64,
    limit: u64,
    factor: T,
}

#[inline(always)]
fn drop_body<T: Element>(x: &[T], y: &mut [T], write: Write, d: Draws<T>) {
    let key = stream(d.key);
    for (i, (&x, y)) in x.iter().zip(y).enumerate() {
        let draw = draw(key, d.first.wrapping_add(i as u64));
        let kept = if (draw >> 32) < d.limit { T::zero() } else { x * d.factor };
        *y = write.combine(*y, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn the_finaliser_is_that_of_splitmix() {
        // The published generator started at 0 gives these first two numbers.
        assert_eq!(finish(GOLDEN), 0xE220_A839_7B1D_CDAF);
        assert_eq!(finish(GOLDEN.wrapping_mul(2)), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn keys_and_labels_give_unrelated_streams() {
        let mut seen = std::collections::HashSet::new();
        assert!((0..100).all(|k| (0..100).all(|i| seen.insert(bits(k, i)))));
        let flipped: u32 = (0..1000).map(|i| (bits(1, i) ^ bits(1, i ^ 1)).count_ones()).sum();
        assert!((flipped as f64 / 1000.0 - 32.0).abs() < 0.5);
        assert_ne!(mix(1, 2), mix(2, 1));
    }

    #[test]
    fn series_agree_with_libm() {
        for i in 0..10_000 {
            let u = unit(5, i);
            let x = (1.0 - u).powi(1 + (i % 9) as i32); // also small numbers
            assert!((ln(x) - libm::log(x)).abs() <= 4e-16 * libm::log(x).abs().max(0.1), "ln {x}");
            let [sin, cos] = sin_cos_turn(u);
            let a = std::f64::consts::TAU * u;
            assert!((sin - libm::sin(a)).abs() < 2e-15 && (cos - libm::cos(a)).abs() < 2e-15, "turn {u}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert!((ln(f64::EPSILON / 2.0) - libm::log(f64::EPSILON / 2.0)).abs() < 1e-14);
        assert_eq!(sin_cos_turn(0.0), [0.0, 1.0]);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 200_000;
        let mean = |f: &dyn Fn(f64) -> f64, v: &[f64]| v.iter().map(|&v| f(v)).sum::<f64>() / n as f64;
        let (mut u, mut z) = (vec![0.0; n], vec![0.0; n]);
        fill_uniform(3, -1.0, 3.0, &mut u);
        fill_normal(3, 2.0, &mut z);
        // Five standard errors each.
        for (got, want, spread) in [
            (mean(&|v| v, &u), 1.0, 1.2),
            (mean(&|v| (v - 1.0).powi(2), &u), 16.0 / 12.0, 1.2),
            (mean(&|v| v, &z), 0.0, 2.0),
            (mean(&|v| v * v, &z), 4.0, 5.7),
            (mean(&|v| v.powi(4), &z), 48.0, 160.0),
            (mean(&|v| f64::from(v > 2.0), &z), 0.158_655, 0.37),
        ] {
            assert!((got - want).abs() < 5.0 * spread / (n as f64).sqrt(), "{got} for {want}");
        }
        assert!(u.iter().all(|v| (-1.0..3.0).contains(v)));
    }

    #[test]
    fn a_draw_does_not_depend_on_path_threads_or_length() {
        for n in [0, 1, 2, 7, 40_001] {
            let run = || {
                let (mut u, mut z) = (junk::<f32>(n), junk(n));
                fill_uniform(9, 0.0, 1.0, &mut u);
                fill_normal(9, 1.0, &mut z);
                [u, z].concat()
            };
            let want: Vec<f32> = (0..n)
                .map(|i| unit(9, i as u64) as f32)
                .chain((0..n).map(|i| normal(9, i as u64) as f32))
                .collect();
            on_every_isa(|| assert_eq!(same_bits_on_any_threads(run), want));
        }
    }

    #[test]
    fn dropout_removes_its_share_and_scales_the_rest() {
        let n = 40_037;
        let x = vec![1.5_f32; n];
        for p in [0.0, 0.1, 0.5, 1.0] {
            let drop = Dropout { key: 4, first: 100, probability: p };
            let want: Vec<f32> = (0..n as u64)
                .map(|i| {
                    if (bits(4, 100 + i) >> 32) as f64 >= p * 4_294_967_296.0 {
                        1.5 / (1.0 - p) as f32
                    } else {
                        0.0
                    }
                })
                .collect();
            on_every_isa(|| {
                let mut y = junk(n);
                drop.apply(&x, Dest::store(&mut y));
                close("dropout", &y, &want, 1e-6);
                let once = y.clone();
                drop.apply(&x, Dest::add(&mut y));
                assert!(y.iter().zip(&once).all(|(&twice, &once)| twice == 2.0 * once));
            });
            let removed = want.iter().filter(|&&v| v == 0.0).count() as f64 / n as f64;
            assert!((removed - p).abs() < 0.01, "{removed} of {p}");
        }
    }

    #[test]
    fn a_removed_nan_is_gone() {
        let mut y = [1.0_f64];
        Dropout { key: 0, first: 0, probability: 1.0 }.apply(&[f64::NAN], Dest::store(&mut y));
        assert_eq!(y, [0.0]);
    }
}
