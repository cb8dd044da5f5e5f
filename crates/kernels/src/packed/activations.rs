//! Activations in blocks of 32 integers with a scale: what every layout of integers multiplies with.
//!
//! `d = max|x| / 127`, `level = round(127/max|x| · x)` to the nearest, ties to even; a number is then `d · level`: the
//! rule of `Q8_0` but for ties, and with the scale in single precision.
//! Numbers below 2⁻¹²⁰ throughout a block count as zeros. An infinity or NaN in a block makes its scale so, and with
//! it every sum that the block enters. Each block depends on its own numbers only, and every instruction set gives
//! the same bits.

/// Numbers of a block.
pub(super) const BLOCK: usize = 32;

/// 32 prepared activations: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Block {
    /// From −127 to 127.
    pub(super) levels: [i8; BLOCK],
    /// What a level is multiplied with.
    pub(super) scale: f32,
    /// The sum of the levels.
    pub(super) sum: f32,
    /// What a sum of products begins with where levels of weights are 8, 16 or 128 too large: as often minus the sum
    /// of the levels.
    pub(super) starts: [i32; 3],
    /// The same of the first and of the last sixteen levels, for weights that are 32 too large.
    pub(super) halves: [i32; 2],
}

/// Prepares a tile of `height` rows of `cols` numbers: block `b` of row `r` becomes `out[b · height + r]`.
///
/// Rows that `x` lacks become zeros.
#[inline(always)]
pub(super) fn prepare(x: &[f32], cols: usize, height: usize, out: &mut [Block]) {
    for r in 0..height {
        let row = if (r + 1) * cols <= x.len() { &x[r * cols..(r + 1) * cols] } else { &[] };
        let (x, _) = row.as_chunks::<BLOCK>();
        for b in 0..cols / BLOCK {
            out[b * height + r] = if b < x.len() { block(&x[b]) } else { Block::default() };
        }
    }
}

/// One block.
#[inline(always)]
pub(super) fn block(x: &[f32; BLOCK]) -> Block {
    // As integers the magnitudes keep their order, and a NaN is above them all.
    let mut most = 0_u32;
    for x in x {
        most = most.max(x.to_bits() & 0x7fff_ffff);
    }
    let most = f32::from_bits(most);
    let inverse = if most < TINY { 0.0 } else { 127.0 / most };
    let mut levels = [0_i32; BLOCK];
    for (level, x) in levels.iter_mut().zip(x) {
        // Adding 1.5·2²³ leaves no room for a fraction: the sum rounds, and its low bits are the integer.
        *level = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    }
    let mut minus = [0_i32; 2];
    for (minus, levels) in minus.iter_mut().zip(levels.as_chunks::<16>().0) {
        for level in levels {
            *minus = minus.wrapping_sub(*level);
        }
    }
    let all = minus[0].wrapping_add(minus[1]);
    let mut bytes = [0_i8; BLOCK];
    for (byte, level) in bytes.iter_mut().zip(levels) {
        *byte = level as i8;
    }
    Block {
        levels: bytes,
        scale: most / 127.0,
        sum: all.wrapping_neg() as f32,
        starts: [all.wrapping_mul(8), all.wrapping_mul(16), all.wrapping_mul(128)],
        halves: [minus[0].wrapping_mul(32), minus[1].wrapping_mul(32)],
    }
}

/// Below this the inverse of the scale would overflow: 2⁻¹²⁰.
const TINY: f32 = f32::from_bits((127 - 120) << 23);
const ROUND: f32 = 12_582_912.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{numbers, on_every_isa};

    #[test]
    fn levels_are_the_nearest_multiples_of_the_scale() {
        on_every_isa(|| {
            let x: Vec<f32> = numbers(3, 5 * BLOCK);
            for x in x.as_chunks::<BLOCK>().0 {
                let most = x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let block = crate::isa::dispatch(
                    #[inline(always)]
                    |_| block(x),
                );
                assert_eq!(block.scale, most / 127.0);
                for (&level, x) in block.levels.iter().zip(x) {
                    assert!((f32::from(level) - x / block.scale).abs() <= 0.5001, "{x} became {level}");
                }
                let sum = |levels: &[i8]| levels.iter().map(|&l| i32::from(l)).sum::<i32>();
                let all = sum(&block.levels);
                assert_eq!((block.sum, block.starts), (all as f32, [-8 * all, -16 * all, -128 * all]));
                assert_eq!(block.halves, [-32 * sum(&block.levels[..16]), -32 * sum(&block.levels[16..])]);
            }
        });
    }

    #[test]
    fn tiny_blocks_are_zeros_and_what_is_not_finite_stays_so() {
        let of = |x: f32| block(&std::array::from_fn(|i| if i == 7 { x } else { 0.5 * x.signum() }));
        assert_eq!(block(&[1e-37; BLOCK]).levels, [0; BLOCK]);
        assert_eq!(block(&[0.0; BLOCK]).scale, 0.0);
        assert_eq!(of(f32::INFINITY).scale, f32::INFINITY);
        assert!(of(f32::NAN).scale.is_nan());
        assert_eq!(of(-3.0e38).levels[7], -127);
        assert_eq!(block(&[TINY; BLOCK]).levels, [127; BLOCK]);
    }
}
