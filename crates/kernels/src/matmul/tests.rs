//! Every path against the reference: transpositions, strides, batches, odd and empty shapes, special values,
//! threads, forced instruction sets.

use super::*;
use crate::isa::Isa;
use crate::team::with_threads;

/// A product to check; the operands are made from the shape.
#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    cols: usize,
    depth: usize,
    a_transposed: bool,
    b_transposed: bool,
    /// Elements between rows beyond what they need.
    gap: usize,
    alpha: f64,
    write: Write,
    batch: usize,
    /// Whether all products share one `b`.
    shared_b: bool,
}

const PLAIN: Case = Case {
    rows: 5,
    cols: 7,
    depth: 11,
    a_transposed: false,
    b_transposed: false,
    gap: 0,
    alpha: 1.0,
    write: Write::Store,
    batch: 1,
    shared_b: false,
};

/// Numbers in [-1, 1) that no two positions share by accident.
fn numbers<T: Element>(len: usize, seed: u64) -> Vec<T> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::of((state >> 40) as f64 / f64::from(1_u32 << 23) - 1.0)
    })
    .take(len)
    .collect()
}

fn matrix<T>(data: &[T], rows: usize, cols: usize, transposed: bool, gap: usize) -> Mat<'_, T> {
    if transposed {
        Mat { row_stride: rows + gap, ..Mat::row_major(data, cols, rows) }.transposed()
    } else {
        Mat { row_stride: cols + gap, ..Mat::row_major(data, rows, cols) }
    }
}

/// The result of `matmul_batched` and that of the reference, product by product, over junk or over numbers.
fn both<T: Element>(case: Case) -> [Vec<T>; 2] {
    let Case { rows, cols, depth, gap, .. } = case;
    let a_step = (rows + gap) * (depth + gap);
    let b_len = (depth + gap) * (cols + gap);
    let b_step = if case.shared_b { 0 } else { b_len };
    let out_step = rows * (cols + gap) + gap;
    let a_data = numbers(a_step * case.batch, 1);
    let b_data = numbers(b_len * if case.shared_b { 1 } else { case.batch }, 2);
    let mut start: Vec<T> = numbers(out_step * case.batch, 3);
    if case.write == Write::Store {
        // What is between the rows must survive, what is in them must not be read.
        let in_row = |i: usize| i % out_step < rows * (cols + gap) && i % out_step % (cols + gap) < cols;
        start.iter_mut().enumerate().filter(|(i, _)| in_row(*i)).for_each(|(_, s)| *s = T::nan());
    }
    let a = matrix(&a_data, rows, depth, case.a_transposed, gap);
    let b = matrix(&b_data, depth, cols, case.b_transposed, gap);
    let (mut found, mut expected) = (start.clone(), start);
    let batch = Batch { count: case.batch, a_step, b_step, out_step };
    let out = MatMut { data: &mut found, rows, cols, row_stride: cols + gap };
    matmul_batched(out, a, b, T::of(case.alpha), case.write, batch);
    for i in 0..case.batch {
        let out = MatMut { data: &mut expected[i * out_step..], rows, cols, row_stride: cols + gap };
        let a = Mat { data: &a_data[i * a_step..], ..a };
        let b = Mat { data: &b_data[i * b_step..], ..b };
        reference(out, a, b, T::of(case.alpha), case.write);
    }
    [found, expected]
}

/// Sums of `depth` products of numbers up to 1 in two orders differ by rounding alone.
fn tolerance<T: Element>(depth: usize) -> f64 {
    T::epsilon().f64() * (4.0 + 2.0 * (depth as f64))
}

fn check_type<T: Element>(case: Case) {
    let [found, expected] = both::<T>(case);
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        let error = (f.f64() - e.f64()).abs();
        assert!(error <= tolerance::<T>(case.depth), "{} {case:?}: {f} for {e} at {i}", T::NAME);
    }
}

/// On every instruction set, in both types, in all transpositions.
fn check(case: Case) {
    for isa in Isa::available() {
        isa::with(isa, || {
            for (a_transposed, b_transposed) in [(false, false), (false, true), (true, false), (true, true)] {
                check_type::<f32>(Case { a_transposed, b_transposed, ..case });
                check_type::<f64>(Case { a_transposed, b_transposed, ..case });
            }
        });
    }
}

