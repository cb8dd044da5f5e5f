//! What is multiplied, and how operands are laid out for the tiles.
//!
//! The right operand goes into *panels*: a step of the depth is [`Numbers::panel`] columns side by side, and the steps
//! of a panel follow one another. The left one is read where it lies if the depth is contiguous there, else its rows
//! are copied so that it is.

use super::product::View;
use super::tile::{self, Tiled, Tiles};
use crate::transpose::transpose;
use crate::{
    Element,
    isa::{self, Isa},
    prefetch,
};
use std::marker::PhantomData;

/// Bytes that may be read across as well as along: few pages, in a second-level cache.
const SMALL: usize = 1 << 16;

/// Rows of a step that are packed together: several lines that are read, and as many places of memory to write to as a
/// first-level cache keeps at once.
pub(crate) const GROUP: usize = 16 * tile::ROWS;

/// Steps and rows that are asked for ahead: they are far apart, and no cache foresees where the next one is.
const AHEAD: usize = 8;

/// A kind of numbers on one instruction set.
pub(crate) trait Numbers: Copy + Send + Sync {
    /// Of the matrices.
    type Out: Element;
    /// A step of the depth as the left side of a tile has it.
    type Left: Copy + Send + Sync + 'static;
    /// A step of the depth as the right side has it.
    type Right: Copy + Send + Sync + 'static;
    /// Numbers of the depth in one step.
    const DEPTH: usize;

    fn tiles(&self) -> Tiles<Self::Left, Self::Right, Self::Out>;

    /// Those for a row alone beside a right operand that is read where it lies.
    fn row_tiles(&self) -> Tiles<Self::Left, Self::Right, Self::Out> {
        self.tiles()
    }

    /// Columns of a panel, a multiple of the columns of a tile.
    fn panel(&self) -> usize {
        self.tiles().cols()
    }

    /// Where tiles can read the left operand, `[rows, depth]`, as it lies.
    fn left_in_place(from: View<Self::Out>, rows: usize, depth: usize) -> Option<View<Self::Left>>;

    /// Where tiles can read the right operand as it lies, in registers that end within it.
    fn right_in_place(from: View<Self::Out>) -> Option<View<Self::Right>>;

    /// Rows of the left operand in tiles: a step of a tile is [`tile::ROWS`] rows side by side, its steps follow one another,
    /// and row `r`, the first of a tile, begins `r · stride` steps in. The rows of `from` are side by side as well.
    ///
    /// # Safety
    /// `[rows, depth]` of `from` may be read and so many tiles written.
    unsafe fn pack_tiles(
        &self,
        from: View<Self::Out>,
        rows: usize,
        depth: usize,
        to: *mut Self::Left,
        stride: usize,
    );

    /// Rows of the left operand with contiguous steps, `stride` steps from one to the next.
    ///
    /// # Safety
    /// `[rows, depth]` of `from` may be read and so many rows written.
    unsafe fn pack_rows(
        &self,
        from: View<Self::Out>,
        rows: usize,
        depth: usize,
        to: *mut Self::Left,
        stride: usize,
    );

    /// Panels of the right operand, one after another; columns beyond `cols` become zeros.
    ///
    /// # Safety
    /// `[depth, cols]` of `from` may be read and the panels written.
    unsafe fn pack_right(&self, from: View<Self::Out>, depth: usize, cols: usize, to: *mut Self::Right);
}

/// Numbers as they are.
#[derive(Clone, Copy)]
pub(crate) struct Plain<T> {
    isa: Isa,
    of: PhantomData<T>,
}

impl<T> Plain<T> {
    /// # Safety
    /// The instruction set must be there.
    pub(crate) unsafe fn on(isa: Isa) -> Self {
        Plain { isa, of: PhantomData }
    }
}

impl<T: Element + Tiled> Numbers for Plain<T> {
    type Out = T;
    type Left = T;
    type Right = T;
    const DEPTH: usize = 1;

    fn tiles(&self) -> Tiles<T, T, T> {
        T::tiles(self.isa)
    }

    fn row_tiles(&self) -> Tiles<T, T, T> {
        T::row_tiles(self.isa)
    }

    fn left_in_place(from: View<T>, rows: usize, depth: usize) -> Option<View<T>> {
        // A small one is read across in less time than it is packed.
        let small = from.row_stride == 1 && rows * depth * size_of::<T>() <= SMALL;
        (from.col_stride == 1 || small).then_some(from)
    }

