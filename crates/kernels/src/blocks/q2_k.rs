//! Two bits a number, in blocks of 256: 16 groups of 16, each with a scale and a minimum of four bits.
//!
//! ```text
//! bytes 0..16 group scales s (low half) and minima m (high half), 16..80 levels, 80..82 d, 82..84 e (halves)
//! x = (d · s) · level − (e · m)
//! ```
//!
//! Levels lie in planes of 32 bytes. Encoding: each group is fitted by [`affine::fit`], weighted with the magnitudes;
//! its scales and minima are rounded to multiples of the largest over 15; the levels follow from the rounded ones.

use super::codec::{Codec, each};
use super::fit::affine::{self, Affine, Search, requantise};
use super::round::nearest;
use super::{half, planes};

/// Two bits, in groups of 16 with a minimum.
pub(crate) enum Q2K {}

const SEARCH: Search = Search { top: 3, first: -0.5, step: 0.1, steps: 15, error: affine::Error::Absolute };

impl Codec<256, 84> for Q2K {
    #[inline(always)]
    fn decode(block: &[u8; 84], out: &mut [f32; 256]) {
        let (d, e) = (half::read(block, 80), half::read(block, 82));
        let mut levels = [0; 256];
        planes::unpack::<2, 32>(&block[16..80], 0, &mut levels);
        let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(levels.as_chunks::<16>().0);
        for ((out, levels), &both) in groups.zip(&block[..16]) {
            let (scale, min) = (d * f32::from(both & 15), e * f32::from(both >> 4));
            each(levels, out, |level| scale * level - min);
        }
    }

    #[inline(always)]
    fn encode(x: &[f32; 256], block: &mut [u8; 84]) {
        let x = x.as_chunks::<16>().0;
        let mut levels = [[0; 16]; 16];
        let mut fits = [Affine::default(); 16];
        let (mut scale, mut min) = (0.0, 0.0);
        for ((x, levels), fit) in x.iter().zip(&mut levels).zip(&mut fits) {
            *fit = affine::fit(x, &x.map(f32::abs), &SEARCH, levels);
            scale = if fit.scale > scale { fit.scale } else { scale };
            min = if fit.min > min { fit.min } else { min };
        }
        let inverse = |largest: f32| if largest > 0.0 { 15.0 / largest } else { 0.0 };
        let (per_scale, per_min) = (inverse(scale), inverse(min));
        let both =
            fits.map(|fit| nearest(per_scale * fit.scale) as u8 | (nearest(per_min * fit.min) as u8) << 4);
        block[..16].copy_from_slice(&both);
        let d = half::write(block, 80, scale / 15.0);
        let e = half::write(block, 82, min / 15.0);
        for ((x, levels), both) in x.iter().zip(&mut levels).zip(both) {
            requantise(
                x,
                Affine { scale: d * f32::from(both & 15), min: e * f32::from(both >> 4) },
                SEARCH.top,
                levels,
            );
        }
        planes::pack::<2, 32>(levels.as_flattened(), 0, &mut block[16..80]);
    }
}
