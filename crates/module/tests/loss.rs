//! The loss with its head inside, against the same thing written out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_module::{
    DType, HeadLoss, Init, Param, Pass, Result, Scope, Seed, Tensor, Visit, Weight, head_loss,
};
use formwork_tensor::Variable;

const ROWS: usize = 7;
const D: usize = 3;
const N: usize = 11;
const TARGETS: [u32; ROWS] = [1, 4, HeadLoss::IGNORE, 0, 10, 4, HeadLoss::IGNORE];

fn numbers(len: usize, seed: f64) -> Vec<f64> {
    (0..len).map(|i| (i as f64 * 1.7 + seed).sin()).collect()
}

fn inputs() -> [Variable; 3] {
    let tensor =
        |len, seed, dims: &[usize]| Variable::new(Tensor::from_vec(numbers(len, seed), dims).unwrap());
    [tensor(ROWS * D, 0.3, &[ROWS, D]), tensor(N * D, 1.1, &[N, D]), tensor(N, 2.2, &[N])]
}

/// `−log softmax(x·Wᵀ + b)[target]`, averaged, with elementary ops.
fn by_hand([x, w, b]: [&Tensor; 3]) -> Result<Tensor> {
    let p = x.linear(w, Some(b))?.softmax()?.ln()?.reshape(&[ROWS * N, 1])?;
    let counted: Vec<u32> = (0..ROWS as u32)
        .filter(|&r| TARGETS[r as usize] != HeadLoss::IGNORE)
        .map(|r| r * N as u32 + TARGETS[r as usize])
        .collect();
    p.gather(&counted, &[counted.len()])?.mean()?.neg()
}

fn run(loss: impl Fn([&Tensor; 3]) -> Result<Tensor>) -> (f64, Vec<Vec<f64>>) {
    let variables = inputs();
    let tensors = variables.each_ref().map(Variable::tensor);
    let loss = loss(tensors.each_ref()).unwrap().scale(1.5).unwrap();
    loss.backward().unwrap();
    (loss.item().unwrap(), variables.iter().map(|v| v.grad().unwrap().to_vec().unwrap()).collect())
}

#[test]
fn chunks_of_any_size_give_the_loss_and_the_gradients_written_out() {
    let (loss, grads) = run(by_hand);
    for rows in [1, 2, 3, 7, 100] {
        let op = HeadLoss::new(&TARGETS, N).unwrap().chunked(rows);
        assert_eq!(op.count(), 5);
        let (found, found_grads) = run(|inputs| Tensor::apply1(op.clone(), &inputs));
        assert!((found - loss).abs() < 1e-12, "{rows}: {found} for {loss}");
        for (found, expected) in found_grads.iter().flatten().zip(grads.iter().flatten()) {
            assert!((found - expected).abs() < 1e-12, "{rows}: {found} for {expected}");
        }
    }
}

#[test]
fn a_frozen_head_gets_no_gradient_and_changes_none() {
    let [x, w, _] = inputs();
    let op = HeadLoss::new(&TARGETS, N).unwrap();
    let both = Tensor::apply1(op.clone(), &[&x.tensor(), &w.tensor()]).unwrap();
    both.backward().unwrap();
    let expected = x.grad().unwrap().to_vec::<f64>().unwrap();
    x.clear();
    w.clear();
    Tensor::apply1(op, &[&x.tensor(), &w.tensor().detached()]).unwrap().backward().unwrap();
    assert_eq!(x.grad().unwrap().to_vec::<f64>().unwrap(), expected);
    assert!(w.grad().is_none());
}

