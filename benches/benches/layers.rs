//! Single layers, forward and with their gradient.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formwork::{
    Module, Pass, Result, Scope, Seed, Tensor,
    attention::{Attention, Settings},
    feedforward::{self, GatedMlp},
    norm::{LayerConfig, NormConfig, RmsConfig},
    position::{Pairs, Place, PositionConfig, RopeConfig},
};
use formwork_benches::{numbers, print_roofline};

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
    print_roofline();
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

criterion_group!(benches, bench);
criterion_main!(benches);
