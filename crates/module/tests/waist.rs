//! The types that every part shares: parameters and where they live, passes, building, visiting.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use formwork_module::{
    DType, Dropout, Embedding, Flat, Init, Kind, Linear, Mode, Module, Outline, Param, Pass, Record, Result,
    Scope, Seed, Site, Source, Tap, Tensor, Tied, Visit, VisitMut, Weight, children, dropout, params,
    weights_mut,
};

/// Two linear layers.
#[derive(Debug)]
struct Pair {
    up: Linear,
    down: Linear,
}

impl Pair {
    fn new(source: &dyn Source) -> Result<Self> {
        let scope = Scope::root(source);
        let up = scope.child("up");
        Ok(Self { up: Linear::new(&up, 5, 3)?.biased(&up)?, down: Linear::new(&scope.child("down"), 2, 5)? })
    }
}

impl Module for Pair {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.down.forward(&self.up.forward(x, pass)?, pass)
    }
    children!(up, down);
}

fn x() -> Tensor {
    Tensor::from_vec((0..21).map(|i| f64::from(i).sin()).collect(), &[7, 3]).unwrap()
}

fn pair() -> Pair {
    Pair::new(&Seed::new(3).dtype(DType::F64)).unwrap()
}

fn gradients(pair: &Pair) -> Vec<Option<Vec<f64>>> {
    pair.forward(&x(), &mut Pass::train(0, 0)).unwrap().sum().unwrap().backward().unwrap();
    params(pair).iter().map(|(_, p)| p.grad().map(|g| g.to_vec().unwrap())).collect()
}

#[test]
fn names_are_paths_in_building_order() {
    let names: Vec<_> = params(&pair()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["up.weight", "up.bias", "down.weight"]);
    for (name, param) in params(&pair()) {
        assert_eq!(name, param.path());
    }
}

