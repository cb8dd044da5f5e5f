//! The whole layer: what must hold of any attention, its parameters, and what it refuses.

use std::sync::Arc;

use super::common::{
    D, Distances, LearnedDistances, Stretch, Unordered, Waves, build, grouped, infer, input,
};
use formwork_attention::{Attention, Biases, Settings};
use formwork_kernels::team::with_threads;
use formwork_module::{
    DType, DenseCache, Dropout, Mask, Module, Outline, Pass, Position, Record, Rows, Scope, Seed, Tensor,
    VisitMut, params, weights_mut,
};
use formwork_tensor::Variable;
use formwork_testkit::{F64, SLOPE, assert_close, normals, tensor};
use ndarray::{ArrayD, Axis, Slice};

const B: usize = 2;
const T: usize = 11;

/// Row `row`, tokens from `from` up to `to`.
fn part(y: &Tensor, row: usize, from: usize, to: usize) -> ArrayD<f64> {
    let y = y.to_array::<f64>().unwrap();
    y.index_axis(Axis(0), row).slice_axis(Axis(0), Slice::from(from..to)).to_owned()
}

#[test]
fn grouped_attention_with_equal_heads_is_multi_head_attention() {
    let (h, g, e) = (6, 2, 7);
    let few = build(
        &Settings { kv_heads: Some(g), head_dim: Some(e), ..Settings::new(D, h) },
        Arc::new(Waves),
        DType::F64,
    );
    let many = build(&Settings { head_dim: Some(e), ..Settings::new(D, h) }, Arc::new(Waves), DType::F64);
    // Every query head of the second gets the key head that it shares in the first.
    for ((name, from), (_, to)) in params(&few).into_iter().zip(params(&many)) {
        let weight = from.value().unwrap().to_array::<f64>().unwrap();
        let repeated = match name.as_str() {
            "k.weight" | "v.weight" => {
                let heads = weight.into_shape_with_order((g, e, D)).unwrap();
                ArrayD::from_shape_fn(vec![h * e, D], |at| heads[[at[0] / e * g / h, at[0] % e, at[1]]])
            }
            _ => weight,
        };
        to.set(&tensor(&repeated, DType::F64, None)).unwrap();
    }
    let x = input(B, T, DType::F64);
    assert_close(&infer(&few, &x), &infer(&many, &x), F64, "grouped and multi-head");
}

#[test]
fn the_future_never_changes_the_past() {
    for position in [Arc::new(Unordered) as Arc<dyn Position>, Arc::new(Waves), Arc::new(Distances)] {
        let attention = build(&grouped(), position, DType::F64);
        let x = input(B, T, DType::F64);
        let y = infer(&attention, &x);
        for t in [1, 4, T - 1] {
            let changed = Tensor::cat(
                &[
                    &x.narrow(1, 0, t).unwrap(),
                    &input(B, T, DType::F64).scale(-3.0).unwrap().narrow(1, t, T - t).unwrap(),
                ],
                1,
            )
            .unwrap();
            let found = infer(&attention, &changed);
            for row in 0..B {
                assert_close(&part(&found, row, 0, t), &part(&y, row, 0, t), F64, "past");
                let moved = &part(&found, row, t, T) - &part(&y, row, t, T);
                assert!(moved.iter().any(|v| v.abs() > 1e-3), "the change must be seen by later tokens");
            }
        }
    }
}

#[test]
fn a_bidirectional_query_sees_the_future() {
    let attention =
        build(&Settings { mask: Mask::Bidirectional, ..grouped() }, Arc::new(Unordered), DType::F64);
    let x = input(1, T, DType::F64);
    let short = infer(&attention, &x.narrow(1, 0, T - 1).unwrap());
    let moved = &part(&infer(&attention, &x), 0, 0, 1) - &part(&short, 0, 0, 1);
    assert!(moved.iter().any(|v| v.abs() > 1e-3));
    // Without positions and mask, the order of the text does not matter.
    let turned = Tensor::cat(
        &(0..T).rev().map(|t| x.narrow(1, t, 1).unwrap()).collect::<Vec<_>>().iter().collect::<Vec<_>>(),
        1,
    )
    .unwrap();
    let mut back = part(&infer(&attention, &turned), 0, 0, T);
    back.invert_axis(Axis(0));
    assert_close(&back, &part(&infer(&attention, &x), 0, 0, T), F64, "turned around");
}

