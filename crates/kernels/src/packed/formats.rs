//! What each format of integers packs: levels in [`levels`](super::levels), and the scales of 32 rows beside them.
//!
//! A panel of 32 rows is units of 32 numbers along the depth; formats with blocks of 256 have a head before every
//! eight units. The bytes are as many as in the file, but for the six-bit scales of `Q4_K` and `Q5_K`, which take
//! eight here.
//!
//! | | head | scales of a unit | a number is |
//! |---|---|---|---|
//! | `Q8_0`, `Q4_0`, `Q5_0` | | 32 halves `d` | `d · (level − centre)` |
//! | `Q4_1`, `Q5_1` | | 32 halves `d`, 32 halves `m` | `d · level + m` |
//! | `Q4_K`, `Q5_K` | 32 halves `d`, 32 halves `e` | 32 bytes `s`, 32 bytes `m` | `d · s · level − e · m` |
//! | `Q6_K` | 32 halves `d` | twice 32 signed bytes `s` | `d · s · (level − 32)`, `s` of each 16 |

use super::lanes::{LANES, Lanes};
use crate::blocks::{group8, planes};

/// Scales of 16 rows in a unit: one, or one of each 16 numbers; and what is added to every number.
#[derive(Clone, Copy)]
pub(super) struct Scales<F> {
    pub(super) scale: [F; 2],
    pub(super) offset: F,
}

/// A format of integers.
pub(super) trait Weights {
    /// Numbers in a block of the file.
    const BLOCK: usize;
    /// Bytes of a block of the file.
    const BYTES: usize;
    /// Bits of a level.
    const BITS: u32;
    /// Whether levels count from the middle of their range, and not from 0.
    const CENTRED: bool;
    /// Whether the first and the last 16 numbers of a unit have scales of their own.
    const HALVES: bool = false;
    /// Whether something is added to every number.
    const OFFSET: bool = false;
    /// Bytes before every `BLOCK / 32` units of a panel.
    const HEAD: usize = 0;
    /// Bytes of the scales of a unit.
    const SCALES: usize = 64;

    /// The scales of rows `16·half..16·half + 16`, from the head and from those of the unit.
    fn scales<L: Lanes>(l: L, head: &[u8], unit: &[u8], half: usize) -> Scales<L::Floats>;

    /// The levels of a block of the file, unit after unit.
    fn levels(block: &[u8], levels: &mut [[u8; 32]]);

    /// Writes what the block of row `row` says to the head of the panel.
    fn write_head(_block: &[u8], _row: usize, _head: &mut [u8]) {}

    /// Writes what the block of row `row` says to the scales of its unit `unit`.
    fn write_scales(block: &[u8], unit: usize, row: usize, scales: &mut [u8]);
}

/// `scale · (level − centre)` in blocks of 32: `Q4_0`, `Q5_0`, `Q8_0`.
pub(super) enum Centred<const BITS: u32> {}

/// `scale · level + min` in blocks of 32: `Q4_1`, `Q5_1`.
pub(super) enum Affine<const BITS: u32> {}

/// `scale · level − min` in groups of 32 in blocks of 256: `Q4_K`, `Q5_K`.
pub(super) enum Groups8<const BITS: u32> {}

/// `scale · (level − 32)` in groups of 16 in blocks of 256: `Q6_K`.
pub(super) enum Groups16 {}

impl<const BITS: u32> Weights for Centred<BITS> {
    const BLOCK: usize = 32;
    const BYTES: usize = 2 + 4 * BITS as usize;
    const BITS: u32 = BITS;
    const CENTRED: bool = true;

    #[inline(always)]
    fn scales<L: Lanes>(l: L, _: &[u8], unit: &[u8], half: usize) -> Scales<L::Floats> {
        let d = l.halves(piece(unit, 32 * half));
        Scales { scale: [d; 2], offset: d }
    }

    #[inline(always)]
    fn levels(block: &[u8], levels: &mut [[u8; 32]]) {
        small::<BITS>(&block[2..], &mut levels[0]);
    }

    #[inline(always)]
    fn write_scales(block: &[u8], _: usize, row: usize, scales: &mut [u8]) {
        put_half(&block[..2], &mut scales[..64], row);
    }
}

impl<const BITS: u32> Weights for Affine<BITS> {
    const BLOCK: usize = 32;
    const BYTES: usize = 4 + 4 * BITS as usize;
    const BITS: u32 = BITS;
    const CENTRED: bool = false;
    const OFFSET: bool = true;
    const SCALES: usize = 128;

    #[inline(always)]
    fn scales<L: Lanes>(l: L, _: &[u8], unit: &[u8], half: usize) -> Scales<L::Floats> {
        let d = l.halves(piece(unit, 32 * half));
        Scales { scale: [d; 2], offset: l.halves(piece(unit, 64 + 32 * half)) }
    }

