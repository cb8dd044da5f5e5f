//! The layout of bf16: panels of 64 rows of `W`, pairs along the depth.
//!
//! A pair is a `u32` with the even number in its lower half; a panel holds, for each pair of the depth, those of its 64
//! rows side by side. Activations are rounded to bf16 as well, to the nearest, ties to even, and products are summed in
//! `f32`: by the dot product instruction where there is one, else as `f32`, to which the pairs are widened again.
//!
//! A sum goes along the depth in order, in blocks whose sums meet in order too, whatever the height of the tile: a row
//! alone has the bits of the row among others.

use super::layout::{Layout, Rows, To};
use super::product::Activations;
use crate::Write;
use crate::isa::{self, Isa};
use crate::matmul::bf16::{PANEL, round_rows};
use crate::matmul::grid;
use crate::matmul::tile::{self, Call, Tiles};
use crate::transpose::transpose;

/// Weights in bf16.
pub(super) enum Bf16 {}

/// Rows that become lanes together, and pairs that are read at once from each.
const ROWS: usize = 16;
const PAIRS: usize = 64;

fn pairs(cols: usize) -> usize {
    cols.div_ceil(2)
}

/// Whether activations stay in pairs; else each is two `f32` of the same bits.
fn in_pairs(isa: Isa) -> bool {
    isa == Isa::Avx512Dot
}

impl Layout for Bf16 {
    /// A pair, or the bits of one number of it.
    type Unit = u32;
    const PANEL: usize = PANEL;
    const TALLEST: usize = 12;

    #[inline(always)]
    fn panel_bytes(cols: usize) -> usize {
        pairs(cols) * PANEL * size_of::<u32>()
    }

    #[inline(always)]
    fn units(cols: usize) -> usize {
        // A line more than needed, so that rows do not meet in the same sets of a cache.
        let line = 64 / size_of::<u32>();
        (pairs(cols) * if in_pairs(isa::current()) { 1 } else { 2 }).next_multiple_of(line) + line
    }

    #[inline(always)]
    fn height(rows: usize) -> usize {
        rows.min(Self::TALLEST)
    }

    #[inline(always)]
    fn activations<'a>(all: &Activations<'a>) -> &'a [u32] {
        all.pairs
    }

    #[inline(always)]
    fn pack(rows: &Rows<'_>, panel: &mut [u8]) {
        panel.fill(0);
        // SAFETY: any bytes are pairs.
        let (before, panel, after) = unsafe { panel.align_to_mut::<u32>() };
        assert!(before.is_empty() && after.is_empty(), "packed: expected an aligned panel");
        let pairs = panel.len() / PANEL;
        let mut aside = [[0_u32; PAIRS]; ROWS];
        for first in (0..rows.bytes.len() / rows.row_bytes).step_by(ROWS) {
            let strip = &rows.bytes[first * rows.row_bytes..];
            for start in (0..pairs).step_by(PAIRS) {
                let bytes = start * 4..rows.row_bytes.min((start + PAIRS) * 4);
                let mut height = 0;
                for (row, aside) in strip.chunks_exact(rows.row_bytes).take(ROWS).zip(&mut aside) {
                    let (whole, odd) = row[bytes.clone()].as_chunks::<4>();
                    for (pair, bytes) in aside.iter_mut().zip(whole) {
                        *pair = u32::from_le_bytes(*bytes);
                    }
                    if let [low, high] = odd {
                        aside[whole.len()] = u32::from_le_bytes([*low, *high, 0, 0]);
                    }
                    height += 1;
                }
                let width = bytes.len().div_ceil(4);
                let to = &mut panel[start * PANEL + first..];
                assert!(height <= PANEL - first && (width - 1) * PANEL + height <= to.len());
                // SAFETY: `height` rows of `width` pairs are aside; the assertion leaves room for them.
                unsafe {
                    transpose(
                        isa::current(),
                        (aside[0].as_ptr(), PAIRS),
                        (to.as_mut_ptr(), PANEL),
                        height,
                        width,
                    );
                }
            }
        }
    }

    #[inline(always)]
    fn prepare(x: &[f32], cols: usize, height: usize, out: &mut [u32]) {
        let stride = Self::units(cols);
        let x = &x[..height * cols];
        round_rows(isa::current(), x, cols, &mut out[..height * stride], stride);
    }

    fn product(isa: Isa, panel: &[u8], x: &[u32], height: usize, sums: &mut [f32]) {
        let sums = &mut sums[..height * PANEL];
        let to = To { start: sums.as_mut_ptr(), stride: PANEL, cols: PANEL };
        // SAFETY: the slice.
        unsafe { Self::store(isa, panel, x, height, to) };
    }

    unsafe fn store(isa: Isa, panel: &[u8], x: &[u32], height: usize, to: To) -> bool {
        if height == 0 {
            return true;
        }
        // SAFETY: any bytes are pairs.
        let (before, panel, _) = unsafe { panel.align_to::<u32>() };
        assert!(before.is_empty(), "packed: expected an aligned panel");
        // SAFETY: the caller's promise for the output; the CPU has the instruction set, as the trait says; two numbers
        // are as many bytes as two units.
        unsafe {
            match tile::dot(isa) {
                Some(tiles) => product(&tiles, panel, (x.as_ptr(), x.len() / height), x.len(), height, to),
                None => {
                    let stride = x.len() / height / 2;
                    let tiles = if height == 1 { tile::widened_row(isa) } else { tile::widened(isa) };
                    product(&tiles, panel, (x.as_ptr().cast(), stride), x.len() / 2, height, to);
                }
            }
        }
        true
    }
}

