//! Working memory that a thread keeps between calls, so that kernels on the hot path allocate nothing.
//!
//! Each thread holds a small stack of buffers by element type; a call takes one, grows it if it must, and puts it
//! back. The contents are junk. Sizes follow tiles (and, in the backward pass of attention, one head's keys), never
//! the whole problem.

use std::{any::Any, cell::RefCell};

thread_local! {
    static POOL: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` on `len` junk elements of this thread's working memory. Calls may nest.
pub(crate) fn with<V: Copy + Default + 'static, R>(len: usize, f: impl FnOnce(&mut [V]) -> R) -> R {
    let mut buffer = take::<V>();
    if buffer.len() < len {
        buffer.resize(len, V::default());
    }
    let result = f(&mut buffer[..len]);
    POOL.with_borrow_mut(|pool| pool.push(buffer));
    result
}

/// The most recently returned buffer of this type, or an empty one. The box itself is reused as well.
#[allow(clippy::box_collection)] // the box is the `dyn Any` of the pool, kept so that putting it back allocates nothing
fn take<V: 'static>() -> Box<Vec<V>> {
    POOL.with_borrow_mut(|pool| {
        let at = pool.iter().rposition(|b| b.is::<Vec<V>>())?;
        pool.swap_remove(at).downcast().ok()
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
