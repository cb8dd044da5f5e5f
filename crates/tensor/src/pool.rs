//! Reused memory: a buffer that is dropped goes back to the pool it came from.
//!
//! A pool belongs to a model or a run, not to the process, and every op takes its result from the pool of its inputs.
//! Once each size has been seen, a step of the same shape asks the system for nothing: the shared handle under which
//! tensors hold the memory is used again with it.
//!
//! ```
//! use formwork_tensor::Pool;
//! let pool = Pool::new();
//! drop(pool.take::<f32>(1000));
//! drop(pool.take::<f32>(1000));
//! assert_eq!((pool.stats().taken, pool.stats().from_system), (2, 1));
//! ```

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use formwork_kernels::AlignedVec;

use crate::{Memory, Scalar, Storage};

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
    used: AtomicU64,
    peak: AtomicU64,
}

/// Free memory; the index of a shelf is its size class's.
#[doc(hidden)]
#[derive(Default)]
pub struct Shelves<T: Scalar>(Mutex<Vec<Shelf<T>>>);

type Shelf<T> = Vec<Arc<Block<T>>>;

impl<T: Scalar> Shelves<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<Shelf<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, block: Arc<Block<T>>) {
        let shelf = SizeClass::of(block.memory.len()).index;
        let mut shelves = self.lock();
        if shelves.len() <= shelf {
            shelves.resize_with(shelf + 1, Vec::new);
        }
        shelves[shelf].push(block);
    }
}

/// How a pool has been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Buffers handed out since the pool was made.
    pub taken: u64,
    /// How many of them had to be asked of the system.
    pub from_system: u64,
    /// Bytes that the pool has asked of the system and not given back, in use or free.
    pub bytes: u64,
    /// Bytes in use now.
    pub used: u64,
    /// The most bytes that were in use at one time.
    pub peak: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of `len` numbers with whatever its last user left in it.
    pub fn take<T: Scalar>(&self, len: usize) -> Buffer<T> {
        let class = SizeClass::of(len);
        self.0.taken.fetch_add(1, Relaxed);
        let bytes = (class.len * size_of::<T>()) as u64;
        self.0.peak.fetch_max(self.0.used.fetch_add(bytes, Relaxed) + bytes, Relaxed);
        let free = T::shelves(self).lock().get_mut(class.index).and_then(Vec::pop);
        let (memory, shell) = match free {
            Some(mut block) => {
                let free = Arc::get_mut(&mut block).expect("memory on a shelf has one owner");
                (std::mem::take(&mut free.memory), block)
            }
            None => {
                self.0.from_system.fetch_add(1, Relaxed);
                self.0.bytes.fetch_add(bytes, Relaxed);
                (AlignedVec::zeroed(class.len), Arc::default())
            }
        };
        Buffer { memory, len, home: Some(Home { pool: self.clone(), shell }) }
    }

    /// The memory that a pool takes for `len` numbers, in bytes; `u64::MAX` for more than any memory holds.
    pub fn bytes_of<T: Scalar>(len: usize) -> u64 {
        if len > isize::MAX as usize / size_of::<T>() {
            return u64::MAX;
        }
        (SizeClass::of(len).len * size_of::<T>()) as u64
    }

    /// What the pool has handed out and asked for so far.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            taken: self.0.taken.load(Relaxed),
            from_system: self.0.from_system.load(Relaxed),
            bytes: self.0.bytes.load(Relaxed),
            used: self.0.used.load(Relaxed),
            peak: self.0.peak.load(Relaxed),
        }
    }

    /// Takes memory back.
    fn shelve<T: Scalar>(&self, block: Arc<Block<T>>) {
        self.0.used.fetch_sub((block.memory.len() * size_of::<T>()) as u64, Relaxed);
        T::shelves(self).put(block);
    }

    /// Gives all free memory back to the system.
    pub fn trim(&self) {
        self.trim_one::<f32>();
        self.trim_one::<f64>();
    }

    fn trim_one<T: Scalar>(&self) {
        let free = std::mem::take(&mut *T::shelves(self).lock());
        let numbers: usize = free.iter().flatten().map(|block| block.memory.len()).sum();
        self.0.bytes.fetch_sub((numbers * size_of::<T>()) as u64, Relaxed);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

/// Four classes to each power of two: a growing context finds its memory again most of the time, at most a fifth is
/// unused. From [`FINE`](SizeClass::FINE) on there are 32: that is the memory of a run, of which there are few pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SizeClass {
    len: usize,
    index: usize,
}

