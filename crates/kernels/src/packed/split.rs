//! Products whose activations have two terms: what rounding makes of a number, and what rounding makes of the rest.
//!
//! `x ≈ r(x) + r(x − r(x))`, so `y = W·r(x) + W·r(x − r(x))`: 16 bits of precision for twice the arithmetic of
//! [`linear`], and the weights are read as often. It is the splitting of Henry, Tang & Heinecke 2019,
//! <https://arxiv.org/abs/1904.06376>, for integers too.
//!
//! Both terms of some rows pass as rows of one product and are added up behind it. A row still has the bits of the row
//! among others, and the same for any number of threads.

use super::activations::{self, BLOCK};
use super::product::{Product, check, linear};
use crate::blocks::{Format, half::rounded_to_bf16};
use crate::disjoint::{Disjoint, for_row_ranges, rows_per_task};
use crate::{Write, dest::Dest, isa, scratch, team};

/// Rows that pass together; their sums wait in a thread's working memory.
const ROWS: usize = 256;

/// [`linear`] with activations in two terms; see the file's head.
///
/// # Panics
/// As [`linear`].
pub fn linear_split(x: &[f32], products: &mut [Product<'_>]) {
    let Some((m, k)) = check(x, products) else { return };
    // What is left of a number depends on what it is rounded to.
    for alike in products.chunk_by_mut(|a, b| pairs(a) == pairs(b)) {
        let pairs = pairs(&alike[0]);
        for start in (0..m).step_by(ROWS) {
            let rows = start..m.min(start + ROWS);
            let x = &x[rows.start * k..rows.end * k];
            scratch::with(2 * x.len(), |terms: &mut [f32]| {
                let (whole, rest) = terms.split_at_mut(x.len());
                whole.copy_from_slice(x);
                team::for_each_chunk(rest, k * rows_per_task(k), |i, rest| {
                    let x = &x[i * k * rows_per_task(k)..][..rest.len()];
                    remainder(pairs, x, k, rest);
                });
                match &mut *alike {
                    [a, b, c] => together(terms, rows.start, [a, b, c]),
                    [a, b] => together(terms, rows.start, [a, b]),
                    more => more.iter_mut().for_each(|one| together(terms, rows.start, [one])),
                }
            });
        }
    }
}

/// Whether activations become bf16, rather than integers.
fn pairs(product: &Product<'_>) -> bool {
    product.weight.format() == Format::Bf16
}

/// What rounding leaves of each number.
fn remainder(pairs: bool, x: &[f32], k: usize, rest: &mut [f32]) {
    isa::dispatch(
        #[inline(always)]
        |_| {
            if pairs {
                for (rest, &x) in rest.iter_mut().zip(x) {
                    *rest = x - f32::from_bits(rounded_to_bf16(x));
                }
                return;
            }
            debug_assert!(k.is_multiple_of(BLOCK), "packed: rows of {k} are not whole blocks");
            for (rest, x) in rest.as_chunks_mut::<BLOCK>().0.iter_mut().zip(x.as_chunks::<BLOCK>().0) {
                let block = activations::block(x);
                for ((rest, x), &level) in rest.iter_mut().zip(x).zip(&block.levels) {
                    *rest = x - block.scale * f32::from(level);
                }
            }
        },
    );
}

/// Rows from `start` on of some products, whose activations are in `terms`: the first of all rows, then the second.
fn together<const N: usize>(terms: &[f32], start: usize, products: [&mut Product<'_>; N]) {
    let twice = terms.len() / products[0].weight.cols();
    let rows = twice / 2;
    let widths = products.each_ref().map(|p| p.weight.rows());
    scratch::with(twice * widths.iter().sum::<usize>(), |sums: &mut [f32]| {
        let mut left = &mut *sums;
        let mut parts = widths.map(|n| {
            let (now, later) = std::mem::take(&mut left).split_at_mut(twice * n);
            left = later;
            now
        });
        let mut i = 0;
        let mut doubled = parts.each_mut().map(|y| {
            i += 1;
            Product { weight: products[i - 1].weight, bias: None, y: Dest::store(y) }
        });
        linear(terms, &mut doubled);
        for ((product, sums), n) in products.into_iter().zip(parts).zip(widths) {
            let (first, second) = sums.split_at(rows * n);
            let y = Disjoint::new(&mut product.y.data[start * n..(start + rows) * n]);
            let (bias, write) = (product.bias, product.y.write);
            for_row_ranges(rows, rows_per_task(n), |_, rows| {
                for row in rows {
                    let at = row * n..(row + 1) * n;
                    // SAFETY: each row is in one range.
                    let y = unsafe { y.slice(at.clone()) };
                    add(y, (&first[at.clone()], &second[at]), bias, write);
                }
            });
        }
    });
}

/// `y = first + second + bias`, stored or added.
fn add(y: &mut [f32], (first, second): (&[f32], &[f32]), bias: Option<&[f32]>, write: Write) {
    isa::dispatch(
        #[inline(always)]
        |_| {
            for (j, (y, (a, b))) in y.iter_mut().zip(first.iter().zip(second)).enumerate() {
                let sum = a + b + bias.map_or(0.0, |bias| bias[j]);
                *y = if write == Write::Add { *y + sum } else { sum };
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::{self, multiply::Matrix};
    use crate::packed::{Packed, Panels};
    use crate::testing::{numbers, on_every_isa};

    /// A matrix `[n, k]` in a format, and what it decodes to.
    fn weight(format: Format, n: usize, k: usize) -> (Packed, Vec<f32>) {
        let mut bytes = vec![0; n * format.row_bytes(k).expect("whole blocks")];
        blocks::encode(format, &numbers::<f32>(n as u64, n * k), &mut bytes);
        let mut dense = vec![0.0; n * k];
        blocks::decode(format, &bytes, &mut dense);
        let packed = Packed::of(Matrix { format, bytes: &bytes, rows: n, cols: k }).expect("a layout");
        (packed, dense)
    }

    /// `y = x·Wᵀ + bias` in `f64`, and the sum of the magnitudes of each element's terms.
    fn reference(x: &[f32], w: &[f32], bias: &[f32], k: usize) -> Vec<(f64, f64)> {
        let terms = |x: &[f32], w: &[f32]| {
            x.iter().zip(w).fold((0.0, 0.0), |(sum, size), (&x, &w)| {
                let term = f64::from(x) * f64::from(w);
                (sum + term, size + term.abs())
            })
        };
        let row = |x: &[f32]| -> Vec<_> {
            let sums = w.chunks_exact(k).map(|w| terms(x, w)).zip(bias);
            sums.map(|((sum, size), &b)| (sum + f64::from(b), size)).collect()
        };
        x.chunks_exact(k).flat_map(row).collect()
    }

    #[test]
    fn two_terms_are_hundreds_of_times_as_exact_as_one() {
        let (k, m) = (512, 7);
        let (bf16, q4, q8) =
            (weight(Format::Bf16, 70, k), weight(Format::Q4_K, 37, k), weight(Format::Q8_0, 33, k));
        let x = numbers::<f32>(5, m * k);
        let biases = [70, 37, 33].map(|n| numbers::<f32>(9, n));
        on_every_isa(|| {
            for (run, share) in [(linear as fn(&[f32], &mut [Product<'_>]), 1.0), (linear_split, 0.01)] {
                // Kinds in turns, stored and added.
                let weights = [&q4, &bf16, &q8];
                let order = [1, 0, 2];
                let mut outputs = order.map(|b| vec![1.0; m * biases[b].len()]);
                let mut products: Vec<_> = (outputs.iter_mut().enumerate())
                    .map(|(i, y)| Product {
                        weight: Panels::from(&weights[i].0),
                        bias: Some(&biases[order[i]]),
                        y: if i == 1 { Dest::add(y) } else { Dest::store(y) },
                    })
                    .collect();
                run(&x, &mut products);
                for (i, found) in outputs.iter().enumerate() {
                    let expected = reference(&x, &weights[i].1, &biases[order[i]], k);
                    let before = if i == 1 { 1.0 } else { 0.0 };
                    for (&found, (sum, size)) in found.iter().zip(expected) {
                        let off = (f64::from(found) - sum - before).abs();
                        assert!(off <= share * 4e-3 * size + 1e-5, "{i}: {off} of {size}, share {share}");
                    }
                }
            }
        });
    }

    #[test]
    fn a_row_alone_has_the_bits_of_the_row_among_others() {
        let (k, m) = (256, ROWS + 3);
        let weights = [weight(Format::Q8_0, 5, k).0, weight(Format::Q6_K, 11, k).0];
        let x = numbers::<f32>(1, m * k);
        let run = |x: &[f32], threads: usize| {
            let mut outputs = weights.each_ref().map(|w| vec![f32::NAN; x.len() / k * w.rows()]);
            let mut products: Vec<_> = (weights.iter().zip(&mut outputs))
                .map(|(w, y)| Product { weight: w.into(), bias: None, y: Dest::store(y) })
                .collect();
            team::with_threads(threads, || linear_split(x, &mut products));
            outputs
        };
        let all = run(&x, 1);
        assert_eq!(run(&x, 3), all);
        for row in [0, 1, ROWS - 1, ROWS, m - 1] {
            let alone = run(&x[row * k..(row + 1) * k], 2);
            for (alone, all) in alone.iter().zip(&all) {
                assert_eq!(alone[..], all[row * alone.len()..][..alone.len()], "row {row}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so_in_its_row() {
        let k = 64;
        for format in [Format::Q4_0, Format::Bf16] {
            let (w, _) = weight(format, 3, k);
            let mut x = numbers::<f32>(1, 2 * k);
            x[k + 3] = f32::INFINITY;
            let mut y = [0.0; 6];
            let product = Product { weight: (&w).into(), bias: None, y: Dest::store(&mut y) };
            linear_split(&x, &mut [product]);
            assert!(y[..3].iter().all(|y| y.is_finite()) && y[3..].iter().all(|y| !y.is_finite()), "{y:?}");
        }
    }
}
