//! Operands rounded to bf16 and laid out in pairs along the depth.
//!
//! A pair is a `u32` with the even number in its lower half, as the dot product instruction takes it. Rounding is to
//! the nearest, ties to even; a NaN stays one. A depth that is odd ends in a zero on both sides.

use super::numbers::{GROUP, Numbers, in_tiles, zero_beyond};
use super::product::View;
use super::tile::{self, Tiles};
use crate::blocks::half::rounded_to_bf16 as round;
use crate::isa::{self, Isa};
use crate::transpose::transpose;

/// Columns of a panel on every instruction set, so that a packed weight does not depend on it.
pub(crate) const PANEL: usize = 64;
/// Pairs and rows that are rounded before they are transposed: a corner of the first-level cache.
const BLOCK: usize = 16;

/// What stands in for the odd numbers where a depth ends with an even one.
static ZEROS: [f32; GROUP] = [0.0; GROUP];

/// Both sides in pairs, for the dot product instruction.
#[derive(Clone, Copy)]
pub(crate) struct Dot {
    tiles: Tiles<u32, u32, f32>,
}

impl Dot {
    /// `None` where there is no such instruction.
    ///
    /// # Safety
    /// The instruction set must be there.
    pub(crate) unsafe fn on(isa: Isa) -> Option<Self> {
        tile::dot(isa).map(|tiles| Dot { tiles })
    }
}

impl Numbers for Dot {
    type Out = f32;
    type Left = u32;
    type Right = u32;
    const DEPTH: usize = 2;

    fn tiles(&self) -> Tiles<u32, u32, f32> {
        self.tiles
    }

    fn panel(&self) -> usize {
        PANEL
    }

    fn left_in_place(_: View<f32>, _: usize, _: usize) -> Option<View<u32>> {
        None
    }

    fn right_in_place(_: View<f32>) -> Option<View<u32>> {
        None
    }

    unsafe fn pack_tiles(&self, from: View<f32>, rows: usize, depth: usize, to: *mut u32, stride: usize) {
        let mut aside = [0_u32; GROUP];
        // SAFETY: the caller's promise; `on` gave the instruction set.
        unsafe {
            in_tiles(rows, depth.div_ceil(2), (to, stride), |row, step, count| {
                let even = from.from(row, 2 * step).data;
                let odd = (2 * step + 1 < depth).then(|| even.add(from.col_stride));
                interleave(Isa::Avx512Dot, (even, odd), &mut aside[..count]);
                aside.as_ptr()
            });
        }
    }

    unsafe fn pack_rows(&self, from: View<f32>, rows: usize, depth: usize, to: *mut u32, stride: usize) {
        // SAFETY: the caller's promise; `on` gave the instruction set.
        unsafe { pairs_by_row(Isa::Avx512Dot, from, rows, depth, (to, stride)) }
    }

    unsafe fn pack_right(&self, from: View<f32>, depth: usize, cols: usize, to: *mut u32) {
        // SAFETY: as above.
        unsafe { pack_panels(Isa::Avx512Dot, from, depth, cols, to) }
    }
}

/// Pairs on the right that are widened while they are multiplied; the left side is rounded and stays `f32`.
#[derive(Clone, Copy)]
pub(crate) struct Widened {
    isa: Isa,
}

impl Widened {
    /// # Safety
    /// The instruction set must be there.
    pub(crate) unsafe fn on(isa: Isa) -> Self {
        Widened { isa }
    }
}

impl Numbers for Widened {
    type Out = f32;
    type Left = [f32; 2];
    type Right = u32;
    const DEPTH: usize = 2;

    fn tiles(&self) -> Tiles<[f32; 2], u32, f32> {
        tile::widened(self.isa)
    }

    fn panel(&self) -> usize {
        PANEL
    }

    fn left_in_place(_: View<f32>, _: usize, _: usize) -> Option<View<[f32; 2]>> {
        None
    }

    fn right_in_place(_: View<f32>) -> Option<View<u32>> {
        None
    }

    unsafe fn pack_tiles(
        &self,
        from: View<f32>,
        rows: usize,
        depth: usize,
        to: *mut [f32; 2],
        stride: usize,
    ) {
        let mut aside = [[0.0; 2]; GROUP];
        // SAFETY: the caller's promise; `on` gave the instruction set.
        unsafe {
            in_tiles(rows, depth.div_ceil(2), (to, stride), |row, step, count| {
                let even = std::slice::from_raw_parts(from.from(row, 2 * step).data, count);
                let odd = if 2 * step + 1 < depth {
                    std::slice::from_raw_parts(from.from(row, 2 * step + 1).data, count)
                } else {
                    &ZEROS[..count]
                };
                isa::dispatch(
                    #[inline(always)]
                    |_| {
                        for ((to, &even), &odd) in aside.iter_mut().zip(even).zip(odd) {
                            *to = [even, odd].map(|x| f32::from_bits(round(x)));
                        }
                    },
                );
                aside.as_ptr()
            });
        }
    }

