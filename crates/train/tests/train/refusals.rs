//! What a step refuses, and that nothing has changed then.

use formwork_module::{Kind, Result, params};
use formwork_train::{AdamWConfig, Batch, Group, NonFinite, Outcome, StepReport, TrainConfig, Trainer};

use crate::{
    config,
    tiny::{Break, Build, Tiny, Use, batches, text},
};

fn assert_words<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) {
    let error = result.unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

fn step(trainer: &mut Trainer, model: &Tiny) -> Result<StepReport> {
    let batches = batches(&text(11, 501), trainer.steps(), 1);
    trainer.step(model, &batches)
}

#[test]
fn a_parameter_without_a_gradient_stops_the_step_before_anything_changes() {
    let model = Build { spare: Some(Use::Never), ..Build::default() }.model();
    let before = model.bits();
    let mut trainer = Trainer::new(&model, config()).unwrap();
    assert_words(step(&mut trainer, &model), &["missing the gradient of spare;", "freeze", "Pass::skip"]);
    assert_eq!((model.bits(), trainer.steps()), (before, 0));
    model.param("spare").freeze();
    assert_eq!(step(&mut trainer, &model).unwrap().step, 1);
}

#[test]
fn a_parameter_that_is_rightly_left_out_stays_as_it_is() {
    let model = Build { spare: Some(Use::Odd), ..Build::default() }.model();
    let spare = || model.param("spare").value().unwrap().to_vec::<f64>().unwrap();
    let mut trainer = Trainer::new(&model, config()).unwrap();
    let mut seen = vec![spare()];
    for _ in 0..4 {
        step(&mut trainer, &model).unwrap();
        seen.push(spare());
    }
    assert_eq!((&seen[1], &seen[3]), (&seen[0], &seen[2]), "steps 0 and 2");
    assert!(seen[2] != seen[1] && seen[4] != seen[3], "steps 1 and 3");
}

#[test]
fn another_model_than_the_trainers_gets_no_step() {
    let (model, other) = (Build::default().model(), Build::default().model());
    let mut trainer = Trainer::new(&model, config()).unwrap();
    assert_words(
        step(&mut trainer, &other),
        &["missing the gradient of embed.weight, up.weight, up.bias, down.weight, head;"],
    );
}

#[test]
fn what_is_not_finite_stops_and_is_named() {
    let check = |kind, what: &str| {
        let model = Build { breaks: vec![(1, kind)], ..Build::default() }.model();
        let mut trainer = Trainer::new(&model, config()).unwrap();
        step(&mut trainer, &model).unwrap();
        let (bits, meta) = (model.bits(), trainer.state().unwrap().meta);
        let error = step(&mut trainer, &model).unwrap_err();
        assert!(matches!(error.kind(), Kind::NonFinite { what: found } if found == what), "{error}");
        assert!(error.to_string().starts_with("step 2: "), "{error}");
        assert_eq!((model.bits(), trainer.state().unwrap().meta), (bits, meta));
    };
    check(Break::Loss, "the loss of batch 0");
    check(Break::Gradient, "the gradient of embed.weight");
}

#[test]
fn what_is_not_finite_is_skipped_and_counted_up_to_the_limit() {
    let breaks =
        vec![(1, Break::Gradient), (2, Break::Loss), (4, Break::Loss), (5, Break::Loss), (6, Break::Loss)];
    let model = Build { breaks, ..Build::default() }.model();
    let config = TrainConfig { non_finite: NonFinite::Skip { limit: 2 }, ..config() };
    let mut trainer = Trainer::new(&model, config).unwrap();
    for at in 0..6u64 {
        let before = model.bits();
        let report = step(&mut trainer, &model).unwrap();
        let skipped = report.outcome != Outcome::Applied;
        assert_eq!((skipped, model.bits() == before), ([1, 2, 4, 5].contains(&at), skipped), "step {at}");
        assert_eq!(report.step, at + 1);
    }
    assert_eq!((trainer.skipped(), trainer.optimizer().updates()["head"]), (4, 2));
    assert_words(
        step(&mut trainer, &model),
        &["step 7: the loss of batch 0 is not finite", "2 steps in a row"],
    );
    assert_eq!(trainer.steps(), 6);
}

#[test]
fn parameters_that_a_tensor_still_reads_are_not_changed_under_it() {
    let model = Build::default().model();
    let mut trainer = Trainer::new(&model, config()).unwrap();
    let (held, before) = (model.param("head").value().unwrap(), model.bits());
    let error = step(&mut trainer, &model).unwrap_err();
    assert!(matches!(error.kind(), Kind::Busy { .. }), "{error}");
    assert_eq!((model.bits(), trainer.steps()), (before, 0));
    drop(held);
    step(&mut trainer, &model).unwrap();
}

#[test]
fn a_parameter_that_learns_later_needs_a_new_trainer() {
    let model = Build::default().model();
    model.param("up.bias").freeze();
    let mut trainer = Trainer::new(&model, config()).unwrap();
    model.param("up.bias").unfreeze();
    assert_words(step(&mut trainer, &model), &["up.bias too", "then make the trainer"]);
}

#[test]
fn a_step_needs_targets() {
    let model = Build::default().model();
    let mut trainer = Trainer::new(&model, config()).unwrap();
    assert_words(trainer.step(&model, &[]), &["step", "at least one target", "none in 0 batches"]);
    let [empty, one] = [0, 1]
        .map(|b| Batch::new(ndarray::Array2::zeros((b, 3)), ndarray::Array2::from_elem((b, 3), u32::MAX)));
    assert_words(trainer.step(&model, &[empty]), &["at least one"]);
    assert_words(trainer.step(&model, &[one]), &["at least one target that counts"]);
    let strange = Batch::new(ndarray::Array2::from_elem((1, 3), 11), ndarray::Array2::zeros((1, 3)));
    assert_words(trainer.step(&model, &[strange]), &["below the vocabulary of 11", "found 11"]);
}

#[test]
fn settings_out_of_range_are_named() {
    let check = |change: &dyn Fn(&mut TrainConfig), words: &[&str]| {
        let mut config = config();
        change(&mut config);
        assert_words(Trainer::new(&Build::default().model(), config), words);
    };
    check(&|c| c.clip = Some(0.0), &["clip", "found 0"]);
    check(&|c| c.clip = Some(f64::NAN), &["clip", "found NaN"]);
    check(&|c| c.adamw.beta1 = 1.0, &["adamw.beta1", "[0, 1)", "found 1"]);
    check(&|c| c.adamw.beta2 = -0.1, &["adamw.beta2", "found -0.1"]);
    check(&|c| c.adamw = AdamWConfig { eps: 0.0, ..c.adamw }, &["adamw.eps", "found 0"]);
    check(&|c| c.adamw.weight_decay = f64::INFINITY, &["adamw.weight_decay", "found inf"]);
    let negative = |_: &str, _: &formwork_module::Param| Group { decay: 1.0, lr_scale: -1.0 };
    assert_words(
        Trainer::grouped(&Build::default().model(), config(), &negative),
        &["embed.weight", "lr_scale: -1"],
    );
    let frozen = Build::default().model();
    params(&frozen).iter().for_each(|(_, p)| p.freeze());
    assert_words(Trainer::new(&frozen, config()), &["a parameter that learns", "frozen"]);
}

#[test]
fn an_unknown_setting_is_named_with_its_path() {
    let check = |json: serde_json::Value, words: &[&str]| {
        assert_words(formwork_module::config::read::<TrainConfig>(json), words);
    };
    let schedule = serde_json::json!({"kind": "constant", "lr": 0.1});
    check(
        serde_json::json!({"seed": 1, "schedule": schedule, "adamw": {"beta3": 0.9}}),
        &["adamw.beta3", "beta1"],
    );
    check(
        serde_json::json!({"seed": 1, "schedule": schedule, "clipp": 1.0}),
        &["clipp", "did you mean `clip`"],
    );
    let skip = serde_json::json!({"kind": "skip", "limit": 1, "limt": 2});
    check(serde_json::json!({"seed": 1, "schedule": schedule, "non_finite": skip}), &["non_finite", "limt"]);
}
