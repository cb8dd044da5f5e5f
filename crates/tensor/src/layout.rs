//! Where a tensor's elements stand in its memory.

use std::{fmt, ops::Deref};

use crate::{
    Error, Result, Shape,
    few::{Few, MAX_RANK},
};

/// A shape, a stride per axis and a start: element `(i, j)` stands at `start + i·strides[0] + j·strides[1]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    strides: [usize; MAX_RANK],
    pub(crate) start: usize,
}

/// An order of axes, held in place: output axis `i` is input axis `axes[i]`. It derefs to a slice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Axes(Few);

impl Axes {
    /// An order of axes; whether it has each axis once is for the tensor to say.
    ///
    /// # Errors
    /// More than six axes.
    pub fn new(order: &[usize]) -> Result<Self> {
        let too_many = || Error::invalid("permute", "at most 6 axes", format_args!("{order:?}"));
        Few::new(order).map(Self).ok_or_else(too_many)
    }

    /// Two of `rank` axes exchanged; both are below `rank`, which is at most six.
    pub(crate) fn exchanged(rank: usize, a: usize, b: usize) -> Self {
        let mut order: [usize; MAX_RANK] = std::array::from_fn(|axis| axis);
        order.swap(a, b);
        Self(Few::new(&order[..rank]).expect("a rank is at most six"))
    }
}

impl Deref for Axes {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Debug for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Layout {
    pub(crate) fn row_major(shape: Shape, start: usize) -> Self {
        Self { shape, strides: shape.strides(), start }
    }

    pub(crate) fn strides(&self) -> &[usize] {
        &self.strides[..self.shape.rank()]
    }

    /// Row-major without gaps. The stride of an axis of length 1 does not matter, nor any in an empty tensor.
    pub(crate) fn is_contiguous(&self) -> bool {
        let expected = self.shape.strides();
        self.shape.is_empty()
            || self.shape.iter().zip(&self.strides).zip(&expected).all(|((&d, s), e)| d == 1 || s == e)
    }

    /// Elements from `start` to one past the last that the layout reaches.
    pub(crate) fn extent(&self) -> usize {
        if self.shape.is_empty() {
            return 0;
        }
        1 + self.shape.iter().zip(&self.strides).map(|(&d, s)| (d - 1) * s).sum::<usize>()
    }

    pub(crate) fn permuted(&self, axes: &[usize]) -> Result<Self> {
        let rank = self.shape.rank();
        let mut seen = [false; MAX_RANK];
        let legal =
            axes.len() == rank && axes.iter().all(|&a| a < rank && !std::mem::replace(&mut seen[a], true));
        if !legal {
            return Err(Error::invalid(
                "permute",
                format_args!("each axis of {} once", self.shape),
                format_args!("{axes:?}"),
            ));
        }
        let mut to = *self;
        let mut dims = [0; MAX_RANK];
        for (i, &a) in axes.iter().enumerate() {
            dims[i] = self.shape[a];
            to.strides[i] = self.strides[a];
        }
        to.shape = Shape::new(&dims[..rank])?;
        Ok(to)
    }

    pub(crate) fn narrowed(&self, axis: usize, from: usize, len: usize) -> Result<Self> {
        let fits = self.shape.get(axis).is_some_and(|&d| from.checked_add(len).is_some_and(|end| end <= d));
        if !fits {
            let found = format!("axis {axis} from {from}, {len} long");
            return Err(Error::invalid("narrow", format_args!("a range inside {}", self.shape), found));
        }
        let mut dims = [0; MAX_RANK];
        dims[..self.shape.rank()].copy_from_slice(&self.shape);
        dims[axis] = len;
        let shape = Shape::new(&dims[..self.shape.rank()])?;
        // An empty range may begin one past the end of each axis; where nothing is left, the start stays inside the memory.
        let start = if shape.is_empty() { self.start } else { self.start + from * self.strides[axis] };
        Ok(Self { shape, strides: self.strides, start })
    }

    pub(crate) fn expanded(&self, to: &Shape) -> Result<Self> {
        if Shape::broadcast("expand", &self.shape, to)? != *to {
            return Err(Error::shape(
                "expand",
                format_args!("a shape that {} broadcasts to", self.shape),
                to,
            ));
        }
        let mut strides = [0; MAX_RANK];
        let added = to.rank() - self.shape.rank();
        for (axis, &d) in self.shape.iter().enumerate() {
            strides[added + axis] = if d == 1 { 0 } else { self.strides[axis] };
        }
        Ok(Self { shape: *to, strides, start: self.start })
    }
}
