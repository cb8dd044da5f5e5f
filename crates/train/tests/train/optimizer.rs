//! What a step computes.

use std::collections::HashMap;

use formwork_kernels::team::with_threads;
use formwork_module::{DType, HeadLoss, Pass, Tensor, TokenModel, params};
use formwork_train::{
    Batch, Group, Outcome, Schedule, State, TrainConfig, TrainPrecision, Trainer, evaluate, group_by_rank,
};
use ndarray::{Axis, concatenate};

use crate::{
    config,
    tiny::{Build, Tiny, Use, batches, text},
};

/// f64, sums of tens of terms in another order: a few units in the last place, grown over some steps of training.
const ROUNDING: f64 = 1e-12;

fn values(model: &Tiny) -> Vec<(String, Vec<f64>)> {
    params(model).iter().map(|(name, p)| (name.clone(), p.value().unwrap().to_vec().unwrap())).collect()
}

fn assert_close(found: &Tiny, expected: &[(String, Vec<f64>)]) {
    for ((name, found), (_, expected)) in values(found).iter().zip(expected) {
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= ROUNDING * e.abs().max(1.0), "{name}: {f} is not {e}");
        }
    }
}

/// AdamW as the formulas say it, on numbers of its own, one parameter at a time.
#[derive(Default)]
struct Plain {
    moments: HashMap<String, (Vec<f64>, Vec<f64>, i32)>,
    norms: Vec<f64>,
}

impl Plain {
    fn step(&mut self, model: &Tiny, batch: &Batch, step: u64, config: &TrainConfig) {
        let loss = model.loss(batch.tokens.view(), batch.targets.view(), &mut Pass::train(9, step)).unwrap();
        loss.mean.backward().unwrap();
        drop(loss);
        let params = params(model);
        let grad = |p: &formwork_module::Param| p.grad().map(|g| g.to_vec::<f64>().unwrap());
        let norm = params.iter().filter_map(|(_, p)| grad(p)).flatten().map(|g| g * g).sum::<f64>().sqrt();
        self.norms.push(norm);
        let clip = config.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
        let lr = config.schedule.build().unwrap().lr(step);
        let rule = config.adamw;
        for (name, p) in &params {
            let Some(g) = grad(p) else { continue };
            let mut w = p.value().unwrap().to_vec::<f64>().unwrap();
            let fresh = || (vec![0.0; g.len()], vec![0.0; g.len()], 0);
            let (m, v, k) = self.moments.entry(name.clone()).or_insert_with(fresh);
            *k += 1;
            let decay = if p.shape().rank() >= 2 { rule.weight_decay } else { 0.0 };
            for i in 0..g.len() {
                let g = g[i] * clip;
                m[i] = rule.beta1 * m[i] + (1.0 - rule.beta1) * g;
                v[i] = rule.beta2 * v[i] + (1.0 - rule.beta2) * g * g;
                let (m, v) = (m[i] / (1.0 - rule.beta1.powi(*k)), v[i] / (1.0 - rule.beta2.powi(*k)));
                w[i] -= lr * decay * w[i] + lr * m / (v.sqrt() + rule.eps);
            }
            p.set(&formwork_module::Tensor::from_vec(w, p.shape()).unwrap()).unwrap();
            p.clear_grad();
        }
    }
}

#[test]
fn ten_steps_are_those_of_the_formulas_even_where_a_parameter_sits_some_out() {
    let check = |clip: Option<f64>, clips: usize| {
        let build = || Build { spare: Some(Use::Odd), ..Build::default() }.model();
        let (model, reference, text) = (build(), build(), text(11, 501));
        let config = TrainConfig { clip, ..config() };
        let mut trainer = Trainer::new(&model, config.clone()).unwrap();
        let mut plain = Plain::default();
        for step in 0..10 {
            let batches = batches(&text, step, 1);
            let report = trainer.step(&model, &batches).unwrap();
            plain.step(&reference, &batches[0], step, &config);
            assert!((report.grad_norm - plain.norms[step as usize]).abs() < ROUNDING);
            assert_close(&model, &values(&reference));
        }
        let clipped = plain.norms.iter().filter(|n| clip.is_some_and(|clip| **n > clip)).count();
        assert!(clipped >= clips, "{clipped} clipped of {:?}", plain.norms);
    };
    check(None, 0);
    check(Some(0.5), 5);
    check(Some(1e9), 0);
}

