//! The harness finds what it is there to find: one sound op passes, and each fault planted in it is named.

use formwork_kernels::Element;
use formwork_tensor::{DType, Error, GradSink, Op, Outputs, Result, Saved, Tensor, Write, dispatch};
use formwork_testkit::{OpCase, check, failures};
use ndarray::{ArrayD, Axis};

/// What is wrong with the op.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Value,
    OneSize,
    F32Value,
    Gradient,
    F32Gradient,
    NoGradient,
    Layout,
    StoresTwice,
    ReadsJunk,
    WantsAll,
    LosesNan,
    Threads,
    OutsidePool,
    KeepsMemory,
    Panics,
    Message,
}

/// `y = x²` and `z = x`, with a fault.
#[derive(Debug)]
struct Square(Fault);

impl Op for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let x = inputs[0];
        if x.shape().rank() != 2 {
            assert!(self.0 != Fault::Panics, "rank {}", x.shape().rank());
            let expected = if self.0 == Fault::Message { "something else" } else { "[t, d]" };
            return Err(Error::shape("square", expected, x.shape()));
        }
        let kept = x.compact()?;
        let y = dispatch!(x.dtype(), T => {
            let v = if self.0 == Fault::Layout { x.reach::<T>()? } else { kept.slice::<T>()? };
            let mut y = x.buffer::<T>(x.len());
            for (y, &x) in y.iter_mut().zip(v) {
                *y = x * x;
            }
            let off = match self.0 {
                Fault::Value => true,
                Fault::OneSize => x.shape()[1] == 37,
                Fault::F32Value => x.dtype() == DType::F32,
                _ => false,
            };
            if let (true, Some(y)) = (off, y.last_mut()) {
                *y *= T::of(1.0001);
            }
            if self.0 == Fault::LosesNan {
                y.iter_mut().for_each(|y| *y = y.max(T::of(0.0)));
            }
            if self.0 == Fault::Threads && formwork_kernels::team::threads() == 2 {
                y.iter_mut().for_each(|y| *y += T::EPSILON);
            }
            Tensor::from_buffer(y, x.shape())?
        });
        let y = match self.0 {
            Fault::OutsidePool => dispatch!(y.dtype(), T => Tensor::from_vec(y.to_vec::<T>()?, y.shape())?),
            _ => y,
        };
        if self.0 == Fault::KeepsMemory {
            std::mem::forget(y.clone());
        }
        saved.keep([kept.clone()]);
        Ok([y, kept].into())
    }

    /// dx = 2x·dy + dz.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        if self.0 == Fault::NoGradient {
            return Ok(());
        }
        let x = &saved[0];
        dispatch!(x.dtype(), T => {
            let x = x.slice::<T>()?;
            let [dy, dz] = [0, 1].map(|o| grads[o].and_then(|g| g.slice::<T>().ok()));
            let two = match self.0 {
                Fault::Gradient => T::of(2.001),
                Fault::F32Gradient if size_of::<T>() == 4 => T::of(2.001),
                _ => T::of(2.0),
            };
            into.give::<T>(0, |dx, write| {
                let write = match self.0 {
                    Fault::StoresTwice => Write::Store,
                    Fault::ReadsJunk => Write::Add,
                    _ => write,
                };
                for (i, dx) in dx.iter_mut().enumerate() {
                    let zero = T::of(0.0);
                    *dx = write.combine(*dx, two * x[i] * dy.map_or(zero, |d| d[i]) + dz.map_or(zero, |d| d[i]));
                }
            })
        })
    }
}

fn case(fault: Fault) -> OpCase {
    let op = move |x: &[Tensor]| Tensor::apply(Square(fault), &[&x[0]]).map(Into::into);
    OpCase::new("square", &["t d"], op, |x| vec![&x[0] * &x[0], x[0].clone()]).refuses(
        "one axis",
        &[&[3]],
        "[t, d]",
    )
}

/// Every failure names the op, and some failure contains all of `words`.
#[track_caller]
fn finds(case: &OpCase, words: &[&str]) {
    // Panics inside the harness are caught; their messages would only clutter the output of a passing test.
    let found = failures(case);
    assert!(found.iter().any(|f| words.iter().all(|w| f.contains(w))), "expected {words:?} in {found:#?}");
}

#[test]
fn a_sound_op_passes() {
    check(&[case(Fault::None)]);
}

