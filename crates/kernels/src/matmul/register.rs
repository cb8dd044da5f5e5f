//! What a vector register does for a product, so that one inner loop serves every width and type.

use crate::Element;

/// A register of numbers.
///
/// # Safety
/// Every function needs the instruction set that the type belongs to; [`Portable`] needs none. Addresses need no
/// alignment.
pub(crate) trait Register: Copy {
    /// The numbers in it.
    type Item: Element;
    /// How many they are.
    const LANES: usize;

    /// `x` in every lane.
    unsafe fn splat(x: Self::Item) -> Self;
    /// [`LANES`](Self::LANES) numbers, which must be readable.
    unsafe fn load(from: *const Self::Item) -> Self;
    /// [`LANES`](Self::LANES) numbers, which must be writable.
    unsafe fn store(self, to: *mut Self::Item);
    /// `self + b`.
    unsafe fn plus(self, b: Self) -> Self;
    /// `self · b`.
    unsafe fn times(self, b: Self) -> Self;
    /// `self + a · b`, rounded once where the instruction set fuses.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Bf16 numbers in pairs, the even one in the lower half, that a register of `f32` can take apart.
///
/// # Safety
/// As for [`Register`].
pub(crate) trait Widen: Register<Item = f32> {
    /// The even numbers of [`LANES`](Register::LANES) pairs, which must be readable.
    unsafe fn even(from: *const u32) -> Self;
    /// The odd ones.
    unsafe fn odd(from: *const u32) -> Self;
}

/// A register of any machine: as many lanes as the compiler's baseline has.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Portable<T, const N: usize>([T; N]);

impl<T: Element, const N: usize> Register for Portable<T, N> {
    type Item = T;
    const LANES: usize = N;

    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Portable([x; N])
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: by the trait's contract.
        Portable(unsafe { from.cast::<[T; N]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: by the trait's contract.
        unsafe { to.cast::<[T; N]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn plus(self, b: Self) -> Self {
        Portable(std::array::from_fn(|l| self.0[l] + b.0[l]))
    }

    #[inline(always)]
    unsafe fn times(self, b: Self) -> Self {
        Portable(std::array::from_fn(|l| self.0[l] * b.0[l]))
    }

    #[inline(always)]
    unsafe fn add_product(mut self, a: Self, b: Self) -> Self {
        for l in 0..N {
            // Only where fusing is an instruction; elsewhere it would be a slow call.
            self.0[l] = if cfg!(target_arch = "aarch64") {
                a.0[l].mul_add(b.0[l], self.0[l])
            } else {
                self.0[l] + a.0[l] * b.0[l]
            };
        }
        self
    }
}

impl<const N: usize> Widen for Portable<f32, N> {
    #[inline(always)]
    unsafe fn even(from: *const u32) -> Self {
        // SAFETY: by the trait's contract.
        let pairs = unsafe { from.cast::<[u32; N]>().read_unaligned() };
        Portable(std::array::from_fn(|l| f32::from_bits(pairs[l] << 16)))
    }

    #[inline(always)]
    unsafe fn odd(from: *const u32) -> Self {
        // SAFETY: by the trait's contract.
        let pairs = unsafe { from.cast::<[u32; N]>().read_unaligned() };
        Portable(std::array::from_fn(|l| f32::from_bits(pairs[l] & 0xffff_0000)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Register, Widen};
    use std::arch::{asm, x86_64::*};

    macro_rules! register {
        ($register:ty, $item:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $plus:ident, $times:ident, $fused:ident) => {
            impl Register for $register {
                type Item = $item;
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn splat(x: $item) -> Self {
                    // SAFETY: the trait's contract gives the instruction set.
                    unsafe { $splat(x) }
                }

                #[inline(always)]
                unsafe fn load(from: *const $item) -> Self {
                    // SAFETY: the trait's contract gives the instruction set and the numbers.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $item) {
                    // SAFETY: as for `load`.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn plus(self, b: Self) -> Self {
                    // SAFETY: the trait's contract gives the instruction set.
                    unsafe { $plus(self, b) }
                }

                #[inline(always)]
                unsafe fn times(self, b: Self) -> Self {
                    // SAFETY: the trait's contract gives the instruction set.
                    unsafe { $times(self, b) }
                }

                #[inline(always)]
                unsafe fn add_product(self, a: Self, b: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $fused(a, b, self) }
                }
            }
        };
    }

    register!(
        __m512,
        f32,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps
    );
    register!(
        __m512d,
        f64,
        8,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_add_pd,
        _mm512_mul_pd,
        _mm512_fmadd_pd
    );
    register!(
        __m256,
        f32,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps
    );
    register!(
        __m256d,
        f64,
        4,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_add_pd,
        _mm256_mul_pd,
        _mm256_fmadd_pd
    );

    /// The same address, of which the compiler does not know so: pairs are loaded again for their second half, since to
    /// keep them meanwhile would put sums of a tile out of the sixteen registers of AVX2.
    #[inline(always)]
    #[expect(
        clippy::pointers_in_nomem_asm_block,
        reason = "nothing is read through the address: it only passes by"
    )]
    fn again<T>(mut from: *const T) -> *const T {
        // SAFETY: no instruction at all.
        unsafe { asm!("/* {0} */", inout(reg) from, options(pure, nomem, nostack, preserves_flags)) };
        from
    }

    macro_rules! widen {
        ($register:ty, $load:ident, $shift:ident, $and:ident, $splat:ident, $cast:ident) => {
            impl Widen for $register {
                #[inline(always)]
                unsafe fn even(from: *const u32) -> Self {
                    // SAFETY: the trait's contract gives the instruction set and the pairs.
                    unsafe { $cast($shift::<16>($load(again(from).cast()))) }
                }

                #[inline(always)]
                unsafe fn odd(from: *const u32) -> Self {
                    // SAFETY: as above.
                    unsafe { $cast($and($load(from.cast()), $splat(0xffff_0000_u32.cast_signed()))) }
                }
            }
        };
    }

    widen!(
        __m512,
        _mm512_loadu_si512,
        _mm512_slli_epi32,
        _mm512_and_si512,
        _mm512_set1_epi32,
        _mm512_castsi512_ps
    );
    widen!(
        __m256,
        _mm256_loadu_si256,
        _mm256_slli_epi32,
        _mm256_and_si256,
        _mm256_set1_epi32,
        _mm256_castsi256_ps
    );
}
