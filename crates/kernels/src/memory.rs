//! Memory on 64-byte boundaries: a cache line, and the widest vector register.
//!
//! ```
//! let v = formwork_kernels::AlignedVec::<f32>::zeroed(7);
//! assert_eq!((v.len(), v.as_ptr() as usize % 64, v[6]), (7, 0, 0.0));
//! ```

pub(crate) mod huge;

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use crate::Element;

const ALIGN: usize = 64;

/// How many elements come before the first that begins a cache line; more than there are where none does.
pub(crate) fn before_line<T>(x: &[T]) -> usize {
    x.as_ptr().align_offset(ALIGN)
}

/// A vector of fixed length, zeroed when made, aligned to 64 bytes. It derefs to a slice; `default()` is empty.
#[derive(Debug)]
pub struct AlignedVec<T: Element> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: the vector owns its memory, and `Element` is `Send + Sync`.
unsafe impl<T: Element> Send for AlignedVec<T> {}
// SAFETY: shared access reads only; see above.
unsafe impl<T: Element> Sync for AlignedVec<T> {}

impl<T: Element> AlignedVec<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// If the byte size overflows; aborts if the system has no memory left, as `Vec` does.
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self { start: NonNull::dangling(), len };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout is not empty: len > 0 and T is f32 or f64.
        let start = unsafe { alloc_zeroed(layout) }.cast::<T>();
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), len }
    }

    fn layout(len: usize) -> Layout {
        let layout = Layout::array::<T>(len).and_then(|l| l.align_to(ALIGN));
        layout.expect("the size of a tensor fits the address space")
    }
}

impl<T: Element> Default for AlignedVec<T> {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl<T: Element> Drop for AlignedVec<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: `zeroed` allocated `start` with this very layout, and `len` never changes.
            unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.len)) }
        }
    }
}

impl<T: Element> Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `start` holds `len` initialised numbers (all-zero bits are 0.0), or `len` is 0 and it dangles aligned.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_behaves_as_a_vec_of_zeros_on_a_boundary() {
        for len in [0, 1, 16, 17, 100_003] {
            let (mut ours, mut twin) = (AlignedVec::<f64>::zeroed(len), vec![0.0; len]);
            for (i, (a, b)) in ours.iter_mut().zip(&mut twin).enumerate() {
                (*a, *b) = (i as f64, i as f64);
            }
            assert_eq!(ours[..], twin[..]);
            assert!(len == 0 || ours.as_ptr().addr().is_multiple_of(ALIGN));
        }
    }
}
