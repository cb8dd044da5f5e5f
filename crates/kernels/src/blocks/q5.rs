//! Five bits a number, in blocks of 32.
//!
//! ```text
//! Q5_0  bytes 0..2 scale d (half), 2..6 high bits, 6..22 low bits                    x = d · (level − 16)
//! Q5_1  bytes 0..2 scale d, 2..4 minimum m, 4..8 high bits, 8..24 low bits           x = d · level + m
//! ```
//!
//! The low four bits lie as those of [`q4`](super::q4); the fifth bit of level `i` is bit `i` of the high bits, a
//! little-endian integer. Encoding is as there, with `d = largest / −16` and `d = (max − min)/31`.

use super::codec::{Codec, spread};
use super::q4::{largest, range};
use super::round::{inverse, truncated};
use super::{half, planes};

/// Scale only.
pub(crate) enum Q5_0 {}

impl Codec<32, 22> for Q5_0 {
    #[inline(always)]
    fn decode(block: &[u8; 22], out: &mut [f32; 32]) {
        let d = half::read(block, 0);
        unpack(&block[2..], out);
        for out in out {
            *out = (*out - 16.0) * d;
        }
    }

    #[inline(always)]
    fn encode(x: &[f32; 32], block: &mut [u8; 22]) {
        let d = largest(x) / -16.0;
        let id = inverse(d);
        half::write(block, 0, d);
        pack(&x.map(|x| truncated(x * id + 16.5).min(31) as u8), &mut block[2..]);
    }
}

/// Scale and minimum.
pub(crate) enum Q5_1 {}

impl Codec<32, 24> for Q5_1 {
    #[inline(always)]
    fn decode(block: &[u8; 24], out: &mut [f32; 32]) {
        let (d, m) = (half::read(block, 0), half::read(block, 2));
        unpack(&block[4..], out);
        for out in out {
            *out = *out * d + m;
        }
    }

    #[inline(always)]
    fn encode(x: &[f32; 32], block: &mut [u8; 24]) {
        let (min, max) = range(x);
        let d = (max - min) / 31.0;
        let id = inverse(d);
        half::write(block, 0, d);
        half::write(block, 2, min);
        pack(&x.map(|x| truncated((x - min) * id + 0.5) as u8), &mut block[4..]);
    }
}

/// The levels of 20 bytes, high bits first, as numbers.
#[inline(always)]
fn unpack(bytes: &[u8], out: &mut [f32; 32]) {
    let mut low = [0; 32];
    planes::unpack::<4, 16>(&bytes[4..20], 0, &mut low);
    spread(&low, out);
    // Joining the bits as numbers is exact, and eight bits of a byte make a vector.
    for (out, &high) in out.as_chunks_mut::<8>().0.iter_mut().zip(&bytes[..4]) {
        for (i, out) in out.iter_mut().enumerate() {
            *out += ((i32::from(high) << 4 >> i) & 16) as f32;
        }
    }
}

#[inline(always)]
fn pack(levels: &[u8; 32], bytes: &mut [u8]) {
    let mut high = 0;
    for (i, &level) in levels.iter().enumerate() {
        high |= u32::from(level >> 4 & 1) << i;
    }
    bytes[..4].copy_from_slice(&high.to_le_bytes());
    planes::pack::<4, 16>(levels, 0, &mut bytes[4..20]);
}
