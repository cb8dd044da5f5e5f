//! Four bits a number, in blocks of 256: 8 groups of 32, each with a scale and a minimum of six bits.
//!
//! ```text
//! bytes 0..2 d, 2..4 e (halves), 4..16 group scales s and minima m, 16..144 levels
//! x = (d · s) · level − (e · m)
//! ```
//!
//! Levels lie in planes of 32 bytes. [`group8`] has the scales and the way they are found.

use super::codec::Codec;
use super::fit::affine::{Error, Search};
use super::{group8, planes};

/// Four bits, in groups of 32 with a minimum.
pub(crate) enum Q4K {}

const SEARCH: Search = Search { top: 15, first: -1.0, step: 0.1, steps: 20, error: Error::Squared };

impl Codec<256, 144> for Q4K {
    #[inline(always)]
    fn decode(block: &[u8; 144], out: &mut [f32; 256]) {
        let mut levels = [[0; 32]; 8];
        planes::unpack::<4, 32>(&block[16..], 0, levels.as_flattened_mut());
        group8::decode(block, &levels, out);
    }

    #[inline(always)]
    fn encode(x: &[f32; 256], block: &mut [u8; 144]) {
        let levels = group8::encode(x, &SEARCH, block);
        planes::pack::<4, 32>(levels.as_flattened(), 0, &mut block[16..]);
    }
}