    unsafe fn pack_rows(&self, from: View<f32>, rows: usize, depth: usize, to: *mut [f32; 2], stride: usize) {
        // SAFETY: the caller's promise; `on` gave the instruction set. A row of pairs is twice as many numbers.
        unsafe { round_by_row(from, rows, depth, (to.cast(), 2 * stride)) }
    }

    unsafe fn pack_right(&self, from: View<f32>, depth: usize, cols: usize, to: *mut u32) {
        // SAFETY: the caller's promise; `on` gave the instruction set.
        unsafe { pack_panels(self.isa, from, depth, cols, to) }
    }
}

/// Rows of rounded numbers along the depth, an even number of them.
///
/// # Safety
/// `[rows, depth]` of `from` may be read and so many rows written.
unsafe fn round_by_row(from: View<f32>, rows: usize, depth: usize, (to, stride): (*mut f32, usize)) {
    // SAFETY: the caller's promise.
    unsafe {
        for row in 0..rows {
            for k in 0..depth {
                *to.add(row * stride + k) = from.at(row, k);
            }
            if !depth.is_multiple_of(2) {
                *to.add(row * stride + depth) = 0.0;
            }
            let row = std::slice::from_raw_parts_mut(to.add(row * stride), depth);
            isa::dispatch(
                #[inline(always)]
                |_| round_all(row),
            );
        }
    }
}

#[inline(always)]
fn pair(even: f32, odd: f32) -> u32 {
    round(even) >> 16 | round(odd)
}

#[inline(always)]
fn round_all(numbers: &mut [f32]) {
    for x in numbers {
        *x = f32::from_bits(round(*x));
    }
}

/// Rows of `depth` numbers, rounded: `stride` units from one to the next, of a pair each where the set has the dot product,
/// else of the bits of one number.
///
/// # Panics
/// If `x` is not whole rows or `to` has no room for them.
pub(crate) fn round_rows(isa: Isa, x: &[f32], depth: usize, to: &mut [u32], stride: usize) {
    let Some(rows) = x.len().checked_div(depth) else { return };
    let units = if isa == Isa::Avx512Dot { depth.div_ceil(2) } else { depth.next_multiple_of(2) };
    assert!(
        rows * depth == x.len() && units <= stride && rows * stride <= to.len() && isa <= Isa::detected(),
        "bf16: expected room for {rows} rows of {units} units, found {} in rows of {stride}",
        to.len()
    );
    let from = View { data: x.as_ptr(), row_stride: depth, col_stride: 1 };
    let to = to.as_mut_ptr();
    // SAFETY: the assertion shows that the rows are there and fit, and that the CPU has the set.
    unsafe {
        if isa == Isa::Avx512Dot {
            pairs_by_row(isa, from, rows, depth, (to, stride));
        } else {
            round_by_row(from, rows, depth, (to.cast(), stride));
        }
    }
}

/// Rows of pairs along the depth, `stride` pairs from one to the next.
///
/// # Safety
/// `[rows, depth]` of `from` may be read and so many rows of pairs written; the set must be there.
pub(crate) unsafe fn pairs_by_row(
    isa: Isa,
    from: View<f32>,
    rows: usize,
    depth: usize,
    (to, stride): (*mut u32, usize),
) {
    // SAFETY: each part is within what the caller vouches for.
    unsafe {
        for row in 0..rows {
            let to = std::slice::from_raw_parts_mut(to.add(row * stride), depth.div_ceil(2));
            pairs_of(isa, from.from(row, 0), depth, to);
        }
    }
}

/// Panels of pairs: [`PANEL`] columns side by side, pairs of the depth one after another.
///
/// # Safety
/// `[depth, cols]` of `from` may be read and the panels written; the set must be there.
pub(crate) unsafe fn pack_panels(isa: Isa, from: View<f32>, depth: usize, cols: usize, to: *mut u32) {
    let steps = depth.div_ceil(2);
    // SAFETY: panel by panel.
    unsafe {
        for c in (0..cols).step_by(PANEL) {
            pack_panel(isa, from.from(0, c), depth, PANEL.min(cols - c), to.add(c * steps));
        }
        zero_beyond(to, PANEL, steps, cols);
    }
}

