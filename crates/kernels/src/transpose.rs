//! Rows become columns, in blocks that fit the registers.

use crate::isa::Isa;

/// `to[c · to_stride + r] = from[r · from_stride + c]` for `r < rows`, `c < cols`.
///
/// # Safety
/// Those elements may be read and written, and do not overlap. The instruction set must be there.
pub(crate) unsafe fn transpose<T: Copy>(
    isa: Isa,
    (from, from_stride): (*const T, usize),
    (to, to_stride): (*mut T, usize),
    rows: usize,
    cols: usize,
) {
    let words = size_of::<T>() == size_of::<u32>();
    // SAFETY: each call takes a part of what the caller vouches for, at its place in the transposed one. Four bytes of
    // any type are moved as they are.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Dot if words => {
                for r in (0..rows).step_by(x86::WIDE) {
                    let strip = (from.add(r * from_stride).cast(), from_stride);
                    x86::strip(strip, (to.add(r).cast(), to_stride), (rows - r).min(x86::WIDE), cols);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if words => {
                let whole = (rows / x86::MIDDLE * x86::MIDDLE, cols / x86::MIDDLE * x86::MIDDLE);
                for r in (0..whole.0).step_by(x86::MIDDLE) {
                    let strip = (from.add(r * from_stride).cast(), from_stride);
                    x86::middle_strip(strip, (to.add(r).cast(), to_stride), whole.1);
                }
                // What is right of the whole blocks, then what is below them.
                let right = (from.wrapping_add(whole.1), from_stride);
                plain(right, (to.wrapping_add(whole.1 * to_stride), to_stride), whole.0, cols - whole.1);
                let below = (from.wrapping_add(whole.0 * from_stride), from_stride);
                plain(below, (to.wrapping_add(whole.0), to_stride), rows - whole.0, cols);
            }
            _ => plain((from, from_stride), (to, to_stride), rows, cols),
        }
    }
}

