//! Working memory that a thread keeps between calls, so that the hot path allocates nothing.
//!
//! `with` lends kernels a buffer of junk numbers. Each thread holds a small stack of buffers by element type; a call
//! takes one, grows it if it must, and puts it back. Sizes follow tiles, never the whole problem, but for the backward
//! pass of attention, which takes one head's keys, and products whose left operand lies across its depth, which take
//! some megabytes of it, or the output if that has few columns.
//!
//! [`List`] is a `Vec` that goes back to its thread when it is dropped, for the small lists that every pass makes anew:
//! positions, ranges of rows, ids.
//!
//! ```
//! use formwork_kernels::scratch::List;
//! let first: List<u32> = (0..5).collect();
//! let memory = first.as_ptr();
//! drop(first);
//! let second: List<u32> = (0..3).collect();
//! assert_eq!((second.as_ptr(), &second[..]), (memory, &[0, 1, 2][..]));
//! ```

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    ops::{Deref, DerefMut},
};

thread_local! {
    static POOL: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
    static LISTS: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Lists that a thread keeps at most; a pass of a model has a handful at a time.
const KEPT: usize = 64;

/// Runs `f` on `len` junk elements of this thread's working memory. Calls may nest.
pub(crate) fn with<V: Copy + Default + 'static, R>(len: usize, f: impl FnOnce(&mut [V]) -> R) -> R {
    let mut buffer = POOL.with_borrow_mut(|pool| fitting::<V>(pool, len));
    if buffer.len() < len {
        buffer.resize(len, V::default());
    }
    let result = f(&mut buffer[..len]);
    POOL.with_borrow_mut(|pool| pool.push(buffer));
    result
}

/// The shortest buffer of this type that is long enough, or else the longest, or an empty one. Taking any would let
/// buffers change their places from call to call, and grow one after the other long after the first calls.
#[allow(clippy::box_collection, reason = "as below")]
fn fitting<V: 'static>(pool: &mut Vec<Box<dyn Any>>, len: usize) -> Box<Vec<V>> {
    let buffers = pool.iter().enumerate().filter_map(|(at, b)| Some((at, b.downcast_ref::<Vec<V>>()?.len())));
    let best =
        buffers.min_by_key(|&(_, found)| if found >= len { (0, found) } else { (1, usize::MAX - found) });
    best.and_then(|(at, _)| pool.swap_remove(at).downcast().ok()).unwrap_or_default()
}

/// The most recently returned list of this type, or an empty one. The box itself is reused as well.
#[allow(
    clippy::box_collection,
    reason = "the box is the pool's `dyn Any`, kept so that putting it back allocates nothing"
)]
fn take<V: 'static>(pool: &mut Vec<Box<dyn Any>>) -> Box<Vec<V>> {
    let last = pool.iter().rposition(|b| b.is::<Vec<V>>());
    last.and_then(|at| pool.swap_remove(at).downcast().ok()).unwrap_or_default()
}

/// A list whose memory its thread uses again. It derefs to a `Vec`.
#[allow(clippy::box_collection, reason = "as above")]
pub struct List<T: 'static>(Option<Box<Vec<T>>>);

const HELD: &str = "a list holds its memory until it is dropped";

impl<T> List<T> {
    /// An empty list, with the memory of one that this thread has dropped if there is one.
    pub fn new() -> Self {
        // A thread that ends has no lists any more, and needs none that last.
        Self(Some(LISTS.try_with(|lists| take(&mut lists.borrow_mut())).unwrap_or_default()))
    }

    /// `len` times the same.
    pub fn repeated(value: T, len: usize) -> Self
    where
        T: Clone,
    {
        let mut list = Self::new();
        list.resize(len, value);
        list
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        let Some(mut memory) = self.0.take() else { return };
        memory.clear(); // before the pool is borrowed: an element may hold a list itself
        let _ = LISTS.try_with(|lists| {
            let mut lists = lists.borrow_mut();
            if lists.len() < KEPT {
                lists.push(memory);
            }
        });
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for List<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        self.0.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        self.0.as_mut().expect(HELD)
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::new();
        list.extend(items);
        list
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Some(Box::new(items)))
    }
}

impl<T: Clone> From<&[T]> for List<T> {
    fn from(items: &[T]) -> Self {
        items.iter().cloned().collect()
    }
}

impl<T: Clone> Clone for List<T> {
    fn clone(&self) -> Self {
        self.iter().cloned().collect()
    }
}

impl<T: PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for List<T> {}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_buffer_that_fits_is_taken() {
        let [long, short] =
            with(100, |a: &mut [u16]| with(10, |b: &mut [u16]| [a.as_ptr() as usize, b.as_ptr() as usize]));
        for _ in 0..3 {
            assert_eq!(with(10, |a: &mut [u16]| a.as_ptr() as usize), short);
            assert_eq!(with(11, |a: &mut [u16]| a.as_ptr() as usize), long);
        }
    }

    #[test]
    fn memory_is_reused_by_type_and_nested_calls_do_not_share_it() {
        let first = with(100, |a: &mut [f32]| a.as_ptr() as usize);
        with(50, |a: &mut [f32]| {
            assert_eq!(a.as_ptr() as usize, first);
            assert_eq!(a.len(), 50);
            with(50, |b: &mut [f32]| assert_ne!(b.as_ptr() as usize, first));
            with(3, |b: &mut [f64]| assert_eq!(b.len(), 3));
        });
    }

    #[test]
    fn a_dropped_list_is_the_next_one_of_its_type_and_empty() {
        let numbers = List::repeated(7u64, 9);
        let memory = numbers.as_ptr() as usize;
        drop(numbers);
        let others: List<usize> = List::new();
        assert_ne!(others.as_ptr() as usize, memory);
        let again: List<u64> = List::new();
        assert_eq!((again.as_ptr() as usize, again.len()), (memory, 0));
    }

    #[test]
    fn lists_may_hold_lists() {
        let inner = || (0..3).collect::<List<u16>>();
        let outer: List<List<u16>> = [inner(), inner()].into_iter().collect();
        let copy = outer.clone();
        drop(outer);
        assert_eq!(copy, vec![inner(), inner()].into());
    }

    #[test]
    fn a_list_may_be_dropped_by_another_thread() {
        let list: List<u8> = (0..9).collect();
        std::thread::spawn(move || drop(list)).join().unwrap();
    }
}
