//! A matrix that knows its own layout.
//!
//! A dense parameter, a quantised matrix, a low-rank adapter around another weight and a tied table all stand behind
//! one [`Linear`](crate::Linear) and one [`Embedding`](crate::Embedding), so that no model has a second copy.

use std::fmt::Debug;

use formwork_kernels::packed::Panels;
use formwork_tensor::ops;

use crate::{Error, Param, Pass, Result, Tensor, Visit};

/// A matrix `[out, in]`.
pub trait Weight: Debug + Send + Sync {
    /// `[out, in]`.
    fn shape(&self) -> [usize; 2];

    /// `x·Wᵀ + bias`: `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// A last axis other than `in`.
    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor>;

    /// Rows by id, `[dims.., in]`; `ids` stand row-major under the shape `dims`.
    ///
    /// # Errors
    /// An id of `out` or more.
    fn gather(&self, ids: &[u32], dims: &[usize], pass: &mut Pass<'_>) -> Result<Tensor>;

    /// All of it as a tensor, tracked where the weight learns.
    ///
    /// # Errors
    /// A weight without numbers.
    fn to_dense(&self, pass: &mut Pass<'_>) -> Result<Tensor>;

    /// The parameter that the weight is, where a product with it is a product with the parameter's own numbers: then
    /// [`linears`](crate::linears) may multiply with several weights in one op.
    fn dense(&self) -> Option<&Param> {
        None
    }

    /// The numbers in the layout that fast products read, for a product of so many rows; `None` where the weight has no
    /// such layout. Only a product in another [`Precision`](crate::Precision) than `Full` may use it.
    ///
    /// The weight chooses when it packs: a first token need not wait until everything is copied.
    fn packed(&self, rows: usize) -> Option<Panels<'_>> {
        let _ = rows;
        None
    }

    /// Shows its parameters; `name` is the weight's own name, such as `weight`.
    fn visit(&self, name: &str, v: &mut dyn Visit);
}

impl Weight for Param {
    fn shape(&self) -> [usize; 2] {
        let shape = Param::shape(self);
        match **shape {
            [out, inp] => [out, inp],
            _ => [shape.rows().0, shape.rows().1],
        }
    }

    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor> {
        x.linear_in(&pass.take(self)?, bias, pass.operands())
    }

    fn gather(&self, ids: &[u32], dims: &[usize], pass: &mut Pass<'_>) -> Result<Tensor> {
        Tensor::apply1(ops::Gather::new(ids, dims)?, &[&pass.take(self)?])
    }

    fn to_dense(&self, pass: &mut Pass<'_>) -> Result<Tensor> {
        pass.take(self)
    }

    fn dense(&self) -> Option<&Param> {
        Some(self)
    }

    fn visit(&self, name: &str, v: &mut dyn Visit) {
        v.param(name, self);
    }
}

/// A second use of a parameter that is shown elsewhere: the head that is the token table.
#[derive(Clone, Debug)]
pub struct Tied(Param);

impl Tied {
    /// Ties to a matrix.
    ///
    /// # Errors
    /// A parameter that is not a matrix.
    pub fn new(param: &Param) -> Result<Self> {
        match param.shape().rank() {
            2 => Ok(Self(param.clone())),
            _ => Err(Error::shape("tied weight", "[out, in]", param.shape()).at(param.path())),
        }
    }
}

impl Weight for Tied {
    fn shape(&self) -> [usize; 2] {
        Weight::shape(&self.0)
    }

    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.apply(x, bias, pass)
    }

    fn gather(&self, ids: &[u32], dims: &[usize], pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.gather(ids, dims, pass)
    }

    fn to_dense(&self, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.to_dense(pass)
    }

    fn dense(&self) -> Option<&Param> {
        Some(&self.0)
    }

    /// The parameter is shown where it was built, and only there.
    fn visit(&self, _: &str, _: &mut dyn Visit) {}
}
