//! Every format against the reference: odd and empty shapes, both types, threads, instruction sets, special values.

use super::*;
use crate::{rng, testing::*};

/// Valid blocks with numbers up to about 1: random integers, and scales whose exponent is small.
fn random_blocks(format: Format, count: usize, seed: u64) -> Vec<u8> {
    let size = format.block_bytes();
    let mut bytes: Vec<u8> = (0..count * size).map(|i| (rng::unit(seed, i as u64) * 256.0) as u8).collect();
    // Where each format keeps its half-precision numbers, and the exponent that makes its largest number about 1.
    let (halves, exponent): (&[usize], u16) = match format {
        Format::F16 => (&[0], 14),
        Format::Bf16 => (&[], 0),
        Format::Q4_0 | Format::Q5_0 => (&[0], 11),
        Format::Q4_1 | Format::Q5_1 => (&[0, 2], 11),
        Format::Q8_0 => (&[0], 8),
        Format::Q2_K => (&[80, 82], 9),
        Format::Q3_K => (&[108], 8),
        Format::Q4_K | Format::Q5_K => (&[0, 2], 5),
        Format::Q6_K => (&[208], 4),
    };
    for block in bytes.chunks_exact_mut(size) {
        for &at in halves {
            block[at + 1] = (block[at + 1] & 0x83) | (exponent << 2) as u8;
        }
        if format == Format::Bf16 {
            block[1] = (block[1] & 0x80) | 0x3f;
            block[0] &= 0x7f;
        }
    }
    bytes
}

/// A product to check; the operands are made from the shape.
#[derive(Clone, Copy, Debug)]
struct Case {
    format: Format,
    m: usize,
    n: usize,
    k: usize,
}

impl Case {
    fn bytes(self) -> Vec<u8> {
        random_blocks(self.format, self.n * (self.k / self.format.block()), 7)
    }

    fn matrix(self, bytes: &[u8]) -> Matrix<'_> {
        Matrix { format: self.format, bytes, rows: self.n, cols: self.k }
    }

    fn linear<T: Element>(self, bytes: &[u8]) -> Vec<T> {
        let mut y = junk(self.m * self.n);
        linear(&numbers::<T>(1, self.m * self.k), self.matrix(bytes), Dest::store(&mut y));
        y
    }

    fn transposed<T: Element>(self, bytes: &[u8]) -> Vec<T> {
        let mut dx = junk(self.m * self.k);
        transposed(&numbers::<T>(2, self.m * self.n), self.matrix(bytes), Dest::store(&mut dx));
        dx
    }
}

/// Within rounding of the reference, in a sum of `depth` products of numbers up to about 4.
#[track_caller]
fn near<T: Element>(what: &str, found: &[T], expected: &[T], depth: usize) {
    close(what, found, expected, T::epsilon().f64() * (8.0 + 8.0 * depth as f64));
}

fn check_type<T: Element>(case: Case) {
    let Case { m, n, k, .. } = case;
    let bytes = case.bytes();
    let (x, dy) = (numbers::<T>(1, m * k), numbers::<T>(2, m * n));
    let (mut y, mut dx) = (junk::<T>(m * n), junk::<T>(m * k));
    reference::linear(&x, case.matrix(&bytes), Dest::store(&mut y));
    reference::transposed(&dy, case.matrix(&bytes), Dest::store(&mut dx));
    let (found_y, found_dx) = (case.linear::<T>(&bytes), case.transposed::<T>(&bytes));
    near(&format!("{} {case:?} y", T::NAME), &found_y, &y, k);
    near(&format!("{} {case:?} dx", T::NAME), &found_dx, &dx, n);
    // Adding is the same product, added.
    let (start_y, start_dx) = (numbers::<T>(3, m * n), numbers::<T>(4, m * k));
    let (mut added_y, mut added_dx) = (start_y.clone(), start_dx.clone());
    linear(&x, case.matrix(&bytes), Dest::add(&mut added_y));
    transposed(&dy, case.matrix(&bytes), Dest::add(&mut added_dx));
    let sum = |a: &[T], b: &[T]| a.iter().zip(b).map(|(&a, &b)| a + b).collect::<Vec<_>>();
    assert!(added_y == sum(&start_y, &found_y) && added_dx == sum(&start_dx, &found_dx), "{case:?}: added");
}

