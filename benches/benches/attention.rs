//! Attention without its projections: forward, forward with backward, and a token over a long cache.
//!
//! `{pass}/{heads}h{key heads}x{width}/{context}`. Throughput is in operations: 4·h·e for every pair of a query and a key
//! that it sees, forward, and 2.5 times as many backward, where scores are computed again.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formwork::{
    Mask, Result, Tensor, Variable,
    attention::{Attend, Row},
};
use formwork_benches::{is_test, numbers, print_roofline};

/// Heads, key heads, width of a head, context.
const SIZES: [[usize; 4]; 6] = [
    [12, 12, 64, 256],
    [12, 12, 64, 1024],
    [12, 12, 64, 4096],
    [32, 8, 64, 1024],
    [8, 8, 128, 1024],
    [8, 8, 80, 1024],
];

fn tensor(rows: usize, heads: usize, width: usize, seed: u32) -> Variable {
    let numbers = numbers(rows * heads * width, seed);
    Variable::new(Tensor::from_vec(numbers, &[1, rows, heads, width]).expect("sizes agree"))
}

fn attend(queries: usize, keys: usize, width: usize, inputs: [&Tensor; 3]) -> Result<Tensor> {
    let scale = 1.0 / (width as f64).sqrt();
    Attend { rows: vec![Row::whole(queries, keys)].into(), mask: Mask::Causal, scale, dropout: None }
        .run(inputs, None)
}

fn bench(c: &mut Criterion) {
    print_roofline();
    let mut group = c.benchmark_group("attention");
    group.sample_size(10);
    for &[h, g, e, t] in if is_test() { &SIZES[..1] } else { &SIZES[..] } {
        let (q, k, v) = (tensor(t, h, e, 1), tensor(t, g, e, 2), tensor(t, g, e, 3));
        let of = |x: &Variable| x.tensor().detached();
        let (q0, k0, v0) = (of(&q), of(&k), of(&v));
        first_query_sees_the_first_key(
            &attend(t, t, e, [&q0, &k0, &v0]).expect("shapes agree"),
            &v0,
            h / g,
            e,
        );
        let pairs = (t * (t + 1) / 2 * 4 * h * e) as u64;
        group.throughput(Throughput::Elements(pairs));
        group.bench_function(format!("forward/{h}h{g}x{e}/{t}"), |bench| {
            bench.iter(|| attend(t, t, e, [&q0, &k0, &v0]).expect("shapes agree"));
        });
        group.throughput(Throughput::Elements(pairs * 7 / 2));
        group.bench_function(format!("both/{h}h{g}x{e}/{t}"), |bench| {
            bench.iter(|| {
                let y = attend(t, t, e, [&q.tensor(), &k.tensor(), &v.tensor()]).expect("shapes agree");
                y.backward().expect("a gradient");
                [&q, &k, &v].into_iter().for_each(Variable::clear);
            });
        });
        // A token that is written over a cache of this length: bounded by the bytes of keys and values.
        let one = of(&tensor(1, h, e, 4));
        group.throughput(Throughput::Bytes((2 * 4 * t * g * e) as u64));
        group.bench_function(format!("token/{h}h{g}x{e}/{t}"), |bench| {
            bench.iter(|| attend(1, t, e, [&one, &k0, &v0]).expect("shapes agree"));
        });
    }
    group.finish();
}

/// The first query sees one key, so its output is that key's value, whatever the scores.
fn first_query_sees_the_first_key(y: &Tensor, v: &Tensor, heads_of_a_key: usize, e: usize) {
    let (y, v) = (y.to_vec::<f32>().expect("f32"), v.to_vec::<f32>().expect("f32"));
    assert!(y.iter().all(|y| y.is_finite()));
    assert!(y[..e].iter().zip(&v).all(|(y, v)| (y - v).abs() < 1e-5), "the first head");
    assert!(
        y[(heads_of_a_key - 1) * e..][..e].iter().zip(&v).all(|(y, v)| (y - v).abs() < 1e-5),
        "its neighbour"
    );
}

criterion_group!(benches, bench);
criterion_main!(benches);
