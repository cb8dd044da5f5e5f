//! What memory bounds: norms, softmax, and the optimiser, whose ceiling is the triad.
//!
//! Throughput is in bytes of memory moved: a row that is read and written is eight bytes a number, and AdamW reads
//! parameter, gradient and two moments and writes three of them, 28 bytes a parameter.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formwork::kernels::{
    adamw::{AdamW, Moments, adamw},
    norm::{LayerNorm, RmsNorm, layer_norm, rms_norm},
    softmax::softmax,
};
use formwork_benches::{check, is_test, numbers, print_roofline};

fn rows(c: &mut Criterion) {
    print_roofline();
    let (rows, width) = if is_test() { (7, 101) } else { (1024, 768) };
    let (x, gain, bias) = (numbers(rows * width, 1), numbers(width, 2), numbers(width, 3));
    let (mut y, mut mean, mut rstd) = (vec![0.0; rows * width], vec![0.0; rows], vec![0.0; rows]);
    let first = &x[..width];
    let sum = |f: &dyn Fn(f32) -> f32| first.iter().map(|&x| f64::from(f(x))).sum::<f64>() as f32;
    let mut group = c.benchmark_group("rows");
    group.sample_size(10);
    group.throughput(Throughput::Bytes((8 * rows * width) as u64));

    let mut layer = |y: &mut [f32]| {
        let (mean, rstd) = (&mut mean[..], &mut rstd[..]);
        layer_norm(LayerNorm { x: &x, add: None, gain: &gain, bias: Some(&bias), eps: 1e-5, y, mean, rstd });
    };
    layer(&mut y);
    let centre = sum(&|x| x) / width as f32;
    let scale = (sum(&|x| (x - centre).powi(2)) / width as f32 + 1e-5).sqrt().recip();
    let expected: Vec<f32> = (0..width).map(|i| (first[i] - centre) * scale * gain[i] + bias[i]).collect();
    check("layer_norm", &y[..width], &expected, 1e-4);
    group.bench_function(format!("layer_norm/{rows}x{width}"), |bench| bench.iter(|| layer(&mut y)));

    let mut rms =
        |y: &mut [f32]| rms_norm(RmsNorm { x: &x, add: None, gain: &gain, eps: 1e-5, y, rstd: &mut rstd });
    rms(&mut y);
    let scale = (sum(&|x| x * x) / width as f32 + 1e-5).sqrt().recip();
    let expected: Vec<f32> = (0..width).map(|i| first[i] * scale * gain[i]).collect();
    check("rms_norm", &y[..width], &expected, 1e-4);
    group.bench_function(format!("rms_norm/{rows}x{width}"), |bench| bench.iter(|| rms(&mut y)));

    softmax(&x, width, 1.0, &mut y);
    let total = sum(&|x| x.exp());
    check("softmax", &y[..width], &first.iter().map(|x| x.exp() / total).collect::<Vec<_>>(), 1e-4);
    group.bench_function(format!("softmax/{rows}x{width}"), |bench| {
        bench.iter(|| softmax(&x, width, 1.0, &mut y));
    });
    group.finish();
}

fn optimiser(c: &mut Criterion) {
    let n = if is_test() { 1001 } else { 32 << 20 };
    let (mut p, grads) = (numbers(n, 4), numbers(n, 5));
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    let mut step = 0;
    let mut update = |p: &mut [f32]| {
        step += 1;
        let (lr, eps, grad_scale) = (0.1, 1e-8, 1.0);
        let rule = AdamW { lr, beta1: 0.9, beta2: 0.999, eps, weight_decay: 0.0, step, grad_scale };
        adamw(&rule, p, &grads, Moments { m: &mut m, v: &mut v });
    };
    // The first step has length lr, whatever the gradient.
    let expected: Vec<f32> =
        p[..1001].iter().zip(&grads).map(|(p, g)| p - 0.1 * g / (g.abs() + 1e-8)).collect();
    update(&mut p);
    check("adamw", &p[..1001], &expected, 1e-4);

    let mut group = c.benchmark_group("optimiser");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(28 * n as u64));
    group.bench_function(format!("adamw/{n}"), |bench| bench.iter(|| update(&mut p)));
    group.finish();
}

criterion_group!(benches, rows, optimiser);
criterion_main!(benches);
