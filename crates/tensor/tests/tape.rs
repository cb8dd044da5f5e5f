//! The reverse pass: order, accumulation, refusal, and ops and leaves of a stranger.
#![allow(clippy::unwrap_used, reason = "in the functions that tests share")]

use std::sync::{Arc, Mutex};

use formwork_tensor::{
    DType, Destination, Error, GradSink, Leaf, Op, Outputs, Result, Saved, Tensor, Variable, Write,
};

fn leaf(values: &[f64]) -> Variable {
    Variable::new(Tensor::from_vec(values.to_vec(), &[values.len()]).unwrap())
}

fn grad(of: &Variable) -> Vec<f64> {
    of.grad().expect("a gradient").to_vec().unwrap()
}

/// `y = scale · x`, which notes when its backward runs.
#[derive(Clone, Debug)]
struct Noted {
    name: &'static str,
    scale: f64,
    log: Arc<Mutex<Vec<&'static str>>>,
}

impl Op for Noted {
    fn name(&self) -> &'static str {
        self.name
    }
    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        Ok(inputs[0].detached().scale(self.scale)?.into())
    }
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        self.log.lock().unwrap().push(self.name);
        let dy = into.grad(grads, 0)?;
        into.add(0, &dy.scale(self.scale)?)
    }
}

#[test]
fn the_order_of_the_pass_is_that_of_the_graph_and_not_of_its_making() {
    let run = |c_first: bool| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let op = |name, scale| Noted { name, scale, log: log.clone() };
        let x = Variable::new(Tensor::from_vec(vec![1.0f32], &[1]).unwrap());
        let a = Tensor::apply1(op("a", 1.0), &[&x.tensor()]).unwrap();
        // In f32, 1e8 + 1 − 1e8 depends on the order of addition.
        let make = |name, scale| Tensor::apply1(op(name, scale), &[&a]).unwrap();
        let (b, c) = if c_first {
            let c = make("c", -1e8);
            (make("b", 1e8), c)
        } else {
            let b = make("b", 1e8);
            (b, make("c", -1e8))
        };
        let bc = b.add(&c).unwrap();
        bc.add(&make("d", 1.0)).unwrap().sum().unwrap().backward().unwrap();
        let order = log.lock().unwrap().clone();
        (order, x.grad().unwrap().to_vec::<f32>().unwrap())
    };
    // The last input of a node is walked first: d gives 1, which c's −1e8 swallows.
    assert_eq!(run(false), (vec!["d", "c", "b", "a"], vec![0.0]));
    assert_eq!(run(true), run(false));
}

/// A leaf that notes how each contribution meets it.
struct Spy {
    memory: Mutex<Vec<f64>>,
    writes: Mutex<Vec<Write>>,
}

impl Leaf for Spy {
    fn grad(&self, give: &mut dyn FnMut(Destination<'_>, Write)) {
        let mut writes = self.writes.lock().unwrap();
        let write = if writes.is_empty() { Write::Store } else { Write::Add };
        writes.push(write);
        give(Destination::F64(&mut self.memory.lock().unwrap()), write);
    }
}

#[test]
fn a_leaf_decides_how_each_contribution_meets_its_memory() {
    let spy = Arc::new(Spy { memory: Mutex::new(vec![f64::NAN; 2]), writes: Mutex::default() });
    let x = Tensor::from_vec(vec![3.0f64, 5.0], &[2]).unwrap().tracked(spy.clone());
    x.mul(&x).unwrap().add(&x).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(*spy.writes.lock().unwrap(), [Write::Store, Write::Add, Write::Add]);
    assert_eq!(*spy.memory.lock().unwrap(), [7.0, 11.0]);
}

#[test]
fn a_leaf_without_memory_of_the_right_kind_is_an_error_and_not_a_lost_gradient() {
    struct Wrong(Option<usize>);
    impl Leaf for Wrong {
        fn grad(&self, give: &mut dyn FnMut(Destination<'_>, Write)) {
            match self.0 {
                Some(len) => give(Destination::F64(&mut vec![0.0; len]), Write::Store),
                None => give(Destination::F32(&mut [0.0; 2]), Write::Store),
            }
        }
    }
    for wrong in [Some(1), Some(3), None] {
        let x = Tensor::from_vec(vec![3.0f64, 5.0], &[2]).unwrap().tracked(Arc::new(Wrong(wrong)));
        let words = x.sum().unwrap().backward().unwrap_err().to_string();
        assert_eq!(words, "missing memory for a gradient [2] of f64");
    }
}

#[test]
fn a_variable_is_its_own_gradient_and_gathers_over_passes() {
    let x = leaf(&[2.0, 3.0]);
    assert!(x.grad().is_none());
    x.tensor().backward().unwrap();
    assert_eq!(grad(&x), [1.0, 1.0]);
    x.tensor().scale(10.0).unwrap().backward().unwrap();
    assert_eq!(grad(&x), [11.0, 11.0]);
    x.clear();
    assert!(x.grad().is_none());
}

#[test]
fn a_second_pass_over_a_graph_is_refused_and_changes_nothing() {
    let (x, w) = (leaf(&[2.0, 3.0]), leaf(&[5.0, 7.0]));
    let shared = x.tensor().mul(&x.tensor()).unwrap();
    let first = shared.sum().unwrap();
    let second = shared.mul(&w.tensor()).unwrap().sum().unwrap();
    first.backward().unwrap();
    for loss in [&first, &second] {
        let words = loss.backward().unwrap_err().to_string();
        assert!(words.starts_with("missing the saved tensors of "), "{words}");
        assert!(
            words.ends_with("; backward ran before on this graph and freed them; compute the loss again"),
            "{words}"
        );
    }
    assert_eq!(grad(&x), [4.0, 6.0]);
    assert!(w.grad().is_none(), "half a pass would have left a gradient here");
}

#[test]
fn a_pass_from_nothing_tracked_is_refused() {
    let x = Tensor::full(1.0, &[2], DType::F32, None).unwrap();
    let words = x.sum().unwrap().backward().unwrap_err().to_string();
    assert!(words.starts_with("backward: expected a tensor computed from something tracked"), "{words}");
}

/// `(x, 2x)`, which tells which of its outputs were used.
#[derive(Clone, Debug)]
struct Both(Arc<Mutex<Vec<[bool; 2]>>>);

impl Op for Both {
    fn name(&self) -> &'static str {
        "both"
    }
    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let x = inputs[0].detached();
        Ok([x.clone(), x.scale(2.0)?].into())
    }
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        self.0.lock().unwrap().push([grads[0].is_some(), grads[1].is_some()]);
        for (grad, scale) in grads.iter().zip([1.0, 2.0]) {
            if let Some(grad) = grad {
                into.add(0, &grad.scale(scale)?)?;
            }
        }
        Ok(())
    }
}

