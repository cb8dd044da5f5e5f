//! A part of a graph that is computed again in the reverse pass changes no bit.
#![allow(clippy::unwrap_used, reason = "in the functions that tests share")]

use std::sync::Arc;

use formwork_tensor::{DType, GradSink, Op, Outputs, Owns, Result, Saved, Tensor, Variable};
use formwork_testkit::{normals, tensor};

/// Keeps nothing but its inputs, and computes its inner graph again in the reverse pass.
#[derive(Clone)]
struct Replay(Arc<Inner>);

type Inner = dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync;

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replay")
    }
}

impl Replay {
    fn apply(&self, inputs: &[&Tensor], owns: Owns) -> Result<Tensor> {
        let mut saved = Saved::of(inputs, owns);
        let outputs = self.forward(inputs, &mut saved)?;
        Tensor::record(self.clone(), inputs, outputs, saved, owns).one()
    }
}

impl Op for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }
    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let detached: Vec<_> = inputs.iter().map(|t| t.detached()).collect();
        let y = (self.0)(&detached)?.detached();
        saved.keep(detached);
        Ok(y.into())
    }
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let inputs: Vec<_> = saved.iter().enumerate().map(|(i, t)| into.boundary(i, t)).collect();
        let y = (self.0)(&inputs)?;
        into.replay(&[(&y, into.grad(grads, 0)?)])
    }
}

/// A block with several readers of its input `x [t, d]` and of its weight `w [d, d]`.
fn block(x: &[Tensor]) -> Result<Tensor> {
    let [x, w] = [&x[0], &x[1]];
    let h = x.linear(w, None)?.tanh()?;
    h.mul(x)?.add(&h.linear(w, None)?.softmax()?)?.add(x)
}

#[test]
fn a_replayed_part_changes_no_bit() {
    let numbers = |seed, dims: &[usize]| tensor(&normals(seed, dims), DType::F32, None);
    // How two blocks in a row are run, with a residual beside the first that also reads its input.
    let run = |inner: &dyn Fn(&[&Tensor]) -> Result<Tensor>, is_x_frozen: bool| {
        let (x, w) = (Variable::new(numbers(1, &[5, 13])), Variable::new(numbers(2, &[13, 13])));
        let input = if is_x_frozen { numbers(1, &[5, 13]) } else { x.tensor() };
        let h = input.add_scaled(&inner(&[&input, &w.tensor()]).unwrap(), 0.3).unwrap();
        let y = inner(&[&h, &w.tensor()]).unwrap().mul(&h).unwrap();
        y.sum().unwrap().backward().unwrap();
        let bits = |v: &Variable| {
            v.grad().map(|g| g.to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        };
        (y.sum().unwrap().item().unwrap(), bits(&x), bits(&w))
    };
    let direct = |t: &[&Tensor]| block(&t.iter().map(|&t| t.clone()).collect::<Vec<_>>());
    let once = Replay(Arc::new(block));
    let nested = Replay(Arc::new({
        let once = once.clone();
        move |t: &[Tensor]| once.apply(&t.iter().collect::<Vec<_>>(), Owns::Nothing)
    }));
    for is_x_frozen in [false, true] {
        let expected = run(&direct, is_x_frozen);
        assert_eq!(expected.1.is_none(), is_x_frozen);
        assert!(expected.2.is_some());
        assert_eq!(run(&|t| once.apply(t, Owns::Nothing), is_x_frozen), expected, "replayed");
        assert_eq!(
            run(&|t| nested.apply(t, Owns::Nothing), is_x_frozen),
            expected,
            "replayed inside a replay"
        );
    }
}

#[test]
fn a_replayed_part_with_parameters_of_its_own_is_recorded_behind_a_frozen_input() {
    let of = |values: Vec<f64>| Tensor::from_vec(values, &[2]).unwrap();
    let (w, x) = (Variable::new(of(vec![2.0, 3.0])), of(vec![5.0, 7.0]));
    let inner = Replay(Arc::new({
        let w = w.clone();
        move |t: &[Tensor]| t[0].mul(&w.tensor())
    }));
    assert!(!inner.apply(&[&x], Owns::Nothing).unwrap().is_tracked());
    inner.apply(&[&x], Owns::Parameters).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(w.grad().unwrap().to_vec::<f64>().unwrap(), [5.0, 7.0]);
}
