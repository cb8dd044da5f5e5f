//! The memory of a run: parameters and their gradients, each in one piece.
//!
//! A parameter starts in memory of its own, drawn or mapped. [`Flat::gather`] moves those that learn into one piece,
//! so that an optimiser sees two plain slices; the handles stay what they were.
//!
//! ```
//! use formwork_module::{Flat, Init, Scope, Seed};
//! let source = Seed::new(7);
//! let scope = Scope::root(&source);
//! let gain = scope.param("gain", &[3], Init::Constant(1.0))?;
//! let bias = scope.param("bias", &[2], Init::Constant(0.5))?;
//! let flat = Flat::gather(&[gain.clone(), bias], None)?;
//! let sum = flat.update::<f32, _>(|values, _| {
//!     values[0] = 4.0;
//!     values.iter().sum::<f32>()
//! })?;
//! assert_eq!((sum, gain.value()?.to_vec::<f32>()?), (7.0, vec![4.0, 1.0, 1.0]));
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use formwork_tensor::{Destination, Scalar, Shape, Storage, Write, dispatch};

use crate::{Buffer, DType, Error, Kind, Param, Pool, Result, Tensor};

/// Parameters and gradients of a run, in flat memory.
pub struct Flat {
    /// `None` while an update lends them.
    values: Mutex<Option<Storage>>,
    grads: Mutex<Grads>,
    dtype: DType,
    /// Where each parameter stands.
    ranges: Vec<Range<usize>>,
}

struct Grads {
    /// `None` while an update lends them.
    values: Option<Storage>,
    /// Per parameter, since it was cleared.
    marks: Vec<Mark>,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    /// A gradient has been written.
    written: bool,
    /// A module said that it rightly left the parameter out.
    excused: bool,
}

/// Memory on loan to an update; dropping it gives it back, also when the update panics.
struct Loan<'a> {
    flat: &'a Flat,
    values: Option<Storage>,
    grads: Option<Storage>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        *self.flat.values() = self.values.take();
        self.flat.grads().values = self.grads.take();
    }
}

impl Flat {
    /// Moves parameters into one piece of memory, in the order given, with gradients beside it.
    ///
    /// # Errors
    /// No parameter, one that is given twice or has no numbers, or two types of numbers.
    pub fn gather(params: &[Param], pool: Option<&Pool>) -> Result<Arc<Self>> {
        let values = params.iter().map(Param::value).collect::<Result<Vec<_>>>()?;
        let dtype =
            values.first().map(Tensor::dtype).ok_or_else(|| Error::missing("a parameter to train"))?;
        let mut ranges = Vec::with_capacity(params.len());
        let mut end = 0;
        for (i, (value, param)) in values.iter().zip(params).enumerate() {
            if value.dtype() != dtype {
                let kind = Kind::DType { op: "flat memory", expected: dtype, found: value.dtype() };
                return Err(Error::from(kind).at(param.path()));
            }
            // Its first place would never get a gradient again.
            if params[..i].iter().any(|earlier| earlier.is(param)) {
                let error = Error::invalid("flat memory", "each parameter once", "this one twice");
                return Err(error.hint("leave out the second handle to a tied parameter").at(param.path()));
            }
            ranges.push(end..end + value.len());
            end += value.len();
        }
        let (all, grads) = dispatch!(dtype, T => {
            let mut all = Buffer::<T>::new(end, pool);
            for (range, value) in ranges.iter().zip(&values) {
                all[range.clone()].copy_from_slice(value.compact()?.slice::<T>()?);
            }
            (T::store(Arc::new(all)), T::store(Arc::new(Buffer::<T>::new(end, pool))))
        });
        let marks = vec![Mark::default(); ranges.len()];
        let grads = Mutex::new(Grads { values: Some(grads), marks });
        let flat = Arc::new(Self { values: Mutex::new(Some(all)), grads, dtype, ranges });
        for (index, param) in params.iter().enumerate() {
            param.move_to(&flat, index);
        }
        Ok(flat)
    }

