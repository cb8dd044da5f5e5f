//! [`Lanes`] in pairs of 256-bit registers.
//!
//! `vpmaddubsw` adds two products in 16 bits and saturates. Levels of up to six bits leave room for several such sums
//! before they are widened; levels of eight bits are taken as signed, their sign moved to the activations, and then
//! two products are at most 2·128·127, which fits.

use super::super::formats::Weights;
use super::{Group, LANES, Lanes};
use std::arch::x86_64::*;

/// AVX2 and FMA, and F16C, which every CPU with AVX2 has.
#[derive(Clone, Copy, Debug)]
pub(in crate::packed) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU must have AVX2, FMA and F16C, as it has from [`Isa::Avx2`](crate::isa::Isa::Avx2) on.
    #[inline(always)]
    pub(in crate::packed) unsafe fn new() -> Self {
        Self(())
    }
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every method is safe to call because a value exists only where the instructions do, see `new`"
)]
impl Lanes for Avx2 {
    type Bytes = [__m256i; 2];
    type Ints = [__m256i; 2];
    type Floats = [__m256; 2];

    #[inline(always)]
    fn bytes(self, from: &Group) -> [__m256i; 2] {
        let (halves, _) = from.as_chunks::<32>();
        unsafe {
            [_mm256_loadu_si256(halves[0].as_ptr().cast()), _mm256_loadu_si256(halves[1].as_ptr().cast())]
        }
    }

    #[inline(always)]
    fn bits<const RIGHT: u32, const LEFT: u32>(self, a: [__m256i; 2], mask: u8) -> [__m256i; 2] {
        let one = |a| unsafe {
            // Bits that a shift carries into the neighbouring byte are masked out.
            let a = match (RIGHT, LEFT) {
                (0, 0) => a,
                (_, 0) => _mm256_srl_epi16(a, _mm_cvtsi32_si128(RIGHT as i32)),
                _ => _mm256_sll_epi16(a, _mm_cvtsi32_si128(LEFT as i32)),
            };
            _mm256_and_si256(a, _mm256_set1_epi8(mask as i8))
        };
        [one(a[0]), one(a[1])]
    }

    #[inline(always)]
    fn or(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
    }

    #[inline(always)]
    fn dot<W: Weights, const N: usize, const R: usize>(
        self,
        levels: &[[__m256i; 2]; N],
        x: [&[[i8; 4]; N]; R],
        start: [i32; R],
    ) -> [[__m256i; 2]; R] {
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for r in 0..R {
                if W::BITS < 8 {
                    sums[r] = [_mm256_set1_epi32(start[r]); 2];
                }
                for half in 0..2 {
                    let mut narrow = _mm256_setzero_si256();
                    for j in 0..N {
                        let x = _mm256_set1_epi32(i32::from_le_bytes(x[r][j].map(|x| x as u8)));
                        let w = levels[j][half];
                        if W::BITS == 8 {
                            let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
                            narrow = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
                        } else {
                            narrow = _mm256_add_epi16(narrow, _mm256_maddubs_epi16(w, x));
                        }
                        if (j + 1) % room(W::BITS) == 0 || j + 1 == N {
                            let wide = _mm256_madd_epi16(narrow, ones);
                            sums[r][half] = _mm256_add_epi32(sums[r][half], wide);
                            narrow = _mm256_setzero_si256();
                        }
                    }
                }
            }
            sums
        }
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 2 * LANES]) -> [__m256; 2] {
        let (halves, _) = from.as_chunks::<16>();
        let one = |from: &[u8; 16]| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())) };
        [one(&halves[0]), one(&halves[1])]
    }

    #[inline(always)]
    fn unsigned(self, from: &[u8; LANES]) -> [__m256; 2] {
        let [low, high] = eights(from);
        unsafe { self.floats([_mm256_cvtepu8_epi32(low), _mm256_cvtepu8_epi32(high)]) }
    }

    #[inline(always)]
    fn signed(self, from: &[u8; LANES]) -> [__m256; 2] {
        let [low, high] = eights(from);
        unsafe { self.floats([_mm256_cvtepi8_epi32(low), _mm256_cvtepi8_epi32(high)]) }
    }

    #[inline(always)]
    fn floats(self, a: [__m256i; 2]) -> [__m256; 2] {
        unsafe { [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])] }
    }

    #[inline(always)]
    fn splat(self, a: f32) -> [__m256; 2] {
        unsafe { [_mm256_set1_ps(a); 2] }
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn store(self, a: [__m256; 2], to: &mut [f32; LANES]) {
        let (halves, _) = to.as_chunks_mut::<8>();
        unsafe {
            _mm256_storeu_ps(halves[0].as_mut_ptr(), a[0]);
            _mm256_storeu_ps(halves[1].as_mut_ptr(), a[1]);
        }
    }
}

/// The first and the last eight bytes, each in the lower half of a register.
#[inline(always)]
fn eights(from: &[u8; LANES]) -> [__m128i; 2] {
    let (halves, _) = from.as_chunks::<8>();
    // SAFETY: eight bytes are read of eight, with what every x86-64 has.
    unsafe { [_mm_loadl_epi64(halves[0].as_ptr().cast()), _mm_loadl_epi64(halves[1].as_ptr().cast())] }
}

/// How many sums of two products with levels of so many bits fit into 16 bits.
const fn room(bits: u32) -> usize {
    if bits == 8 { 1 } else { 32767 / (2 * 127 * ((1 << bits) - 1)) }
}
