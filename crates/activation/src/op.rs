//! The ops behind every activation: plain and gated.

use formwork_kernels::{
    Dest,
    activation::{Activation as Function, GatedGradients},
};
use formwork_module::{Error, Kind, Result, Tensor};
use formwork_tensor::{GradSink, Op, Outputs, Saved, dispatch};

/// `f(x)`.
pub(crate) fn apply(function: Function, x: &Tensor) -> Result<Tensor> {
    Tensor::apply1(Plain(function), &[x])
}

/// `f(gate) ⊙ up`.
pub(crate) fn gated(function: Function, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Tensor::apply1(Gated(function), &[gate, up])
}

fn name(function: Function) -> &'static str {
    match function {
        Function::Relu => "relu",
        Function::GeluErf => "gelu",
        Function::GeluTanh => "gelu_tanh",
        Function::Silu => "silu",
    }
}

/// Input `x`, any shape; output the same shape.
#[derive(Clone, Copy, Debug)]
struct Plain(Function);

impl Op for Plain {
    fn name(&self) -> &'static str {
        name(self.0)
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let x = inputs[0].compact()?;
        let y = dispatch!(x.dtype(), T => {
            let mut y = x.buffer::<T>(x.len());
            self.0.apply(x.slice::<T>()?, Dest::store(&mut y));
            Tensor::from_buffer(y, x.shape())?
        });
        saved.keep([x]);
        Ok(y.into())
    }

    /// dx = dy · f'(x), with the slope computed anew from x: that is cheaper than keeping it.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        dispatch!(dy.dtype(), T => {
            let (x, dy) = (saved[0].slice::<T>()?, dy.slice::<T>()?);
            into.give::<T>(0, |data, write| self.0.apply_adjoint(x, dy, Dest { data, write }))
        })
    }
}

/// Inputs `gate` and `up`, of one shape; output the same shape.
#[derive(Clone, Copy, Debug)]
struct Gated(Function);

impl Op for Gated {
    fn name(&self) -> &'static str {
        name(self.0)
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let (gate, up) = (inputs[0], inputs[1]);
        if gate.shape() != up.shape() {
            return Err(Error::shape(
                self.name(),
                format_args!("up {} as the gate", gate.shape()),
                up.shape(),
            ));
        }
        if gate.dtype() != up.dtype() {
            return Err(Kind::DType { op: self.name(), expected: gate.dtype(), found: up.dtype() }.into());
        }
        let (gate, up) = (gate.compact()?, up.compact()?);
        let y = dispatch!(gate.dtype(), T => {
            let mut y = gate.buffer::<T>(gate.len());
            self.0.gated(gate.slice::<T>()?, up.slice::<T>()?, Dest::store(&mut y));
            Tensor::from_buffer(y, gate.shape())?
        });
        saved.keep([gate, up]);
        Ok(y.into())
    }

    /// dgate = dy · up · f'(gate), dup = dy · f(gate).
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let (gate, up) = (&saved[0], &saved[1]);
        dispatch!(dy.dtype(), T => {
            // The two share f, so one pass computes both; one lands in its place, the other follows.
            let mut dup = gate.buffer::<T>(gate.len());
            let (gates, ups, dys) = (gate.slice::<T>()?, up.slice::<T>()?, dy.slice::<T>()?);
            let mut run = |dgate: Dest<'_, T>| self.0.gated_adjoint(gates, ups, dys, GatedGradients { dgate, dup: Dest::store(&mut dup) });
            if into.wants(0) {
                into.give::<T>(0, |data, write| run(Dest { data, write }))?;
            } else {
                run(Dest::store(&mut gate.buffer::<T>(gate.len())));
            }
            into.add(1, &Tensor::from_buffer(dup, up.shape())?)
        })
    }
}
