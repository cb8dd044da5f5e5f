//! Which vector instructions run, and how one generic body is compiled for each of them.
//!
//! A plain `cargo build --release` targets the oldest x86-64 there is, so a loop alone becomes SSE2 code.
//! [`dispatch`] runs a closure inside a function that is compiled for the best instruction set of this CPU.
//! Whatever is *inlined* into that function becomes AVX2 or AVX-512 code; whatever is merely called does not.
//! So a kernel is written as an `#[inline(always)]` body, and its public function dispatches **once per call**
//! (or once per task of a parallel loop), never once per row or element:
//!
//! ```
//! use formwork_kernels::{isa::{self, Isa}, Element};
//!
//! /// `y += a · x`.
//! pub fn add_scaled<T: Element>(y: &mut [T], x: &[T], a: T) {
//!     assert_eq!(y.len(), x.len(), "add_scaled: lengths differ");
//!     isa::dispatch(#[inline(always)] |isa| body(isa, y, x, a));
//! }
//!
//! // Slices arrive as arguments, not as captures, so that the compiler knows they do not overlap.
//! // Every helper that it calls is `#[inline(always)]` as well; `Element::fast_exp` and its kin already are.
//! #[inline(always)]
//! fn body<T: Element>(isa: Isa, y: &mut [T], x: &[T], a: T) {
//!     for (y, &x) in y.iter_mut().zip(x) {
//!         *y = isa.mul_add(a, x, *y); // one rounding where the CPU fuses, two where it does not
//!     }
//! }
//!
//! let mut y = [1.0_f32; 37];
//! add_scaled(&mut y, &[2.0; 37], 0.5);
//! assert_eq!(y, [2.0; 37]);
//! // A test runs every path that this machine has; threads of the team follow the caller's choice.
//! for isa in Isa::available() {
//!     let mut y = [1.0_f32; 37];
//!     isa::with(isa, || add_scaled(&mut y, &[2.0; 37], 0.5));
//!     assert_eq!(y, [2.0; 37]);
//! }
//! ```
//!
//! Write the hot part as plain loops, `zip` included. The closure of a `for_each`, `map` or `fold` over something
//! longer than a few elements may end in a function of the standard library that is not inlined, and then it runs
//! as SSE2 code with a library call for every `mul_add`, an order of magnitude slower; nothing but a measurement
//! tells. For the same reason partial sums stay in arrays that are indexed by constants or by loops of constant
//! length: an index that depends on data forces them out of their registers.
//!
//! Inside a parallel loop, dispatch in the task: `parallel(n, |i| isa::dispatch(#[inline(always)] |isa| …))`.
//! A sum is not vectorised by the compiler, since that would reorder it: keep [`LANES`] partial sums in an
//! array and add them at the end with [`sum_lanes`], which fixes the order for every instruction set.
//!
//! The environment variable `FORMWORK_KERNELS=scalar|avx2|avx512|avx512dot` (read once per process, the only one this
//! crate reads) forces a path; asking for one that the CPU lacks falls back to the best it has below that.

use crate::Element;
use std::cell::Cell;
use std::sync::OnceLock;

/// Partial sums that a vectorised reduction keeps: one AVX-512 register of `f32`, or two of AVX2.
pub const LANES: usize = 16;

/// An instruction set that kernels are compiled for, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What every CPU of the target has; multiplication and addition round separately.
    Scalar,
    /// AVX2 with FMA and F16C: 256-bit registers.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: 512-bit registers.
    Avx512,
    /// AVX-512 with VNNI and BF16: sums of products of 8-bit integers and of bf16 in one instruction, as Zen 4 and
    /// Sapphire Rapids have.
    Avx512Dot,
}

impl Isa {
    /// The best set that this CPU has, regardless of any override.
    pub fn detected() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
                let dot = has!("avx512vnni") && has!("avx512bf16");
                return match (wide, dot) {
                    (true, true) => Isa::Avx512Dot,
                    (true, false) => Isa::Avx512,
                    (false, _) => Isa::Avx2,
                };
            }
        }
        Isa::Scalar
    }

    /// Every set that this CPU can run, [`Isa::Scalar`] first.
    pub fn available() -> impl Iterator<Item = Isa> {
        let best = Isa::detected();
        [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Dot].into_iter().filter(move |&isa| isa <= best)
    }

    /// `a · b + c`, rounded once where the set has a fused instruction and twice where it has not.
    ///
    /// `Float::mul_add` would call a slow library function there.
    #[inline(always)]
    pub fn mul_add<T: Element>(self, a: T, b: T, c: T) -> T {
        match self {
            Isa::Scalar => a * b + c,
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Dot => a.mul_add(b, c),
        }
    }

    /// The word for it in `FORMWORK_KERNELS` and in records.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Dot => "avx512dot",
        }
    }

    fn named(name: &str) -> Option<Isa> {
        [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Dot].into_iter().find(|isa| isa.name() == name)
    }
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// A word in `FORMWORK_KERNELS` that names no set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl std::fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = "scalar, avx2, avx512 or avx512dot";
        write!(
            f,
            "FORMWORK_KERNELS: expected {known}, found {:?}; unset it for the best that this CPU has",
            self.0
        )
    }
}