#[test]
fn a_head_that_learns_alone_gets_the_same_gradient() {
    let inputs = inputs();
    let [x, w, b] = inputs.each_ref().map(Variable::tensor);
    let op = HeadLoss::new(&TARGETS, N).unwrap().chunked(2);
    Tensor::apply1(op.clone(), &[&x, &w, &b]).unwrap().backward().unwrap();
    let [x, w, b] = inputs;
    let expected = [&w, &b].map(|v| v.grad().unwrap().to_vec::<f64>().unwrap());
    [&x, &w, &b].into_iter().for_each(Variable::clear);
    let alone = Tensor::apply1(op, &[&x.tensor().detached(), &w.tensor(), &b.tensor()]).unwrap();
    alone.backward().unwrap();
    assert_eq!([&w, &b].map(|v| v.grad().unwrap().to_vec::<f64>().unwrap()), expected);
    assert!(x.grad().is_none());
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let check = |vocab: usize, shapes: &[&[usize]], words: &str| {
        let op = HeadLoss::new(&[1, 2], vocab).unwrap();
        let tensors: Vec<_> =
            shapes.iter().map(|s| Tensor::full(0.5, s, formwork_module::DType::F64, None).unwrap()).collect();
        let error = Tensor::apply1(op, &tensors.iter().collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(error.contains(words), "{words} in {error}");
    };
    check(11, &[&[2, 3]], "2 or 3 inputs, found 1");
    check(11, &[&[2, 3], &[7, 3]], "a weight [11, 3], one row for each id, found [7, 3]");
    check(11, &[&[2, 3], &[11, 3], &[7]], "bias [11], found [7]");
    check(11, &[&[2, 3], &[11, 5]], "x [2, 5]");
}

#[test]
fn bad_targets_are_named() {
    let check = |targets: &[u32], words: &str| {
        let error = HeadLoss::new(targets, N).unwrap_err().to_string();
        assert!(error.contains(words), "{words} in {error}");
    };
    check(&[1, 11], "11 in row 1");
    check(&[HeadLoss::IGNORE; 2], "at least one target");
    check(&[], "at least one target");
    let [x, w, _] = inputs();
    let error = Tensor::apply1(HeadLoss::new(&[1, 2], N).unwrap(), &[&x.tensor(), &w.tensor()])
        .unwrap_err()
        .to_string();
    assert!(error.contains("x [2, 3]") && error.contains("[7, 3]"), "{error}");
}

/// A matrix that nobody may decode: frozen, it keeps out of the graph; else its parameter learns through the product.
#[derive(Debug)]
struct Opaque {
    matrix: Param,
    learns: bool,
}

impl Weight for Opaque {
    fn shape(&self) -> [usize; 2] {
        [N, D]
    }
    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor> {
        assert!(x.shape().rows().0 < ROWS, "all rows at once");
        match self.learns {
            true => x.linear(&pass.take(&self.matrix)?, bias),
            false => x.linear(&self.matrix.value()?, bias),
        }
    }
    fn gather(&self, _: &[u32], _: &[usize], _: &mut Pass<'_>) -> Result<Tensor> {
        unreachable!("a loss looks nothing up")
    }
    fn to_dense(&self, pass: &mut Pass<'_>) -> Result<Tensor> {
        assert!(self.learns, "a frozen head was decoded whole");
        pass.take(&self.matrix)
    }
    fn visit(&self, _: &str, _: &mut dyn Visit) {}
}

#[test]
fn any_weight_is_a_head_and_only_one_that_learns_is_made_dense() {
    let source = Seed::new(3).dtype(DType::F64);
    let matrix = Scope::root(&source).param("head", &[N, D], Init::Normal { std: 0.7 }).unwrap();
    let [x, ..] = inputs();
    let op = HeadLoss::new(&TARGETS, N).unwrap().chunked(3);
    let run = |head: &dyn Weight| {
        x.clear();
        matrix.clear_grad();
        let loss = head_loss(op.clone(), &x.tensor(), head, &mut Pass::train(1, 0)).unwrap();
        loss.scale(1.5).unwrap().backward().unwrap();
        let still = head_loss(op.clone(), &x.tensor().detached(), head, &mut Pass::infer()).unwrap();
        assert!((still.item().unwrap() - loss.item().unwrap()).abs() < 1e-12);
        let numbers = |t: Tensor| t.to_vec::<f64>().unwrap();
        (loss.item().unwrap(), numbers(x.grad().unwrap()), matrix.grad().map(numbers))
    };
    let (loss, dx, dw) = run(&matrix);
    assert!(dw.is_some());
    for learns in [false, true] {
        let (found, found_dx, found_dw) = run(&Opaque { matrix: matrix.clone(), learns });
        assert!((found - loss).abs() < 1e-12);
        assert!(found_dx.iter().zip(&dx).all(|(a, b)| (a - b).abs() < 1e-12));
        assert_eq!(found_dw, dw.clone().filter(|_| learns), "learns: {learns}");
    }
}

#[test]
fn chunks_are_of_equal_length_and_take_a_third_of_the_head_at_most() {
    for (rows, head, expected) in [
        (1024, [50257, 768], 256),
        (1024, [49152, 576], 171), // six, where 192 would leave a last one of 64
        (768, [65, 128], 768),
        (5, [1 << 30, 8], 2),
        (1, [7, 3], 1),
    ] {
        assert_eq!(HeadLoss::chunk_rows(rows, head), expected, "{rows} rows through {head:?}");
    }
}
