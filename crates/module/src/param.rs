//! A parameter: a shared handle to numbers that may be learned.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use formwork_kernels::blocks::Format;
use formwork_tensor::{Destination, GradSum, Leaf, Shape, Write};

use crate::{DType, Error, Flat, Init, Kind, Result, Tensor};

/// The type in which a file holds, or will hold, a parameter's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stored {
    /// 32-bit IEEE numbers.
    F32,
    /// 64-bit IEEE numbers.
    F64,
    /// 16-bit IEEE numbers.
    F16,
    /// The upper half of a 32-bit IEEE number.
    Bf16,
    /// Blocks of small integers; for a parameter, those that it was decoded from.
    Blocks(Format),
}

impl From<DType> for Stored {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Stored::F64,
            _ => Stored::F32,
        }
    }
}

/// A shared handle to a parameter. Clones are the same parameter: that is how weights are tied.
#[derive(Clone)]
pub struct Param(Arc<Slot>);

struct Slot {
    path: String,
    shape: Shape,
    init: Init,
    stored: Stored,
    frozen: AtomicBool,
    /// A module said that it rightly left this parameter out of the step. In the memory of a run, that says it.
    excused: AtomicBool,
    place: RwLock<Place>,
    /// The gradient of a parameter that is not in a run's memory.
    grad: GradSum,
}

/// Where the numbers are.
#[derive(Clone)]
pub(crate) enum Place {
    /// Nowhere: the model is an outline.
    Outline,
    /// In a tensor of their own: freshly drawn, or mapped from a file.
    Own(Tensor),
    /// In the memory of a run, of which it is the parameter with this index.
    Flat(Arc<Flat>, usize),
}

impl Param {
    pub(crate) fn new(path: String, shape: Shape, init: Init, stored: Stored, value: Option<Tensor>) -> Self {
        let place = value.map_or(Place::Outline, Place::Own);
        let (frozen, excused) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Slot {
            path,
            shape,
            init,
            stored,
            frozen,
            excused,
            place: RwLock::new(place),
            grad: GradSum::default(),
        }))
    }

    /// The full name given when it was built, such as `blocks.3.attn.q.weight`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The lengths of its axes.
    pub fn shape(&self) -> &Shape {
        &self.0.shape
    }

    /// How a seed draws it.
    pub fn init(&self) -> Init {
        self.0.init
    }

    /// The type in which its file held it.
    pub fn stored(&self) -> Stored {
        self.0.stored
    }

    /// Whether two handles are one parameter.
    pub fn is(&self, other: &Param) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The numbers, without a history. [`Pass::take`](crate::Pass::take) gives them tracked.
    ///
    /// # Errors
    /// A model built as an outline has no numbers; those of a run are not there while [`Flat::update`] lends them.
    pub fn value(&self) -> Result<Tensor> {
        match &*self.place() {
            Place::Own(tensor) => Ok(tensor.clone()),
            Place::Flat(flat, index) => flat.tensor(*index, &self.0.shape),
            Place::Outline => Err(Error::missing(format_args!("the numbers of {}", self.0.path))
                .hint("an outline has none; build the model from a seed or a checkpoint")),
        }
    }

    /// Replaces the numbers.
    ///
    /// # Errors
    /// Another shape or type of numbers, or memory of a run that a tensor still reads.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        let value = value.compact()?;
        if value.shape() != self.shape() {
            return Err(Error::shape("parameter", self.shape(), value.shape()).at(self.path()));
        }
        let mut place = self.0.place.write().unwrap_or_else(PoisonError::into_inner);
        match &*place {
            Place::Flat(flat, index) => flat.write(*index, &value).map_err(|e| e.at(self.path())),
            Place::Own(old) if old.dtype() != value.dtype() => {
                let kind = Kind::DType { op: "parameter", expected: old.dtype(), found: value.dtype() };
                Err(Error::from(kind).at(self.path()))
            }
            Place::Own(_) | Place::Outline => {
                *place = Place::Own(value);
                Ok(())
            }
        }
    }

    /// Whether training changes it.
    pub fn is_trainable(&self) -> bool {
        !self.0.frozen.load(Relaxed)
    }

    /// Leaves it out of training from now on.
    pub fn freeze(&self) {
        self.0.frozen.store(true, Relaxed);
    }

    /// Lets training change it again.
    pub fn unfreeze(&self) {
        self.0.frozen.store(false, Relaxed);
    }

    /// The gradient that reverse passes have added up since it was last cleared; `None` if nothing came, and while
    /// [`Flat::update`] lends the gradients of its run.
    pub fn grad(&self) -> Option<Tensor> {
        match &*self.place() {
            Place::Flat(flat, index) => flat.grad(*index, &self.0.shape),
            _ => self.0.grad.value(),
        }
    }

    /// Whether a gradient has come since it was last cleared; [`grad`](Param::grad) without the copy.
    pub fn has_grad(&self) -> bool {
        match &*self.place() {
            Place::Flat(flat, index) => flat.has_grad(*index),
            _ => self.0.grad.is_some(),
        }
    }

    /// Forgets the gradient, and that it was excused.
    pub fn clear_grad(&self) {
        match &*self.place() {
            Place::Flat(flat, index) => flat.clear_grad(*index),
            _ => {
                self.0.excused.store(false, Relaxed);
                self.0.grad.clear();
            }
        }
    }

    /// Whether a module has said, since the gradient was cleared, that it rightly left the parameter out.
    pub fn is_excused(&self) -> bool {
        match &*self.place() {
            Place::Flat(flat, index) => flat.is_excused(*index),
            _ => self.0.excused.load(Relaxed),
        }
    }

    pub(crate) fn excuse(&self) {
        match &*self.place() {
            Place::Flat(flat, index) => flat.excuse(*index),
            _ => self.0.excused.store(true, Relaxed),
        }
    }

    pub(crate) fn leaf(&self) -> Arc<dyn Leaf> {
        self.0.clone()
    }

    pub(crate) fn move_to(&self, flat: &Arc<Flat>, index: usize) {
        self.0.grad.clear();
        self.0.excused.store(false, Relaxed);
        *self.0.place.write().unwrap_or_else(PoisonError::into_inner) = Place::Flat(flat.clone(), index);
    }

    fn place(&self) -> RwLockReadGuard<'_, Place> {
        self.0.place.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leaf for Slot {
    fn grad(&self, give: &mut dyn FnMut(Destination<'_>, Write)) {
        // The lock is not held while `give` computes, or the parameter could not be looked at meanwhile.
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner).clone();
        match place {
            Place::Flat(flat, index) => flat.give(index, give),
            Place::Own(value) => self.grad.lend(&value, give),
            Place::Outline => {}
        }
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Param({} {})", self.0.path, self.0.shape)
    }
}