fn check(case: Case) {
    on_every_isa(|| {
        check_type::<f32>(case);
        check_type::<f64>(case);
    });
}

#[test]
fn every_format_equals_the_reference_with_few_rows_and_with_many() {
    for format in Format::ALL {
        for (m, n, k) in [(1, 7, 512), (13, 11, 256), (8, 1, 768), (67, 37, 512)] {
            check(Case { format, m, n, k });
        }
    }
}

#[test]
fn widths_that_are_odd_numbers_of_blocks_equal_the_reference() {
    for (m, n, k) in [(1, 1, 32), (1, 13, 96), (5, 3, 224), (9, 5, 32), (11, 2, 160)] {
        check(Case { format: Format::Q4_1, m, n, k });
    }
    for (m, n, k) in [(1, 1, 1), (2, 5, 13), (67, 19, 37)] {
        check(Case { format: Format::F16, m, n, k });
    }
}

#[test]
fn a_product_that_is_cut_into_panels_and_parts_equals_the_reference() {
    let decoding = Case { format: Format::Q8_0, m: 2, n: 301, k: 288 };
    assert!(Plan::linear(decoding.m, decoding.n, decoding.k).tasks() > 1);
    let prefill = Case { format: Format::Q5_1, m: 67, n: 211, k: 224 };
    let (there, back) = (Plan::linear(67, 211, 224), Plan::transposed(67, 211, 224, 32));
    assert!(there.tasks() > 1 && back.tasks() > 1);
    let long = Case { format: Format::Q6_K, m: 523, n: 3, k: 256 };
    assert!(Plan::linear(523, 3, 256).tasks() > 1);
    let deep = Case { format: Format::Bf16, m: 1, n: 1031, k: 513 };
    assert!(Plan::transposed(1, 1031, 513, 1).panel < 1031);
    crate::team::with_threads(2, || [decoding, prefill, long, deep].map(check));
}

