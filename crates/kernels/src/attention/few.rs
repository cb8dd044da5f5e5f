//! Products of a few queries with stored keys and values in the registers of one instruction set, for decoding.
//!
//! A key's own dimensions lie along lanes, and every number of a key that is loaded meets up to four queries. Keys in
//! bf16 and q8_0 are widened on the way into registers. The safe twins are in [`super::decode`], whose tests run every
//! path against one case table.

use std::arch::x86_64::*;

use crate::blocks::Format;

/// What the numbers of a row are.
pub(super) const F32: u8 = 0;
/// The upper halves of `f32`.
pub(super) const BF16: u8 = 1;
/// Blocks of a scale in half precision and 32 bytes.
pub(super) const Q8_0: u8 = 2;

/// The word for a format that AVX-512 reads directly.
pub(super) fn word(format: Format) -> Option<u8> {
    match format {
        Format::Bf16 => Some(BF16),
        Format::Q8_0 => Some(Q8_0),
        _ => None,
    }
}

/// Stored rows: `n` of `e` numbers, a multiple of 16, `step` bytes apart.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *const u8,
    pub(super) step: usize,
    pub(super) n: usize,
    pub(super) e: usize,
}

/// Rows of `f32`: `count` of them, `row` numbers apart.
#[derive(Clone, Copy)]
pub(super) struct Few {
    pub(super) start: *const f32,
    pub(super) count: usize,
    pub(super) row: usize,
}

/// Rows of `f32` to write, as many as the others have.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) start: *mut f32,
    pub(super) row: usize,
}

/// Sixteen numbers of a row from the `i`-th on.
///
/// # Safety
/// They lie in the row, and the CPU has AVX-512 F, BW and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
unsafe fn load512<const FORMAT: u8>(row: *const u8, i: usize) -> __m512 {
    // SAFETY: the caller's promise; a block of Q8_0 has 2 bytes of scale and 32 of levels.
    unsafe {
        match FORMAT {
            F32 => _mm512_loadu_ps(row.cast::<f32>().add(i)),
            BF16 => {
                let halves = _mm256_loadu_si256(row.cast::<u16>().add(i).cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
            }
            _ => {
                let block = row.add(i / 32 * 34);
                let scale = _mm512_cvtph_ps(_mm256_set1_epi16(block.cast::<i16>().read_unaligned()));
                let levels = _mm_loadu_si128(block.add(2 + i % 32).cast());
                _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels)))
            }
        }
    }
}

/// Eight numbers of a row from the `i`-th on; of `f32` or bf16.
///
/// # Safety
/// They lie in the row, and the CPU has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load256<const FORMAT: u8>(row: *const u8, i: usize) -> __m256 {
    const { assert!(FORMAT == F32 || FORMAT == BF16) };
    // SAFETY: the caller's promise.
    unsafe {
        if FORMAT == F32 {
            return _mm256_loadu_ps(row.cast::<f32>().add(i));
        }
        let halves = _mm_loadu_si128(row.cast::<u16>().add(i).cast());
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    }
}

