//! Every format against sums in `f64` of the same rounded activations: shapes, heights, threads, instruction sets.

use super::activations::{BLOCK, block};
use super::*;
use crate::{Dest, blocks, rng, testing::*};

/// `f32` sums of some hundred terms, relative to the norms of the two rows.
const SUMS: f64 = 1e-5;
/// What rounding activations to 127 levels of the largest of 32 may cost, relative to the same; for activations that
/// are spread evenly the error of a number is below a two-hundredth of the root of their mean square.
const ROUNDING: f64 = 5e-3;

const FORMATS: [Format; 8] = [
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
];

/// Blocks with every bit pattern of levels, and scales that make numbers of up to about one.
fn random_blocks(format: Format, count: usize) -> Vec<u8> {
    let size = format.block_bytes();
    let mut bytes: Vec<u8> = (0..count * size).map(|i| (rng::unit(11, i as u64) * 256.0) as u8).collect();
    let (halves, exponent): (&[usize], u8) = match format {
        Format::Q4_0 | Format::Q5_0 => (&[0], 11),
        Format::Q4_1 | Format::Q5_1 => (&[0, 2], 11),
        Format::Q8_0 => (&[0], 8),
        Format::Q4_K | Format::Q5_K => (&[0, 2], 5),
        Format::Q6_K => (&[208], 4),
        other => unreachable!("{other} is not packed"),
    };
    for block in bytes.chunks_exact_mut(size) {
        for &at in halves {
            block[at + 1] = (block[at + 1] & 0x83) | (exponent << 2);
        }
    }
    bytes
}

/// A matrix, its packed form and what it decodes to.
struct Case {
    n: usize,
    k: usize,
    packed: Packed,
    dense: Vec<f32>,
}

impl Case {
    fn new(format: Format, n: usize, k: usize) -> Self {
        let bytes = random_blocks(format, n * k / format.block());
        let mut dense = vec![0.0; n * k];
        blocks::decode(format, &bytes, &mut dense);
        let packed = Packed::of(Matrix { format, bytes: &bytes, rows: n, cols: k }).expect("a layout");
        assert_eq!((packed.rows(), packed.cols(), packed.format()), (n, k, format));
        Self { n, k, packed, dense }
    }

    fn run(&self, x: &[f32]) -> Vec<f32> {
        let mut y = junk(x.len() / self.k * self.n);
        linear(x, &mut [Product { weight: (&self.packed).into(), bias: None, y: Dest::store(&mut y) }]);
        y
    }

    /// Every output within `tolerance` of the sum over `x`, relative to the norms of its rows.
    #[track_caller]
    fn check(&self, y: &[f32], x: &[f32], full: &[f32], tolerance: f64) {
        let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        for (i, (x, full)) in x.chunks_exact(self.k).zip(full.chunks_exact(self.k)).enumerate() {
            for (j, w) in self.dense.chunks_exact(self.k).enumerate() {
                let want: f64 = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                let found = f64::from(y[i * self.n + j]);
                let error = (found - want).abs() / (norm(full) * norm(w));
                assert!(
                    error <= tolerance,
                    "[{i}, {j}]: expected {want}, found {found}: {error:e} of the norms"
                );
            }
        }
    }
}

/// What activations are rounded to.
fn rounded(x: &[f32]) -> Vec<f32> {
    let blocks = x.as_chunks::<BLOCK>().0.iter().map(block);
    blocks.flat_map(|block| block.levels.map(|level| block.scale * f32::from(level))).collect()
}

#[test]
fn products_are_sums_over_the_rounded_activations_and_near_those_over_the_full_ones() {
    for format in FORMATS {
        for (n, k) in [(1, 1), (67, 3), (32, 2)] {
            let case = Case::new(format, n, k * format.block());
            for m in [1, 2, 3, 4, 5, 7, 8, 9, 33] {
                let x = numbers::<f32>(5, m * case.k);
                on_every_isa(|| {
                    let y = case.run(&x);
                    case.check(&y, &rounded(&x), &x, SUMS);
                    case.check(&y, &x, &x, ROUNDING);
                });
            }
        }
    }
}

#[test]
fn a_row_alone_has_the_bits_of_the_row_among_others() {
    for format in FORMATS {
        let case = Case::new(format, 45, 2 * 256);
        let x = numbers::<f32>(6, 19 * case.k);
        on_every_isa(|| {
            for m in [2, 3, 5, 8, 13, 19] {
                let together = case.run(&x[..m * case.k]);
                for i in 0..m {
                    let alone = case.run(&x[i * case.k..(i + 1) * case.k]);
                    assert_eq!(alone, together[i * case.n..(i + 1) * case.n], "{format}, row {i} of {m}");
                }
            }
        });
    }
}

#[test]
fn a_row_alone_has_the_bits_of_the_row_in_a_product_that_is_cut() {
    for format in [Format::Q8_0, Format::Q4_K] {
        let case = Case::new(format, 64, 512);
        for m in [50, 130, 333] {
            let x = numbers::<f32>(6, m * case.k);
            let together = case.run(&x);
            for (i, x) in x.chunks_exact(case.k).enumerate() {
                assert_eq!(case.run(x), together[i * case.n..(i + 1) * case.n], "{format}, row {i} of {m}");
            }
        }
    }
}

