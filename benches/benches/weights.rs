//! Products with a weight in each type of storage, as a model computes them: packed before, activations rounded on the
//! way.
//!
//! `{type}/{rows}x{outputs}x{inputs}`; one row is a token that is written, many are a prompt that is read. Throughput is
//! in multiply-adds counted as two, and for one row in bytes of weights, which is what bounds it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formwork::{
    Pass, Scope, Seed, Tensor, Weight,
    kernels::blocks::{self, Format},
    module::{Blocks, Init, Precision},
    quant::{self, Quantised},
};
use formwork_benches::{check_linear, is_test, numbers, print_roofline};

/// Outputs and inputs of a matrix: of a small model, of a large one, and of a width that no tile divides.
const MATRICES: [[usize; 2]; 3] = [[576, 1536], [101, 1376], [8192, 2048]];
const ROWS: [usize; 3] = [1, 7, 256];
const FORMATS: [Format; 7] =
    [Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q4_K, Format::Q6_K];

fn bench(c: &mut Criterion) {
    print_roofline();
    let mut group = c.benchmark_group("weights");
    group.sample_size(10);
    for &[n, k] in if is_test() { &MATRICES[..1] } else { &MATRICES[..] } {
        let plain = numbers(n * k, 1);
        let source = Seed::new(1);
        let dense =
            Scope::root(&source).param("weight", &[n, k], Init::Constant(0.0)).expect("a legal shape");
        dense.set(&Tensor::from_vec(plain.clone(), &[n, k]).expect("sizes agree")).expect("nobody reads it");
        let mut weights: Vec<(&str, Box<dyn Weight>, Vec<f32>)> =
            vec![("f32", Box::new(dense), plain.clone())];
        for format in FORMATS {
            if format.row_bytes(k).is_none() {
                continue;
            }
            let bytes = quant::encode(format, &plain, k).expect("finite numbers in whole blocks").bytes;
            let mut decoded = vec![0.0; n * k];
            blocks::decode(format, &bytes, &mut decoded);
            let blocks = Blocks::new("weight", [n, k], format, bytes).expect("sizes agree");
            weights.push((format.name(), Box::new(Quantised::new(blocks)), decoded));
        }
        for (name, weight, numbers_of_it) in &weights {
            for m in ROWS {
                let x = numbers(m * k, 2);
                let input = Tensor::from_vec(x.clone(), &[m, k]).expect("sizes agree");
                let apply = |precision| {
                    let y = weight.apply(&input, None, &mut Pass::infer().in_precision(precision));
                    y.expect("shapes agree")
                };
                let y = |precision| apply(precision).to_vec::<f32>().expect("f32");
                check_linear(name, &y(Precision::Full), &x, numbers_of_it, [n, k], 1e-4);
                // Activations in 8 bits: half a step of a 127th of the largest, summed over many.
                check_linear(name, &y(Precision::AsStored), &x, numbers_of_it, [n, k], 2e-2);
                group.throughput(match m {
                    1 => Throughput::Bytes(bytes_of(name, n * k)),
                    _ => Throughput::Elements((2 * m * n * k) as u64),
                });
                group.bench_function(format!("{name}/{m}x{n}x{k}"), |bench| {
                    bench.iter(|| apply(Precision::AsStored));
                });
            }
        }
    }
    group.finish();
}

fn bytes_of(name: &str, numbers: usize) -> u64 {
    let of = Format::from_name(name).and_then(|format| format.row_bytes(numbers));
    of.unwrap_or(4 * numbers) as u64
}

criterion_group!(benches, bench);
criterion_main!(benches);