#[test]
fn a_seed_draws_by_path_and_not_by_order() {
    let source = Seed::new(9);
    let scope = Scope::root(&source);
    let normal = Init::Normal { std: 0.5 };
    let first = scope.child("a").param("w", &[64, 33], normal).unwrap();
    let again = Scope::root(&source);
    again.child("b").param("w", &[3], normal).unwrap();
    let second = again.child("a").param("w", &[64, 33], normal).unwrap();
    let values = first.value().unwrap().to_vec::<f32>().unwrap();
    assert_eq!(values, second.value().unwrap().to_vec::<f32>().unwrap());
    let other = again.child("c").param("w", &[64, 33], normal).unwrap();
    assert_ne!(values, other.value().unwrap().to_vec::<f32>().unwrap());
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let std = (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Four standard errors of 2112 draws.
    assert!(
        mean.abs() < 0.5 * 4.0 / n.sqrt() && (std - 0.5).abs() < 0.5 * 4.0 / (2.0 * n).sqrt(),
        "{mean} {std}"
    );
}

#[test]
fn a_name_built_twice_is_refused() {
    let source = Seed::new(1);
    let scope = Scope::root(&source);
    scope.child("a").param("w", &[2], Init::Constant(1.0)).unwrap();
    let error = scope.child("a").param("w", &[2], Init::Constant(1.0)).unwrap_err().to_string();
    assert!(error.contains("a.w"), "{error}");
}

#[test]
fn an_outline_lists_everything_and_computes_nothing() {
    let outline = Pair::new(&Outline).unwrap();
    let shapes: Vec<_> = params(&outline).iter().map(|(_, p)| p.shape().to_vec()).collect();
    assert_eq!(shapes, [vec![5, 3], vec![5], vec![2, 5]]);
    let error = outline.forward(&x(), &mut Pass::infer()).unwrap_err().to_string();
    assert!(error.contains("up.bias") && error.contains("seed or a checkpoint"), "{error}");
}

#[test]
fn flat_memory_changes_no_number_and_no_gradient() {
    let alone = pair();
    let expected = gradients(&alone);
    let gathered = pair();
    let list: Vec<Param> = params(&gathered).into_iter().map(|(_, p)| p).collect();
    let flat = Flat::gather(&list, None).unwrap();
    assert_eq!(flat.len(), 15 + 5 + 10);
    assert_eq!(gradients(&gathered), expected);
    let twice: Vec<Option<Vec<f64>>> =
        expected.iter().map(|g| g.as_ref().map(|g| g.iter().map(|v| v + v).collect())).collect();
    assert_eq!(gradients(&gathered), twice, "a second reverse pass adds");
    flat.clear_grads();
    assert!(list.iter().all(|p| p.grad().is_none()));
    flat.update::<f64, _>(|values, _| values.fill(0.5)).unwrap();
    assert_eq!(list[1].value().unwrap().to_vec::<f64>().unwrap(), [0.5; 5]);
}

#[test]
fn memory_that_a_tape_reads_is_not_changed() {
    let pair = pair();
    let list: Vec<Param> = params(&pair).into_iter().map(|(_, p)| p).collect();
    let flat = Flat::gather(&list, None).unwrap();
    let loss = pair.forward(&x(), &mut Pass::train(0, 0)).unwrap();
    let error = flat.update::<f64, _>(|_, _| ()).unwrap_err();
    assert!(matches!(error.kind(), Kind::Busy { .. }), "{error}");
    drop(loss);
    flat.update::<f64, _>(|_, _| ()).unwrap();
}

#[test]
fn an_update_that_looks_at_its_parameters_is_told_and_not_hung() {
    let pair = pair();
    let list: Vec<Param> = params(&pair).into_iter().map(|(_, p)| p).collect();
    let flat = Flat::gather(&list, None).unwrap();
    gradients(&pair);
    let tape = |pair: &Pair| pair.forward(&x(), &mut Pass::train(0, 0));
    flat.update::<f64, _>(|values, _| {
        assert!(list[0].has_grad() && list[0].grad().is_none());
        let five = Tensor::full(1.0, &[5], DType::F64, None).unwrap();
        let errors = [list[0].value().err(), tape(&pair).err(), list[1].set(&five).err()];
        for error in errors {
            let error = error.unwrap().to_string();
            assert!(error.contains("before or after Flat::update"), "{error}");
        }
        assert!(flat.update::<f64, _>(|_, _| ()).is_err());
        values[0] = 2.0;
    })
    .unwrap();
    assert!(list[0].grad().is_some());
    assert_eq!(list[0].value().unwrap().to_vec::<f64>().unwrap()[0], 2.0);
}

#[test]
fn an_update_that_panics_gives_the_memory_back() {
    let list: Vec<Param> = params(&pair()).into_iter().map(|(_, p)| p).collect();
    let flat = Flat::gather(&list, None).unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        flat.update::<f64, ()>(|_, _| panic!("on purpose")).unwrap();
    }));
    assert!(panic.is_err());
    assert!(list[0].value().is_ok());
    flat.update::<f64, _>(|values, _| values.fill(0.5)).unwrap();
}

#[test]
fn a_gradient_that_arrives_during_an_update_is_an_error_and_not_lost() {
    let pair = pair();
    let list: Vec<Param> = params(&pair).into_iter().map(|(_, p)| p).collect();
    // The gain is outside the run: its tape does not read the memory that is lent.
    let source = Seed::new(1).dtype(DType::F64);
    let outside = Scope::root(&source).param("gain", &[3], Init::Constant(1.0)).unwrap();
    let (flat, mut pass) = (Flat::gather(&list[1..2], None).unwrap(), Pass::train(0, 0));
    let bias = pass.take(&list[1]).unwrap().sum().unwrap();
    let loss = bias.add(&pass.take(&outside).unwrap().sum().unwrap()).unwrap();
    drop((bias, pass));
    let error = flat.update::<f64, _>(|_, _| loss.backward().unwrap_err()).unwrap();
    assert!(error.to_string().contains("memory for a gradient [5]"), "{error}");
    assert!(!list[1].has_grad());
}

#[test]
fn a_parameter_without_numbers_has_no_part_in_its_neighbours_gradient() {
    let source = Seed::new(1).dtype(DType::F64);
    let scope = Scope::root(&source);
    let empty = scope.param("empty", &[0], Init::Constant(0.0)).unwrap();
    let full = scope.param("full", &[2], Init::Constant(3.0)).unwrap();
    let flat = Flat::gather(&[empty.clone(), full.clone()], None).unwrap();
    // The memory beside the values may hold anything; a first gradient must replace it.
    flat.update::<f64, _>(|_, grads| grads.fill(f64::NAN)).unwrap();
    let mut pass = Pass::train(0, 0);
    for param in [&empty, &full] {
        pass.take(param).unwrap().sum().unwrap().backward().unwrap();
    }
    assert_eq!(full.grad().unwrap().to_vec::<f64>().unwrap(), [1.0; 2]);
    empty.clear_grad();
    assert!(full.has_grad() && !empty.has_grad());
}

