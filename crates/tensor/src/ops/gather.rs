//! Rows of a table by index: the embedding lookup.

use formwork_kernels::{Dest, gather::gather_adjoint, scratch::List};

use super::{exactly, fresh};
use crate::{Error, GradSink, Op, Outputs, Result, Saved, Shape, Tensor, dispatch};

/// Input `table [n, d]`; output `[.., d]`, one row per id.
#[derive(Clone, Debug)]
pub struct Gather {
    ids: List<u32>,
    dims: Shape,
}

impl Gather {
    /// Looks up `ids`, which stand row-major under the shape `dims`.
    ///
    /// # Errors
    /// A number of ids other than the product of `dims`.
    pub fn new(ids: &[u32], dims: &[usize]) -> Result<Self> {
        let dims = Shape::new(dims)?;
        if dims.len() != ids.len() {
            return Err(Error::shape("gather", format_args!("{} ids for {dims}", dims.len()), ids.len()));
        }
        Ok(Self { ids: ids.into(), dims })
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let [table] = exactly("gather", inputs)?;
        let [n, d] = table.dims().map_err(|_| Error::shape("gather", "a table [n, d]", table.shape()))?;
        if let Some(id) = self.ids.iter().find(|&&id| id as usize >= n) {
            return Err(Error::invalid("gather", format_args!("ids below {n}, the rows of the table"), id));
        }
        let table = table.compact()?;
        let dims = self.dims.with_axis(d)?; // [.., d]
        let y = dispatch!(table.dtype(), T => {
            let rows = table.slice::<T>()?;
            fresh::<T>(&dims, table.pool(), |y| formwork_kernels::gather::gather(rows, d, &self.ids, y))?
        });
        Ok(y.into())
    }

    /// `dtable[id]` = the sum of dy over the places where `id` was looked up.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let (_, d) = dy.shape().rows();
        dispatch!(dy.dtype(), T => {
            let grad = dy.slice::<T>()?;
            into.give::<T>(0, |table, write| gather_adjoint(grad, d, &self.ids, Dest { data: table, write }))
        })
    }
}

impl Tensor {
    /// Rows of this table `[n, d]` by id; `ids` stand row-major under the shape `dims`, the result is `[dims.., d]`.
    ///
    /// # Errors
    /// An id of `n` or more, named.
    pub fn gather(&self, ids: &[u32], dims: &[usize]) -> Result<Tensor> {
        Tensor::apply1(Gather::new(ids, dims)?, &[self])
    }
}
