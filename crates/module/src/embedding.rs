//! A table of rows, looked up by id: `[n, d]`, ids `[..]` to `[.., d]`.

use std::sync::Arc;

use crate::{Init, Pass, Result, Scope, Tensor, Visit, VisitMut, Weight};

/// A lookup table over any [`Weight`].
#[derive(Debug)]
pub struct Embedding {
    /// `[n, d]`.
    pub weight: Arc<dyn Weight>,
}

impl Embedding {
    /// A table of `n` rows of width `d`, drawn as told.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn new(scope: &Scope<'_>, n: usize, d: usize, init: Init) -> Result<Self> {
        Ok(Self { weight: scope.weight("weight", [n, d], init)? })
    }

    /// The rows of `ids`, which stand row-major under the shape `dims`: `[dims.., d]`.
    ///
    /// # Errors
    /// An id of `n` or more.
    pub fn lookup(&self, ids: &[u32], dims: &[usize], pass: &mut Pass<'_>) -> Result<Tensor> {
        self.weight.gather(ids, dims, pass)
    }

    /// Shows the table; an embedding is no [`Module`](crate::Module), since its input is ids.
    pub fn visit(&self, v: &mut dyn Visit) {
        self.weight.visit("weight", v);
    }

    /// Hands out the table.
    ///
    /// # Errors
    /// Those of the visitor.
    pub fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.weight("weight", &mut self.weight)
    }
}
