//! The layout of all formats of integers, and the product with activations in integers.
//!
//! For each unit of 32 numbers, with integers `I = Σ (level − centre) · x` and `S = Σ x`, both exact:
//!
//! ```text
//! y += x.scale · (scale · I + offset · S)      the offset where the format has one
//! y += x.scale · (scale₀ · I₀ + scale₁ · I₁)   where each 16 numbers have a scale
//! ```
//!
//! in this order along the depth, for every height of a tile and every instruction set: a row alone has the bits of
//! the row among others.

use std::marker::PhantomData;

use super::activations::{self, BLOCK, Block};
use super::formats::{Scales, Weights};
use super::lanes::{LANES, Lanes, plain::Plain};
use super::layout::{Layout, Rows};
use super::levels;
use super::product::Activations;
use crate::{isa::Isa, prefetch};

/// Weights `W` packed in panels of 32 rows.
pub(super) struct Integer<W>(PhantomData<W>);

/// Rows of a panel: two vectors.
const PANEL: usize = 2 * LANES;

/// Bytes of a unit: scales, then the levels of 16 rows and of 16 more.
const fn unit_bytes<W: Weights>() -> usize {
    W::SCALES + 2 * levels::bytes(W::BITS)
}

/// Bytes of a block of the file in a panel: its head and its units.
const fn block_bytes<W: Weights>() -> usize {
    W::HEAD + W::BLOCK / BLOCK * unit_bytes::<W>()
}

impl<W: Weights> Layout for Integer<W> {
    type Unit = Block;
    const PANEL: usize = PANEL;
    const TALLEST: usize = 16;

    #[inline(always)]
    fn panel_bytes(cols: usize) -> usize {
        cols / W::BLOCK * block_bytes::<W>()
    }

    #[inline(always)]
    fn units(cols: usize) -> usize {
        cols / BLOCK
    }

    #[inline(always)]
    fn height(rows: usize) -> usize {
        match rows {
            0..=2 => rows,
            3..=4 => 4,
            5..16 => 8,
            _ => 16,
        }
    }

    #[inline(always)]
    fn activations<'a>(all: &Activations<'a>) -> &'a [Block] {
        all.blocks
    }

    #[inline(always)]
    fn pack(rows: &Rows<'_>, panel: &mut [u8]) {
        let mut levels = [[[0_u8; 32]; PANEL]; 8];
        for (b, packed) in panel.chunks_exact_mut(block_bytes::<W>()).enumerate() {
            let (head, units) = packed.split_at_mut(W::HEAD);
            for (r, row) in rows.bytes.chunks_exact(rows.row_bytes).enumerate() {
                let block = &row[b * W::BYTES..(b + 1) * W::BYTES];
                let mut own = [[0_u8; 32]; 8];
                W::levels(block, &mut own);
                W::write_head(block, r, head);
                for (u, unit) in units.chunks_exact_mut(unit_bytes::<W>()).enumerate() {
                    levels[u][r] = own[u];
                    W::write_scales(block, u, r, unit);
                }
            }
            for (u, unit) in units.chunks_exact_mut(unit_bytes::<W>()).enumerate() {
                let (rows, _) = levels[u].as_chunks::<LANES>();
                let packed = unit[W::SCALES..].chunks_exact_mut(levels::bytes(W::BITS));
                for (rows, packed) in rows.iter().zip(packed) {
                    levels::store::<W>(rows, packed);
                }
            }
        }
    }

    #[inline(always)]
    fn prepare(x: &[f32], cols: usize, height: usize, out: &mut [Block]) {
        activations::prepare(x, cols, height, out);
    }

    fn product(isa: Isa, panel: &[u8], x: &[Block], height: usize, sums: &mut [f32]) {
        match isa {
            // SAFETY: `current` never exceeds what the CPU has.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Dot => unsafe { avx512_dot::<W>(panel, x, height, sums) },
            // SAFETY: as above; AVX-512 contains AVX2.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx2 => unsafe { avx2::<W>(panel, x, height, sums) },
            _ => {
                for row in 0..height {
                    tile::<_, W, 2, 1, 1>(Plain, panel, 0, &x[row..], height, &mut sums[row * PANEL..]);
                }
            }
        }
    }
}