#[test]
fn accumulated_batches_of_unequal_weight_are_one_large_batch() {
    let text = text(11, 501);
    let build = || Build::default().model();
    let (whole, parts) = (build(), build());
    let mut one = Trainer::new(&whole, config()).unwrap();
    let mut many = Trainer::new(&parts, config()).unwrap();
    for step in 0..5 {
        let mut micro = batches(&text, step, 3);
        // 14, 9 and 2 targets count.
        micro[1].targets.row_mut(0).iter_mut().take(5).for_each(|t| *t = HeadLoss::IGNORE);
        micro[2].targets.iter_mut().skip(2).for_each(|t| *t = HeadLoss::IGNORE);
        let stack = |of: fn(&Batch) -> ndarray::ArrayView2<'_, u32>| {
            concatenate(Axis(0), &micro.iter().map(of).collect::<Vec<_>>()).unwrap()
        };
        let batch = Batch::new(stack(|b| b.tokens.view()), stack(|b| b.targets.view()));
        let (a, b) = (one.step(&whole, &[batch]).unwrap(), many.step(&parts, &micro).unwrap());
        assert_eq!((a.tokens, b.tokens), (25, 25));
        assert!((a.loss - b.loss).abs() < ROUNDING && (a.grad_norm - b.grad_norm).abs() < ROUNDING);
        assert_close(&parts, &values(&whole));
    }
}

#[test]
fn training_learns_and_reports_what_it_did() {
    let (model, text) = (Build { dtype: DType::F32, ..Build::default() }.model(), text(11, 2003));
    let mut trainer = Trainer::new(&model, TrainConfig { clip: None, ..config() }).unwrap();
    let reports: Vec<_> =
        (0..30).map(|step| trainer.step(&model, &batches(&text, step, 1)).unwrap()).collect();
    assert!(reports[29].loss < 0.7 * reports[0].loss, "{} to {}", reports[0].loss, reports[29].loss);
    assert_eq!((reports[0].step, reports[29].step, trainer.steps()), (1, 30, 30));
    assert_eq!((reports[0].lr, reports[3].lr), (0.02 / 4.0, 0.02));
    assert!(reports.iter().all(|r| r.tokens == 14 && r.outcome == Outcome::Applied && r.grad_norm > 0.0));
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let run = |threads| {
        with_threads(threads, || {
            let build = Build { dtype: DType::F32, rate: 0.1, sizes: [331, 128, 512], ..Build::default() };
            let (model, text) = (build.model(), text(331, 2003));
            let mut trainer = Trainer::new(&model, config()).unwrap();
            let reports: Vec<_> =
                (0..3).map(|step| trainer.step(&model, &batches(&text, step, 2)).unwrap()).collect();
            (reports, model.bits())
        })
    };
    assert!(run(1) == run(2), "bits differ between 1 and 2 threads");
}

#[test]
fn dropout_differs_between_steps_and_between_the_batches_of_a_step() {
    let text = text(11, 501);
    let same = batches(&text, 0, 1).remove(0);
    let loss = |rate, steps: u64, batches: &[Batch]| {
        let model = Build { rate, ..Build::default() }.model();
        let mut still = config();
        still.schedule = formwork_train::ScheduleConfig::Constant(formwork_train::Constant { lr: 0.0 });
        let mut trainer = Trainer::new(&model, still).unwrap();
        (0..steps).map(|_| trainer.step(&model, batches).unwrap().loss).last().unwrap()
    };
    let once = loss(0.5, 1, std::slice::from_ref(&same));
    assert_eq!(once, loss(0.5, 1, std::slice::from_ref(&same)), "the same step");
    assert_ne!(once, loss(0.5, 2, std::slice::from_ref(&same)), "another step");
    assert_ne!(once, loss(0.5, 1, &[same.clone(), same.clone()]), "another batch of the step");
    let plain = loss(0.0, 1, std::slice::from_ref(&same));
    assert!((plain - loss(0.0, 2, &[same.clone(), same])).abs() < ROUNDING, "without dropout they agree");
}

#[test]
fn a_rule_of_ones_own_decides_on_decay_and_rate() {
    let (model, text) = (Build::default().model(), text(11, 501));
    let before: HashMap<_, _> = model.bits().into_iter().collect();
    let rule = |name: &str, p: &formwork_module::Param| match name {
        "embed.weight" => Group { decay: 1.0, lr_scale: 0.0 },
        _ => group_by_rank(name, p),
    };
    let mut trainer = Trainer::grouped(&model, config(), &rule).unwrap();
    trainer.step(&model, &batches(&text, 0, 1)).unwrap();
    for (name, bits) in model.bits() {
        assert_eq!(bits == before[&name], name == "embed.weight", "{name}");
    }
}

#[test]
fn frozen_parameters_stay_and_have_no_moments() {
    let (model, text) = (Build::default().model(), text(11, 501));
    model.param("up.weight").freeze();
    let before: HashMap<_, _> = model.bits().into_iter().collect();
    let mut trainer = Trainer::new(&model, config()).unwrap();
    model.param("head").freeze(); // later on: it keeps its moments and stays as it is
    trainer.step(&model, &batches(&text, 0, 1)).unwrap();
    for (name, bits) in model.bits() {
        assert_eq!(bits == before[&name], ["up.weight", "head"].contains(&name.as_str()), "{name}");
    }
    let state = trainer.state().unwrap();
    assert!(!state.tensors.iter().any(|(name, _)| name.contains("up.weight")));
    assert!(state.tensors.iter().any(|(name, _)| name == "moment2.up.bias"));
}

