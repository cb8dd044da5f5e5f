//! Elementwise functions of one tensor.

use formwork_kernels::{Element, Write};

use super::{exactly, fresh, map, map2};
use crate::{GradSink, Op, Outputs, Result, Saved, Tensor, dispatch};

/// An elementwise function. The activations have a crate of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `scale · x`
    Scale(f64),
    /// `x + c`
    Offset(f64),
    /// `eˣ`
    Exp,
    /// `ln x`
    Ln,
    /// `√x`
    Sqrt,
    /// `tanh x`
    Tanh,
    /// `1 / (1 + e⁻ˣ)`
    Sigmoid,
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        match self {
            Unary::Scale(_) => "scale",
            Unary::Offset(_) => "offset",
            Unary::Exp => "exp",
            Unary::Ln => "ln",
            Unary::Sqrt => "sqrt",
            Unary::Tanh => "tanh",
            Unary::Sigmoid => "sigmoid",
        }
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let [x] = exactly(self.name(), inputs)?;
        let x = x.compact()?;
        let y = dispatch!(x.dtype(), T => {
            let (v, one) = (x.slice::<T>()?, <T as Element>::of(1.0));
            fresh::<T>(x.shape(), x.pool(), |y| match *self {
                Unary::Scale(s) => map(y, Write::Store, v, |x| <T as Element>::of(s) * x),
                Unary::Offset(c) => map(y, Write::Store, v, |x| <T as Element>::of(c) + x),
                Unary::Exp => map(y, Write::Store, v, |x| x.fast_exp()),
                Unary::Ln => map(y, Write::Store, v, |x| x.ln()),
                Unary::Sqrt => map(y, Write::Store, v, |x| x.sqrt()),
                Unary::Tanh => map(y, Write::Store, v, |x| x.fast_tanh()),
                Unary::Sigmoid => map(y, Write::Store, v, |x| one / (one + (-x).fast_exp())),
            })?
        });
        // Each derivative is written in what is cheapest: the input for ln, the output for the others.
        match self {
            Unary::Scale(_) | Unary::Offset(_) => {}
            Unary::Ln => saved.keep([x]),
            Unary::Exp | Unary::Sqrt | Unary::Tanh | Unary::Sigmoid => saved.keep([y.clone()]),
        }
        Ok(y.into())
    }

    /// scale: dx = s·dy. offset: dx = dy. exp: dx = y·dy. ln: dx = dy/x. sqrt: dx = dy/(2y).
    /// tanh: dx = (1 − y²)·dy. sigmoid: dx = y·(1 − y)·dy.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        dispatch!(dy.dtype(), T => {
            let (d, one) = (dy.slice::<T>()?, <T as Element>::of(1.0));
            let v = match saved.first() {
                Some(kept) => kept.slice::<T>()?,
                None => d,
            };
            into.give::<T>(0, |dx, write| match *self {
                Unary::Scale(s) => map(dx, write, d, |d| <T as Element>::of(s) * d),
                Unary::Offset(_) => map(dx, write, d, |d| d),
                Unary::Exp => map2(dx, write, d, v, |d, y| d * y),
                Unary::Ln => map2(dx, write, d, v, |d, x| d / x),
                Unary::Sqrt => map2(dx, write, d, v, |d, y| d / (y + y)),
                Unary::Tanh => map2(dx, write, d, v, |d, y| d * (one - y * y)),
                Unary::Sigmoid => map2(dx, write, d, v, |d, y| d * y * (one - y)),
            })
        })
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $op:expr;)*) => {
        impl Tensor {
            $($(#[$doc])*
            ///
            /// # Errors
            /// None for numbers in host memory.
            pub fn $name(&self) -> Result<Tensor> {
                Tensor::apply1($op, &[self])
            })*
        }
    };
}

methods! {
    /// `−x`.
    neg => Unary::Scale(-1.0);
    /// `eˣ`, elementwise.
    exp => Unary::Exp;
    /// The natural logarithm, elementwise; NaN below zero.
    ln => Unary::Ln;
    /// The square root, elementwise; NaN below zero.
    sqrt => Unary::Sqrt;
    /// The hyperbolic tangent, elementwise.
    tanh => Unary::Tanh;
    /// `1 / (1 + e⁻ˣ)`, elementwise.
    sigmoid => Unary::Sigmoid;
}

impl Tensor {
    /// `factor · x`, elementwise.
    ///
    /// # Errors
    /// None for numbers in host memory.
    pub fn scale(&self, factor: f64) -> Result<Tensor> {
        Tensor::apply1(Unary::Scale(factor), &[self])
    }

    /// `x + c`, elementwise.
    ///
    /// # Errors
    /// None for numbers in host memory.
    pub fn offset(&self, c: f64) -> Result<Tensor> {
        Tensor::apply1(Unary::Offset(c), &[self])
    }
}
