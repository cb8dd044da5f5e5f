//! The two 16-bit formats, and the half precision scales of all others.
//!
//! - `F16`: IEEE 754 binary16; 1 sign, 5 exponent and 10 fraction bits.
//! - `Bf16`: the upper half of an `f32`.
//!
//! Both round to the nearest, ties to even. Decoding is exact; a NaN comes back quiet. Written without branches, so
//! that the loops vectorise.

use super::codec::Codec;

/// IEEE half precision.
pub(crate) enum F16 {}

impl Codec<1, 2> for F16 {
    #[inline(always)]
    fn decode(block: &[u8; 2], [out]: &mut [f32; 1]) {
        *out = widen(u16::from_le_bytes(*block));
    }

    #[inline(always)]
    fn encode(&[x]: &[f32; 1], block: &mut [u8; 2]) {
        *block = narrow(x).to_le_bytes();
    }
}

/// The upper half of an `f32`.
pub(crate) enum Bf16 {}

impl Codec<1, 2> for Bf16 {
    #[inline(always)]
    fn decode(block: &[u8; 2], [out]: &mut [f32; 1]) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16);
    }

    #[inline(always)]
    fn encode(&[x]: &[f32; 1], block: &mut [u8; 2]) {
        *block = ((rounded_to_bf16(x) >> 16) as u16).to_le_bytes();
    }
}

/// The bits of the nearest bf16, in the upper half; ties go to the even one, and a NaN stays one.
#[inline(always)]
pub(crate) fn rounded_to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    // Adding just under half of the last kept bit, and that bit itself, rounds ties to even; a carry out of the
    // fraction raises the exponent, as it should. A NaN must not be carried into an infinity.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | 0x0040_0000 } else { rounded }) & 0xffff_0000
}

/// The half precision number at byte `at` of a block.
#[inline(always)]
pub(super) fn read(block: &[u8], at: usize) -> f32 {
    widen(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Writes `x` in half precision at byte `at` of a block and returns what was written, since what is decoded is a
/// multiple of the rounded number.
#[inline(always)]
pub(super) fn write(block: &mut [u8], at: usize, x: f32) -> f32 {
    let half = narrow(x);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    widen(half)
}

/// Exact.
#[inline(always)]
pub(crate) fn widen(half: u16) -> f32 {
    let half = u32::from(half);
    let sign = (half & 0x8000) << 16;
    // The fields moved into place make a number 2^112 too small, subnormals included.
    let scaled = (f32::from_bits((half & 0x7fff) << 13) * f32::from_bits(0x7780_0000)).to_bits();
    let special = if half & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    let quiet = if half & 0x7fff > 0x7c00 { 0x0040_0000 } else { 0 };
    f32::from_bits(sign | scaled | special | quiet)
}

/// To the nearest, ties to even; overflow gives an infinity, a NaN the plain quiet NaN of its sign.
#[inline(always)]
fn narrow(x: f32) -> u16 {
    let sign = ((x.to_bits() >> 16) & 0x8000) as u16;
    let bits = x.to_bits() & 0x7fff_ffff;
    // From 2^-14 on: rebias the exponent by -112 and round as in `Bf16`; a carry may reach infinity.
    let normal = bits.wrapping_sub(112 << 23).wrapping_add(0xfff + ((bits >> 13) & 1)) >> 13;
    // Below, the last bit is worth 2^-24, as it is of 0.5: the addition rounds.
    let subnormal = (f32::from_bits(bits) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let finite = if bits < 0x3880_0000 { subnormal } else { normal };
    let special = if bits > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    sign | if bits >= 0x4780_0000 { special } else { finite as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_except_that_nan_is_quiet() {
        for half in 0..=u16::MAX {
            let x = widen(half);
            let nan = half & 0x7fff > 0x7c00;
            assert_eq!(x.is_nan(), nan, "{half:#06x}");
            let want = if nan { half & 0x8000 | 0x7e00 } else { half };
            assert_eq!(narrow(x), want, "{half:#06x}");
        }
    }

    #[test]
    fn halves_have_the_published_values() {
        let table =
            [(0x0001, 2.0_f32.powi(-24)), (0x03ff, 1023.0 * 2.0_f32.powi(-24)), (0x0400, 2.0_f32.powi(-14))];
        for (half, x) in table.into_iter().chain([(0x3555, 0.333_251_95), (0x7bff, 65504.0), (0xc000, -2.0)])
        {
            assert_eq!((widen(half), narrow(x)), (x, half));
        }
    }

    /// Between two neighbouring halves: below the middle goes down, above it up, the middle to the even one.
    #[test]
    fn narrowing_rounds_to_the_nearest_and_ties_to_even() {
        for half in 0..0x7bff_u16 {
            let (low, high) = (widen(half), widen(half + 1));
            let middle = (low + high) / 2.0;
            assert_eq!(narrow(middle), half + (half & 1), "{half:#06x}");
            assert_eq!(narrow(middle.next_down()), half, "{half:#06x}");
            assert_eq!(narrow(-middle.next_up()), (half + 1) | 0x8000, "{half:#06x}");
        }
    }

    #[test]
    fn narrowing_overflows_to_infinity_and_underflows_to_zero() {
        let table = [
            (65519.996, 0x7bff),
            (65520.0, 0x7c00),
            (f32::MAX, 0x7c00),
            (f32::NEG_INFINITY, 0xfc00),
            (2.0_f32.powi(-25), 0),
            (2.0_f32.powi(-25).next_up(), 1),
            (-1e-45, 0x8000),
        ];
        for (x, half) in table {
            assert_eq!(narrow(x), half, "{x}");
        }
    }

    #[test]
    fn the_upper_half_rounds_ties_to_even_and_keeps_nan() {
        let table = [
            (0x3f80_8000, 0x3f80),
            (0x3f81_8000, 0x3f82),
            (0x3f80_8001, 0x3f81),
            (0x7f7f_ffff, 0x7f80),
            (0x7f80_0001, 0x7fc0),
            (0xffff_ffff, 0xffff),
            (0x0000_8001, 0x0001),
        ];
        for (bits, want) in table {
            let mut block = [0; 2];
            Bf16::encode(&[f32::from_bits(bits)], &mut block);
            assert_eq!(u16::from_le_bytes(block), want, "{bits:#010x}");
        }
    }
}
