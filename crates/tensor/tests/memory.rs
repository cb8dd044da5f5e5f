//! What a graph holds: as little as its backward needs, for as short as it can, and without recursion.
#![allow(clippy::unwrap_used, reason = "in the functions that tests share")]

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use formwork_tensor::{DType, GradSink, Op, Outputs, Owns, Pool, Result, Saved, Storage, Tensor, Variable};

fn leaf(values: &[f64]) -> Variable {
    Variable::new(Tensor::from_vec(values.to_vec(), &[values.len()]).unwrap())
}

fn grad(of: &Variable) -> Vec<f64> {
    of.grad().expect("a gradient").to_vec().unwrap()
}

/// Runs on a stack on which recursion over the chain would not fit.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(128 << 10).spawn(f).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_a_hundred_thousand_nodes_neither_overflows_nor_leaks() {
    let run = |is_walked: bool| {
        on_a_small_stack(move || {
            let pool = Pool::new();
            let x = Variable::new(Tensor::full(0.5, &[1], DType::F64, Some(&pool)).unwrap());
            let mut y = x.tensor();
            for _ in 0..50_000 {
                // Two readers of one tensor, so that a walk without memory of what it has seen would never end.
                y = y.add_scaled(&y.tanh().unwrap(), 1e-9).unwrap();
            }
            if is_walked {
                y.backward().unwrap();
                let expected = (1.0 + 1e-9 / 0.5f64.cosh().powi(2)).powi(50_000);
                assert!((grad(&x)[0] - expected).abs() < 1e-6, "{:?} and {expected}", grad(&x));
            }
            drop((x, y));
            pool.trim();
            assert_eq!(pool.stats().bytes, 0, "what the chain held has come back");
        });
    };
    run(false);
    run(true);
}

/// Memory that counts how many of its kind are alive.
struct Counted(Vec<f64>, Arc<AtomicUsize>);

impl Counted {
    fn new(values: Vec<f64>, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Relaxed);
        Self(values, alive.clone())
    }
}

impl Deref for Counted {
    type Target = [f64];
    fn deref(&self) -> &[f64] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Relaxed);
    }
}

/// `y = x`, which saves memory that is counted and tells how much of it is alive in its backward.
#[derive(Clone, Debug)]
struct Keeps {
    alive: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<usize>>>,
}

impl Op for Keeps {
    fn name(&self) -> &'static str {
        "keeps"
    }
    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let memory = Storage::adopt(Counted::new(inputs[0].to_vec()?, &self.alive), None);
        saved.keep([Tensor::from_storage(memory, 0, inputs[0].shape())?]);
        Ok(inputs[0].detached().into())
    }
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        self.seen.lock().unwrap().push(self.alive.load(Relaxed));
        let dy = into.grad(grads, 0)?;
        into.add(0, dy)
    }
}

#[test]
fn saved_memory_is_freed_while_the_pass_runs() {
    let keeps = Keeps { alive: Arc::default(), seen: Arc::default() };
    let x = leaf(&[1.0, 2.0]);
    let mut y = x.tensor();
    for _ in 0..4 {
        y = Tensor::apply1(keeps.clone(), &[&y]).unwrap();
    }
    assert_eq!(keeps.alive.load(Relaxed), 4);
    y.backward().unwrap();
    assert_eq!(*keeps.seen.lock().unwrap(), [4, 3, 2, 1], "while the loss still holds the graph");
    assert_eq!(grad(&x), [1.0, 1.0]);
}

/// Hands a gradient on; its forward runs elsewhere.
#[derive(Debug)]
struct Passing;

impl Op for Passing {
    fn name(&self) -> &'static str {
        "passing"
    }
    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        Ok(inputs[0].detached().into())
    }
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        into.add(0, dy)
    }
}

#[test]
fn ops_that_need_no_numbers_in_their_backward_save_none() {
    let alive = Arc::new(AtomicUsize::new(0));
    let x = leaf(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let check = |name: &str, op: &dyn Fn(&Tensor) -> Result<Tensor>| {
        let memory = Storage::adopt(Counted::new(vec![0.5; 6], &alive), None);
        // A tensor on counted memory whose history leads to x.
        let outputs = Tensor::from_storage(memory, 0, &[6]).unwrap().into();
        let h =
            Tensor::record(Passing, &[&x.tensor()], outputs, Saved::wanting(), Owns::Nothing).one().unwrap();
        let y = op(&h).and_then(|y| y.sum()).unwrap();
        drop(h);
        assert_eq!(alive.load(Relaxed), 0, "{name} holds its input");
        y.backward().unwrap();
    };
    let bias = Tensor::zeros(&[6], DType::F64, None).unwrap();
    check("add", &|h| h.add(&bias));
    check("sub", &|h| h.sub(&bias));
    check("add_scaled", &|h| h.add_scaled(&bias, 2.0));
    check("sum", &|h| h.sum());
    check("cat", &|h| Tensor::cat(&[h, &bias], 0));
    check("scale", &|h| h.scale(2.0));
    check("reshape", &|h| h.reshape(&[2, 3])?.offset(1.0));
    check("permute", &|h| h.permute(&[0])?.offset(1.0));
    check("narrow", &|h| h.narrow(0, 1, 3)?.offset(1.0));
    check("expand", &|h| h.expand(&[2, 6])?.offset(1.0));
}