/// All tiles of a panel; rows of `x` are `stride` steps from one to the next, `len` steps in all.
///
/// # Safety
/// `len` steps of `x` may be read, and `to` be written and read; the instruction set of the tiles must be there.
unsafe fn product<L>(
    tiles: &Tiles<L, u32, f32>,
    panel: &[u32],
    (x, stride): (*const L, usize),
    len: usize,
    height: usize,
    to: To,
) {
    let steps = panel.len() / PANEL;
    assert!(
        height * stride <= len && steps <= stride && to.cols <= PANEL,
        "packed: expected {height} prepared rows of {steps} pairs"
    );
    for (i, block) in grid::blocks(steps).iter().enumerate() {
        for row in (0..height).step_by(tiles.rows()) {
            for col in (0..to.cols).step_by(tiles.cols()) {
                let call = Call {
                    left: x.wrapping_add(row * stride + block.start),
                    left_row: stride,
                    left_step: 1,
                    right: panel.as_ptr().wrapping_add(block.start * PANEL + col),
                    right_step: PANEL,
                    steps: block.len(),
                    out: to.start.wrapping_add(row * to.stride + col),
                    out_stride: to.stride,
                    cols: tiles.cols().min(to.cols - col),
                    alpha: 1.0,
                    write: if i == 0 { Write::Store } else { Write::Add },
                };
                // SAFETY: the assertions above and the caller's promise: rows below `height`, steps below `steps`,
                // columns below those of the output, and tiles whose columns divide the panel's.
                unsafe { tiles.run(tiles.rows().min(height - row), &call) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::blocks::{self, Format, multiply::Matrix};
    use crate::packed::{Packed, Product, linear};
    use crate::testing::{junk, numbers, on_every_isa, same_bits_on_any_threads};
    use crate::{Dest, rng};

    /// `f32` sums of products of bf16, relative to the sum of their magnitudes.
    const SUMS: f64 = 1e-5;

    /// Weights `[n, k]` as bytes, and the numbers that they are.
    fn weights(n: usize, k: usize) -> (Vec<u8>, Vec<f32>) {
        let numbers: Vec<f32> = (0..n * k).map(|i| rng::unit(3, i as u64) as f32 * 2.0 - 1.0).collect();
        through_bf16(&numbers)
    }

    fn through_bf16(numbers: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let mut bytes = vec![0; 2 * numbers.len()];
        blocks::encode(Format::Bf16, numbers, &mut bytes);
        let mut rounded = vec![0.0; numbers.len()];
        blocks::decode(Format::Bf16, &bytes, &mut rounded);
        (bytes, rounded)
    }

    fn packed(bytes: &[u8], n: usize, k: usize) -> Packed {
        Packed::of(Matrix { format: Format::Bf16, bytes, rows: n, cols: k }).expect("a layout")
    }

    fn run(w: &Packed, x: &[f32]) -> Vec<f32> {
        let mut y = junk(x.len() / w.cols() * w.rows());
        linear(x, &mut [Product { weight: w.into(), bias: None, y: Dest::store(&mut y) }]);
        y
    }

    #[test]
    fn products_are_those_of_the_rounded_activations() {
        for (n, k) in [(1, 1), (64, 32), (67, 130), (129, 77), (3, 2051)] {
            let (bytes, w) = weights(n, k);
            for m in [1, 2, 5, 6, 7, 12, 13, 31] {
                let x = numbers::<f32>(5, m * k);
                let rounded = through_bf16(&x).1;
                on_every_isa(|| {
                    let y = run(&packed(&bytes, n, k), &x);
                    for (i, x) in rounded.chunks_exact(k).enumerate() {
                        for (j, w) in w.chunks_exact(k).enumerate() {
                            let products = || x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
                            let (want, size) =
                                (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                            let found = f64::from(y[i * n + j]);
                            assert!(
                                (found - want).abs() <= SUMS * size,
                                "[{n}, {k}], {m} rows: {found} for {want}"
                            );
                        }
                    }
                });
            }
        }
    }

    #[test]
    fn a_row_alone_has_the_bits_of_the_row_among_others() {
        let (n, k) = (70, 1100); // two blocks of the depth
        let (bytes, _) = weights(n, k);
        let w = packed(&bytes, n, k);
        let x = numbers::<f32>(6, 29 * k);
        on_every_isa(|| {
            let alone: Vec<f32> = x.chunks_exact(k).flat_map(|x| run(&w, x)).collect();
            for m in [2, 6, 7, 8, 13, 29] {
                assert_eq!(run(&w, &x[..m * k]), alone[..m * n], "{m} rows");
            }
        });
    }

    #[test]
    fn rows_that_wait_for_the_next_pass_have_the_bits_of_rows_alone() {
        let (n, k) = (1, 90_000); // 48 rows a pass
        let (bytes, _) = weights(n, k);
        let w = packed(&bytes, n, k);
        let x = numbers::<f32>(6, 50 * k);
        let alone: Vec<f32> = x.chunks_exact(k).flat_map(|x| run(&w, x)).collect();
        assert_eq!(run(&w, &x), alone);
    }

    #[test]
    fn what_is_stored_has_the_bits_of_what_is_added_to_zeros() {
        let k = 1100; // two blocks of the depth
        for n in [1, 15, 64, 70, 144] {
            let (bytes, _) = weights(n, k);
            let w = packed(&bytes, n, k);
            let bias = numbers::<f32>(10, n);
            for m in [1, 5, 13, 50] {
                let x = numbers::<f32>(6, m * k);
                on_every_isa(|| {
                    for bias in [None, Some(&bias[..])] {
                        let (mut stored, mut added) = (junk(m * n), vec![0.0; m * n]);
                        for y in [Dest::store(&mut stored), Dest::add(&mut added)] {
                            linear(&x, &mut [Product { weight: (&w).into(), bias, y }]);
                        }
                        assert_eq!(stored, added, "[{n}, {k}], {m} rows");
                    }
                });
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (n, k) = (200, 300);
        let (bytes, _) = weights(n, k);
        let w = packed(&bytes, n, k);
        for m in [1, 150] {
            let x = numbers::<f32>(7, m * k);
            on_every_isa(|| {
                same_bits_on_any_threads(|| run(&w, &x));
            });
        }
    }

    #[test]
    fn one_x_meets_weights_of_both_kinds() {
        let k = 64;
        let (bytes, _) = weights(5, k);
        let other: Vec<f32> = numbers(8, 3 * k);
        let mut q8 = vec![0; 3 * k / 32 * 34];
        blocks::encode(Format::Q8_0, &other, &mut q8);
        let w = packed(&bytes, 5, k);
        let v = Packed::of(Matrix { format: Format::Q8_0, bytes: &q8, rows: 3, cols: k }).expect("a layout");
        let x = numbers::<f32>(9, 2 * k);
        let (mut y, mut z) = (junk(10), junk(6));
        linear(
            &x,
            &mut [
                Product { weight: (&w).into(), bias: None, y: Dest::store(&mut y) },
                Product { weight: (&v).into(), bias: None, y: Dest::store(&mut z) },
            ],
        );
        assert_eq!((y, z), (run(&w, &x), run(&v, &x)));
    }

    #[test]
    fn what_is_not_finite_stays_so_and_reaches_its_row_alone() {
        let (n, k) = (66, 35);
        let (bytes, _) = weights(n, k);
        let w = packed(&bytes, n, k);
        for special in [f32::NAN, f32::INFINITY] {
            let mut x = vec![1.0; 3 * k];
            x[2 * k - 1] = special;
            on_every_isa(|| {
                let y = run(&w, &x);
                assert!(y[..n].iter().chain(&y[2 * n..]).all(|y| y.is_finite()));
                assert!(y[n..2 * n].iter().all(|y| !y.is_finite()));
            });
        }
    }
}