#[test]
fn an_unused_output_has_no_gradient() {
    let check = |used: &[usize], expected: f64| {
        let seen = Arc::default();
        let x = leaf(&[1.0]);
        let outputs = Tensor::apply(Both(Arc::clone(&seen)), &[&x.tensor()]).unwrap();
        let used_outputs: Vec<_> = used.iter().map(|&o| &outputs[o]).collect();
        Tensor::cat(&used_outputs, 0).unwrap().sum().unwrap().backward().unwrap();
        assert_eq!(*seen.lock().unwrap(), [[used.contains(&0), used.contains(&1)]]);
        assert_eq!(grad(&x), [expected]);
    };
    check(&[0], 1.0);
    check(&[1], 2.0);
    check(&[0, 1], 3.0);
}

#[test]
fn a_tensor_saved_with_its_history_does_not_start_a_second_graph() {
    #[derive(Debug)]
    struct Careless;
    impl Op for Careless {
        fn name(&self) -> &'static str {
            "careless"
        }
        fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
            saved.keep([inputs[0].clone()]);
            Ok(inputs[0].detached().into())
        }
        fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
            assert!(!saved[0].is_tracked());
            let dy = into.grad(grads, 0)?;
            into.add(0, dy)
        }
    }
    let x = leaf(&[1.0]);
    Tensor::apply1(Careless, &[&x.tensor()]).unwrap().backward().unwrap();
    assert_eq!(grad(&x), [1.0]);
}

#[test]
fn a_stranger_whose_gradient_does_not_fit_is_told() {
    type Give = fn(&mut GradSink<'_>) -> Result<()>;
    #[derive(Debug)]
    struct Odd(Give);
    impl Op for Odd {
        fn name(&self) -> &'static str {
            "odd"
        }
        fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
            Ok(inputs[0].detached().into())
        }
        fn backward(&self, _: &Saved, _: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
            (self.0)(into)
        }
    }
    let check = |give: Give, words: &str| {
        let y = Tensor::apply1(Odd(give), &[&leaf(&[1.0, 2.0]).tensor()]).unwrap();
        assert_eq!(y.backward().unwrap_err().to_string(), words);
    };
    check(
        |into| into.add(0, &Tensor::zeros(&[3], DType::F64, None)?),
        "odd: expected a gradient [2], found [3]",
    );
    check(|into| into.add(0, &Tensor::zeros(&[2], DType::F32, None)?), "odd: expected f64, found f32");
    check(|into| into.give::<f32>(0, |_, _| ()), "odd: expected f64, found f32");
    check(
        |into| into.add(1, &Tensor::zeros(&[2], DType::F64, None)?),
        "odd: expected one of 1 inputs, found input 1",
    );
    check(|into| into.grad(&[None], 0).map(|_| ()), "missing the gradient of output 0 of odd");
    check(|_| Err(Error::missing("nerve")), "missing nerve");
}

#[test]
fn a_gradient_that_two_inputs_share_is_changed_for_neither_by_the_other() {
    let [x, y] = [1.0, 2.0].map(|v| Variable::new(Tensor::full(v, &[3], DType::F64, None).unwrap()));
    let (a, b) = (x.tensor().scale(1.0).unwrap(), y.tensor().scale(1.0).unwrap());
    let sum = a.add_scaled(&b, 1.0).unwrap(); // hands one gradient to both
    let loss = sum.add(&a.scale(3.0).unwrap()).unwrap().add(&b.scale(5.0).unwrap()).unwrap();
    loss.sum().unwrap().backward().unwrap();
    let [dx, dy] = [x, y].map(|v| v.grad().unwrap().to_vec::<f64>().unwrap());
    assert_eq!((dx, dy), (vec![4.0; 3], vec![6.0; 3]));
}

#[test]
fn a_reverse_pass_may_start_from_any_gradient() {
    let x = Variable::new(Tensor::from_vec(vec![1.0f64, 2.0], &[2]).unwrap());
    let y = x.tensor().scale(3.0).unwrap();
    y.backward_from(&Tensor::from_vec(vec![1.0f64, -2.0], &[2]).unwrap()).unwrap();
    assert_eq!(x.grad().unwrap().to_vec::<f64>().unwrap(), [3.0, -6.0]);
    let y = x.tensor().scale(3.0).unwrap();
    let error = y.backward_from(&Tensor::from_vec(vec![1.0f64], &[1]).unwrap()).unwrap_err().to_string();
    assert!(error.contains("[2]") && error.contains("[1]"), "{error}");
}
