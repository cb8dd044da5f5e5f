//! The tensor: a shape and strides over shared memory.

use std::{fmt, sync::Arc};

use crate::{
    Buffer, DType, Error, Kind, Leaf, Op, Outputs, Pool, Result, Saved, Scalar, Shape, Storage, dispatch,
    layout::Layout,
    tape::{self, History},
};

/// A multi-dimensional array of `f32` or `f64`, cheap to clone, with an optional history for gradients.
///
/// Numbers are never changed through a tensor: every op gives a new one.
#[derive(Clone)]
pub struct Tensor {
    storage: Storage,
    layout: Layout,
    pub(crate) history: Option<History>,
}

impl Tensor {
    /// A tensor on a vector's own memory, row-major.
    ///
    /// # Errors
    /// A length other than the product of `dims`.
    pub fn from_vec<T: Scalar>(values: Vec<T>, dims: &[usize]) -> Result<Self> {
        let shape = fitting(values.len(), dims)?;
        Ok(Self::whole(T::store(Arc::new(values)), shape))
    }

    /// A tensor on a filled buffer, row-major.
    ///
    /// # Errors
    /// A length other than the product of `dims`.
    pub fn from_buffer<T: Scalar>(values: Buffer<T>, dims: &[usize]) -> Result<Self> {
        let shape = fitting(values.len(), dims)?;
        Ok(Self::whole(values.share(), shape))
    }

    /// A row-major tensor on part of some shared memory, from element `start` on.
    ///
    /// # Errors
    /// Memory that ends before the tensor does.
    pub fn from_storage(storage: Storage, start: usize, dims: &[usize]) -> Result<Self> {
        let shape = Shape::new(dims)?;
        if start.checked_add(shape.len()).is_none_or(|end| end > storage.len()) {
            let found = format!("{shape} from element {start} of {}", storage.len());
            return Err(Error::invalid("tensor", "a range inside its memory", found));
        }
        Ok(Self { storage, layout: Layout::row_major(shape, start), history: None })
    }

    /// Every element the same.
    ///
    /// # Errors
    /// More than six axes.
    pub fn full(value: f64, dims: &[usize], dtype: DType, pool: Option<&Pool>) -> Result<Self> {
        let shape = Shape::new(dims)?;
        dispatch!(dtype, T => {
            let mut values = Buffer::<T>::new(shape.len(), pool);
            values.fill(<T as formwork_kernels::Element>::of(value));
            Self::from_buffer(values, dims)
        })
    }

    /// Zeros.
    ///
    /// # Errors
    /// More than six axes.
    pub fn zeros(dims: &[usize], dtype: DType, pool: Option<&Pool>) -> Result<Self> {
        Self::full(0.0, dims, dtype, pool)
    }

    fn whole(storage: Storage, shape: Shape) -> Self {
        Self { storage, layout: Layout::row_major(shape, 0), history: None }
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &Shape {
        &self.layout.shape
    }

    /// The lengths of the axes, for a known number of them: `let [b, t, d] = x.dims()?;`
    ///
    /// # Errors
    /// Another number of axes than `N`.
    pub fn dims<const N: usize>(&self) -> Result<[usize; N]> {
        let dims: &[usize] = self.shape();
        dims.try_into().map_err(|_| Error::shape("tensor", format_args!("{N} axes"), self.shape()))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape().len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape().is_empty()
    }

    /// The type of the numbers.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Elements to step over per axis.
    pub fn strides(&self) -> &[usize] {
        self.layout.strides()
    }

    /// Whether the elements stand row-major and without gaps, so that [`slice`](Self::slice) works.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// The pool that results computed from this tensor come from.
    pub fn pool(&self) -> Option<&Pool> {
        self.storage.pool()
    }

    /// A buffer from this tensor's pool, holding junk.
    pub fn buffer<T: Scalar>(&self, len: usize) -> Buffer<T> {
        Buffer::new(len, self.pool())
    }

    /// The elements in row-major order, without a copy.
    ///
    /// # Errors
    /// Another type of numbers, or a strided view: take [`compact`](Self::compact) first.
    pub fn slice<T: Scalar>(&self) -> Result<&[T]> {
        if !self.is_contiguous() {
            let expected = "a row-major tensor";
            let error = Error::shape(
                "slice",
                expected,
                format_args!("{} with strides {:?}", self.shape(), self.strides()),
            );
            return Err(error.hint("copy it with compact() first"));
        }
        let start = self.layout.start;
        Ok(&self.memory::<T>()?[start..start + self.len()])
    }

    /// The part of the memory that a strided view reaches, from its first element on, with [`strides`](Self::strides).
    ///
    /// # Errors
    /// Another type of numbers.
    pub fn reach<T: Scalar>(&self) -> Result<&[T]> {
        let start = self.layout.start;
        Ok(&self.memory::<T>()?[start..start + self.layout.extent()])
    }

    fn memory<T: Scalar>(&self) -> Result<&[T]> {
        match T::read(&self.storage) {
            Some(memory) => Ok(memory.as_slice()),
            None => Err(Kind::DType { op: "read", expected: T::DTYPE, found: self.dtype() }.into()),
        }
    }

    /// The elements, copied in row-major order.
    ///
    /// # Errors
    /// Another type of numbers.
    pub fn to_vec<T: Scalar>(&self) -> Result<Vec<T>> {
        Ok(self.compact()?.slice::<T>()?.to_vec())
    }

    /// The only element, as `f64`.
    ///
    /// # Errors
    /// Any other number of elements than one.
    pub fn item(&self) -> Result<f64> {
        if self.len() != 1 {
            return Err(Error::shape("item", "one element", self.shape()));
        }
        dispatch!(self.dtype(), T => Ok(formwork_kernels::Element::f64(self.reach::<T>()?[0])))
    }

    /// The same numbers in row-major order, without a history; a copy only where the view is strided.
    ///
    /// # Errors
    /// None today; a device's memory may refuse to be read.
    pub fn compact(&self) -> Result<Self> {
        if self.is_contiguous() {
            return Ok(self.detached());
        }
        dispatch!(self.dtype(), T => {
            let mut to = self.buffer::<T>(self.len());
            crate::ops::shaped(&mut to, self.shape()).assign(&self.view::<T>()?);
            Self::from_buffer(to, self.shape())
        })
    }

    /// Whether a gradient can flow back from here.
    pub fn is_tracked(&self) -> bool {
        self.history.is_some()
    }

    /// The same numbers without a history.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { history: None, ..self.clone() }
    }