/// The product of a tile in 512-bit registers.
///
/// # Safety
/// The CPU must have what is enabled.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn avx512_dot<W: Weights>(panel: &[u8], x: &[Block], height: usize, sums: &mut [f32]) {
    // SAFETY: the caller's promise.
    let l = unsafe { super::lanes::avx512::Avx512Dot::new() };
    match height {
        1 => tile::<_, W, 2, 1, 1>(l, panel, 0, x, height, sums),
        2 => tile::<_, W, 2, 1, 2>(l, panel, 0, x, height, sums),
        4 => tile::<_, W, 2, 1, 4>(l, panel, 0, x, height, sums),
        8 => tile::<_, W, 2, 2, 4>(l, panel, 0, x, height, sums),
        _ => {
            tile::<_, W, 1, 4, 4>(l, panel, 0, x, height, sums);
            tile::<_, W, 1, 4, 4>(l, panel, 1, x, height, sums);
        }
    }
}

/// The product of a tile in 256-bit registers.
///
/// # Safety
/// The CPU must have what is enabled.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2<W: Weights>(panel: &[u8], x: &[Block], height: usize, sums: &mut [f32]) {
    // SAFETY: the caller's promise.
    let l = unsafe { super::lanes::avx2::Avx2::new() };
    match height {
        1 => tile::<_, W, 2, 1, 1>(l, panel, 0, x, height, sums),
        _ => {
            for row in (0..height).step_by(2) {
                tile::<_, W, 2, 1, 2>(l, panel, 0, &x[row..], height, &mut sums[row * PANEL..]);
            }
        }
    }
}

/// `P` halves of a panel from `first` on, and `Q` groups of `R` rows of a tile of `height`, which are its first here.
#[inline(always)]
fn tile<L: Lanes, W: Weights, const P: usize, const Q: usize, const R: usize>(
    l: L,
    panel: &[u8],
    first: usize,
    x: &[Block],
    height: usize,
    out: &mut [f32],
) {
    // Loops over halves and groups are written out: the compiler would keep them, and with them the sums in memory.
    const { assert!(P >= 1 && P <= 2 && (Q == 1 || Q == 2 || Q == 4)) };
    let mut sums = [[[l.splat(0.0); R]; Q]; P];
    let mut units = x.chunks(height);
    for packed in panel.chunks_exact(block_bytes::<W>()) {
        let (head, packed) = packed.split_at(W::HEAD);
        for (unit, x) in packed.chunks_exact(unit_bytes::<W>()).zip(&mut units) {
            // The second half finds what the first has asked for.
            if R * 8 >= 4 * W::BITS as usize && first == 0 {
                prefetch::second(unit.as_ptr().wrapping_add(AHEAD), unit.len());
            }
            let x: &[[Block; R]; Q] = x.as_chunks().0.first_chunk().expect("a tile holds its rows");
            half::<L, W, Q, R>(l, head, unit, first, x, &mut sums[0]);
            if P > 1 {
                // What the compiler does not know for the same it does not merge. Reading both halves by turns, it
                // would lose the CPU's own prefetching and half the bandwidth; and keeping what it has broadcast of
                // `x` for the second half, it would run out of registers.
                let x = std::hint::black_box(x);
                half::<L, W, Q, R>(l, head, unit, first + 1, x, &mut sums[1]);
            }
        }
    }
    let (out, _) = out.as_chunks_mut::<LANES>();
    for q in 0..Q {
        for r in 0..R {
            for p in 0..P {
                l.store(sums[p][q][r], &mut out[2 * (q * R + r) + first + p]);
            }
        }
    }
}

/// How far ahead weights are fetched into the second-level cache, where there is much to do for each of their bytes:
/// the CPU does not look across so many instructions by itself. Where there is little it does, and better alone.
const AHEAD: usize = 32 << 10;