    fn right_in_place(from: View<T>) -> Option<View<T>> {
        (from.col_stride == 1).then_some(from)
    }

    unsafe fn pack_tiles(&self, from: View<T>, rows: usize, depth: usize, to: *mut T, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            in_tiles(rows, depth, (to, stride), |row, step, count| {
                let ahead = from.from(row, step + AHEAD).data;
                prefetch::first(ahead, count);
                from.from(row, step).data
            });
        }
    }

    unsafe fn pack_rows(&self, from: View<T>, rows: usize, depth: usize, to: *mut T, stride: usize) {
        for row in 0..rows {
            for k in 0..depth {
                // SAFETY: the caller's promise.
                unsafe { *to.add(row * stride + k) = from.at(row, k) };
            }
        }
    }

    unsafe fn pack_right(&self, from: View<T>, depth: usize, cols: usize, to: *mut T) {
        let panel = self.panel();
        // SAFETY: the caller's promise; `on` gave the instruction set.
        unsafe {
            if from.row_stride == 1 {
                for c in (0..cols).step_by(panel) {
                    let columns = (from.from(0, c).data, from.col_stride);
                    transpose(self.isa, columns, (to.add(c * depth), panel), panel.min(cols - c), depth);
                }
            } else if from.col_stride == 1 {
                isa::dispatch(
                    #[inline(always)]
                    |_| copy_rows(from, depth, cols, to, panel),
                );
            } else {
                for c in 0..cols {
                    for k in 0..depth {
                        *to.add(c / panel * panel * depth + k * panel + c % panel) = from.at(k, c);
                    }
                }
            }
            zero_beyond(to, panel, depth, cols);
        }
    }
}

/// Rows that lie side by side in a step, into the tiles of [`Numbers::pack_tiles`]; `source` says where some rows of a step
/// are, at most [`GROUP`].
///
/// # Safety
/// So many rows may be read wherever `source` says, and all tiles written.
#[inline(always)]
pub(crate) unsafe fn in_tiles<L: Copy>(
    rows: usize,
    steps: usize,
    (to, stride): (*mut L, usize),
    mut source: impl FnMut(usize, usize, usize) -> *const L,
) {
    for start in (0..rows).step_by(GROUP) {
        let count = GROUP.min(rows - start);
        let whole = count - count % tile::ROWS;
        for step in 0..steps {
            let from = source(start, step, count);
            let to = to.wrapping_add(start * stride + step * tile::ROWS);
            // SAFETY: the caller's promise.
            unsafe {
                for row in (0..whole).step_by(tile::ROWS) {
                    let numbers = from.add(row).cast::<[L; tile::ROWS]>().read_unaligned();
                    to.add(row * stride).cast::<[L; tile::ROWS]>().write_unaligned(numbers);
                }
                for row in whole..count {
                    *to.add(whole * stride + row - whole) = *from.add(row);
                }
            }
        }
    }
}

/// Contiguous rows into panels.
///
/// # Safety
/// As [`Numbers::pack_right`].
#[inline(always)]
unsafe fn copy_rows<T: Copy>(from: View<T>, depth: usize, cols: usize, to: *mut T, panel: usize) {
    for k in 0..depth {
        let row = from.from(k, 0).data;
        let ahead = from.from(k + AHEAD, 0).data;
        prefetch::first(ahead, cols);
        for c in (0..cols).step_by(panel) {
            let width = panel.min(cols - c);
            // SAFETY: the caller's promise.
            unsafe {
                let (row, to) = (row.add(c), to.add(c * depth + k * panel));
                let whole = width - width % 8;
                for i in (0..whole).step_by(8) {
                    to.add(i).cast::<[T; 8]>().write_unaligned(row.add(i).cast::<[T; 8]>().read_unaligned());
                }
                for i in whole..width {
                    *to.add(i) = *row.add(i);
                }
            }
        }
    }
}

/// Makes what is beyond the columns of the last panel zeros: what is computed from it is not stored, but junk may be
/// denormal, which is slow.
///
/// # Safety
/// All panels of `steps` steps may be written.
pub(crate) unsafe fn zero_beyond<R: Copy>(to: *mut R, panel: usize, steps: usize, cols: usize) {
    let used = cols % panel;
    if used > 0 {
        for step in 0..steps {
            // SAFETY: the caller's promise.
            unsafe {
                std::ptr::write_bytes(to.add((cols - used) * steps + step * panel + used), 0, panel - used);
            }
        }
    }
}
