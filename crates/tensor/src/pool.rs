//! Reused memory: a buffer that is dropped goes back to the pool it came from.
//!
//! A pool belongs to a model or a run, not to the process, and every op takes its result from the pool of its inputs.
//! Once each size has been seen, a step of the same shape asks the system for nothing.
//!
//! ```
//! use formwork_tensor::Pool;
//! let pool = Pool::new();
//! drop(pool.take::<f32>(1000));
//! drop(pool.take::<f32>(1000));
//! assert_eq!((pool.stats().taken, pool.stats().from_system), (2, 1));
//! ```

use std::{
    collections::HashMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use formwork_kernels::AlignedVec;

use crate::Scalar;

/// A store of memory to be used again. Cloning it gives another handle to the same store.
#[derive(Clone, Default)]
pub struct Pool(pub(crate) Arc<Inner>);

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) f32: Shelves<f32>,
    pub(crate) f64: Shelves<f64>,
    taken: AtomicU64,
    from_system: AtomicU64,
    bytes: AtomicU64,
}

/// Free memory by size class.
#[doc(hidden)]
#[derive(Default)]
pub struct Shelves<T: Scalar>(Mutex<HashMap<usize, Vec<AlignedVec<T>>>>);

/// How a pool has been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Buffers handed out since the pool was made.
    pub taken: u64,
    /// How many of them had to be asked of the system.
    pub from_system: u64,
    /// Bytes that the pool has asked of the system and not given back, in use or free.
    pub bytes: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of `len` numbers with whatever its last user left in it.
    pub fn take<T: Scalar>(&self, len: usize) -> Buffer<T> {
        let class = size_class(len);
        self.0.taken.fetch_add(1, Relaxed);
        let mut shelves = T::shelves(self).0.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match shelves.get_mut(&class).and_then(Vec::pop) {
            Some(memory) => memory,
            None => {
                drop(shelves);
                self.0.from_system.fetch_add(1, Relaxed);
                self.0.bytes.fetch_add((class * size_of::<T>()) as u64, Relaxed);
                AlignedVec::zeroed(class)
            }
        };
        Buffer { memory, len, pool: Some(self.clone()) }
    }

    /// What the pool has handed out and asked for so far.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            taken: self.0.taken.load(Relaxed),
            from_system: self.0.from_system.load(Relaxed),
            bytes: self.0.bytes.load(Relaxed),
        }
    }

    /// Gives all free memory back to the system.
    pub fn trim(&self) {
        self.trim_one::<f32>();
        self.trim_one::<f64>();
    }

    fn trim_one<T: Scalar>(&self) {
        let free = std::mem::take(&mut *T::shelves(self).0.lock().unwrap_or_else(PoisonError::into_inner));
        let numbers: usize = free.iter().map(|(class, buffers)| class * buffers.len()).sum();
        self.0.bytes.fetch_sub((numbers * size_of::<T>()) as u64, Relaxed);
    }

    fn put_back<T: Scalar>(&self, memory: AlignedVec<T>) {
        let mut shelves = T::shelves(self).0.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.entry(memory.len()).or_default().push(memory);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

/// Four classes to each power of two: a growing context finds its memory again most of the time, at most a fifth is unused.
fn size_class(len: usize) -> usize {
    let step = (len.max(64).next_power_of_two() / 8).max(16);
    len.max(64).div_ceil(step) * step
}

/// Writable memory on its way to becoming a tensor; 64-byte aligned. It derefs to a slice.
pub struct Buffer<T: Scalar> {
    memory: AlignedVec<T>,
    len: usize,
    pool: Option<Pool>,
}

impl<T: Scalar> Buffer<T> {
    /// A buffer of `len` numbers: from `pool` with junk in it, or zeroed from the system.
    pub fn new(len: usize, pool: Option<&Pool>) -> Self {
        match pool {
            Some(pool) => pool.take(len),
            None => Self { memory: AlignedVec::zeroed(len), len, pool: None },
        }
    }

    /// Where it goes back to.
    pub fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }
}

impl<T: Scalar> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.put_back(std::mem::take(&mut self.memory));
        }
    }
}

impl<T: Scalar> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.memory[..self.len]
    }
}

impl<T: Scalar> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[..self.len]
    }
}

impl<T: Scalar> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} × {})", self.len, T::NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_holds_its_length_and_wastes_little() {
        for len in [0, 1, 63, 64, 65, 100, 1000, 4097, 1 << 20, (1 << 20) + 1] {
            let class = size_class(len);
            assert!(class >= len && class.is_multiple_of(16), "{len} in {class}");
            assert!(class <= 64 || class * 4 <= len * 5 + 64, "{len} in {class}");
        }
    }

    #[test]
    fn trimming_forgets_free_memory_only() {
        let pool = Pool::new();
        let held = pool.take::<f64>(100);
        drop(pool.take::<f32>(1000));
        pool.trim();
        assert_eq!(pool.stats().bytes, (size_class(100) * 8) as u64);
        drop(held);
        drop(pool.take::<f64>(100));
        assert_eq!(pool.stats().from_system, 2);
    }
}