#[test]
fn an_excuse_lasts_until_gradients_are_cleared() {
    let list: Vec<Param> = params(&pair()).into_iter().map(|(_, p)| p).collect();
    let check = |clear: &dyn Fn()| {
        Pass::train(0, 0).skip(&list[1]);
        let found: Vec<_> = list.iter().map(Param::is_excused).collect();
        assert_eq!(found, [false, true, false]);
        clear();
        assert!(!list.iter().any(Param::is_excused));
    };
    check(&|| list[1].clear_grad());
    let flat = Flat::gather(&list, None).unwrap();
    check(&|| list[1].clear_grad());
    check(&|| flat.clear_grads());
}

#[test]
fn a_parameter_is_gathered_once_and_keeps_its_type_of_numbers() {
    let list: Vec<Param> = params(&pair()).into_iter().map(|(_, p)| p).collect();
    let error = Flat::gather(&[list[0].clone(), list[1].clone(), list[0].clone()], None).unwrap_err();
    assert!(error.to_string().contains("up.weight: flat memory: expected each parameter once"), "{error}");
    let narrow = Tensor::from_vec(vec![0.0f32; 5], &[5]).unwrap();
    for _ in 0..2 {
        let error = list[1].set(&narrow).unwrap_err();
        assert!(matches!(error.kind(), Kind::DType { .. }), "{error}");
        Flat::gather(&list, None).unwrap();
    }
}

#[test]
fn frozen_parameters_and_inference_leave_no_tape() {
    let pair = pair();
    assert!(!pair.forward(&x(), &mut Pass::infer()).unwrap().is_tracked());
    assert!(!pair.forward(&x(), &mut Pass::train(0, 0).recording(Record::Nothing)).unwrap().is_tracked());
    params(&pair).iter().for_each(|(_, p)| p.freeze());
    assert!(!pair.forward(&x(), &mut Pass::train(0, 0)).unwrap().is_tracked());
    params(&pair)[1].1.unfreeze();
    let found: Vec<_> = gradients(&pair).iter().map(Option::is_some).collect();
    assert_eq!(found, [false, true, false]);
}

#[test]
fn a_tied_head_is_one_parameter_with_the_sum_of_both_gradients() {
    let source = Seed::new(4).dtype(DType::F64);
    let scope = Scope::root(&source);
    let table = scope.child("tokens").param("weight", &[11, 3], Init::Normal { std: 1.0 }).unwrap();
    let embedding = Embedding { weight: Arc::new(table.clone()) };
    let head = Linear { weight: Arc::new(Tied::new(&table).unwrap()), bias: None };
    assert!(params(&head).is_empty(), "shown where it was built, and only there");
    let mut pass = Pass::train(0, 0);
    let hidden = embedding.lookup(&[1, 7], &[2], &mut pass).unwrap();
    head.forward(&hidden, &mut pass).unwrap().sum().unwrap().backward().unwrap();
    let (value, grad) =
        (table.value().unwrap().to_vec::<f64>().unwrap(), table.grad().unwrap().to_vec::<f64>().unwrap());
    // d/dW of Σ_rows Σ_n h·W[n]: every row of W gets Σ h; rows 1 and 7 also get the sum of all rows of W.
    for row in 0..11 {
        for column in 0..3 {
            let through_head = value[3 + column] + value[21 + column];
            let sum: f64 = (0..11).map(|n| value[n * 3 + column]).sum();
            let expected = through_head + if row == 1 || row == 7 { sum } else { 0.0 };
            assert!((grad[row * 3 + column] - expected).abs() < 1e-12);
        }
    }
}

/// A weight that stands for another one, times −1.
#[derive(Debug)]
struct Negated(Arc<dyn Weight>);

impl Weight for Negated {
    fn shape(&self) -> [usize; 2] {
        self.0.shape()
    }
    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.apply(&x.neg()?, bias, pass)
    }
    fn gather(&self, ids: &[u32], dims: &[usize], pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.gather(ids, dims, pass)?.neg()
    }
    fn to_dense(&self, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.to_dense(pass)?.neg()
    }
    fn visit(&self, name: &str, v: &mut dyn Visit) {
        self.0.visit(name, v);
    }
}

