//! Leaves of the graph: a tensor that a user tracks outside any module, and the sum that any leaf gathers in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use formwork_kernels::Write;

use crate::{Buffer, Destination, Leaf, Scalar, Tensor, dispatch};

/// A gradient that reverse passes add up in memory of its own: what a [`Leaf`] is usually made of.
///
/// A tensor that [`value`](GradSum::value) gave keeps its numbers, whatever arrives later.
#[derive(Debug, Default)]
pub struct GradSum(Mutex<Option<Tensor>>);

impl GradSum {
    /// Lends the memory of the next contribution, for a leaf whose numbers are `like`: what [`Leaf::grad`] asks for.
    pub fn lend(&self, like: &Tensor, give: &mut dyn FnMut(Destination<'_>, Write)) {
        let mut sum = self.lock();
        dispatch!(like.dtype(), T => {
            let mut next = Buffer::<T>::new(like.len(), like.pool());
            let write = match sum.as_ref().map(Tensor::slice::<T>) {
                Some(Ok(old)) => {
                    next.copy_from_slice(old);
                    Write::Add
                }
                _ => Write::Store,
            };
            give(T::destination(&mut next), write);
            *sum = Tensor::from_buffer(next, like.shape()).ok();
        });
    }

    /// The sum of what has arrived since it was cleared; `None` if nothing has.
    pub fn value(&self) -> Option<Tensor> {
        self.lock().clone()
    }

    /// Whether anything has arrived since it was cleared.
    pub fn is_some(&self) -> bool {
        self.lock().is_some()
    }

    /// Forgets the sum.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tensor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tensor whose gradient is gathered. Parameters of modules are tracked by a training pass instead.
#[derive(Clone, Debug)]
pub struct Variable {
    value: Tensor,
    grad: Arc<Gathered>,
}

#[derive(Debug)]
struct Gathered {
    like: Tensor,
    sum: GradSum,
}

impl Variable {
    /// Tracks a tensor's numbers; its own history, if any, is left behind.
    pub fn new(mut value: Tensor) -> Self {
        value.history = None;
        Self { grad: Arc::new(Gathered { like: value.clone(), sum: GradSum::default() }), value }
    }

    /// The tensor to compute with.
    pub fn tensor(&self) -> Tensor {
        self.value.clone().tracked(self.grad.clone())
    }

    /// What every reverse pass since the start, or since [`clear`](Self::clear), has added up; `None` if nothing came.
    pub fn grad(&self) -> Option<Tensor> {
        self.grad.sum.value()
    }

    /// Forgets the gradient.
    pub fn clear(&self) {
        self.grad.sum.clear();
    }
}

impl Leaf for Gathered {
    fn grad(&self, give: &mut dyn FnMut(Destination<'_>, Write)) {
        self.sum.lend(&self.like, give);
    }
}