    /// Number of numbers.
    pub fn len(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the numbers.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Lends all values and all gradients, in the order of gathering; the gradients of parameters that got none are junk.
    ///
    /// While `f` runs, nobody else has them: [`Param::value`] and a reverse pass fail, [`Param::grad`] gives `None`;
    /// [`Param::has_grad`] still answers. After a panic of `f` they are back, as `f` left them.
    ///
    /// # Errors
    /// Values that a tensor still reads (a loss not dropped, an evaluation in flight), another update that has not
    /// ended, or another type of numbers.
    pub fn update<T: Scalar, R>(&self, f: impl FnOnce(&mut [T], &mut [T]) -> R) -> Result<R> {
        let mut loan = {
            let (mut values, mut grads) = (self.values(), self.grads());
            // Both are looked at before either is taken.
            numbers::<T>(&mut values)?;
            numbers::<T>(&mut grads.values)?;
            Loan { flat: self, values: values.take(), grads: grads.values.take() }
        };
        let Loan { values, grads, .. } = &mut loan;
        let (values, grads) = (numbers::<T>(values)?, numbers::<T>(grads)?);
        Ok(f(values, grads))
    }

    /// Forgets every gradient, and what modules had excused.
    pub fn clear_grads(&self) {
        self.grads().marks.fill(Mark::default());
    }

    pub(crate) fn tensor(&self, index: usize, shape: &Shape) -> Result<Tensor> {
        let values = self.values().clone().ok_or_else(lent)?;
        Tensor::from_storage(values, self.ranges[index].start, shape)
    }

    /// A copy: a view would keep the next reverse pass from writing.
    pub(crate) fn grad(&self, index: usize, shape: &Shape) -> Option<Tensor> {
        let grads = self.grads();
        if !grads.marks[index].written {
            return None;
        }
        let view = Tensor::from_storage(grads.values.clone()?, self.ranges[index].start, shape).ok()?;
        dispatch!(self.dtype, T => Tensor::from_vec(view.to_vec::<T>().ok()?, shape).ok())
    }

    pub(crate) fn has_grad(&self, index: usize) -> bool {
        self.grads().marks[index].written
    }

    pub(crate) fn clear_grad(&self, index: usize) {
        self.grads().marks[index] = Mark::default();
    }

    pub(crate) fn is_excused(&self, index: usize) -> bool {
        self.grads().marks[index].excused
    }

    pub(crate) fn excuse(&self, index: usize) {
        self.grads().marks[index].excused = true;
    }

    pub(crate) fn write(&self, index: usize, value: &Tensor) -> Result<()> {
        dispatch!(self.dtype, T => {
            let value = value.slice::<T>()?;
            self.update::<T, _>(|all, _| all[self.ranges[index].clone()].copy_from_slice(value))
        })
    }

    /// Lends the gradient of one parameter; nothing while an update has all of them, which the caller reports.
    pub(crate) fn give(&self, index: usize, give: &mut dyn FnMut(Destination<'_>, Write)) {
        let mut grads = self.grads();
        let Grads { values: Some(values), marks } = &mut *grads else { return };
        let write = if marks[index].written { Write::Add } else { Write::Store };
        marks[index].written = true;
        dispatch!(self.dtype, T => {
            let all = values.unique_mut::<T>().ok().flatten().expect("gradients are lent only under the lock");
            give(<T as Scalar>::destination(&mut all[self.ranges[index].clone()]), write);
        });
    }

    fn values(&self) -> MutexGuard<'_, Option<Storage>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grads(&self) -> MutexGuard<'_, Grads> {
        self.grads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers of memory that is neither lent nor read.
fn numbers<T: Scalar>(memory: &mut Option<Storage>) -> Result<&mut [T]> {
    let numbers = memory.as_mut().ok_or_else(lent)?.unique_mut::<T>()?;
    numbers.ok_or_else(|| Kind::Busy { what: "parameter memory" }.into())
}

fn lent() -> Error {
    Error::missing("the memory of the run")
        .hint("an update has it; read parameters before or after Flat::update")
}

impl fmt::Debug for Flat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flat({} parameters, {} × {})", self.ranges.len(), self.len(), self.dtype)
    }
}
