//! Up to six numbers held in place: what shapes and orders of axes are made of. They deref to a slice.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

/// The most axes that a tensor can have.
pub(crate) const MAX_RANK: usize = 6;

/// Up to six numbers.
#[derive(Clone, Copy)]
pub(crate) struct Few {
    numbers: [usize; MAX_RANK],
    len: usize,
}

impl Few {
    /// The numbers; `None` if there are more than six.
    pub(crate) fn new(numbers: &[usize]) -> Option<Self> {
        let mut few = Self { numbers: [0; MAX_RANK], len: numbers.len() };
        few.numbers.get_mut(..numbers.len())?.copy_from_slice(numbers);
        Some(few)
    }
}

impl Deref for Few {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.numbers[..self.len]
    }
}

impl DerefMut for Few {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.numbers[..self.len]
    }
}

impl PartialEq for Few {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Few {}

impl fmt::Debug for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_there_are_count() {
        let check = |a: &[usize], b: &[usize], equal: bool| {
            assert_eq!(Few::new(a) == Few::new(b), equal, "{a:?} {b:?}");
            assert_eq!(Few::new(a).as_deref(), Some(a));
        };
        check(&[], &[], true);
        check(&[2, 0], &[2], false);
        check(&[2, 3, 5, 7, 11, 13], &[2, 3, 5, 7, 11, 13], true);
        assert!(Few::new(&[1; MAX_RANK + 1]).is_none());
        let mut few = Few::new(&[2, 3, 5]).unwrap();
        few.swap(0, 2);
        assert_eq!(format!("{few:?}"), "[5, 3, 2]");
    }
}