    #[inline(always)]
    fn levels(block: &[u8], levels: &mut [[u8; 32]]) {
        small::<BITS>(&block[4..], &mut levels[0]);
    }

    #[inline(always)]
    fn write_scales(block: &[u8], _: usize, row: usize, scales: &mut [u8]) {
        put_half(&block[..2], &mut scales[..64], row);
        put_half(&block[2..4], &mut scales[64..], row);
    }
}

impl<const BITS: u32> Weights for Groups8<BITS> {
    const BLOCK: usize = 256;
    const BYTES: usize = 16 + 32 * BITS as usize;
    const BITS: u32 = BITS;
    const CENTRED: bool = false;
    const OFFSET: bool = true;
    const HEAD: usize = 128;

    #[inline(always)]
    fn scales<L: Lanes>(l: L, head: &[u8], unit: &[u8], half: usize) -> Scales<L::Floats> {
        let (d, e) = (l.halves(piece(head, 32 * half)), l.halves(piece(head, 64 + 32 * half)));
        let scale = l.mul(d, l.unsigned(piece(unit, 16 * half)));
        let min = l.mul(e, l.unsigned(piece(unit, 32 + 16 * half)));
        Scales { scale: [scale; 2], offset: l.mul(min, l.splat(-1.0)) }
    }

    #[inline(always)]
    fn levels(block: &[u8], levels: &mut [[u8; 32]]) {
        levels.as_flattened_mut().fill(0);
        let levels = levels.as_flattened_mut();
        if BITS == 5 {
            planes::unpack::<1, 32>(&block[16..48], 4, levels);
        }
        planes::unpack::<4, 32>(&block[Self::BYTES - 128..], 0, levels);
    }

    #[inline(always)]
    fn write_head(block: &[u8], row: usize, head: &mut [u8]) {
        put_half(&block[..2], &mut head[..64], row);
        put_half(&block[2..4], &mut head[64..], row);
    }

    #[inline(always)]
    fn write_scales(block: &[u8], unit: usize, row: usize, scales: &mut [u8]) {
        let [scale, min] = group8::unpack(block)[unit];
        (scales[row], scales[32 + row]) = (scale, min);
    }
}

impl Weights for Groups16 {
    const BLOCK: usize = 256;
    const BYTES: usize = 210;
    const BITS: u32 = 6;
    const CENTRED: bool = true;
    const HALVES: bool = true;
    const HEAD: usize = 64;

    #[inline(always)]
    fn scales<L: Lanes>(l: L, head: &[u8], unit: &[u8], half: usize) -> Scales<L::Floats> {
        let d = l.halves(piece(head, 32 * half));
        let first = l.mul(d, l.signed(piece(unit, 16 * half)));
        let last = l.mul(d, l.signed(piece(unit, 32 + 16 * half)));
        Scales { scale: [first, last], offset: d }
    }

    #[inline(always)]
    fn levels(block: &[u8], levels: &mut [[u8; 32]]) {
        let levels = levels.as_flattened_mut();
        levels.fill(0);
        planes::unpack::<4, 64>(&block[..128], 0, levels);
        planes::unpack::<2, 32>(&block[128..192], 4, levels);
    }

    #[inline(always)]
    fn write_head(block: &[u8], row: usize, head: &mut [u8]) {
        put_half(&block[208..210], head, row);
    }

    #[inline(always)]
    fn write_scales(block: &[u8], unit: usize, row: usize, scales: &mut [u8]) {
        (scales[row], scales[32 + row]) = (block[192 + 2 * unit], block[192 + 2 * unit + 1]);
    }
}

/// The levels of a block of 32, without its scales.
#[inline(always)]
fn small<const BITS: u32>(bytes: &[u8], levels: &mut [u8; 32]) {
    *levels = [0; 32];
    match BITS {
        8 => {
            // The integers are signed; packed levels count from 128.
            for (level, byte) in levels.iter_mut().zip(bytes) {
                *level = byte ^ 0x80;
            }
        }
        _ => planes::unpack::<4, 16>(&bytes[BITS as usize * 4 - 16..], 0, levels),
    }
    if BITS == 5 {
        // As words, for which there are shifts by lanes.
        let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        for (i, level) in levels.iter_mut().enumerate() {
            *level |= ((high >> i & 1) << 4) as u8;
        }
    }
}

/// Writes a number in half precision as that of row `row` of a panel.
#[inline(always)]
fn put_half(half: &[u8], of_rows: &mut [u8], row: usize) {
    of_rows[2 * row..2 * row + 2].copy_from_slice(half);
}

/// The `N` bytes from `at` on.
#[inline(always)]
fn piece<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    const { assert!(N == LANES || N == 2 * LANES) };
    bytes[at..].first_chunk().expect("a panel holds whole units")
}
