//! Single layers, forward and with their gradient; products with matrices that stay in blocks, beside plain ones.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formwork::{
    Module, Pass, Result, Scope, Seed, Tensor,
    attention::{Attention, Settings},
    feedforward::{self, GatedMlp},
    kernels::{
        Dest, Write,
        blocks::{
            self, Format,
            multiply::{Matrix, linear},
        },
        matmul::{Mat, MatMut, matmul},
    },
    norm::{LayerConfig, NormConfig, RmsConfig},
    position::{Pairs, Place, PositionConfig, RopeConfig},
};
use formwork_benches::{check, numbers};

const B: usize = 4;
const T: usize = 256;
const D: usize = 768;

fn attention(scope: &Scope<'_>, kv_heads: usize) -> Result<Attention> {
    let rope = PositionConfig::Rope(RopeConfig::new(1e4, Pairs::Halves));
    let init = formwork::module::Init::Normal { std: 0.02 };
    let place = Place { dim: D / 12, context: T, heads: None, init };
    let position = rope.build(&scope.child("position"), &place)?;
    Attention::new(scope, &Settings { kv_heads: Some(kv_heads), ..Settings::new(D, 12) }, position)
}

fn bench(c: &mut Criterion) {
    let source = Seed::new(1);
    let scope = Scope::root(&source);
    let norm = |name: &str, config: NormConfig| config.build(&scope.child(name), D).expect("a legal norm");
    let layers: Vec<(&str, Box<dyn Module>)> = vec![
        ("attention/mha", Box::new(attention(&scope.child("mha"), 12).expect("legal sizes"))),
        ("attention/gqa", Box::new(attention(&scope.child("gqa"), 4).expect("legal sizes"))),
        (
            "feedforward/swiglu",
            Box::new(
                GatedMlp::new(
                    &scope.child("ffn"),
                    &feedforward::Settings::new(D, 2048),
                    Box::new(formwork::activation::Silu {}),
                )
                .expect("legal sizes"),
            ),
        ),
        ("norm/rms", norm("rms", NormConfig::Rms(RmsConfig { eps: 1e-5 }))),
        (
            "norm/layer",
            norm(
                "layer",
                NormConfig::Layer(LayerConfig { eps: 1e-5, bias: formwork::module::Bias::Learned }),
            ),
        ),
    ];
    let x = Tensor::from_vec(numbers(B * T * D, 1), &[B, T, D]).expect("sizes agree");
    let mut group = c.benchmark_group("layers");
    group.sample_size(10);
    group.throughput(Throughput::Elements((B * T) as u64));
    for (name, layer) in &layers {
        let y = layer.forward(&x, &mut Pass::infer()).expect("a legal input");
        assert!(y.to_vec::<f32>().expect("f32").iter().all(|v| v.is_finite()), "{name}");
        group.bench_function(format!("{name}/forward/{B}x{T}x{D}"), |bench| {
            bench.iter(|| layer.forward(&x, &mut Pass::infer()).expect("a legal input"));
        });
        group.bench_function(format!("{name}/gradient/{B}x{T}x{D}"), |bench| {
            bench.iter(|| {
                let y = layer.forward(&x, &mut Pass::train(0, 0)).expect("a legal input");
                y.sum().and_then(|loss| loss.backward()).expect("a gradient");
            });
        });
    }
    group.finish();
}

/// Outputs and inputs of a matrix: the projection back from the hidden width in a small model and in a large one.
const MATRICES: [[usize; 2]; 2] = [[576, 1536], [2048, 8192]];
/// A token that is written, and a prompt that is read.
const ROWS: [usize; 2] = [1, 128];
const FORMATS: [Format; 5] = [Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q4_K, Format::Q6_K];

/// Some of the numbers of `y = x·Wᵀ`, against sums in f64.
fn check_product(what: &str, y: &[f32], x: &[f32], w: &[f32], [n, k]: [usize; 2]) {
    let step = (y.len() / 500).max(1);
    let product = |at: usize| {
        let (row, col) = (at / n, at % n);
        let pairs = x[row * k..][..k].iter().zip(&w[col * k..][..k]);
        pairs.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() as f32
    };
    let places = || (0..y.len()).step_by(step);
    let found: Vec<f32> = places().map(|at| y[at]).collect();
    check(what, &found, &places().map(product).collect::<Vec<_>>(), 1e-4);
}

/// Throughput is in multiply-adds counted as two, as in the bench of products.
fn bench_blocks(c: &mut Criterion) {
    let is_test = std::env::args().any(|arg| arg == "--test");
    let mut group = c.benchmark_group("blocks");
    group.sample_size(10);
    for [n, k] in if is_test { &MATRICES[..1] } else { &MATRICES } {
        let (n, k) = (*n, *k);
        let plain = numbers(n * k, 1);
        for m in ROWS {
            let x = numbers(m * k, 2);
            let mut y = vec![0.0; m * n];
            let product = |y: &mut [f32]| {
                let w = Mat::row_major(&plain, n, k).transposed();
                matmul(MatMut::row_major(y, m, n), Mat::row_major(&x, m, k), w, 1.0, Write::Store);
            };
            product(&mut y);
            check_product("f32", &y, &x, &plain, [n, k]);
            group.throughput(Throughput::Elements((2 * m * n * k) as u64));
            group.bench_function(format!("f32/{m}x{n}x{k}"), |bench| bench.iter(|| product(&mut y)));
        }
        for format in FORMATS {
            let bytes =
                formwork::quant::encode(format, &plain, k).expect("whole blocks of finite numbers").bytes;
            let mut decoded = vec![0.0; n * k];
            blocks::decode(format, &bytes, &mut decoded);
            let w = Matrix { format, bytes: &bytes, rows: n, cols: k };
            let name = format.name();
            for m in ROWS {
                let x = numbers(m * k, 2);
                let mut y = vec![0.0; m * n];
                linear(&x, w, Dest::store(&mut y));
                check_product(name, &y, &x, &decoded, [n, k]);
                group.throughput(Throughput::Elements((2 * m * n * k) as u64));
                group.bench_function(format!("{name}/{m}x{n}x{k}"), |bench| {
                    bench.iter(|| linear(&x, w, Dest::store(&mut y)));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, bench, bench_blocks);
criterion_main!(benches);
