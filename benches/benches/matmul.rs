//! `f32` products at the shapes of transformers, in the three transpositions of a linear layer, beside two peers.
//!
//! The peers are the crates `gemm` and, through ndarray, `matrixmultiply`; both get as many threads as we take, each
//! thread a block of rows. Throughput is in multiply-adds counted as two, so that "Gelem/s" reads as Gflop/s.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formwork::kernels::{
    Write,
    matmul::{Mat, MatMut, matmul, reference},
    team,
};
use formwork_benches::{check, is_test, numbers, print_roofline};
use gemm_common::Parallelism;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder, linalg::general_mat_mul};

#[path = "matmul/odd.rs"]
mod odd;

/// Rows of the output, columns of the output, inner length.
const SHAPES: [(&str, usize, usize, usize); 8] = [
    ("odd", 37, 101, 67),
    ("chars_up", 768, 512, 128),
    ("decode", 1, 3072, 768),
    ("few", 8, 3072, 768),
    ("gpt2_up", 1024, 3072, 768),
    ("gpt2_down", 1024, 768, 3072),
    ("llama_up", 512, 8192, 2048),
    ("cube", 2048, 2048, 2048),
];

#[derive(Clone, Copy)]
enum Turn {
    /// `x·Wᵀ`: the forward.
    Nt,
    /// `dy·W`: the gradient of the input.
    Nn,
    /// `dyᵀ·x`: the gradient of the weight.
    Tn,
    /// `xᵀ·Wᵀ`: no layer needs it.
    Tt,
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
        Turn::Tt => (Mat::row_major(a, k, m).transposed(), Mat::row_major(b, n, k).transposed()),
    }
}

/// A peer's product on one thread: `to` is `[a.rows, b.cols]`, row-major.
type Peer = fn(&mut [f32], Mat<'_, f32>, Mat<'_, f32>);

/// The crate `matrixmultiply`, through ndarray.
fn matrixmultiply(to: &mut [f32], a: Mat<'_, f32>, b: Mat<'_, f32>) {
    fn view<'a>(m: Mat<'a, f32>) -> ArrayView2<'a, f32> {
        let shape = (m.rows, m.cols).strides((m.row_stride, m.col_stride));
        ArrayView2::from_shape(shape, m.data).expect("a matrix lies inside its slice")
    }
    let mut to = ArrayViewMut2::from_shape((a.rows, b.cols), to).expect("the output is row-major");
    general_mat_mul(1.0, &view(a), &view(b), 0.0, &mut to);
}

/// The crate `gemm`, which wants the contiguous axis of the output to be its columns: `toᵀ = bᵀ·aᵀ`.
fn gemm(to: &mut [f32], a: Mat<'_, f32>, b: Mat<'_, f32>) {
    let last = |m: &Mat<'_, f32>| (m.rows - 1) * m.row_stride + (m.cols - 1) * m.col_stride;
    assert!(
        a.cols == b.rows && to.len() == a.rows * b.cols && last(&a) < a.data.len() && last(&b) < b.data.len()
    );
    // SAFETY: every element that the strides reach lies inside its slice, as was just asserted, and `to` is borrowed alone.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            b.cols,
            a.rows,
            a.cols,
            to.as_mut_ptr(),
            b.cols as isize,
            1,
            false,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// The rows in equal blocks, one for each thread.
fn split(peer: Peer, to: &mut [f32], a: Mat<'_, f32>, b: Mat<'_, f32>) {
    let rows = a.rows.div_ceil(team::threads());
    team::for_each_chunk(to, rows * b.cols, |i, to| {
        let from = i * rows;
        let block = Mat { data: &a.data[from * a.row_stride..], rows: rows.min(a.rows - from), ..a };
        peer(to, block, b);
    });
}

fn bench(c: &mut Criterion) {
    print_roofline();
    odd::sweep();
    let mut group = c.benchmark_group("matmul");
    group.sample_size(10);
    for &(name, m, n, k) in if is_test() { &SHAPES[..3] } else { &SHAPES[..] } {
        group.throughput(Throughput::Elements((2 * m * n * k) as u64));
        for (turn, spelled) in [(Turn::Nt, "nt"), (Turn::Nn, "nn"), (Turn::Tn, "tn")] {
            let (a, b) = (numbers(m * k, 1), numbers(n * k, 2));
            let (a, b) = operands(turn, &a, &b, (m, n, k));
            let (mut y, mut expected) = (vec![0.0; m * n], vec![0.0; m * n]);
            reference(MatMut::row_major(&mut expected, m, n), a, b, 1.0, Write::Store);
            matmul(MatMut::row_major(&mut y, m, n), a, b, 1.0, Write::Store);
            check("formwork", &y, &expected, 1e-4);
            group.bench_function(format!("formwork/{name}_{spelled}"), |bench| {
                bench.iter(|| matmul(MatMut::row_major(&mut y, m, n), a, b, 1.0, Write::Store));
            });
            for (crate_name, peer) in [("gemm", gemm as Peer), ("matrixmultiply", matrixmultiply)] {
                split(peer, &mut y, a, b);
                check(crate_name, &y, &expected, 1e-4);
                group.bench_function(format!("{crate_name}/{name}_{spelled}"), |bench| {
                    bench.iter(|| split(peer, &mut y, a, b));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
