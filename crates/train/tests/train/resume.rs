//! Interrupted and resumed equals uninterrupted, bit for bit.

use formwork_module::{DType, Tensor, params};
use formwork_train::{NonFinite, State, StepReport, TrainConfig, Trainer};
use serde_json::{Value, json};

use crate::{
    config,
    tiny::{Break, Build, Tiny, Use, batches, text},
};

/// Bytes as a file would hold them: name, type, shape and the bits of the numbers.
type Bytes = Vec<(String, DType, Vec<usize>, Vec<u8>)>;

fn to_bytes(tensors: &[(String, Tensor)]) -> Bytes {
    let bytes = |t: &Tensor| match t.dtype() {
        DType::F64 => t.to_vec::<f64>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
        _ => t.to_vec::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    tensors.iter().map(|(name, t)| (name.clone(), t.dtype(), t.shape().to_vec(), bytes(t))).collect()
}

fn from_bytes(bytes: &Bytes) -> Vec<(String, Tensor)> {
    let tensor = |dtype, shape: &[usize], bytes: &[u8]| match dtype {
        DType::F64 => {
            Tensor::from_vec(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(), shape)
        }
        _ => Tensor::from_vec(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(), shape),
    };
    bytes
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.clone(), tensor(*dtype, shape, bytes).unwrap()))
        .collect()
}

fn values(model: &Tiny) -> Vec<(String, Tensor)> {
    params(model).into_iter().map(|(name, p)| (name, p.value().unwrap())).collect()
}

/// Dropout, a parameter that sits out every other step, and a step that is skipped.
fn build(seed: u64, dtype: DType) -> Tiny {
    let breaks = vec![(2, Break::Gradient), (5, Break::Loss)];
    Build { seed, dtype, rate: 0.2, spare: Some(Use::Odd), breaks, ..Build::default() }.model()
}

fn skipping() -> TrainConfig {
    TrainConfig { non_finite: NonFinite::Skip { limit: 1 }, ..config() }
}

fn run(trainer: &mut Trainer, model: &Tiny, until: u64) -> Vec<StepReport> {
    let text = text(11, 501);
    (trainer.steps()..until).map(|step| trainer.step(model, &batches(&text, step, 2)).unwrap()).collect()
}

/// Reports hold NaN where a step was skipped, which equals nothing.
fn said(reports: &[StepReport]) -> Vec<String> {
    reports.iter().map(|r| format!("{r:?}")).collect()
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit_wherever_it_was_interrupted() {
    for dtype in [DType::F32, DType::F64] {
        let model = build(7, dtype);
        let mut trainer = Trainer::new(&model, skipping()).unwrap();
        let whole = said(&run(&mut trainer, &model, 8));
        for cut in 0..8 {
            let first = build(7, dtype);
            let mut trainer_a = Trainer::new(&first, skipping()).unwrap();
            run(&mut trainer_a, &first, cut);
            let state = trainer_a.state().unwrap();
            let (meta, moments, weights) =
                (state.meta.to_string(), to_bytes(&state.tensors), to_bytes(&values(&first)));

            let second = build(99, dtype); // other weights, to be replaced
            for ((_, p), (_, value)) in params(&second).iter().zip(from_bytes(&weights)) {
                p.set(&value).unwrap();
            }
            let mut trainer_b = Trainer::new(&second, skipping()).unwrap();
            let state = State { meta: serde_json::from_str(&meta).unwrap(), tensors: from_bytes(&moments) };
            trainer_b.restore(&state).unwrap();
            assert_eq!(
                said(&run(&mut trainer_b, &second, 8)),
                whole[cut as usize..],
                "{dtype}, cut at {cut}"
            );
            assert_eq!(second.bits(), model.bits(), "{dtype}, cut at {cut}");
            assert_eq!(trainer_b.state().unwrap().meta, trainer.state().unwrap().meta);
        }
    }
}

#[test]
fn a_state_keeps_what_it_held_while_training_goes_on() {
    let model = build(7, DType::F32);
    let mut trainer = Trainer::new(&model, skipping()).unwrap();
    run(&mut trainer, &model, 2);
    let state = trainer.state().unwrap();
    let before = to_bytes(&state.tensors);
    run(&mut trainer, &model, 4);
    assert_eq!(to_bytes(&state.tensors), before);
    assert_ne!(to_bytes(&trainer.state().unwrap().tensors), before);
}

#[test]
fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
    let model = build(7, DType::F32);
    let mut trainer = Trainer::new(&model, skipping()).unwrap();
    run(&mut trainer, &model, 2);
    let good = trainer.state().unwrap();
    let good = State { meta: good.meta.clone(), tensors: from_bytes(&to_bytes(&good.tensors)) };
    let mut check = |change: &dyn Fn(&mut State), words: &[&str]| {
        let before = trainer.state().unwrap();
        let (meta, tensors) = (before.meta, to_bytes(&before.tensors));
        let mut state = good.clone();
        change(&mut state);
        let error = trainer.restore(&state).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        let after = trainer.state().unwrap();
        assert!(after.meta == meta && to_bytes(&after.tensors) == tensors, "{error}");
    };
    let set = |state: &mut State, key: &str, value: Value| state.meta[key] = value;
    check(&|s| set(s, "seed", json!(6)), &["seed", "expected 6", "found 5", "resumed run keeps its seed"]);
    check(&|s| set(s, "format", json!(2)), &["format 1", "found 2", "newer"]);
    check(&|s| s.meta = json!({}), &["format 1", "found none"]);
    check(&|s| set(s, "stepz", json!(2)), &["stepz"]);
    check(&|s| set(s, "steps", json!("two")), &["training state", "steps"]);
    check(&|s| s.meta["updates"]["other"] = json!(1), &["`other`", "another model"]);
    check(&|s| drop(s.meta["updates"].as_object_mut().unwrap().remove("head")), &["updates of head"]);
    check(&|s| drop(s.tensors.remove(0)), &["missing moment1.embed.weight"]);
    check(
        &|s| s.tensors.push(("moment1.other".into(), s.tensors[0].1.clone())),
        &["`moment1.other`", "another model"],
    );
    check(
        &|s| s.tensors[1].1 = s.tensors[0].1.clone(),
        &["moment1.up.weight", "expected [13, 5] f32", "found [11, 5] f32"],
    );
    let wide = Tensor::zeros(&[11, 5], DType::F64, None).unwrap();
    check(
        &|s| s.tensors[0].1 = wide.clone(),
        &["moment1.embed.weight", "expected [11, 5] f32", "found [11, 5] f64"],
    );
}