#[test]
fn shapes_from_one_element_to_several_tiles_equal_the_reference() {
    for (rows, cols, depth) in [
        (1, 1, 1),
        (1, 7, 3),
        (2, 5, 16),
        (3, 9, 31),
        (4, 17, 129),
        (5, 7, 11),
        (8, 6, 35),
        (9, 6, 35),
        (31, 513, 517),
        (19, 1, 23),
        (33, 65, 17),
        (13, 29, 300),
        (130, 67, 257),
        (1, 1, 40_009), // a column of depth beyond what a task of row products reads
    ] {
        check(Case { rows, cols, depth, ..PLAIN });
    }
}

#[test]
fn plain_loops_equal_the_reference_and_give_the_bits_of_tiles() {
    for (rows, cols, depth) in
        [(1, 1000, 1), (1000, 3, 1), (13, 45, 2), (7, 45, 7), (100, 3, 8), (4, 4, 4), (13, 1, 127)]
    {
        check(Case { rows, cols, depth, ..PLAIN });
        check(Case { rows, cols, depth, alpha: -0.5, write: Write::Add, gap: 2, batch: 3, ..PLAIN });
    }
    // Rows of a product that is large enough for tiles, and the first of them alone.
    let (rows, cols, depth) = (90, 37, 29);
    let (a, b) = (numbers::<f32>(rows * depth, 1), numbers::<f32>(depth * cols, 2));
    for isa in Isa::available() {
        isa::with(isa, || {
            let run = |rows: usize| {
                let mut out = vec![f32::NAN; rows * cols];
                let (a, b) = (Mat::row_major(&a, rows, depth), Mat::row_major(&b, depth, cols));
                matmul(MatMut::row_major(&mut out, rows, cols), a, b, 1.0, Write::Store);
                out
            };
            assert_eq!(run(1), run(rows)[..cols], "{isa:?}");
        });
    }
}

#[test]
fn a_product_that_is_cut_into_tiles_equals_the_reference() {
    let case = Case { rows: 193, cols: 131, depth: 211, ..PLAIN };
    with_threads(2, || check(case));
    // Strips and pieces of rows.
    with_threads(2, || check(Case { rows: 1030, cols: 520, depth: 9, ..PLAIN }));
    let decode = Case { rows: 3, cols: 331, depth: 307, ..PLAIN };
    assert!(Plan::of(1, decode.rows, decode.cols, decode.depth).tasks() > 1);
    with_threads(2, || check(decode));
    with_threads(2, || check(Case { rows: 1, ..decode }));
}

#[test]
fn strides_scale_and_addition_are_honoured() {
    for write in [Write::Store, Write::Add] {
        for (rows, alpha) in [(1, 3.0), (2, 0.5), (5, -2.0), (37, 0.0)] {
            check(Case { rows, alpha, write, gap: 3, ..PLAIN });
        }
    }
}

#[test]
fn batches_equal_their_products() {
    for write in [Write::Store, Write::Add] {
        for (rows, shared_b) in [(1, true), (3, false), (8, true), (23, true), (23, false)] {
            check(Case { rows, shared_b, write, batch: 5, gap: 2, ..PLAIN });
        }
    }
}