#[test]
fn a_batch_equals_its_rows_however_they_are_padded() {
    let lengths = [T, 4, 0];
    for mask in [Mask::Causal, Mask::Bidirectional] {
        for position in [Arc::new(Waves) as Arc<dyn Position>, Arc::new(Stretch), Arc::new(Distances)] {
            let attention = build(&Settings { mask, ..grouped() }, position, DType::F64);
            let x = input(lengths.len(), T, DType::F64);
            for (rows, starts) in [
                (Rows::right_padded(&lengths), [0, 0, 0]),
                (Rows::left_padded(&lengths, T).unwrap(), lengths.map(|len| T - len)),
            ] {
                let y = attention.forward(&x, &mut Pass::infer().rows(rows)).unwrap();
                for (row, &len) in lengths.iter().enumerate() {
                    let from = starts[row];
                    let text = x.narrow(0, row, 1).unwrap().narrow(1, from, len).unwrap();
                    let alone = infer(&attention, &text);
                    assert_close(
                        &part(&y, row, from, from + len),
                        &part(&alone, 0, 0, len),
                        F64,
                        "a row of the batch",
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_without_tokens_gives_zeros_before_the_last_projection() {
    let settings = Settings { bias: Biases::Qkv, ..grouped() };
    let attention = build(&settings, Arc::new(Waves), DType::F64);
    let x = Variable::new(input(B, 3, DType::F64));
    let rows = Rows::right_padded(&[0, 2]);
    let y = attention.forward(&x.tensor(), &mut Pass::train(1, 1).rows(rows)).unwrap();
    assert!(part(&y.detached(), 0, 0, 3).iter().chain(&part(&y.detached(), 1, 2, 3)).all(|&v| v == 0.0));
    assert!(part(&y.detached(), 1, 0, 2).iter().all(|&v| v != 0.0));
    y.sum().unwrap().backward().unwrap();
    let dx = x.grad().unwrap();
    assert!(
        part(&dx, 0, 0, 3).iter().chain(&part(&dx, 1, 2, 3)).all(|&v| v == 0.0),
        "padding gets no gradient"
    );
}

#[test]
fn every_parameter_and_the_input_have_their_gradient() {
    let source = Seed::new(9).dtype(DType::F64);
    let learned = LearnedDistances::new(&Scope::root(&source), 6);
    for position in
        [Arc::new(Waves) as Arc<dyn Position>, Arc::new(Stretch), Arc::new(Distances), Arc::new(learned)]
    {
        let attention = build(&Settings { bias: Biases::Qkv, ..grouped() }, position, DType::F64);
        let weights = tensor(&normals(8, &[B, T, D]), DType::F64, None);
        let rows = Rows::left_padded(&[T, 7], T).unwrap();
        let x = Variable::new(input(B, T, DType::F64));
        let loss = |x: &Tensor, pass: Pass<'_>| {
            let y = attention.forward(x, &mut pass.rows(rows.clone())).unwrap();
            y.mul(&weights).unwrap().sum().unwrap()
        };
        loss(&x.tensor(), Pass::train(1, 1)).backward().unwrap();
        for (name, param) in params(&attention) {
            let grad = param.grad().unwrap_or_else(|| panic!("{name} got none")).to_vec::<f64>().unwrap();
            let base = param.value().unwrap().to_vec::<f64>().unwrap();
            for i in [0, base.len() / 3, base.len() - 1] {
                let at = |step: f64| {
                    let mut moved = base.clone();
                    moved[i] += step;
                    param.set(&Tensor::from_vec(moved, param.shape()).unwrap()).unwrap();
                    loss(&x.tensor().detached(), Pass::infer()).item().unwrap()
                };
                let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                at(0.0);
                // The bias of the keys adds the same to all scores of a query wherever nothing turns the keys,
                // so its gradient may well be 0: an absolute part belongs to the comparison.
                assert_close(&[grad[i]], &[slope], SLOPE, &format!("{name}[{i}]"));
            }
        }
        let toward = normals(7, &[B, T, D]);
        let moved = |step: f64| {
            let x = &normals(1, &[B, T, D]) + &(&toward * step);
            loss(&tensor(&x, DType::F64, None), Pass::infer()).item().unwrap()
        };
        let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        let along = (x.grad().unwrap().to_array::<f64>().unwrap() * toward).sum();
        assert_close(&[along], &[slope], SLOPE, "input");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let dropout = Dropout::new(0.2).unwrap();
    let run = |threads| {
        with_threads(threads, || {
            let attention = build(&Settings { dropout, ..grouped() }, Arc::new(Waves), DType::F32);
            let y = attention.forward(&input(B, 67, DType::F32), &mut Pass::train(1, 2)).unwrap();
            y.sum().unwrap().backward().unwrap();
            let mut all = vec![y.to_vec::<f32>().unwrap()];
            all.extend(params(&attention).iter().map(|(_, p)| p.grad().unwrap().to_vec::<f32>().unwrap()));
            all.into_iter().flatten().map(f32::to_bits).collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(3));
}

#[test]
fn dropout_falls_on_probabilities_in_training_alone() {
    let with = |rate| {
        build(&Settings { dropout: Dropout::new(rate).unwrap(), ..grouped() }, Arc::new(Waves), DType::F64)
    };
    let (x, dropped) = (input(B, T, DType::F64), with(0.5));
    let run = |pass: Pass<'_>| {
        let mut pass = pass;
        dropped.forward(&x, &mut pass).unwrap().to_vec::<f64>().unwrap()
    };
    assert_eq!(run(Pass::infer()), infer(&with(0.0), &x).to_vec::<f64>().unwrap());
    assert_eq!(run(Pass::train(1, 2)), run(Pass::train(1, 2)));
    assert_ne!(run(Pass::train(1, 2)), run(Pass::train(1, 3)));
    assert_ne!(run(Pass::train(1, 2)), run(Pass::train(2, 2)));
    // Over many steps the layer's output is right on average: dropout is unbiased after the softmax.
    let steps = 1000;
    let [mut sum, mut squares] = [(); 2].map(|()| ArrayD::<f64>::zeros(vec![B, T, D]));
    let plain = infer(&dropped, &x).to_array::<f64>().unwrap();
    for step in 0..steps {
        let mut pass = Pass::train(1, step).recording(Record::Nothing);
        let error = dropped.forward(&x, &mut pass).unwrap().to_array::<f64>().unwrap() - &plain;
        sum += &error;
        squares += &error.mapv(|v| v * v);
    }
    let n = steps as f64;
    for (sum, squares) in sum.iter().zip(&squares) {
        let (mean, deviation) = (sum / n, (squares / n).sqrt());
        assert!(deviation > 0.01, "the mask must do something");
        assert!(mean.abs() < 5.0 * deviation / n.sqrt(), "mean error {mean} at deviation {deviation}");
    }
}

#[test]
fn names_stand_in_building_order() {
    let source = Seed::new(1);
    let check = |bias, names: &[&str]| {
        let root = Scope::root(&source);
        let scope = root.child("attn");
        let position = LearnedDistances::new(&scope.child("position"), 6);
        let attention = Attention::new(&scope, &Settings { bias, ..grouped() }, Arc::new(position)).unwrap();
        let found: Vec<_> = params(&attention).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, names);
        assert_eq!(root.built(), names.iter().map(|name| format!("attn.{name}")).collect::<Vec<_>>());
    };
    check(Biases::None, &["position.weight", "q.weight", "k.weight", "v.weight", "o.weight"]);
    let qkv =
        ["position.weight", "q.weight", "q.bias", "k.weight", "k.bias", "v.weight", "v.bias", "o.weight"];
    check(Biases::Qkv, &qkv);
    check(Biases::All, &[&qkv[..], &["o.bias"]].concat());
}

#[test]
fn shapes_follow_from_settings_without_numbers() {
    let attention = Attention::new(&Scope::root(&Outline), &grouped(), Arc::new(Unordered)).unwrap();
    let shapes: Vec<_> = params(&attention).into_iter().map(|(_, param)| param.shape().to_vec()).collect();
    assert_eq!(
        shapes,
        [vec![42, 5], vec![42], vec![14, 5], vec![14], vec![14, 5], vec![14], vec![5, 42], vec![5]]
    );
    assert!((attention.scale - 1.0 / 7f64.sqrt()).abs() < 1e-15);
}

#[test]
fn weights_can_be_replaced_though_layers_share_a_position() {
    let shared: Arc<dyn Position> = Arc::new(Waves);
    let mut attention = build(&grouped(), shared.clone(), DType::F32);
    let mut names = vec![];
    weights_mut(&mut attention, &mut |name, _| {
        names.push(name.to_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!(names, ["q.weight", "k.weight", "v.weight", "o.weight"]);
    // One with parameters is handed out only by its only owner.
    let learned: Arc<dyn Position> = Arc::new(LearnedDistances::new(&Scope::root(&Seed::new(1)), 6));
    let mut attention = build(&grouped(), learned.clone(), DType::F32);
    let error = weights_mut(&mut attention, &mut |_, _| Ok(())).unwrap_err().to_string();
    assert!(error.starts_with("position: the position encoding is still read"), "{error}");
    drop(learned);
    struct Count(usize);
    impl VisitMut for Count {
        fn enter(&mut self, _: &str) {}
        fn leave(&mut self) {}
        fn param(&mut self, _: &str, _: &mut formwork_module::Param) -> formwork_module::Result<()> {
            self.0 += 1;
            Ok(())
        }
        fn weight(
            &mut self,
            _: &str,
            _: &mut std::sync::Arc<dyn formwork_module::Weight>,
        ) -> formwork_module::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    attention.visit_mut(&mut count).unwrap();
    assert_eq!(count.0, 5, "the table and four biases");
}

#[test]
fn wrong_inputs_are_named() {
    let attention = build(&grouped(), Arc::new(Unordered), DType::F64);
    let check = |x: &Tensor, pass: Pass<'_>, words: &str| {
        let mut pass = pass;
        let error = attention.forward(x, &mut pass).unwrap_err().to_string();
        assert!(error.starts_with(words), "expected \"{words}\", found \"{error}\"");
    };
    let x = |dims: &[usize]| Tensor::zeros(dims, DType::F64, None).unwrap();
    check(&x(&[2, D]), Pass::infer(), "attention: expected x [b, t, d], found [2, 5]");
    check(
        &x(&[2, 3, D + 1]),
        Pass::infer(),
        "q: linear: expected x [.., 5] for weight [42, 5], found [2, 3, 6]",
    );
    let rows = Rows::right_padded(&[3]);
    check(&x(&[2, 3, D]), Pass::infer().rows(rows), "padding: expected ranges for [2, 3] tokens");
    let mut cache = DenseCache::new(3, 7);
    check(&x(&[2, 3, D]), Pass::infer().cached(&mut cache), "cache: expected 3 rows");
    let mut short = DenseCache::new(2, 2);
    check(
        &x(&[2, 3, D]),
        Pass::infer().cached(&mut short),
        "cache: expected at most 2 tokens a row, found 3 more after 0 in row 0",
    );
    let settings = Settings { mask: Mask::Bidirectional, ..grouped() };
    let attention = build(&settings, Arc::new(Unordered), DType::F64);
    let mut cache = DenseCache::new(2, 7);
    let error =
        attention.forward(&x(&[2, 3, D]), &mut Pass::infer().cached(&mut cache)).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "attention: expected a causal mask, since there is a cache, found a bidirectional one"
        ),
        "{error}"
    );
    let error = Attention::new(
        &Scope::root(&Outline).child("blocks").child(3).child("attn"),
        &Settings::new(7, 3),
        Arc::new(Unordered),
    );
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("blocks.3.attn: heads: expected a divisor of dim 7, found 3"), "{error}");
}