#[test]
fn each_planted_fault_is_named() {
    for (fault, words) in [
        (Fault::Value, ["square: value: t=5 d=13: f64", "output 0 at [4, 12]"]),
        (Fault::OneSize, ["square: value: t=5 d=37", "output 0"]),
        (Fault::F32Value, ["square: value: t=5 d=13: f32", "output 0"]),
        (Fault::Gradient, ["square: gradient: t=5 d=13", "finite differences"]),
        (Fault::F32Gradient, ["on other paths", "f32"]),
        (Fault::NoGradient, ["square: gradient", "input 0 got no gradient"]),
        (Fault::Layout, ["square: layout: input 0 Cut", "f32: output 0"]),
        (Fault::Layout, ["square: layout: input 0 Repeated(1)", "output 0"]),
        (Fault::StoresTwice, ["used twice", "gradient of input 0"]),
        (Fault::ReadsJunk, ["junk in reused memory", "NaN"]),
        (Fault::LosesNan, ["non-finite: NaN in input 0", "expected NaN, found 0"]),
        (Fault::Threads, ["square: threads: ", "1 and 2"]),
        (Fault::OutsidePool, ["square: pool", "output 0 is not in memory of the inputs' pool"]),
        (Fault::KeepsMemory, ["square: pool: t=5 d=13: a second run", "took 2 buffers from the system"]),
        (Fault::Panics, ["square: refusal: one axis", "panicked with \"rank 1\""]),
        (Fault::Message, ["square: refusal: one axis", "expected an error with \"[t, d]\""]),
    ] {
        finds(&case(fault), &words);
    }
}

/// `y = a · b`, whose backward takes every input to be wanted.
#[derive(Debug)]
struct Greedy(Fault);

impl Op for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        saved.keep([inputs[0].detached(), inputs[1].detached()]);
        Ok(inputs[0].detached().mul(&inputs[1].detached())?.into())
    }

    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        assert!(self.0 != Fault::WantsAll || (into.wants(0) && into.wants(1)), "an input was frozen");
        into.add(0, &dy.mul(&saved[1])?)?;
        into.add(1, &dy.mul(&saved[0])?)
    }
}

#[test]
fn a_frozen_input_and_mixed_types_are_tried() {
    let case = |fault| {
        let op = move |x: &[Tensor]| Tensor::apply(Greedy(fault), &[&x[0], &x[1]]).map(Into::into);
        OpCase::new("greedy", &["t d", "t d"], op, |x| vec![&x[0] * &x[1]])
    };
    check(&[case(Fault::None)]);
    finds(&case(Fault::WantsAll), &["one input tracked", "an input was frozen"]);
    let converts = |x: &[Tensor]| -> Result<Vec<Tensor>> {
        let b = dispatch!(x[0].dtype(), T => Tensor::from_array(x[1].to_array::<f64>().map_or_else(
            |_| x[1].to_array::<f32>().expect("one of two types").mapv(|v| T::of(f64::from(v))),
            |b| b.mapv(T::of),
        ))?);
        Ok(vec![x[0].mul(&b)?])
    };
    let silent = OpCase::new("converts", &["t", "t"], converts, |x| vec![&x[0] * &x[1]]).constant(1);
    finds(&silent, &["refusal: input 1 alone is f64", "expected an error"]);
}

#[test]
fn an_output_that_is_used_alone_is_tried() {
    let both = |x: &[Tensor]| Tensor::apply(Square(Fault::None), &[&x[0]]).map(Into::into);
    let swapped = OpCase::new("swapped", &["t d"], both, |x| vec![x[0].clone(), &x[0] * &x[0]]);
    finds(&swapped, &["swapped: value", "output 0"]);
    let fewer = OpCase::new("fewer", &["t d"], both, |x| vec![&x[0] * &x[0]]);
    finds(&fewer, &["expected 1 outputs, found 2"]);
}

#[test]
#[should_panic(expected = "square: value: t=5 d=13")]
fn check_panics_with_what_failed() {
    check(&[case(Fault::None), case(Fault::Value)]);
}

#[test]
fn a_shape_that_differs_is_a_failure() {
    let keeps = |x: &[ArrayD<f64>]| vec![x[0].sum_axis(Axis(0))];
    let case = OpCase::new("sum", &["t d"], |x| Ok(vec![x[0].sum_axis(0)?]), keeps);
    finds(&case, &["expected shape [13], found [1, 13]"]);
}
