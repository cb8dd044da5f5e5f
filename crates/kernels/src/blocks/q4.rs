//! Four bits a number, in blocks of 32.
//!
//! ```text
//! Q4_0  bytes 0..2 scale d (half), 2..18 levels               x = d · (level − 8)
//! Q4_1  bytes 0..2 scale d, 2..4 minimum m, 4..20 levels      x = d · level + m
//! ```
//!
//! Level `i` is the low half of byte `i` for `i < 16` and the high half of byte `i − 16` after.
//!
//! Encoding `Q4_0`: the number of largest magnitude becomes level 0, so `d = largest / −8`; the others are rounded,
//! and one as large of the other sign is cut to level 15. `Q4_1`: `d = (max − min)/15`. Levels are found with the
//! scale before it is rounded to half precision.

use super::codec::{Codec, each};
use super::round::{inverse, truncated};
use super::{half, planes};

/// Scale only.
pub(crate) enum Q4_0 {}

impl Codec<32, 18> for Q4_0 {
    #[inline(always)]
    fn decode(block: &[u8; 18], out: &mut [f32; 32]) {
        let d = half::read(block, 0);
        let mut levels = [0; 32];
        planes::unpack::<4, 16>(&block[2..], 0, &mut levels);
        each(&levels, out, |level| (level - 8.0) * d);
    }

    #[inline(always)]
    fn encode(x: &[f32; 32], block: &mut [u8; 18]) {
        let d = largest(x) / -8.0;
        let id = inverse(d);
        half::write(block, 0, d);
        let levels = x.map(|x| truncated(x * id + 8.5).min(15) as u8);
        planes::pack::<4, 16>(&levels, 0, &mut block[2..]);
    }
}

/// Scale and minimum.
pub(crate) enum Q4_1 {}

impl Codec<32, 20> for Q4_1 {
    #[inline(always)]
    fn decode(block: &[u8; 20], out: &mut [f32; 32]) {
        let (d, m) = (half::read(block, 0), half::read(block, 2));
        let mut levels = [0; 32];
        planes::unpack::<4, 16>(&block[4..], 0, &mut levels);
        each(&levels, out, |level| level * d + m);
    }

    #[inline(always)]
    fn encode(x: &[f32; 32], block: &mut [u8; 20]) {
        let (min, max) = range(x);
        let d = (max - min) / 15.0;
        let id = inverse(d);
        half::write(block, 0, d);
        half::write(block, 2, min);
        let levels = x.map(|x| truncated((x - min) * id + 0.5).min(15) as u8);
        planes::pack::<4, 16>(&levels, 0, &mut block[4..]);
    }
}

/// The first number of the largest magnitude, with its sign; 0 if there is none above 0.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let (mut magnitude, mut largest) = (0.0, 0.0);
    for &x in x {
        if magnitude < x.abs() {
            (magnitude, largest) = (x.abs(), x);
        }
    }
    largest
}

/// The smallest and the largest number; of two zeros the first one, whatever its sign.
#[inline(always)]
pub(super) fn range(x: &[f32; 32]) -> (f32, f32) {
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &x in x {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
    }
    (min, max)
}