#[test]
fn empty_shapes_store_zeros_or_add_nothing() {
    for write in [Write::Store, Write::Add] {
        for (rows, cols, depth) in [(0, 3, 5), (3, 0, 5), (2, 3, 0), (9, 8, 0), (0, 0, 0)] {
            for batch in [0, 1, 3] {
                check(Case { rows, cols, depth, write, batch, ..PLAIN });
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (batch, rows, cols, depth) in
        [(1, 300, 200, 150), (1, 2, 5000, 64), (9, 70, 60, 80), (1, 1030, 520, 9)]
    {
        for (a_transposed, b_transposed) in [(false, true), (false, false), (true, false)] {
            let case = Case { rows, cols, depth, batch, a_transposed, b_transposed, ..PLAIN };
            for isa in Isa::available() {
                let run = |threads| isa::with(isa, || with_threads(threads, || both::<f32>(case)[0].clone()));
                let one = run(1);
                assert!(run(2) == one && run(3) == one, "{isa:?} {case:?}");
            }
        }
    }
}

#[test]
fn a_decoded_row_has_the_same_bits_alone_and_in_a_small_batch() {
    let (depth, cols) = (83, 37);
    let (a, w) = (numbers::<f32>(rows::MOST * depth, 1), numbers::<f32>(cols * depth, 2));
    let product = |a: &[f32]| {
        let rows = a.len() / depth;
        let mut out = vec![f32::NAN; rows * cols];
        let b = Mat::row_major(&w, cols, depth).transposed();
        matmul(MatMut::row_major(&mut out, rows, cols), Mat::row_major(a, rows, depth), b, 1.0, Write::Store);
        out
    };
    for isa in Isa::available() {
        isa::with(isa, || {
            let alone: Vec<f32> = a.chunks(depth).flat_map(product).collect();
            for rows in 1..=rows::MOST {
                assert_eq!(product(&a[..rows * depth]), alone[..rows * cols], "{isa:?}, {rows} rows");
            }
        });
    }
}

#[test]
fn not_a_number_and_infinity_reach_what_they_touch_and_nothing_else() {
    for isa in Isa::available() {
        for rows in [3, 29] {
            for special in [f32::NAN, f32::INFINITY] {
                let (cols, depth) = (19, 21);
                let (mut a, b) = (vec![1.0; rows * depth], vec![1.0; cols * depth]);
                a[depth + 17] = special;
                let mut out = vec![0.0; rows * cols];
                isa::with(isa, || {
                    let b = Mat::row_major(&b, cols, depth).transposed();
                    let out = MatMut::row_major(&mut out, rows, cols);
                    matmul(out, Mat::row_major(&a, rows, depth), b, 1.0, Write::Store);
                });
                for (i, o) in out.iter().enumerate() {
                    let expected = if i / cols == 1 { special } else { depth as f32 };
                    assert!(
                        o.to_bits() == expected.to_bits() || (o.is_nan() && expected.is_nan()),
                        "{isa:?} {i}: {o}"
                    );
                }
            }
        }
    }
}

/// Runs `f` and returns what it panics with.
fn message(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    *std::panic::catch_unwind(f).expect_err("expected a panic").downcast::<String>().expect("a message")
}

#[test]
fn misuse_is_refused_with_the_shapes() {
    let data = [0.0_f32; 12];
    let a = Mat::row_major(&data, 3, 4);
    let run = |a: Mat<'_, f32>, b, batch| {
        let mut out = [0.0; 20];
        matmul_batched(MatMut::row_major(&mut out, 3, 3), a, b, 1.0, Write::Store, batch);
    };
    let one = Batch { count: 1, a_step: 0, b_step: 0, out_step: 9 };
    assert!(message(|| run(a, a, one)).contains("found [3, 4] · [3, 4] into [3, 3]"));
    let b = a.transposed();
    assert!(message(|| run(a, b, Batch { count: 2, out_step: 8, ..one })).contains("do not overlap"));
    assert!(message(|| run(a, b, Batch { count: 3, ..one })).contains("out to lie within its 20 elements"));
    assert!(message(|| run(a, b, Batch { count: 2, a_step: 1, ..one })).contains("a to lie within its 12"));
    assert!(message(|| run(Mat { row_stride: usize::MAX, ..a }, b, one)).contains("needs None"));
}

/// The nearest bf16 to `x`, ties to even, by its definition: 8 bits of significand.
fn rounded(x: f32) -> f32 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let unit = f64::from(x.abs()).log2().floor() - 7.0;
    ((f64::from(x) / unit.exp2()).round_ties_even() * unit.exp2()) as f32
}

#[test]
fn bf16_multiplies_the_rounded_operands() {
    for (rows, cols, depth) in [
        (1, 1, 1),
        (2, 5, 16),
        (5, 7, 11),
        (9, 65, 31),
        (31, 513, 37),
        (70, 130, 515),
        (19, 1, 1030),
        (3, 4, 0),
    ] {
        for (a_transposed, b_transposed) in [(false, false), (false, true), (true, false), (true, true)] {
            for (write, alpha, gap) in [(Write::Store, 1.0, 0), (Write::Add, -0.5, 3)] {
                let a_data = numbers::<f32>((rows + gap) * (depth + gap), 1);
                let b_data = numbers::<f32>((depth + gap) * (cols + gap), 2);
                let a = matrix(&a_data, rows, depth, a_transposed, gap);
                let b = matrix(&b_data, depth, cols, b_transposed, gap);
                let start = match write {
                    Write::Store => vec![f32::NAN; rows * cols],
                    Write::Add => numbers(rows * cols, 3),
                };
                let mut expected: Vec<f64> = start.iter().map(|&x| f64::from(x)).collect();
                let wide = |data: &[f32]| data.iter().map(|&x| f64::from(rounded(x))).collect::<Vec<_>>();
                let (a_wide, b_wide) = (wide(&a_data), wide(&b_data));
                let (aw, bw) = (
                    matrix(&a_wide, rows, depth, a_transposed, gap),
                    matrix(&b_wide, depth, cols, b_transposed, gap),
                );
                let out = MatMut::row_major(&mut expected, rows, cols);
                reference(out, aw, bw, alpha, write);
                for isa in Isa::available() {
                    let run = |threads| {
                        let mut found = start.clone();
                        let out = MatMut::row_major(&mut found, rows, cols);
                        isa::with(isa, || {
                            with_threads(threads, || matmul_bf16(out, a, b, alpha as f32, write));
                        });
                        found
                    };
                    let found = run(1);
                    for (i, (&f, e)) in found.iter().zip(&expected).enumerate() {
                        let error = (f64::from(f) - e).abs();
                        assert!(
                            error <= tolerance::<f32>(depth),
                            "{isa:?} [{rows}, {depth}] · [{depth}, {cols}] {a_transposed} {b_transposed}: {f} for {e} at {i}"
                        );
                    }
                    assert!(run(2) == found && run(3) == found, "{isa:?}: threads");
                }
            }
        }
    }
}

#[test]
fn bf16_rounds_to_even_and_keeps_what_is_not_a_number() {
    let ulp = 1.0 / 128.0;
    for (x, want) in [
        (1.0 + ulp / 2.0, 1.0),
        (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
        (1.0 + 0.51 * ulp, 1.0 + ulp),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
        (f32::from_bits(0x7f80_0001), f32::NAN),
        (f32::from_bits(0xffff_ffff), f32::NAN),
    ] {
        for isa in Isa::available() {
            isa::with(isa, || {
                // As the left and as the right operand, alone in an odd depth.
                for (a, b) in [(x, 1.0), (1.0, x)] {
                    let mut out = [7.0];
                    let (a, b) = ([a], [b]);
                    let (a, b) = (Mat::row_major(&a, 1, 1), Mat::row_major(&b, 1, 1));
                    matmul_bf16(MatMut::row_major(&mut out, 1, 1), a, b, 1.0, Write::Store);
                    assert!(out[0] == want || (out[0].is_nan() && want.is_nan()), "{isa:?} {x}: {}", out[0]);
                }
            });
        }
    }
}

#[test]
fn large_products_equal_wider_ones_within_rounding() {
    // Several regions, blocks and strips, against the same in f64.
    for (rows, cols, depth, a_transposed, b_transposed) in
        [(600, 70, 2100, true, false), (65, 270, 1100, false, true), (530, 140, 530, false, false)]
    {
        let (a, b) = (numbers::<f32>(rows * depth, 1), numbers::<f32>(depth * cols, 2));
        let wide = |data: &[f32]| data.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let (aw, bw) = (wide(&a), wide(&b));
        let mut expected = vec![f64::NAN; rows * cols];
        reference(
            MatMut::row_major(&mut expected, rows, cols),
            matrix(&aw, rows, depth, a_transposed, 0),
            matrix(&bw, depth, cols, b_transposed, 0),
            1.0,
            Write::Store,
        );
        for isa in Isa::available() {
            let run = |threads| {
                let mut found = vec![f32::NAN; rows * cols];
                let out = MatMut::row_major(&mut found, rows, cols);
                let (a, b) =
                    (matrix(&a, rows, depth, a_transposed, 0), matrix(&b, depth, cols, b_transposed, 0));
                isa::with(isa, || with_threads(threads, || matmul(out, a, b, 1.0, Write::Store)));
                found
            };
            let found = run(1);
            for (i, (&f, e)) in found.iter().zip(&expected).enumerate() {
                assert!((f64::from(f) - e).abs() <= tolerance::<f32>(depth), "{isa:?} {f} for {e} at {i}");
            }
            assert!(run(2) == found && run(3) == found, "{isa:?}: threads");
        }
    }
}
