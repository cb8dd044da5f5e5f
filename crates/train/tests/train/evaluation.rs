//! Judging a model by held-out text.

use formwork_module::{Pass, Tensor, TokenModel};
use formwork_train::{Window, evaluate, evaluate_batches};
use ndarray::Axis;

use crate::tiny::{Build, text};

/// f64 sums of some hundred terms in another order.
const ROUNDING: f64 = 1e-12;

#[test]
fn the_loss_is_the_mean_over_all_whole_windows_however_many_at_once() {
    let (model, text) = (Build { rate: 0.5, ..Build::default() }.model(), text(11, 101));
    let (mut sum, mut count) = (0.0, 0);
    for batch in text.windows(Window { rows: 1, length: 7 }).unwrap() {
        for (tokens, targets) in batch.tokens.axis_iter(Axis(0)).zip(batch.targets.axis_iter(Axis(0))) {
            let (tokens, targets) = (tokens.insert_axis(Axis(0)), targets.insert_axis(Axis(0)));
            sum += model.loss(tokens, targets, &mut Pass::infer()).unwrap().mean.item().unwrap();
            count += 1;
        }
    }
    for rows in [1, 3, 14, 64] {
        let found = evaluate(&model, &text, Window { rows, length: 7 }).unwrap();
        assert_eq!((found.tokens, count), (98, 14));
        assert!((found.nats - sum / 14.0).abs() < ROUNDING, "{rows} rows: {}", found.nats);
    }
}

#[test]
fn a_model_that_knows_nothing_needs_the_logarithm_of_the_vocabulary() {
    let model = Build::default().model();
    let head = model.param("head");
    head.set(&Tensor::zeros(head.shape(), formwork_module::DType::F64, None).unwrap()).unwrap();
    let found = evaluate(&model, &text(11, 101), Window { rows: 3, length: 7 }).unwrap();
    assert!((found.nats - 11f64.ln()).abs() < ROUNDING);
    assert!((found.bits_per_byte(found.tokens) - 11f64.log2()).abs() < ROUNDING);
}

#[test]
fn nothing_to_judge_and_nothing_finite_are_errors() {
    let model = Build::default().model();
    let check = |result: formwork_module::Result<formwork_train::Evaluation>, words: &[&str]| {
        let error = result.unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    check(evaluate(&model, &text(11, 7), Window { rows: 3, length: 7 }), &["at least 8 tokens", "found 7"]);
    check(evaluate_batches(&model, []), &["evaluation", "at least one target"]);
    let head = model.param("head");
    head.set(&Tensor::full(f64::NAN, head.shape(), formwork_module::DType::F64, None).unwrap()).unwrap();
    check(evaluate(&model, &text(11, 101), Window { rows: 3, length: 7 }), &["evaluation is not finite"]);
}