impl std::error::Error for UnknownIsa {}

/// What `FORMWORK_KERNELS` asks for now, or the best below it that the CPU has; without it the best of the CPU.
///
/// A program asks at its start to report a mistake, before a product panics over it.
///
/// # Errors
/// A word that names no set.
pub fn from_env() -> Result<Isa, UnknownIsa> {
    match std::env::var_os("FORMWORK_KERNELS") {
        Some(word) => named_by(&word.to_string_lossy()),
        None => Ok(Isa::detected()),
    }
}

fn named_by(word: &str) -> Result<Isa, UnknownIsa> {
    Isa::named(word).map(|isa| isa.min(Isa::detected())).ok_or_else(|| UnknownIsa(word.to_owned()))
}

/// The set that [`dispatch`] uses on this thread now: the innermost [`with`], else `FORMWORK_KERNELS`, else the
/// best of the CPU.
///
/// # Panics
/// If `FORMWORK_KERNELS` holds another word than `scalar`, `avx2`, `avx512` or `avx512dot`.
pub fn current() -> Isa {
    static DEFAULT: OnceLock<Isa> = OnceLock::new();
    FORCED
        .get()
        .unwrap_or_else(|| *DEFAULT.get_or_init(|| from_env().unwrap_or_else(|unknown| panic!("{unknown}"))))
}

/// Runs `f` with [`dispatch`] held to `isa`, or to the best below it that the CPU has; for tests and comparisons.
///
/// Holds for this thread and for the team's threads while they work for it. May be nested; a panic restores the
/// setting.
pub fn with<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(isa.min(Isa::detected()))));
    f()
}

/// Runs `f` inside a function compiled for [`current`] and tells it which that is; see the [module](self).
#[inline]
pub fn dispatch<R>(f: impl FnOnce(Isa) -> R) -> R {
    match current() {
        // SAFETY: `current` never exceeds what `Isa::detected` found on this CPU.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Dot => unsafe { avx512_dot(f) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512(f) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(f) },
        _ => f(Isa::Scalar),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(f: impl FnOnce(Isa) -> R) -> R {
    f(Isa::Avx2)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<R>(f: impl FnOnce(Isa) -> R) -> R {
    f(Isa::Avx512)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn avx512_dot<R>(f: impl FnOnce(Isa) -> R) -> R {
    f(Isa::Avx512Dot)
}

/// Adds partial sums as a fixed binary tree: `(0+8)+(4+12)…`, the order that halving a register gives.
#[inline(always)]
pub fn sum_lanes<T: Element>(lanes: [T; LANES]) -> T {
    let (mut eight, mut four) = ([T::zero(); 8], [T::zero(); 4]);
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_named_by_its_word_and_others_are_refused() {
        for isa in Isa::available() {
            assert_eq!(named_by(isa.name()), Ok(isa));
        }
        let error = named_by("avx3").expect_err("no such set").to_string();
        assert!(error.contains("\"avx3\"") && error.contains("avx512dot"), "{error}");
    }

    #[test]
    fn a_forced_set_is_told_to_the_body_and_then_forgotten() {
        let before = current();
        for isa in Isa::available() {
            assert_eq!(with(isa, || dispatch(|told| (told, current()))), (isa, isa));
        }
        assert_eq!(current(), before);
    }

    #[test]
    fn the_inner_force_wins_and_a_panic_restores_the_outer_one() {
        let best = Isa::detected();
        with(best, || {
            let caught = std::panic::catch_unwind(|| {
                with(Isa::Scalar, || {
                    assert_eq!(current(), Isa::Scalar);
                    panic!("on purpose");
                })
            });
            assert!(caught.is_err());
            assert_eq!(current(), best);
        });
    }

    #[test]
    fn a_set_beyond_the_cpu_is_never_chosen() {
        assert!(with(Isa::Avx512, current) <= Isa::detected());
    }

    #[test]
    fn names_of_the_override_are_the_documented_four() {
        let words = ["scalar", "avx2", "avx512", "avx512dot", "AVX2", ""];
        let found: Vec<_> = words.map(Isa::named).into_iter().flatten().collect();
        assert_eq!(found, [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Dot]);
    }

    #[test]
    fn lanes_are_added_once_each() {
        let lanes: [f64; LANES] = std::array::from_fn(|i| (1u32 << i) as f64);
        assert_eq!(sum_lanes(lanes), 65535.0);
    }

    #[test]
    fn lanes_are_joined_by_halves() {
        let lanes: [f32; LANES] = std::array::from_fn(|i| 1.0 / (i as f32 + 3.0));
        let mut halved = lanes.to_vec();
        while let n @ 2.. = halved.len() {
            halved = (0..n / 2).map(|i| halved[i] + halved[i + n / 2]).collect();
        }
        assert_eq!(sum_lanes(lanes).to_bits(), halved[0].to_bits());
    }
}