/// Adds what a unit of half a panel contributes.
#[inline(always)]
fn half<L: Lanes, W: Weights, const Q: usize, const R: usize>(
    l: L,
    head: &[u8],
    unit: &[u8],
    half: usize,
    x: &[[Block; R]; Q],
    sums: &mut [[L::Floats; R]; Q],
) {
    let bytes = levels::bytes(W::BITS);
    let scales = W::scales(l, head, unit, half);
    let levels = levels::load::<L, W>(l, &unit[W::SCALES + half * bytes..][..bytes]);
    rows::<L, W, R>(l, &levels, &scales, &x[0], &mut sums[0]);
    if Q > 1 {
        rows::<L, W, R>(l, &levels, &scales, &x[1], &mut sums[1]);
    }
    if Q > 2 {
        rows::<L, W, R>(l, &levels, &scales, &x[2], &mut sums[2]);
        rows::<L, W, R>(l, &levels, &scales, &x[3], &mut sums[3]);
    }
}

/// Adds what a unit of half a panel contributes to some rows.
#[inline(always)]
fn rows<L: Lanes, W: Weights, const R: usize>(
    l: L,
    levels: &[L::Bytes; 8],
    scales: &Scales<L::Floats>,
    x: &[Block; R],
    sums: &mut [L::Floats; R],
) {
    let dots = dot::<L, W, R>(l, levels, x);
    for r in 0..R {
        let mut all = l.mul(l.floats(dots[0][r]), scales.scale[0]);
        if W::HALVES {
            all = l.mul_add(l.floats(dots[1][r]), scales.scale[1], all);
        }
        if W::OFFSET {
            all = l.mul_add(l.splat(x[r].sum), scales.offset, all);
        }
        sums[r] = l.mul_add(all, l.splat(x[r].scale), sums[r]);
    }
}

/// The integer sums of a unit: of all numbers, or of the first and of the last 16.
#[inline(always)]
fn dot<L: Lanes, W: Weights, const R: usize>(
    l: L,
    levels: &[L::Bytes; 8],
    x: &[Block; R],
) -> [[L::Ints; R]; 2] {
    if !W::HALVES {
        let groups = each(
            x,
            #[inline(always)]
            |x| x.levels.as_chunks().0.first_chunk().expect("32 levels"),
        );
        let all = l.dot::<W, 8, R>(
            levels,
            groups,
            each(
                x,
                #[inline(always)]
                |x| start::<W>(x),
            ),
        );
        return [all; 2];
    }
    [half_dot::<L, W, R>(l, levels, x, 0), half_dot::<L, W, R>(l, levels, x, 1)]
}

/// The integer sums of the first or the last 16 numbers.
#[inline(always)]
fn half_dot<L: Lanes, W: Weights, const R: usize>(
    l: L,
    levels: &[L::Bytes; 8],
    x: &[Block; R],
    half: usize,
) -> [L::Ints; R] {
    let levels = levels[4 * half..].first_chunk().expect("half of eight groups");
    let groups = each(
        x,
        #[inline(always)]
        |x| x.levels.as_chunks().0[4 * half..].first_chunk().expect("half of 32 levels"),
    );
    l.dot::<W, 4, R>(
        levels,
        groups,
        each(
            x,
            #[inline(always)]
            |x| x.halves[half],
        ),
    )
}

/// What the sum of a whole unit begins with.
#[inline(always)]
fn start<W: Weights>(x: &Block) -> i32 {
    match (W::CENTRED, W::BITS) {
        (false, _) => 0,
        (true, 4) => x.starts[0],
        (true, 5) => x.starts[1],
        (true, _) => x.starts[2],
    }
}

/// `x.map(f)`, in a loop that is compiled for the instruction set of its caller.
#[inline(always)]
fn each<'a, T, const R: usize>(x: &'a [Block; R], f: impl Fn(&'a Block) -> T) -> [T; R] {
    std::array::from_fn(
        #[inline(always)]
        |r| f(&x[r]),
    )
}
