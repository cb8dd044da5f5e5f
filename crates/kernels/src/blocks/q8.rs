//! Eight bits a number, in blocks of 32.
//!
//! ```text
//! Q8_0  bytes 0..2 scale d (half), 2..34 levels (signed)               x = d · level
//! ```
//!
//! Encoding: `d` is the largest magnitude over 127; `x/d` is rounded to the nearest integer, halves away from 0.

use super::codec::Codec;
use super::half;
use super::round::{inverse, truncated};

/// Scale and signed bytes.
pub(crate) enum Q8_0 {}

impl Codec<32, 34> for Q8_0 {
    #[inline(always)]
    fn decode(block: &[u8; 34], out: &mut [f32; 32]) {
        let d = half::read(block, 0);
        let levels: &[u8; 32] = block.last_chunk().expect("32 bytes end the block");
        for (out, levels) in out.as_chunks_mut::<8>().0.iter_mut().zip(levels.as_chunks::<8>().0) {
            let mut numbers = [0.0; 8];
            for (number, &level) in numbers.iter_mut().zip(levels) {
                *number = f32::from(level as i8) * d;
            }
            *out = numbers;
        }
    }

    #[inline(always)]
    fn encode(x: &[f32; 32], block: &mut [u8; 34]) {
        let mut magnitude = 0.0_f32;
        for x in x {
            magnitude = magnitude.max(x.abs());
        }
        let d = magnitude / 127.0;
        let id = inverse(d);
        half::write(block, 0, d);
        for (level, x) in block[2..].iter_mut().zip(x) {
            *level = truncated((x * id).round()) as u8;
        }
    }
}