#[test]
fn every_number_of_threads_gives_the_same_bits() {
    for format in [Format::Q8_0, Format::Q4_K] {
        let case = Case::new(format, 700, 1024);
        for m in [1, 3, 70] {
            same_bits_on_any_threads(|| case.run(&numbers::<f32>(7, m * case.k)));
        }
    }
}

#[test]
fn several_products_of_mixed_formats_are_those_of_each_alone() {
    let cases: Vec<Case> = (0..11).map(|i| Case::new(FORMATS[i % 8], 5 + 31 * i, 256)).collect();
    let x = numbers::<f32>(8, 3 * 256);
    let mut outputs: Vec<Vec<f32>> = cases.iter().map(|case| junk(3 * case.n)).collect();
    let mut products: Vec<Product<'_>> = cases
        .iter()
        .zip(&mut outputs)
        .map(|(case, y)| Product { weight: (&case.packed).into(), bias: None, y: Dest::store(y) })
        .collect();
    linear(&x, &mut products);
    for (case, y) in cases.iter().zip(&outputs) {
        assert_eq!(*y, case.run(&x));
    }
}

#[test]
fn a_bias_is_added_and_an_output_stored_or_added_to() {
    let case = Case::new(Format::Q8_0, 37, 64);
    let x = numbers::<f32>(9, 2 * case.k);
    let plain = case.run(&x);
    let bias = numbers::<f32>(10, case.n);
    for bias in [None, Some(&bias[..])] {
        let added = |j: usize| bias.map_or(0.0, |bias| bias[j % case.n]);
        let (mut stored, mut sum) = (junk(plain.len()), vec![3.0; plain.len()]);
        linear(&x, &mut [Product { weight: (&case.packed).into(), bias, y: Dest::store(&mut stored) }]);
        linear(&x, &mut [Product { weight: (&case.packed).into(), bias, y: Dest::add(&mut sum) }]);
        for (j, plain) in plain.iter().enumerate() {
            assert_eq!(stored[j], plain + added(j));
            assert_eq!(sum[j], 3.0 + (plain + added(j)));
        }
    }
}

#[test]
fn panels_made_in_passing_give_the_bits_of_those_that_are_kept() {
    for format in FORMATS.into_iter().chain([Format::Bf16]) {
        let (n, k) = (101, 512);
        let bytes = match format {
            Format::Bf16 => (0..n * k).flat_map(|i| [(i * 7) as u8, 0x3e | (i as u8 & 0x81)]).collect(),
            blocks => random_blocks(blocks, n * k / blocks.block()),
        };
        let matrix = Matrix { format, bytes: &bytes, rows: n, cols: k };
        let kept = Packed::of(matrix).expect("a layout");
        let passing = Panels::passing(matrix).expect("a layout");
        assert_eq!((passing.rows(), passing.cols(), passing.format()), (n, k, format));
        for m in [1, 3, 50] {
            let x = numbers::<f32>(17, m * k);
            let [mut expected, mut found] = [vec![f32::NAN; m * n], vec![f32::NAN; m * n]];
            linear(&x, &mut [Product { weight: (&kept).into(), bias: None, y: Dest::store(&mut expected) }]);
            linear(&x, &mut [Product { weight: passing, bias: None, y: Dest::store(&mut found) }]);
            assert!(found == expected, "{format} x {m}");
        }
    }
}

#[test]
fn packed_bytes_are_about_those_of_the_file() {
    for format in FORMATS {
        let file = 64 * 512 / format.block() * format.block_bytes();
        let packed = Case::new(format, 64, 512).packed.bytes();
        assert!(packed >= file && packed as f64 <= 1.03 * file as f64, "{format}: {packed} for {file}");
    }
}

#[test]
fn formats_without_a_layout_and_matrices_without_elements_are_not_packed() {
    let of = |format, bytes: &[u8], rows, cols| Packed::of(Matrix { format, bytes, rows, cols }).is_none();
    assert!(of(Format::F16, &[0; 8], 2, 2));
    assert!(of(Format::Q8_0, &[], 0, 32));
    assert!(of(Format::Q8_0, &[], 3, 0));
}

#[test]
fn what_is_not_finite_reaches_the_outputs_of_its_row_only() {
    for format in FORMATS {
        let case = Case::new(format, 40, 256);
        let x = numbers::<f32>(12, 3 * case.k);
        let before = case.run(&x);
        for special in [f32::NAN, f32::INFINITY] {
            let mut x = x.clone();
            x[case.k + 35] = special;
            on_every_isa(|| {
                let y = case.run(&x);
                assert!(y[case.n..2 * case.n].iter().all(|y| !y.is_finite()), "{format:?} {special}");
                close("the row before", &y[..case.n], &before[..case.n], F32);
                close("the row after", &y[2 * case.n..], &before[2 * case.n..], F32);
            });
        }
    }
}

#[test]
#[should_panic(expected = "packed: expected y [2, 5], found 9 elements")]
fn an_output_of_another_shape_is_refused() {
    let case = Case::new(Format::Q8_0, 5, 32);
    linear(
        &[0.0; 64],
        &mut [Product { weight: (&case.packed).into(), bias: None, y: Dest::store(&mut [0.0; 9]) }],
    );
}
