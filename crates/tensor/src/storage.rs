//! The memory under a tensor: pooled, adopted or mapped.

use std::{fmt, ops::Deref, sync::Arc};

use crate::{Buffer, DType, Kind, Pool, Result, Scalar};

/// Memory that a tensor can stand on.
///
/// Implemented for pooled [`Buffer`]s and for `Vec`. [`Storage::adopt`] takes anything that derefs to a slice,
/// such as a mapped weight file, without copying it.
pub trait Memory<T>: Send + Sync {
    /// All of it.
    fn as_slice(&self) -> &[T];
    /// All of it, where it can be written; mapped files cannot.
    fn as_mut_slice(&mut self) -> Option<&mut [T]>;
    /// The pool that results computed from this memory should come from.
    fn pool(&self) -> Option<&Pool>;
    /// Called with the last handle: memory of a pool goes back to it, handle and all. Other memory just ends.
    fn retire(self: Arc<Self>) {}
}

/// A shared handle to memory; the last one [retires](Memory::retire) it.
pub struct Shared<T>(Option<Arc<dyn Memory<T>>>);

impl<T> Shared<T> {
    pub(crate) fn new(memory: Arc<dyn Memory<T>>) -> Self {
        Self(Some(memory))
    }

    /// The memory, if there is no other handle to it.
    fn alone(&mut self) -> Option<&mut dyn Memory<T>> {
        Arc::get_mut(self.0.as_mut().expect(HELD)).map(|memory| memory as _)
    }
}

const HELD: &str = "a handle holds its memory until it is dropped";

impl<T> Deref for Shared<T> {
    type Target = dyn Memory<T>;
    fn deref(&self) -> &Self::Target {
        self.0.as_deref().expect(HELD)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(mut memory) = self.0.take()
            && Arc::get_mut(&mut memory).is_some()
        {
            memory.retire();
        }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({})", self.as_slice().len())
    }
}

/// A tensor's shared memory, of one of the [`DType`]s.
#[derive(Clone)]
#[non_exhaustive]
pub enum Storage {
    /// 32-bit numbers.
    F32(Shared<f32>),
    /// 64-bit numbers.
    F64(Shared<f64>),
}

impl Storage {
    /// Memory owned by something else: a mapped file, a shared array. Results computed from it come from `pool`.
    pub fn adopt<T: Scalar>(
        owner: impl Deref<Target = [T]> + Send + Sync + 'static,
        pool: Option<Pool>,
    ) -> Self {
        T::store(Arc::new(Adopted { owner, pool }))
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> DType {
        match self {
            Storage::F32(_) => DType::F32,
            Storage::F64(_) => DType::F64,
        }
    }

    pub(crate) fn pool(&self) -> Option<&Pool> {
        match self {
            Storage::F32(memory) => memory.pool(),
            Storage::F64(memory) => memory.pool(),
        }
    }

    /// All numbers, if no tensor or other handle shares them; `None` otherwise.
    ///
    /// # Errors
    /// Another type of numbers than `T`.
    pub fn unique_mut<T: Scalar>(&mut self) -> Result<Option<&mut [T]>> {
        let found = self.dtype();
        match T::read_mut(self) {
            Some(memory) => Ok(memory.alone().and_then(|memory| memory.as_mut_slice())),
            None => Err(Kind::DType { op: "write", expected: T::DTYPE, found }.into()),
        }
    }

    /// Number of numbers.
    pub fn len(&self) -> usize {
        match self {
            Storage::F32(memory) => memory.as_slice().len(),
            Storage::F64(memory) => memory.as_slice().len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({} × {})", self.len(), self.dtype())
    }
}

impl<T: Scalar> Memory<T> for Buffer<T> {
    fn as_slice(&self) -> &[T] {
        self
    }
    fn as_mut_slice(&mut self) -> Option<&mut [T]> {
        Some(self)
    }
    fn pool(&self) -> Option<&Pool> {
        Buffer::pool(self)
    }
}

impl<T: Scalar> Memory<T> for Vec<T> {
    fn as_slice(&self) -> &[T] {
        self
    }
    fn as_mut_slice(&mut self) -> Option<&mut [T]> {
        Some(self)
    }
    fn pool(&self) -> Option<&Pool> {
        None
    }
}

struct Adopted<O> {
    owner: O,
    pool: Option<Pool>,
}

impl<T: Scalar, O: Deref<Target = [T]> + Send + Sync> Memory<T> for Adopted<O> {
    fn as_slice(&self) -> &[T] {
        &self.owner
    }
    fn as_mut_slice(&mut self) -> Option<&mut [T]> {
        None
    }
    fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }
}
