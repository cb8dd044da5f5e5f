//! Products that nothing is made for: few rows, few columns, little depth, primes. None may be slower than plain loops.

use std::{hint::black_box, time::Instant};

use formwork::kernels::{
    Write,
    matmul::{Mat, MatMut, matmul, reference},
};
use formwork_benches::{check, is_test, numbers};

use super::{Turn, operands};

/// Rows of the output, columns of the output, inner length.
const SHAPES: [(usize, usize, usize); 36] = [
    (1, 1, 1),
    (1, 1, 127),
    (1, 2, 3),
    (1, 17, 5),
    (1, 80, 127),
    (1, 127, 8),
    (1, 1000, 1),
    (2, 1, 5),
    (2, 127, 80),
    (3, 5, 7),
    (4, 4, 4),
    (5, 17, 33),
    (7, 64, 127),
    (8, 8, 8),
    (8, 80, 80),
    (9, 3, 80),
    (9, 127, 1),
    (13, 1, 127),
    (15, 9, 301),
    (16, 16, 16),
    (17, 2, 65),
    (23, 80, 8),
    (31, 127, 127),
    (33, 33, 33),
    (47, 7, 80),
    (63, 63, 63),
    (64, 8, 127),
    (64, 127, 8),
    (64, 1, 64),
    (80, 80, 127),
    (127, 80, 8),
    (256, 64, 8),
    (256, 64, 256),
    (300, 5, 64),
    (768, 3, 2),
    (1000, 8, 1),
];

/// Slower than this, in the median of the rounds, is a failure and not the noise of a machine,
const SLOWER: f64 = 1.25;
/// once the seconds are taken off that it takes to see that the shapes fit and to choose a path.
const FIXED: f64 = 100e-9;
const ROUNDS: usize = 9;

/// The loops in the order that suits a contiguous right operand: a row of the output gathers rows of it.
fn by_rows(out: &mut [f32], a: Mat<'_, f32>, b: Mat<'_, f32>) {
    out.fill(0.0);
    for (i, out) in out.chunks_exact_mut(b.cols).enumerate() {
        for p in 0..a.cols {
            let x = a.data[i * a.row_stride + p * a.col_stride];
            if b.col_stride == 1 {
                let row = &b.data[p * b.row_stride..][..b.cols];
                out.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
            } else {
                let row = b.data[p * b.row_stride..].iter().step_by(b.col_stride);
                out.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
            }
        }
    }
}

/// Seconds of one of `count` calls.
fn seconds(count: usize, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..count).for_each(|_| work());
    start.elapsed().as_secs_f64() / count as f64
}

/// Prints one line a product, and fails if one is slower than the better of two orders of plain loops.
pub(crate) fn sweep() {
    // Criterion has no part in this, but a name on the command line chooses here as well.
    if std::env::args().skip(1).find(|word| !word.starts_with('-')).is_some_and(|name| name != "odd") {
        return;
    }
    let mut slower = Vec::new();
    for (m, n, k) in SHAPES {
        for (turn, spelled) in [(Turn::Nt, "nt"), (Turn::Nn, "nn"), (Turn::Tn, "tn"), (Turn::Tt, "tt")] {
            let (a, b) = (numbers(m * k, 1), numbers(n * k, 2));
            let (a, b) = operands(turn, &a, &b, (m, n, k));
            let (mut y, mut sums, mut rows) = (vec![0.0; m * n], vec![0.0; m * n], vec![0.0; m * n]);
            reference(MatMut::row_major(&mut sums, m, n), a, b, 1.0, Write::Store);
            matmul(MatMut::row_major(&mut y, m, n), a, b, 1.0, Write::Store);
            check("formwork", &y, &sums, 1e-5);
            by_rows(&mut rows, a, b);
            check("plain loops", &rows, &sums, 1e-5);
            if is_test() {
                continue;
            }
            let mut ours = || {
                let (a, b) = black_box((a, b));
                matmul(MatMut::row_major(&mut y, m, n), a, b, 1.0, Write::Store);
            };
            let mut by_sums = || {
                let (a, b) = black_box((a, b));
                reference(MatMut::row_major(&mut sums, m, n), a, b, 1.0, Write::Store);
            };
            let mut by_rows = || {
                let (a, b) = black_box((a, b));
                by_rows(&mut rows, a, b);
            };
            let count = (50e-6 / seconds(3, &mut by_sums)) as usize + 1;
            let mut rounds: Vec<[f64; 2]> = (0..ROUNDS)
                .map(|_| {
                    let plain = seconds(count, &mut by_sums).min(seconds(count, &mut by_rows));
                    [plain, seconds(count, &mut ours)]
                })
                .collect();
            rounds.sort_by(|a, b| (a[0] / a[1]).total_cmp(&(b[0] / b[1])));
            let [plain, ours] = rounds[ROUNDS / 2];
            let (times, name) = (plain / ours, format!("{m} × {n}, depth {k}, {spelled}"));
            println!(
                "{name:28} {:9.3} µs, plain loops {:9.3} µs: {times:.2} × as fast",
                1e6 * ours,
                1e6 * plain
            );
            if ours - FIXED > SLOWER * plain {
                slower.push(name);
            }
        }
    }
    assert!(slower.is_empty(), "slower than plain loops: {slower:#?}");
}