    /// [`detached`](Self::detached) without a second handle.
    pub(crate) fn forgetting(self) -> Self {
        Self { history: None, ..self }
    }

    /// The same numbers as a leaf of the graph: gradients go to `leaf`.
    #[must_use]
    pub fn tracked(self, leaf: Arc<dyn Leaf>) -> Self {
        Self { history: Some(History::Leaf(leaf)), ..self }
    }

    /// Runs an op, and records it where an input is tracked.
    ///
    /// # Errors
    /// Those of the op's forward.
    pub fn apply(op: impl Op + 'static, inputs: &[&Tensor]) -> Result<Outputs> {
        let mut saved = Saved::of(inputs, Owns::Nothing);
        let outputs = op.forward(inputs, &mut saved)?;
        Ok(Self::record(op, inputs, outputs, saved, Owns::Nothing))
    }

    /// [`apply`](Self::apply) for an op with one output.
    ///
    /// # Errors
    /// Those of the op's forward.
    pub fn apply1(op: impl Op + 'static, inputs: &[&Tensor]) -> Result<Self> {
        let name = op.name();
        let mut outputs = Self::apply(op, inputs)?.into_iter();
        outputs.next().ok_or_else(|| Error::missing(format_args!("the output of {name}")))
    }

    /// The tape half of [`apply`](Self::apply), for an op whose forward ran elsewhere with a [`Saved::of`] the same
    /// inputs.
    pub fn record(
        op: impl Op + 'static,
        inputs: &[&Tensor],
        outputs: Outputs,
        saved: Saved,
        owns: Owns,
    ) -> Outputs {
        if owns == Owns::Nothing && !inputs.iter().any(|t| t.is_tracked()) {
            return outputs;
        }
        tape::record(Box::new(op), inputs, outputs, saved)
    }

    /// Sends gradients to every leaf that this tensor depends on, starting from 1 in each element.
    ///
    /// The tape is used up: what ops had saved is freed on the way.
    ///
    /// # Errors
    /// A tensor that depends on nothing tracked, a second call, and the errors of the ops' backward.
    pub fn backward(&self) -> Result<()> {
        self.backward_from(&Self::full(1.0, self.shape(), self.dtype(), self.pool())?)
    }

    /// [`backward`](Self::backward) from a given gradient of this tensor, of its shape and type.
    ///
    /// # Errors
    /// Those of [`backward`](Self::backward), and a gradient of another shape or type.
    pub fn backward_from(&self, grad: &Tensor) -> Result<()> {
        match self.is_tracked() {
            true => tape::reverse(&[(self, grad)], None),
            false => Err(untracked()),
        }
    }

    /// The numbers of a row-major tensor, if nobody else holds their memory.
    pub(crate) fn unique_mut<T: Scalar>(&mut self) -> Result<Option<&mut [T]>> {
        if !self.is_contiguous() {
            return Ok(None);
        }
        let range = self.layout.start..self.layout.start + self.len();
        Ok(self.storage.unique_mut::<T>()?.and_then(|all| all.get_mut(range)))
    }

    /// A view over the same memory, without a history.
    pub(crate) fn with_layout(&self, layout: Layout) -> Self {
        Self { storage: self.storage.clone(), layout, history: None }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// Whether a recorded node holds parameters that are not among its inputs, and so must be recorded in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owns {
    /// All that learns is among the inputs.
    Nothing,
    /// The node's backward finds parameters by itself, as a recomputed block does.
    Parameters,
}

fn untracked() -> Error {
    Error::invalid("backward", "a tensor computed from something tracked", "one without a history")
        .hint("take parameters through a training pass, or track a leaf with Variable")
}

fn fitting(len: usize, dims: &[usize]) -> Result<Shape> {
    let shape = Shape::new(dims)?;
    if shape.len() != len {
        return Err(Error::shape("tensor", format_args!("{} elements for {shape}", shape.len()), len));
    }
    Ok(shape)
}

/// Shape, type and the first few numbers.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        write!(f, "Tensor{} {}", self.shape(), self.dtype())?;
        let mut list = f.debug_list();
        dispatch!(self.dtype(), T => {
            if let Ok(view) = self.view::<T>() {
                list.entries(view.iter().take(SHOWN));
            }
        });
        if self.len() > SHOWN {
            list.entry(&format_args!(".."));
        }
        list.finish()
    }
}