/// # Safety
/// As [`transpose`].
unsafe fn plain<T: Copy>(
    (from, from_stride): (*const T, usize),
    (to, to_stride): (*mut T, usize),
    rows: usize,
    cols: usize,
) {
    /// Rows at once: a cache line of what is written.
    const BLOCK: usize = 16;
    for start in (0..rows).step_by(BLOCK) {
        for c in 0..cols {
            for r in start..rows.min(start + BLOCK) {
                // SAFETY: the caller's promise.
                unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    pub(super) const WIDE: usize = 16;
    pub(super) const MIDDLE: usize = 8;

    /// Up to 16 rows.
    ///
    /// # Safety
    /// As [`super::transpose`].
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn strip(
        (from, from_stride): (*const f32, usize),
        (to, to_stride): (*mut f32, usize),
        rows: usize,
        cols: usize,
    ) {
        let ones = |n: usize| ((1_u32 << n) - 1) as u16;
        let store = ones(rows);
        for c in (0..cols).step_by(WIDE) {
            let width = (cols - c).min(WIDE);
            let load = ones(width);
            let mut block = [_mm512_setzero_ps(); WIDE];
            // SAFETY: rows below `rows`, and columns below `cols` by the mask.
            unsafe {
                if rows == WIDE {
                    for (r, row) in block.iter_mut().enumerate() {
                        *row = _mm512_maskz_loadu_ps(load, from.add(r * from_stride + c));
                    }
                } else {
                    for (r, row) in block.iter_mut().enumerate().take(rows) {
                        *row = _mm512_maskz_loadu_ps(load, from.add(r * from_stride + c));
                    }
                }
            }
            let block = turned(block);
            // SAFETY: as above, transposed.
            unsafe {
                if rows == WIDE && width == WIDE {
                    // Without a mask, which would make it slower.
                    for (k, row) in block.iter().enumerate() {
                        _mm512_storeu_ps(to.add((c + k) * to_stride), *row);
                    }
                } else {
                    for (k, row) in block.iter().enumerate().take(width) {
                        _mm512_mask_storeu_ps(to.add((c + k) * to_stride), store, *row);
                    }
                }
            }
        }
    }

    /// The 16 × 16 block transposed: blocks of 2 × 2 numbers, then of 2, 4 and 8 of those, change places.
    #[target_feature(enable = "avx512f")]
    fn turned(rows: [__m512; WIDE]) -> [__m512; WIDE] {
        let zero = _mm512_setzero_ps();
        let (mut a, mut b) = ([zero; WIDE], [zero; WIDE]);
        for i in 0..8 {
            a[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            a[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        let low = |x, y| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
        let high = |x, y| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
        for i in 0..4 {
            // Column k of rows 4i to 4i + 3, in each quarter of the register.
            b[4 * i] = low(a[4 * i], a[4 * i + 2]);
            b[4 * i + 1] = high(a[4 * i], a[4 * i + 2]);
            b[4 * i + 2] = low(a[4 * i + 1], a[4 * i + 3]);
            b[4 * i + 3] = high(a[4 * i + 1], a[4 * i + 3]);
        }
        for k in 0..4 {
            a[k] = _mm512_shuffle_f32x4::<0x88>(b[k], b[4 + k]);
            a[4 + k] = _mm512_shuffle_f32x4::<0xdd>(b[k], b[4 + k]);
            a[8 + k] = _mm512_shuffle_f32x4::<0x88>(b[8 + k], b[12 + k]);
            a[12 + k] = _mm512_shuffle_f32x4::<0xdd>(b[8 + k], b[12 + k]);
        }
        for k in 0..4 {
            b[k] = _mm512_shuffle_f32x4::<0x88>(a[k], a[8 + k]);
            b[4 + k] = _mm512_shuffle_f32x4::<0x88>(a[4 + k], a[12 + k]);
            b[8 + k] = _mm512_shuffle_f32x4::<0xdd>(a[k], a[8 + k]);
            b[12 + k] = _mm512_shuffle_f32x4::<0xdd>(a[4 + k], a[12 + k]);
        }
        b
    }

    /// 8 rows and a multiple of 8 columns.
    ///
    /// # Safety
    /// As [`super::transpose`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn middle_strip(
        (from, from_stride): (*const f32, usize),
        (to, to_stride): (*mut f32, usize),
        cols: usize,
    ) {
        for c in (0..cols).step_by(MIDDLE) {
            // SAFETY: whole blocks lie within.
            unsafe {
                let mut rows = [_mm256_setzero_ps(); MIDDLE];
                for (r, row) in rows.iter_mut().enumerate() {
                    *row = _mm256_loadu_ps(from.add(r * from_stride + c));
                }
                for (k, row) in turned_8(rows).iter().enumerate() {
                    _mm256_storeu_ps(to.add((c + k) * to_stride), *row);
                }
            }
        }
    }

    /// The 8 × 8 block transposed.
    #[target_feature(enable = "avx2")]
    fn turned_8(rows: [__m256; MIDDLE]) -> [__m256; MIDDLE] {
        let zero = _mm256_setzero_ps();
        let (mut a, mut b) = ([zero; MIDDLE], [zero; MIDDLE]);
        for i in 0..4 {
            a[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            a[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        for i in 0..2 {
            b[4 * i] = _mm256_shuffle_ps::<0x44>(a[4 * i], a[4 * i + 2]);
            b[4 * i + 1] = _mm256_shuffle_ps::<0xee>(a[4 * i], a[4 * i + 2]);
            b[4 * i + 2] = _mm256_shuffle_ps::<0x44>(a[4 * i + 1], a[4 * i + 3]);
            b[4 * i + 3] = _mm256_shuffle_ps::<0xee>(a[4 * i + 1], a[4 * i + 3]);
        }
        for k in 0..4 {
            a[k] = _mm256_permute2f128_ps::<0x20>(b[k], b[4 + k]);
            a[4 + k] = _mm256_permute2f128_ps::<0x31>(b[k], b[4 + k]);
        }
        a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Copy + PartialEq + std::fmt::Debug>(isa: Isa, number: impl Fn(usize) -> T) {
        for (rows, cols) in [(1, 1), (3, 40), (8, 8), (16, 16), (17, 31), (64, 33), (5, 0), (0, 5)] {
            let (from_stride, to_stride) = (cols + 3, rows + 2);
            let from: Vec<T> = (0..rows * from_stride).map(|i| number(i + 1)).collect();
            let mut to = vec![number(0); cols * to_stride];
            // SAFETY: both hold their rows, and the set is available.
            unsafe { transpose(isa, (from.as_ptr(), from_stride), (to.as_mut_ptr(), to_stride), rows, cols) };
            for (i, &found) in to.iter().enumerate() {
                let (c, r) = (i / to_stride, i % to_stride);
                let want = if r < rows { from[r * from_stride + c] } else { number(0) };
                assert_eq!(found, want, "{isa:?} [{rows}, {cols}] at [{c}, {r}]");
            }
        }
    }

    #[test]
    fn rows_become_columns_and_nothing_beside_them_is_touched() {
        for isa in Isa::available() {
            check(isa, |i| i as f32);
            check(isa, |i| i as u32);
            check(isa, |i| i as f64);
        }
    }
}
