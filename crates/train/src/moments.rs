//! The running moments of an optimiser: two numbers per parameter number, in flat memory like the parameters.
//!
//! A view handed out keeps its numbers: the next change finds its memory shared and goes on with a copy,
//! so a state can be written to disk at leisure and costs nothing when it is dropped before the next step.

use std::sync::Arc;

use formwork_kernels::adamw;
use formwork_module::{Buffer, DType, Pool, Result, Shape, Tensor};
use formwork_tensor::{Scalar, Storage, dispatch};

/// Mean and mean square of the gradients.
pub(crate) struct Moments {
    mean: Storage,
    square: Storage,
    pool: Pool,
}

/// Which of the two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    Mean,
    Square,
}

impl Moment {
    pub(crate) const ALL: [Moment; 2] = [Moment::Mean, Moment::Square];

    /// The name in a state, before the parameter's own.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Moment::Mean => "moment1",
            Moment::Square => "moment2",
        }
    }
}

impl Moments {
    pub(crate) fn zeros(len: usize, dtype: DType, pool: &Pool) -> Self {
        let zeros = || {
            dispatch!(dtype, T => {
                let mut values = Buffer::<T>::new(len, Some(pool));
                values.fill(0.0);
                T::store(Arc::new(values))
            })
        };
        Self { mean: zeros(), square: zeros(), pool: pool.clone() }
    }

    pub(crate) fn view(&self, which: Moment, start: usize, shape: &Shape) -> Result<Tensor> {
        let storage = match which {
            Moment::Mean => &self.mean,
            Moment::Square => &self.square,
        };
        Tensor::from_storage(storage.clone(), start, shape)
    }

    /// Both, to be changed.
    pub(crate) fn write<T: Scalar>(&mut self) -> Result<adamw::Moments<'_, T>> {
        Ok(adamw::Moments { m: own(&mut self.mean, &self.pool)?, v: own(&mut self.square, &self.pool)? })
    }

    /// One, to be changed.
    pub(crate) fn write_one<T: Scalar>(&mut self, which: Moment) -> Result<&mut [T]> {
        match which {
            Moment::Mean => own(&mut self.mean, &self.pool),
            Moment::Square => own(&mut self.square, &self.pool),
        }
    }
}

/// The numbers of a storage that nobody else reads; a copy of it where somebody does.
fn own<'s, T: Scalar>(storage: &'s mut Storage, pool: &Pool) -> Result<&'s mut [T]> {
    if storage.unique_mut::<T>()?.is_none() {
        let shared = Tensor::from_storage(storage.clone(), 0, &[storage.len()])?;
        let mut copy = Buffer::<T>::new(shared.len(), Some(pool));
        copy.copy_from_slice(shared.slice::<T>()?);
        *storage = T::store(Arc::new(copy));
    }
    Ok(storage.unique_mut::<T>()?.expect("a storage made here is shared with nobody"))
}
