//! Three bits a number, in blocks of 256: 16 groups of 16, each with a scale of six bits.
//!
//! ```text
//! bytes 0..32 high bits of the levels, 32..96 low two bits, 96..108 group scales s, 108..110 d (half)
//! x = (d · (s − 32)) · (level − 4)
//! ```
//!
//! High and low bits lie in planes of 32 bytes. Of the scales, the low four bits are bytes 0..8 as a plane of eight
//! halves, and the high two bits bytes 8..12 as planes of four.
//!
//! Encoding: each group is fitted by [`symmetric::refine`]; the scale of largest magnitude becomes −32; the levels
//! follow from the rounded scales.

use super::codec::{Codec, each};
use super::fit::symmetric::{self, requantise};
use super::q4::largest;
use super::round::nearest;
use super::{half, planes};

/// Three bits, in groups of 16.
pub(crate) enum Q3K {}

impl Codec<256, 110> for Q3K {
    #[inline(always)]
    fn decode(block: &[u8; 110], out: &mut [f32; 256]) {
        let d = half::read(block, 108);
        let (mut levels, mut scales) = ([0; 256], [0; 16]);
        planes::unpack::<1, 32>(&block[..32], 2, &mut levels);
        planes::unpack::<2, 32>(&block[32..96], 0, &mut levels);
        planes::unpack::<4, 8>(&block[96..104], 0, &mut scales);
        planes::unpack::<2, 4>(&block[104..108], 4, &mut scales);
        let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(levels.as_chunks::<16>().0);
        for ((out, levels), scale) in groups.zip(scales) {
            let scale = d * f32::from(scale as i8 - 32);
            each(levels, out, |level| scale * (level - 4.0));
        }
    }

    #[inline(always)]
    fn encode(x: &[f32; 256], block: &mut [u8; 110]) {
        let x = x.as_chunks::<16>().0;
        let mut levels = [[0; 16]; 16];
        let mut fits = [0.0; 16];
        for ((x, levels), fit) in x.iter().zip(&mut levels).zip(&mut fits) {
            *fit = symmetric::refine(x, 4, levels);
        }
        let largest = largest(&fits);
        let (scales, d) = if largest == 0.0 {
            // Stored as 0, which stands for −32; d is 0.
            ([0; 16], half::write(block, 108, 0.0))
        } else {
            let inverse = -32.0 / largest;
            let scales = fits.map(|fit| ((nearest(inverse * fit) as i8).clamp(-32, 31) + 32) as u8);
            (scales, half::write(block, 108, 1.0 / inverse))
        };
        planes::pack::<4, 8>(&scales, 0, &mut block[96..104]);
        planes::pack::<2, 4>(&scales, 4, &mut block[104..108]);
        for ((x, levels), scale) in x.iter().zip(&mut levels).zip(scales) {
            requantise(x, d * f32::from(scale as i8 - 32), 4, levels);
        }
        planes::pack::<1, 32>(levels.as_flattened(), 2, &mut block[..32]);
        planes::pack::<2, 32>(levels.as_flattened(), 0, &mut block[32..96]);
    }
}
