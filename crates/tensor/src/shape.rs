//! Shapes: up to six axes, held in place.

use std::{fmt, ops::Deref};

use crate::{
    Error, Result,
    few::{Few, MAX_RANK},
};

/// The most elements that a tensor can have: memory is addressed in bytes by an `isize`.
const MAX_LEN: usize = isize::MAX as usize / 16;

/// The lengths of a tensor's axes, at most six. It derefs to a slice and copies without allocating.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape(Few);

impl Shape {
    /// A shape from the lengths of its axes.
    ///
    /// # Errors
    /// More than six axes, or more elements than memory can hold.
    pub fn new(dims: &[usize]) -> Result<Self> {
        let too_many = || Error::shape("shape", "at most 6 axes", format_args!("{dims:?}"));
        let few = Few::new(dims).ok_or_else(too_many)?;
        // Axes of length 0 count as 1 here, or the strides of an empty shape could overflow.
        let reach = dims.iter().try_fold(1usize, |len, &d| len.checked_mul(d.max(1)));
        if reach.is_none_or(|len| len > MAX_LEN) {
            return Err(Error::shape(
                "shape",
                "a count of elements that fits memory",
                format_args!("{dims:?}"),
            ));
        }
        Ok(Self(few))
    }

    /// Number of elements; 1 for a scalar.
    pub fn len(&self) -> usize {
        self.iter().product()
    }

    /// Whether an axis has length 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Rows and width when all axes but the last are taken together: `[b, t, d]` is `(b·t, d)`.
    pub fn rows(&self) -> (usize, usize) {
        match self.split_last() {
            Some((&width, leading)) => (leading.iter().product(), width),
            None => (1, 1),
        }
    }

    /// The same shape with another last axis.
    #[must_use]
    pub fn with_last(mut self, width: usize) -> Self {
        if let Some(last) = self.0.last_mut() {
            *last = width;
        }
        self
    }

    /// The same shape with one more axis behind the others.
    ///
    /// # Errors
    /// More than six axes, or more elements than memory can hold.
    pub fn with_axis(&self, width: usize) -> Result<Self> {
        let mut dims = [width; MAX_RANK + 1];
        dims[..self.rank()].copy_from_slice(self);
        Self::new(&dims[..=self.rank()])
    }

    /// Strides, in elements, of this shape in row-major order.
    pub(crate) fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for (axis, dim) in self.iter().enumerate().rev() {
            strides[axis] = step;
            step *= dim;
        }
        strides
    }

    /// The shape that two shapes broadcast to, axes aligned at the end, lengths equal or 1.
    ///
    /// # Errors
    /// An axis whose lengths differ and neither is 1.
    pub fn broadcast(op: &'static str, a: &Shape, b: &Shape) -> Result<Self> {
        let rank = a.rank().max(b.rank());
        let mut dims = [1; MAX_RANK];
        let from_end = |s: &Shape, i: usize| if i < s.rank() { s[s.rank() - 1 - i] } else { 1 };
        for i in 0..rank {
            dims[rank - 1 - i] = match (from_end(a, i), from_end(b, i)) {
                (x, y) if x == y => x,
                (1, y) => y,
                (x, 1) => x,
                _ => return Err(Error::shape(op, format_args!("a shape that broadcasts with {a}"), b)),
            };
        }
        Shape::new(&dims[..rank])
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self[..])
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_from_the_end() {
        let of = |dims: &[usize]| Shape::new(dims).unwrap();
        let check = |a: &[usize], b: &[usize], both: Option<&[usize]>| {
            let found = Shape::broadcast("add", &of(a), &of(b)).ok();
            assert_eq!(found, both.map(of), "{a:?} with {b:?}");
        };
        check(&[2, 3, 5], &[5], Some(&[2, 3, 5]));
        check(&[3, 1], &[2, 1, 5], Some(&[2, 3, 5]));
        check(&[], &[7], Some(&[7]));
        check(&[0, 3], &[1, 3], Some(&[0, 3]));
        check(&[2, 3], &[2], None);
    }

    #[test]
    fn a_shape_that_wraps_is_refused() {
        assert!(Shape::new(&[usize::MAX, 2]).is_err());
        assert!(Shape::new(&[usize::MAX]).is_err());
        assert!(Shape::new(&[0, usize::MAX, 2]).is_err());
        assert_eq!(Shape::new(&[0, 3]).unwrap().len(), 0);
        assert!(Shape::new(&[1; 7]).is_err());
    }
}
