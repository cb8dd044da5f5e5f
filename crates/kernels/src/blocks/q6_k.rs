//! Six bits a number, in blocks of 256: 16 groups of 16, each with a scale of eight bits.
//!
//! ```text
//! bytes 0..128 low four bits of the levels, 128..192 high two bits, 192..208 group scales s (signed),
//!       208..210 d (half)
//! x = (d · s) · (level − 32)
//! ```
//!
//! Low bits lie in planes of 64 bytes, high bits in planes of 32.
//!
//! Encoding: each group is fitted by [`symmetric::search`]; the scale of largest magnitude becomes −128; the levels
//! follow from the rounded scales. A block without a scale of 1e-15 or more is all zero bytes.

use super::codec::{Codec, each};
use super::fit::symmetric::{self, TINY, requantise};
use super::q4::largest;
use super::round::nearest;
use super::{half, planes};

/// Six bits, in groups of 16.
pub(crate) enum Q6K {}

impl Codec<256, 210> for Q6K {
    #[inline(always)]
    fn decode(block: &[u8; 210], out: &mut [f32; 256]) {
        let d = half::read(block, 208);
        let mut levels = [0; 256];
        planes::unpack::<4, 64>(&block[..128], 0, &mut levels);
        planes::unpack::<2, 32>(&block[128..192], 4, &mut levels);
        let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(levels.as_chunks::<16>().0);
        for ((out, levels), &scale) in groups.zip(&block[192..208]) {
            let scale = d * f32::from(scale as i8);
            each(levels, out, |level| scale * (level - 32.0));
        }
    }

    #[inline(always)]
    fn encode(x: &[f32; 256], block: &mut [u8; 210]) {
        let x = x.as_chunks::<16>().0;
        let mut levels = [[0; 16]; 16];
        let mut fits = [0.0; 16];
        for ((x, levels), fit) in x.iter().zip(&mut levels).zip(&mut fits) {
            *fit = symmetric::search(x, 32, levels);
        }
        let largest = largest(&fits);
        if largest.abs() < TINY {
            *block = [0; 210];
            return;
        }
        let inverse = -128.0 / largest;
        let d = half::write(block, 208, 1.0 / inverse);
        for (((x, levels), fit), scale) in x.iter().zip(&mut levels).zip(fits).zip(&mut block[192..208]) {
            let rounded = nearest(inverse * fit).min(127) as i8;
            *scale = rounded as u8;
            requantise(x, d * f32::from(rounded), 32, levels);
        }
        planes::pack::<4, 64>(levels.as_flattened(), 0, &mut block[..128]);
        planes::pack::<2, 32>(levels.as_flattened(), 4, &mut block[128..192]);
    }
}