/// The sums of four registers' lanes, as pairs of pairs.
#[target_feature(enable = "avx2")]
#[inline]
fn sums256([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
    let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    let all = _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xEE>(ab, cd));
    let sums = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
    let mut out = [0.0; 4];
    // SAFETY: four numbers are written to an array of four.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

/// The sums of four registers' lanes, as pairs of pairs.
#[target_feature(enable = "avx2,avx512f,avx512dq")]
#[inline]
fn sums512(registers: [__m512; 4]) -> [f32; 4] {
    let mut halves = [_mm256_setzero_ps(); 4];
    for (half, x) in halves.iter_mut().zip(registers) {
        *half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    }
    sums256(halves)
}

/// Defines the two products for blocks of up to `$most` queries and four keys or registers of columns.
macro_rules! few {
    ($dots:ident, $dots_block:ident, $mix:ident, $mix_block:ident, $features:literal, $most:literal, $lanes:literal,
     $zero:ident, $get:ident, $load:ident, $store:ident, $splat:ident, $fma:ident, $sums:ident) => {
        /// `out[i][j] = Σ q[i] · k[j]`.
        ///
        /// # Safety
        /// The CPU has the instructions, and all rows lie in memory that may be read or written.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $dots<const FORMAT: u8>(q: Few, k: Rows, out: Out) {
            for i in (0..q.count).step_by($most) {
                // SAFETY: the caller's promise; fewer rows than a block has are left.
                unsafe {
                    let q = Few { start: q.start.add(i * q.row), ..q };
                    let out = Out { start: out.start.add(i * out.row), ..out };
                    match ($most as usize).min(q.count - i) {
                        1 => $dots_block::<FORMAT, 1>(q, k, out),
                        2 => $dots_block::<FORMAT, 2>(q, k, out),
                        3 => $dots_block::<FORMAT, { if $most < 3 { 1 } else { 3 } }>(q, k, out),
                        _ => $dots_block::<FORMAT, $most>(q, k, out),
                    }
                }
            }
        }

        /// # Safety
        /// As above, with `H` rows of `q` and `out`.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $dots_block<const FORMAT: u8, const H: usize>(q: Few, k: Rows, out: Out) {
            for j in (0..k.n).step_by(4) {
                let here = (k.n - j).min(4);
                // SAFETY: keys past the last are the last again, and their sums are not stored.
                unsafe {
                    let mut rows = [k.start; 4];
                    for (r, row) in rows.iter_mut().enumerate() {
                        *row = k.start.add((j + r).min(k.n - 1) * k.step);
                    }
                    let mut sums = [[$zero(); 4]; H];
                    for i in (0..k.e).step_by($lanes) {
                        let mut x = [$zero(); 4];
                        for r in 0..4 {
                            x[r] = $get::<FORMAT>(rows[r], i);
                        }
                        for h in 0..H {
                            let q = $load(q.start.add(h * q.row + i));
                            for r in 0..4 {
                                sums[h][r] = $fma(q, x[r], sums[h][r]);
                            }
                        }
                    }
                    for h in 0..H {
                        let sums = $sums(sums[h]);
                        for r in 0..here {
                            *out.start.add(h * out.row + j + r) = sums[r];
                        }
                    }
                }
            }
        }

        /// `out[i] += Σ_j p[i][j] · v[j]`.
        ///
        /// # Safety
        /// As for the other.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $mix<const FORMAT: u8>(p: Few, v: Rows, out: Out) {
            for i in (0..p.count).step_by($most) {
                // SAFETY: as for the other; columns in fours of registers, and then one by one.
                unsafe {
                    let p = Few { start: p.start.add(i * p.row), ..p };
                    let out = Out { start: out.start.add(i * out.row), ..out };
                    let mut column = 0;
                    while column < v.e {
                        let wide = column + 4 * $lanes <= v.e;
                        match (($most as usize).min(p.count - i), wide) {
                            (1, true) => $mix_block::<FORMAT, 1, 4>(p, v, out, column),
                            (2, true) => $mix_block::<FORMAT, 2, 4>(p, v, out, column),
                            (3, true) => {
                                $mix_block::<FORMAT, { if $most < 3 { 1 } else { 3 } }, 4>(p, v, out, column)
                            }
                            (_, true) => $mix_block::<FORMAT, $most, 4>(p, v, out, column),
                            (1, false) => $mix_block::<FORMAT, 1, 1>(p, v, out, column),
                            (2, false) => $mix_block::<FORMAT, 2, 1>(p, v, out, column),
                            (3, false) => {
                                $mix_block::<FORMAT, { if $most < 3 { 1 } else { 3 } }, 1>(p, v, out, column)
                            }
                            (_, false) => $mix_block::<FORMAT, $most, 1>(p, v, out, column),
                        }
                        column += if wide { 4 * $lanes } else { $lanes };
                    }
                }
            }
        }

        /// # Safety
        /// As above, with `H` rows of `p` and `out` and `C` registers of columns from `column` on.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $mix_block<const FORMAT: u8, const H: usize, const C: usize>(
            p: Few,
            v: Rows,
            out: Out,
            column: usize,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                let mut sums = [[$zero(); C]; H];
                for h in 0..H {
                    for c in 0..C {
                        sums[h][c] = $load(out.start.add(h * out.row + column + c * $lanes));
                    }
                }
                for j in 0..v.n {
                    let row = v.start.add(j * v.step);
                    let mut x = [$zero(); C];
                    for c in 0..C {
                        x[c] = $get::<FORMAT>(row, column + c * $lanes);
                    }
                    for h in 0..H {
                        let p = $splat(*p.start.add(h * p.row + j));
                        for c in 0..C {
                            sums[h][c] = $fma(p, x[c], sums[h][c]);
                        }
                    }
                }
                for h in 0..H {
                    for c in 0..C {
                        $store(out.start.add(h * out.row + column + c * $lanes), sums[h][c]);
                    }
                }
            }
        }
    };
}

// 16 of 32 registers hold sums, 4 numbers of keys.
few!(
    dots512,
    dots_block512,
    mix512,
    mix_block512,
    "avx2,avx512f,avx512bw,avx512dq,avx512vl",
    4,
    16,
    _mm512_setzero_ps,
    load512,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    sums512
);
// 8 of 16 registers hold sums, 4 numbers of keys.
few!(
    dots256,
    dots_block256,
    mix256,
    mix_block256,
    "avx2,fma",
    2,
    8,
    _mm256_setzero_ps,
    load256,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    sums256
);
