//! `f32` products at the shapes of transformers, in the three transpositions of a linear layer, beside a peer.
//!
//! Throughput is in multiply-adds counted as two, so that "Gelem/s" reads as GFLOP/s.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formwork::kernels::{
    Write,
    matmul::{Mat, MatMut, matmul, reference},
};
use formwork_benches::{check, numbers};
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder, linalg::general_mat_mul};

/// Rows of the output, columns of the output, inner length.
const SHAPES: [(&str, usize, usize, usize); 4] = [
    ("chars_up", 768, 512, 128),
    ("gpt2_up", 1024, 3072, 768),
    ("gpt2_down", 1024, 768, 3072),
    ("decode", 1, 3072, 768),
];

#[derive(Clone, Copy)]
enum Turn {
    /// `x·Wᵀ`: the forward.
    Nt,
    /// `dy·W`: the gradient of the input.
    Nn,
    /// `dyᵀ·x`: the gradient of the weight.
    Tn,
}

fn operands<'a>(
    turn: Turn,
    a: &'a [f32],
    b: &'a [f32],
    (m, n, k): (usize, usize, usize),
) -> (Mat<'a, f32>, Mat<'a, f32>) {
    match turn {
        Turn::Nt => (Mat::row_major(a, m, k), Mat::row_major(b, n, k).transposed()),
        Turn::Nn => (Mat::row_major(a, m, k), Mat::row_major(b, k, n)),
        Turn::Tn => (Mat::row_major(a, k, m).transposed(), Mat::row_major(b, k, n)),
    }
}

/// The peer: ndarray, which runs `matrixmultiply` on one thread.
fn peer(to: &mut [f32], a: Mat<'_, f32>, b: Mat<'_, f32>) {
    fn view<'a>(m: Mat<'a, f32>) -> ArrayView2<'a, f32> {
        let shape = (m.rows, m.cols).strides((m.row_stride, m.col_stride));
        ArrayView2::from_shape(shape, m.data).expect("a matrix lies inside its slice")
    }
    let mut to = ArrayViewMut2::from_shape((a.rows, b.cols), to).expect("the output is row-major");
    general_mat_mul(1.0, &view(a), &view(b), 0.0, &mut to);
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul");
    group.sample_size(20);
    for (name, m, n, k) in SHAPES {
        group.throughput(Throughput::Elements((2 * m * n * k) as u64));
        for (turn, spelled) in [(Turn::Nt, "nt"), (Turn::Nn, "nn"), (Turn::Tn, "tn")] {
            let (a, b) = (numbers(m * k, 1), numbers(n * k, 2));
            let (a, b) = operands(turn, &a, &b, (m, n, k));
            let (mut ours, mut theirs, mut expected) = (vec![0.0; m * n], vec![0.0; m * n], vec![0.0; m * n]);
            reference(MatMut::row_major(&mut expected, m, n), a, b, 1.0, Write::Store);
            matmul(MatMut::row_major(&mut ours, m, n), a, b, 1.0, Write::Store);
            peer(&mut theirs, a, b);
            check("formwork", &ours, &expected, 1e-4);
            check("ndarray", &theirs, &expected, 1e-4);
            group.bench_function(format!("formwork/{name}_{spelled}"), |bench| {
                bench.iter(|| matmul(MatMut::row_major(&mut ours, m, n), a, b, 1.0, Write::Store));
            });
            group.bench_function(format!("ndarray_1_thread/{name}_{spelled}"), |bench| {
                bench.iter(|| peer(&mut theirs, a, b));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