#[test]
fn a_schedule_of_ones_own_is_followed() {
    #[derive(Debug)]
    struct Halving;
    impl Schedule for Halving {
        fn lr(&self, step: u64) -> f64 {
            0.5f64.powi(step as i32)
        }
    }
    let (model, text) = (Build::default().model(), text(11, 501));
    let mut trainer = Trainer::with_schedule(&model, config(), &group_by_rank, Box::new(Halving)).unwrap();
    let lrs: Vec<_> = (0..3).map(|step| trainer.step(&model, &batches(&text, step, 1)).unwrap().lr).collect();
    assert_eq!(lrs, [1.0, 0.5, 0.25]);
}

#[test]
fn a_model_behind_a_trait_object_trains_like_any_other() {
    let (model, text) = (Build::default().model(), text(11, 501));
    let model: &dyn TokenModel = &model;
    let mut trainer = Trainer::new(model, config()).unwrap();
    trainer.step(model, &batches(&text, 0, 1)).unwrap();
    assert!(evaluate(model, &text, formwork_train::Window { rows: 3, length: 7 }).unwrap().nats.is_finite());
}

#[test]
fn the_second_step_of_a_shape_takes_no_memory_from_the_system() {
    let (model, text) = (Build { rate: 0.1, ..Build::default() }.model(), text(11, 501));
    let mut trainer = Trainer::new(&model, config()).unwrap();
    trainer.step(&model, &batches(&text, 0, 2)).unwrap();
    let first = trainer.pool().stats();
    for step in 1..4 {
        trainer.step(&model, &batches(&text, step, 2)).unwrap();
    }
    let last = trainer.pool().stats();
    assert_eq!((last.from_system, last.bytes), (first.from_system, first.bytes));
    assert!(last.taken > first.taken, "the pool was used");
}

#[test]
fn a_run_holds_parameters_gradients_and_two_moments_and_no_more() {
    let model = Build { sizes: [331, 128, 512], ..Build::default() }.model();
    let mut trainer = Trainer::new(&model, config()).unwrap();
    let held = || trainer.pool().stats().bytes as f64;
    let one = params(&model).iter().map(|(_, p)| 8 * p.shape().len()).sum::<usize>() as f64;
    // A pool rounds sizes up, by an eighth at most.
    assert!((4.0..4.5).contains(&(held() / one)), "{} of {one}", held());
    let before = held();
    let State { meta, tensors } = trainer.state().unwrap();
    // As from a file: numbers that are not the trainer's own.
    let copy = |(name, t): (String, Tensor)| {
        (name, Tensor::from_vec(t.to_vec::<f64>().unwrap(), t.shape()).unwrap())
    };
    let state = State { meta, tensors: tensors.into_iter().map(copy).collect() };
    trainer.restore(&state).unwrap();
    assert_eq!(trainer.pool().stats().bytes as f64, before, "what is restored takes the place of what was");
}

#[test]
fn products_in_bf16_follow_the_loss_of_f32_within_a_hundredth() {
    let text = text(31, 3001);
    let curve = |precision| {
        let model = Build { dtype: DType::F32, sizes: [31, 24, 64], ..Build::default() }.model();
        let mut trainer = Trainer::new(&model, TrainConfig { precision, ..config() }).unwrap();
        let losses: Vec<f64> =
            (0..60).map(|step| trainer.step(&model, &batches(&text, step, 1)).unwrap().loss).collect();
        losses
    };
    let (full, mixed) = (curve(TrainPrecision::F32), curve(TrainPrecision::Bf16));
    assert_ne!(full, mixed, "nothing was rounded");
    assert!(full[59] < 0.9 * full[0], "it learns: {} to {}", full[0], full[59]);
    for (step, (full, mixed)) in full.iter().zip(&mixed).enumerate() {
        assert!((full - mixed).abs() <= 0.01 * full, "step {step}: {mixed} is not {full}");
    }
}

#[test]
fn a_model_in_f64_trains_in_f64_whatever_the_precision() {
    let text = text(11, 501);
    let run = |precision| {
        let model = Build::default().model();
        let mut trainer = Trainer::new(&model, TrainConfig { precision, ..config() }).unwrap();
        (0..3).for_each(|step| drop(trainer.step(&model, &batches(&text, step, 1)).unwrap()));
        model.bits()
    };
    assert_eq!(run(TrainPrecision::Bf16), run(TrainPrecision::F32));
}