#[test]
fn empty_shapes_store_zeros_or_add_nothing() {
    for (m, n, k) in [(0, 3, 64), (3, 0, 64), (2, 3, 0), (9, 0, 32), (0, 0, 0)] {
        check(Case { format: Format::Q4_0, m, n, k });
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (m, n, k) in [(1, 700, 288), (100, 211, 224), (600, 5, 64)] {
        let case = Case { format: Format::Q4_1, m, n, k };
        let bytes = case.bytes();
        on_every_isa(|| {
            same_bits_on_any_threads(|| case.linear::<f32>(&bytes));
            same_bits_on_any_threads(|| case.transposed::<f32>(&bytes));
        });
    }
}

#[test]
fn few_rows_have_the_same_bits_together_and_alone() {
    let case = Case { format: Format::Q5_0, m: plan::FEW, n: 131, k: 96 };
    let bytes = case.bytes();
    let x = numbers::<f32>(1, case.m * case.k);
    on_every_isa(|| {
        let together = case.linear::<f32>(&bytes);
        for (x, y) in x.chunks(case.k).zip(together.chunks(case.n)) {
            let mut alone = junk(case.n);
            linear(x, case.matrix(&bytes), Dest::store(&mut alone));
            assert_eq!(alone, y);
        }
    });
}

#[test]
fn both_types_see_the_same_weights() {
    for format in Format::ALL {
        let case = Case { format, m: 1, n: 9, k: 512 };
        let bytes = case.bytes();
        let (mut narrow, mut wide) = (junk::<f32>(9 * 512), junk::<f64>(9 * 512));
        dense(case.matrix(&bytes), &mut narrow);
        dense(case.matrix(&bytes), &mut wide);
        assert!(narrow.iter().zip(&wide).all(|(&a, &b)| f64::from(a) == b), "{format}");
        assert!(narrow.iter().all(|v| v.is_finite() && v.abs() < 8.0), "{format}: {narrow:?}");
        assert!(narrow.iter().any(|v| v.abs() > 0.05), "{format}");
    }
}

#[test]
fn rows_by_id_are_those_of_the_decoded_matrix() {
    for format in [Format::Q4_0, Format::Q6_K, Format::F16] {
        let case = Case { format, m: 1, n: 301, k: 256 };
        let bytes = case.bytes();
        let mut all = junk::<f64>(case.n * case.k);
        dense(case.matrix(&bytes), &mut all);
        let ids: Vec<u32> = (0..200).map(|i| i * 7 % 301).collect();
        let found = same_bits_on_any_threads(|| {
            let mut rows = junk::<f64>(ids.len() * case.k);
            gather(case.matrix(&bytes), &ids, &mut rows);
            rows
        });
        for (row, &id) in found.chunks(case.k).zip(&ids) {
            assert_eq!(row, &all[id as usize * case.k..][..case.k]);
        }
    }
    gather::<f32>(Matrix { format: Format::Q4_0, bytes: &[], rows: 3, cols: 0 }, &[2, 0], &mut []);
}

#[test]
fn the_adjoint_agrees_with_finite_differences() {
    let case = Case { format: Format::Q4_1, m: 2, n: 5, k: 32 };
    let bytes = case.bytes();
    let (x, dy) = (numbers::<f64>(1, 64), numbers::<f64>(2, 10));
    check_gradient("dx", &x, &case.transposed::<f64>(&bytes), |x| {
        let mut y = junk(10);
        linear(x, case.matrix(&bytes), Dest::store(&mut y));
        y.iter().zip(&dy).map(|(a, b)| a * b).sum()
    });
}

#[test]
fn not_a_number_and_infinity_reach_their_row_and_nothing_else() {
    for m in [3, 29] {
        for special in [f32::NAN, f32::INFINITY] {
            let case = Case { format: Format::Q8_0, m, n: 19, k: 64 };
            let bytes = case.bytes();
            let mut x = numbers::<f32>(1, m * case.k);
            x[case.k + 17] = special;
            on_every_isa(|| {
                let (mut y, mut expected) = (junk(m * case.n), junk(m * case.n));
                linear(&x, case.matrix(&bytes), Dest::store(&mut y));
                reference::linear(&x, case.matrix(&bytes), Dest::store(&mut expected));
                near("y", &y, &expected, case.k);
                assert!(
                    y.chunks(case.n)
                        .enumerate()
                        .all(|(i, row)| (i == 1) != row.iter().all(|v| v.is_finite()))
                );
            });
        }
    }
}

/// Runs `f` and returns what it panics with.
fn message(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    *std::panic::catch_unwind(f).expect_err("expected a panic").downcast::<String>().expect("a message")
}

#[test]
fn misuse_is_refused_with_the_shapes() {
    let bytes = vec![0_u8; 2 * 18];
    let run = |x: usize, cols: usize, rows: usize, y: usize| {
        let w = Matrix { format: Format::Q4_0, bytes: &bytes, rows, cols };
        linear(&vec![0.0_f32; x], w, Dest::store(&mut vec![0.0; y]));
    };
    assert!(message(|| run(32, 32, 3, 3)).contains("expected [3, 32] in q4_0, found 36 bytes"));
    assert!(message(|| run(40, 40, 2, 2)).contains("expected [2, 40] in q4_0"));
    assert!(message(|| run(32, 32, 2, 3)).contains("expected y in rows of 2, found 3"));
    assert!(message(|| run(32, 32, 2, 4)).contains("expected x [2, 32], found 32"));
    let w = Matrix { format: Format::Q4_0, bytes: &bytes, rows: 2, cols: 32 };
    assert!(message(|| gather(w, &[2], &mut [0.0_f32; 32])).contains("id 2 of 2 rows"));
    assert!(message(|| gather(w, &[1], &mut [0.0_f32; 31])).contains("expected rows [1, 32]"));
}
