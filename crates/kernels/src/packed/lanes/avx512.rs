//! [`Lanes`] in 512-bit registers: four products of 8-bit integers and their sum in one instruction.

use super::super::formats::Weights;
use super::{Group, LANES, Lanes};
use std::arch::x86_64::*;

/// AVX-512 F, BW and VNNI.
#[derive(Clone, Copy, Debug)]
pub(in crate::packed) struct Avx512Dot(());

impl Avx512Dot {
    /// # Safety
    /// The CPU must have AVX-512 F, BW and VNNI, as it has under [`Isa::Avx512Dot`](crate::isa::Isa::Avx512Dot).
    #[inline(always)]
    pub(in crate::packed) unsafe fn new() -> Self {
        Self(())
    }
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every method is safe to call because a value exists only where the instructions do, see `new`"
)]
impl Lanes for Avx512Dot {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    fn bytes(self, from: &Group) -> __m512i {
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn bits<const RIGHT: u32, const LEFT: u32>(self, a: __m512i, mask: u8) -> __m512i {
        unsafe {
            // Bits that a shift carries into the neighbouring byte are masked out.
            let a = match (RIGHT, LEFT) {
                (0, 0) => a,
                (_, 0) => _mm512_srli_epi16::<RIGHT>(a),
                _ => _mm512_slli_epi16::<LEFT>(a),
            };
            _mm512_and_si512(a, _mm512_set1_epi8(mask as i8))
        }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn dot<W: Weights, const N: usize, const R: usize>(
        self,
        levels: &[__m512i; N],
        x: [&[[i8; 4]; N]; R],
        start: [i32; R],
    ) -> [__m512i; R] {
        unsafe {
            let mut sums = [_mm512_setzero_si512(); R];
            for r in 0..R {
                sums[r] = _mm512_set1_epi32(start[r]);
            }
            for j in 0..N {
                for r in 0..R {
                    let x = _mm512_set1_epi32(i32::from_le_bytes(x[r][j].map(|x| x as u8)));
                    sums[r] = _mm512_dpbusd_epi32(sums[r], levels[j], x);
                }
            }
            sums
        }
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 2 * LANES]) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn unsigned(self, from: &[u8; LANES]) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn signed(self, from: &[u8; LANES]) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn floats(self, a: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(a) }
    }

    #[inline(always)]
    fn splat(self, a: f32) -> __m512 {
        unsafe { _mm512_set1_ps(a) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn store(self, a: __m512, to: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), a) }
    }
}
