//! The second half of a feed-forward layer in a training pass: activation and projection as one op.
//!
//! `y = W·f(u) + b`, or `y = W·(f(gate) ⊙ up) + b`; `u`, `gate`, `up`: `[.., f]`, `W`: `[d, f]`, `y`: `[.., d]`. The
//! hidden rows `f(u)` are not kept for the backward, which needs the slope there in any case and gets the value with it:
//! a third less memory per layer, at the cost of a store. The numbers are those of the ops one after the other.

use formwork_kernels::{
    Dest, Write,
    activation::{Activation as Function, GatedGradients},
    elementwise::column_sums,
    matmul::{Mat, MatMut},
};
use formwork_module::{Activation, At, Dropout, Linear, Module, Pass, Record, Result, Site, Tensor, dropout};
use formwork_tensor::{GradSink, Op, Outputs, Saved, dispatch, ops::Operands};

/// What follows the projections inward: activation, dropout, projection outward.
pub(crate) struct Rest<'a> {
    pub(crate) activation: &'a dyn Activation,
    pub(crate) dropout: Dropout,
    pub(crate) down: &'a Linear,
    pub(crate) site: &'a Site,
}

/// What the activation gets.
pub(crate) enum Inward {
    /// `f(u)`.
    Plain(Tensor),
    /// `f(gate) ⊙ up`.
    Gated(Tensor, Tensor),
}

impl Rest<'_> {
    pub(crate) fn forward(&self, inward: &Inward, pass: &mut Pass<'_>) -> Result<Tensor> {
        if let Some(y) = self.fused(inward, pass).at("down")? {
            return Ok(y);
        }
        let hidden = match inward {
            Inward::Plain(u) => self.activation.apply(u),
            Inward::Gated(gate, up) => self.activation.gated(gate, up),
        };
        let hidden = hidden.at("activation")?;
        pass.show(self.site, "hidden", &hidden);
        let hidden = dropout(&hidden, self.dropout, self.site, 0, pass)?;
        self.down.forward(&hidden, pass).at("down") // [.., d]
    }

    /// The op below, where a backward will come and nothing needs the hidden rows.
    fn fused(&self, inward: &Inward, pass: &mut Pass<'_>) -> Result<Option<Tensor>> {
        let dropped = self.dropout.key(self.site, 0, pass).is_some();
        let (Some(function), Some(weight)) = (self.activation.function(), self.down.weight.dense()) else {
            return Ok(None);
        };
        let fits = match inward {
            Inward::Plain(_) => true,
            Inward::Gated(gate, up) => gate.shape() == up.shape() && gate.dtype() == up.dtype(),
        };
        if pass.record() == Record::Nothing || pass.is_tapped() || dropped || !fits {
            return Ok(None);
        }
        let w = pass.take(weight)?;
        let bias = self.down.bias.as_ref().map(|bias| pass.take(bias)).transpose()?;
        let (op, first) = match inward {
            Inward::Plain(u) => (Down { function, gated: false, operands: pass.operands() }, [Some(u), None]),
            Inward::Gated(gate, up) => {
                (Down { function, gated: true, operands: pass.operands() }, [Some(gate), Some(up)])
            }
        };
        let inputs: Vec<&Tensor> = first.into_iter().flatten().chain([&w]).chain(&bias).collect();
        Tensor::apply1(op, &inputs).map(Some)
    }
}

/// Inputs `u [.., f]`, or `gate` and `up`, then `w [d, f]` and perhaps `bias [d]`; output `[.., d]`.
#[derive(Clone, Copy, Debug)]
struct Down {
    function: Function,
    gated: bool,
    operands: Operands,
}

impl Down {
    /// Which input is the weight.
    fn weight(self) -> usize {
        1 + usize::from(self.gated)
    }
}

impl Op for Down {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let at = self.weight();
        let inward = inputs[..at].iter().map(|t| t.compact()).collect::<Result<Vec<_>>>()?;
        let u = &inward[0];
        let hidden = dispatch!(u.dtype(), T => {
            let mut hidden = u.buffer::<T>(u.len());
            match self.gated {
                false => self.function.apply(u.slice::<T>()?, Dest::store(&mut hidden)),
                true => self.function.gated(u.slice::<T>()?, inward[1].slice::<T>()?, Dest::store(&mut hidden)),
            }
            Tensor::from_buffer(hidden, u.shape())?
        });
        let (w, bias) = (inputs[at].compact()?, inputs.get(at + 1).map(|bias| bias.detached()));
        let y = hidden.linear_in(&w, bias.as_ref(), self.operands)?; // [.., d]
        saved.keep(inward);
        saved.keep([w]);
        Ok(y.into())
    }

    /// With the hidden rows `h` and dh = dy·W: du = dh · f'(u), or dgate = dh · up · f'(gate) and dup = dh · f(gate);
    /// dW = dyᵀ·h, dbias = the sum of dy over all rows.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let (dy, at) = (into.grad(grads, 0)?, self.weight());
        let (u, w) = (&saved[0], &saved[at]);
        let ((rows, f), (_, d)) = (u.shape().rows(), dy.shape().rows());
        dispatch!(dy.dtype(), T => {
            let (us, dys) = (u.slice::<T>()?, dy.slice::<T>()?);
            let dy = || Mat::row_major(dys, rows, d);
            let mut dh = u.buffer::<T>(u.len());
            self.operands.matmul(MatMut::row_major(&mut dh, rows, f), dy(), Mat::row_major(w.slice::<T>()?, d, f), Write::Store);
            let mut h = u.buffer::<T>(u.len());
            if self.gated {
                let (mut dgate, mut dup) = (u.buffer::<T>(u.len()), u.buffer::<T>(u.len()));
                let to = GatedGradients { dgate: Dest::store(&mut dgate), dup: Dest::store(&mut dup) };
                self.function.gated_with_adjoint([us, saved[1].slice::<T>()?, &dh], &mut h, to);
                drop(dh);
                into.add(0, &Tensor::from_buffer(dgate, u.shape())?)?;
                into.add(1, &Tensor::from_buffer(dup, u.shape())?)?;
            } else {
                into.give::<T>(0, |data, write| {
                    self.function.apply_with_adjoint(us, &dh, &mut h, Dest { data, write });
                })?;
                if !into.wants(0) {
                    self.function.apply(us, Dest::store(&mut h));
                }
                drop(dh);
            }
            into.give::<T>(at, |dw, write| {
                self.operands.matmul(MatMut::row_major(dw, d, f), dy().transposed(), Mat::row_major(&h, rows, f), write);
            })?;
            if into.inputs() > at + 1 {
                into.give::<T>(at + 1, |db, write| column_sums(dys, Dest { data: db, write }))?;
            }
            Ok(())
        })
    }
}