#[test]
fn a_strangers_weight_takes_the_place_of_ours() {
    let mut pair = pair();
    let before = pair.forward(&x(), &mut Pass::infer()).unwrap().to_vec::<f64>().unwrap();
    let mut seen = Vec::new();
    weights_mut(&mut pair, &mut |name, weight| {
        seen.push(name.to_owned());
        if name == "down.weight" {
            *weight = Arc::new(Negated(weight.clone()));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, ["up.weight", "down.weight"]);
    let after = pair.forward(&x(), &mut Pass::infer()).unwrap().to_vec::<f64>().unwrap();
    assert_eq!(after, before.iter().map(|v| -v).collect::<Vec<_>>());
    assert_eq!(params(&pair).len(), 3);
}

#[test]
fn an_error_of_a_visitor_carries_the_path() {
    struct Refuse;
    impl VisitMut for Refuse {
        fn enter(&mut self, _: &str) {}
        fn leave(&mut self) {}
        fn param(&mut self, name: &str, _: &mut Param) -> Result<()> {
            Err(formwork_module::Error::missing(name))
        }
        fn weight(&mut self, _: &str, _: &mut Arc<dyn Weight>) -> Result<()> {
            Ok(())
        }
    }
    assert_eq!(pair().visit_mut(&mut Refuse).unwrap_err().to_string(), "up.bias: missing bias");
}

#[test]
fn dropout_depends_on_seed_step_and_place_alone() {
    let source = Seed::new(1);
    let scope = Scope::root(&source);
    let (here, there) = (scope.child("here").site(), scope.child("there").site());
    let rate = Dropout::new(0.3).unwrap();
    let ones = Tensor::full(1.0, &[100, 97], DType::F64, None).unwrap();
    let draw = |seed, step, site: &Site, salt| {
        dropout(&ones, rate, site, salt, &Pass::train(seed, step)).unwrap().to_vec::<f64>().unwrap()
    };
    let first = draw(5, 7, &here, 0);
    assert_eq!(first, draw(5, 7, &here, 0));
    for other in [draw(6, 7, &here, 0), draw(5, 8, &here, 0), draw(5, 7, &there, 0), draw(5, 7, &here, 1)] {
        assert_ne!(first, other);
    }
    assert!(first.iter().all(|&v| v == 0.0 || v == 1.0 / 0.7));
    let kept = first.iter().filter(|&&v| v > 0.0).count() as f64 / first.len() as f64;
    // Five standard errors of 9700 draws.
    assert!((kept - 0.7).abs() < 5.0 * (0.21f64 / 9700.0).sqrt(), "{kept}");
    let unchanged = dropout(&ones, rate, &here, 0, &Pass::infer()).unwrap();
    assert_eq!(unchanged.to_vec::<f64>().unwrap(), ones.to_vec::<f64>().unwrap());
    for bad in [-0.1, 1.0, f64::NAN] {
        assert!(Dropout::new(bad).unwrap_err().to_string().contains("[0, 1)"));
    }
}

#[test]
fn a_pass_shows_and_stops() {
    struct Seen(Vec<String>);
    impl Tap for Seen {
        fn see(&mut self, site: &Site, what: &str, tensor: &Tensor) {
            self.0.push(format!("{} {what} {}", site.path, tensor.shape()));
        }
    }
    let source = Seed::new(1);
    let site = Scope::root(&source).child("attn").site();
    let mut tap = Seen(Vec::new());
    Pass::infer().tapped(&mut tap).show(&site, "scores", &x());
    assert_eq!(tap.0, ["attn scores [7, 3]"]);
    let flag = AtomicBool::new(false);
    let pass = Pass::infer().cancelled_by(&flag);
    assert_eq!(pass.mode(), Mode::Infer);
    pass.check_cancelled().unwrap();
    flag.store(true, Relaxed);
    assert!(matches!(pass.check_cancelled().unwrap_err().kind(), Kind::Cancelled));
}

#[test]
fn a_linear_layer_says_what_does_not_fit() {
    let linear = Linear::new(&Scope::root(&Seed::new(1)), 5, 3).unwrap();
    let x = Tensor::from_vec(vec![0.0f32; 8], &[2, 4]).unwrap();
    let error = linear.forward(&x, &mut Pass::infer()).unwrap_err().to_string();
    assert_eq!(error, "linear: expected x [.., 3] for weight [5, 3], found [2, 4]");
}
