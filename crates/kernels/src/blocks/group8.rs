//! The head of a block of 8 groups, each with a scale and a minimum of six bits, shared by [`q4_k`](super::q4_k) and
//! [`q5_k`](super::q5_k).
//!
//! ```text
//! bytes 0..2 d, 2..4 e (halves), 4..16 group scales s and minima m:
//!   4..8    s of groups 0..4 in the low six bits; above them the high two bits of s of groups 4..8
//!   8..12   m of groups 0..4 in the low six bits; above them the high two bits of m of groups 4..8
//!   12..16  low four bits of s (low half) and of m (high half) of groups 4..8
//! x = (d · s) · level − (e · m)
//! ```
//!
//! Encoding: each group is fitted by [`affine::fit`] with the weights `sqrt(mean(x²)) + |x|`; scales and minima are
//! rounded to multiples of the largest over 63; the levels follow from the rounded ones.

use super::codec::each;
use super::fit::affine::{self, Affine, Search, requantise};
use super::half;
use super::round::nearest;

/// The numbers of a block whose levels are unpacked.
#[inline(always)]
pub(super) fn decode(block: &[u8], levels: &[[u8; 32]; 8], out: &mut [f32; 256]) {
    let (d, e) = (half::read(block, 0), half::read(block, 2));
    let scales = unpack(block);
    for ((out, levels), [scale, min]) in out.as_chunks_mut::<32>().0.iter_mut().zip(levels).zip(scales) {
        let (scale, min) = (d * f32::from(scale), e * f32::from(min));
        each(levels, out, |level| scale * level - min);
    }
}

/// Writes the head of the block of `x` and returns its levels, from 0 to `search.top`.
#[inline(always)]
pub(super) fn encode(x: &[f32; 256], search: &Search, block: &mut [u8]) -> [[u8; 32]; 8] {
    let x = x.as_chunks::<32>().0;
    let mut levels = [[0; 32]; 8];
    let mut fits = [Affine::default(); 8];
    let (mut scale, mut min) = (0.0, 0.0);
    for ((x, levels), fit) in x.iter().zip(&mut levels).zip(&mut fits) {
        let mut squares = 0.0;
        for x in x {
            squares += x * x;
        }
        let mean = (squares / 32.0_f32).sqrt();
        *fit = affine::fit(x, &x.map(|x| mean + x.abs()), search, levels);
        scale = if fit.scale > scale { fit.scale } else { scale };
        min = if fit.min > min { fit.min } else { min };
    }
    let inverse = |largest: f32| if largest > 0.0 { 63.0 / largest } else { 0.0 };
    let (per_scale, per_min) = (inverse(scale), inverse(min));
    let six = |x: f32| (nearest(x) as u8).min(63);
    pack(&fits.map(|fit| [six(per_scale * fit.scale), six(per_min * fit.min)]), block);
    let d = half::write(block, 0, scale / 63.0);
    let e = half::write(block, 2, min / 63.0);
    for ((x, levels), [scale, min]) in x.iter().zip(&mut levels).zip(unpack(block)) {
        requantise(x, Affine { scale: d * f32::from(scale), min: e * f32::from(min) }, search.top, levels);
    }
    levels
}

/// Scale and minimum of each group.
#[inline(always)]
pub(crate) fn unpack(block: &[u8]) -> [[u8; 2]; 8] {
    let packed = &block[4..16];
    std::array::from_fn(|i| match i {
        0..4 => [packed[i] & 63, packed[i + 4] & 63],
        _ => [packed[i + 4] & 15 | packed[i - 4] >> 6 << 4, packed[i + 4] >> 4 | packed[i] >> 6 << 4],
    })
}

#[inline(always)]
fn pack(scales: &[[u8; 2]; 8], block: &mut [u8]) {
    let packed = &mut block[4..16];
    for i in 0..4 {
        let ([scale, min], [upper_scale, upper_min]) = (scales[i], scales[i + 4]);
        packed[i] = scale | upper_scale >> 4 << 6;
        packed[i + 4] = min | upper_min >> 4 << 6;
        packed[i + 8] = upper_scale & 15 | upper_min << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_and_minima_come_back_from_their_twelve_bytes() {
        let scales: [[u8; 2]; 8] = std::array::from_fn(|i| [(i * 23 % 64) as u8, (63 - i * 17 % 64) as u8]);
        let mut block = [0xff; 16];
        pack(&scales, &mut block);
        assert_eq!(unpack(&block), scales);
        assert_eq!(block[..4], [0xff; 4], "the halves are not touched");
    }
}