/// # Safety
/// As [`pack_panels`]; `cols` is at most the width of a panel.
unsafe fn pack_panel(isa: Isa, from: View<f32>, depth: usize, cols: usize, to: *mut u32) {
    let steps = depth.div_ceil(2);
    // SAFETY: each part is within what the caller vouches for.
    unsafe {
        if from.col_stride == 1 {
            for p in 0..steps {
                let even = from.from(2 * p, 0).data;
                let odd = (2 * p + 1 < depth).then(|| even.add(from.row_stride));
                interleave(isa, (even, odd), std::slice::from_raw_parts_mut(to.add(p * PANEL), cols));
            }
        } else {
            let by_column =
                View { data: from.data, row_stride: from.col_stride, col_stride: from.row_stride };
            let mut aside = [[0_u32; PANEL]; BLOCK];
            for start in (0..cols).step_by(BLOCK) {
                let count = BLOCK.min(cols - start);
                for k in (0..depth).step_by(2 * PANEL) {
                    let depth = (2 * PANEL).min(depth - k);
                    let pairs = depth.div_ceil(2);
                    for (j, aside) in aside.iter_mut().enumerate().take(count) {
                        pairs_of(isa, by_column.from(start + j, k), depth, &mut aside[..pairs]);
                    }
                    let to = to.add(k / 2 * PANEL + start);
                    transpose(isa, (aside[0].as_ptr(), PANEL), (to, PANEL), count, pairs);
                }
            }
        }
    }
}

/// Pairs along one row.
///
/// # Safety
/// `depth` numbers of the row may be read, `to` holds half as many, rounded up; the set must be there.
#[inline]
unsafe fn pairs_of(isa: Isa, row: View<f32>, depth: usize, to: &mut [u32]) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512Dot && row.col_stride == 1 {
            return x86::pairs_of(row.data, depth, to);
        }
        if row.col_stride == 1 {
            let row = std::slice::from_raw_parts(row.data, depth);
            let (pairs, rest) = row.as_chunks::<2>();
            isa::dispatch(
                #[inline(always)]
                |_| {
                    for (to, &[even, odd]) in to.iter_mut().zip(pairs) {
                        *to = pair(even, odd);
                    }
                },
            );
            if let ([even], Some(last)) = (rest, to.last_mut()) {
                *last = pair(*even, 0.0);
            }
        } else {
            for (p, to) in to.iter_mut().enumerate() {
                let odd = if 2 * p + 1 < depth { row.at(0, 2 * p + 1) } else { 0.0 };
                *to = pair(row.at(0, 2 * p), odd);
            }
        }
    }
}

/// Pairs of two rows that follow one another in the depth; there is no second where the depth is odd.
///
/// # Safety
/// As many numbers of each as `to` holds may be read; the set must be there.
#[inline]
unsafe fn interleave(isa: Isa, (even, odd): (*const f32, Option<*const f32>), to: &mut [u32]) {
    // SAFETY: the caller's promise.
    unsafe {
        let even = std::slice::from_raw_parts(even, to.len());
        let Some(odd) = odd else {
            for (to, &even) in to.iter_mut().zip(even) {
                *to = pair(even, 0.0);
            }
            return;
        };
        let odd = std::slice::from_raw_parts(odd, to.len());
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512Dot {
            return x86::interleave(even, odd, to);
        }
        isa::dispatch(
            #[inline(always)]
            |_| {
                for ((to, &even), &odd) in to.iter_mut().zip(even).zip(odd) {
                    *to = pair(even, odd);
                }
            },
        );
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// As [`super::pairs_of`], for a contiguous row.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn pairs_of(row: *const f32, depth: usize, to: &mut [u32]) {
        let mask = |count: usize| if count >= 16 { u16::MAX } else { (1 << count) - 1 };
        for k in (0..depth).step_by(32) {
            let left = depth - k;
            // SAFETY: the masks keep to the depth and to its pairs.
            unsafe {
                let low = _mm512_maskz_loadu_ps(mask(left), row.add(k));
                let high = _mm512_maskz_loadu_ps(mask(left.saturating_sub(16)), row.wrapping_add(k + 16));
                let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                let at = to.as_mut_ptr().add(k / 2).cast();
                _mm512_mask_storeu_epi32(at, mask(left.div_ceil(2)), pairs);
            }
        }
    }

    /// # Safety
    /// The slices are of one length.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn interleave(even: &[f32], odd: &[f32], to: &mut [u32]) {
        // Lanes 0, 16, 1, 17, … of the two halves that the conversion leaves side by side.
        let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
        // SAFETY: 64 bytes.
        let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
        for i in (0..to.len()).step_by(16) {
            let left = to.len() - i;
            let mask = if left >= 16 { u16::MAX } else { (1 << left) - 1 };
            // SAFETY: the mask keeps to the slices.
            unsafe {
                let even = _mm512_maskz_loadu_ps(mask, even.as_ptr().add(i));
                let odd = _mm512_maskz_loadu_ps(mask, odd.as_ptr().add(i));
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                let pairs = _mm512_permutexvar_epi16(order, both);
                _mm512_mask_storeu_epi32(to.as_mut_ptr().add(i).cast(), mask, pairs);
            }
        }
    }
}