impl SizeClass {
    /// The power of two up to which classes are coarse: 32 MiB of `f32`.
    const FINE: u32 = 23;

    fn of(len: usize) -> Self {
        let power = len.max(64).next_power_of_two();
        let above = power.trailing_zeros();
        if above > Self::FINE {
            let step = power / 64;
            let steps = len.div_ceil(step); // 33 to 64
            let before = 8 * (Self::FINE as usize - 5) + 32 * (above - Self::FINE - 1) as usize;
            return Self { len: steps * step, index: before + steps - 33 };
        }
        let step = (power / 8).max(16);
        let steps = len.max(64).div_ceil(step);
        Self { len: steps * step, index: 8 * above as usize + steps - 1 - 8 * 6 }
    }
}

/// Writable memory on its way to becoming a tensor; 64-byte aligned. It derefs to a slice.
pub struct Buffer<T: Scalar> {
    memory: AlignedVec<T>,
    len: usize,
    /// Where it goes back to.
    home: Option<Home<T>>,
}

/// A pool, and the empty block in which the memory goes back to it or into a tensor.
struct Home<T: Scalar> {
    pool: Pool,
    shell: Arc<Block<T>>,
}

impl<T: Scalar> Buffer<T> {
    /// A buffer of `len` numbers: from `pool` with junk in it, or zeroed from the system.
    pub fn new(len: usize, pool: Option<&Pool>) -> Self {
        match pool {
            Some(pool) => pool.take(len),
            None => Self { memory: AlignedVec::zeroed(len), len, home: None },
        }
    }

    /// Where it goes back to.
    pub fn pool(&self) -> Option<&Pool> {
        self.home.as_ref().map(|home| &home.pool)
    }

    /// The memory under a shared handle.
    pub(crate) fn share(mut self) -> Storage {
        let (memory, len) = (std::mem::take(&mut self.memory), self.len);
        match self.home.take() {
            None => T::store(Arc::new(Block { memory, len, pool: None })),
            Some(Home { pool, mut shell }) => {
                let block = Arc::get_mut(&mut shell).expect("an empty block has one owner");
                *block = Block { memory, len, pool: Some(pool) };
                T::store(shell)
            }
        }
    }
}

impl<T: Scalar> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(Home { pool, mut shell }) = self.home.take() {
            let block = Arc::get_mut(&mut shell).expect("an empty block has one owner");
            block.memory = std::mem::take(&mut self.memory);
            pool.shelve(shell);
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

/// A tensor's memory from a pool: on a shelf, lent out and empty, or under a tensor.
#[doc(hidden)]
pub(crate) struct Block<T: Scalar> {
    memory: AlignedVec<T>,
    len: usize,
    /// Under a tensor, the pool to go back to. On a shelf there is none, or the pool would keep itself alive.
    pool: Option<Pool>,
}

impl<T: Scalar> Default for Block<T> {
    fn default() -> Self {
        Self { memory: AlignedVec::default(), len: 0, pool: None }
    }
}

impl<T: Scalar> Memory<T> for Block<T> {
    fn as_slice(&self) -> &[T] {
        &self.memory[..self.len]
    }

    fn as_mut_slice(&mut self) -> Option<&mut [T]> {
        Some(&mut self.memory[..self.len])
    }

    fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    fn retire(mut self: Arc<Self>) {
        if let Some(pool) = Arc::get_mut(&mut self).and_then(|block| block.pool.take()) {
            pool.shelve(self);
        }
    }
}

/// Where two threads drop the last two handles at once, neither can tell that it is the last, and the block ends here:
/// its memory goes back under a new handle.
impl<T: Scalar> Drop for Block<T> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let memory = std::mem::take(&mut self.memory);
            pool.shelve(Arc::new(Self { memory, len: 0, pool: None }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn a_size_class_holds_its_length_and_wastes_little() {
        for len in [0, 1, 63, 64, 65, 100, 1000, 4097, 1 << 20, (1 << 20) + 1] {
            let class = SizeClass::of(len).len;
            assert!(class >= len && class.is_multiple_of(16), "{len} in {class}");
            assert!(class <= 64 || class * 4 <= len * 5 + 64, "{len} in {class}");
        }
    }

    #[test]
    fn a_shelf_holds_one_size() {
        let mut last = SizeClass::of(0);
        for len in 1..70_000 {
            let class = SizeClass::of(len);
            assert_eq!(class.len == last.len, class.index == last.index, "{len}: {last:?} and {class:?}");
            assert_eq!(SizeClass::of(class.len), class);
            last = class;
        }
        let largest = SizeClass::of(1 << SizeClass::FINE);
        let next = SizeClass::of((1 << SizeClass::FINE) + 1);
        assert!(
            next.index > largest.index && next.len - (1 << SizeClass::FINE) <= (1 << SizeClass::FINE) / 32
        );
        assert!(SizeClass::of(usize::MAX / 64).index < 2048);
    }

    #[test]
    fn the_memory_of_a_run_wastes_a_thirtieth_at_most() {
        for len in [(1 << 23) + 1, 38_597_376, 124_439_808, 1_040_000_000] {
            let class = SizeClass::of(len);
            assert!(class.len >= len && class.len - len <= len / 30, "{len} in {class:?}");
            assert_eq!(SizeClass::of(class.len), class);
        }
    }

    #[test]
    fn the_peak_is_what_was_in_use_at_once() {
        let pool = Pool::new();
        let (a, b) = (pool.take::<f32>(64), pool.take::<f64>(64));
        drop(a);
        let c = Tensor::from_buffer(pool.take::<f32>(64), &[64]).unwrap();
        assert_eq!((pool.stats().used, pool.stats().peak), (768, 768));
        drop((b, c));
        assert_eq!((pool.stats().used, pool.stats().peak, pool.stats().bytes), (0, 768, 768));
    }

    #[test]
    fn trimming_forgets_free_memory_only() {
        let pool = Pool::new();
        let held = pool.take::<f64>(100);
        drop(pool.take::<f32>(1000));
        pool.trim();
        assert_eq!(pool.stats().bytes, (SizeClass::of(100).len * 8) as u64);
        drop(held);
        drop(pool.take::<f64>(100));
        assert_eq!(pool.stats().from_system, 2);
    }

    #[test]
    fn memory_comes_back_from_tensors_however_they_are_dropped() {
        let pool = Pool::new();
        for round in 0..50 {
            let x = Tensor::from_buffer(pool.take::<f32>(100), &[100]).unwrap();
            let others: Vec<_> = (0..3).map(|_| x.clone()).collect();
            std::thread::scope(|s| {
                for other in others {
                    s.spawn(move || drop(other));
                }
                drop(x);
            });
            assert_eq!((pool.stats().taken, pool.stats().from_system), (round + 1, 1));
        }
    }

    #[test]
    fn a_pool_ends_with_its_last_tensor() {
        let pool = Pool::new();
        let inner = Arc::downgrade(&pool.0);
        let x = Tensor::from_buffer(pool.take::<f32>(100), &[100]).unwrap();
        drop(pool);
        assert!(inner.upgrade().is_some(), "a result computed from the tensor wants it");
        drop(x);
        assert!(inner.upgrade().is_none());
    }
}
