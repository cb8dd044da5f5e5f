//! Products through packed panels and tiles of registers.
//!
//! The scheme of Goto & van de Geijn 2008, <https://doi.org/10.1145/1356052.1356053>: a block of the right operand
//! becomes panels that stay in a second-level cache, and all rows of the left one pass over it, a tile at a time. The
//! left operand is read where it lies if its depth is contiguous; else it is packed first, once for all threads. Memory
//! for both is the threads' own and stays with them.
//!
//! Every element is a sum over blocks of the depth, in order, whatever the shape around it: a row or a column that is
//! stored has the same bits in every product of the same depth that comes here. Where it is added to what is there, the
//! blocks are added one by one or as their sum, which depends on the shape.

use super::Batch;
use super::grid::{self, Pieces, Shape};
use super::numbers::Numbers;
use super::product::{Product, View};
use super::tile::{self, Call, Tiles};
use crate::transpose::transpose;
use crate::{Write, scratch, team::parallel};

/// Rows for which packing a contiguous right operand costs more than it wins, with tiles that read runs of [`RUN`] bytes.
const FEW: usize = 64;
const RUN: usize = 256;
/// The same with tiles that read the shortest runs.
const FEWER: usize = 16;
/// Neighbouring tasks share their columns where there are at least so many strips of them, which are shared out evenly;
/// fewer may differ in width by half, and then they share their rows.
const EVEN: usize = 8;
/// Steps of rows that are packed by a task: some microseconds.
const PACKED: usize = 1 << 14;

/// Columns side by side, in panels: step `s` of column `c` is at
/// `start[c / width · panel + s · step + c % width]`.
#[derive(Clone, Copy)]
pub(crate) struct Right<R> {
    pub(crate) start: *const R,
    pub(crate) width: usize,
    pub(crate) panel: usize,
    pub(crate) step: usize,
}

// SAFETY: an address alone; who follows it from another thread vouches for it.
unsafe impl<R: Sync> Sync for Right<R> {}

impl<R> Right<R> {
    /// Panels of `steps` steps of `width` columns, one after another.
    pub(crate) fn packed(start: *const R, width: usize, steps: usize) -> Self {
        Right { start, width, panel: width * steps, step: width }
    }
}

/// Rows of the left operand: step `s` of row `r`, the first of a tile, is at `start[r · row + s · step]`, and each of the
/// tile's rows `next` further than the one before.
#[derive(Clone, Copy)]
pub(crate) struct Left<L> {
    pub(crate) start: *const L,
    pub(crate) row: usize,
    pub(crate) next: usize,
    pub(crate) step: usize,
}

// SAFETY: an address alone; who follows it from another thread vouches for it.
unsafe impl<L: Sync> Sync for Left<L> {}

impl<L: Copy> Left<L> {
    /// An operand as it lies.
    fn of(view: &View<L>) -> Self {
        Left { start: view.data, row: view.row_stride, next: view.row_stride, step: view.col_stride }
    }

    /// Tiles one after another, in each of which the numbers of a step lie side by side; the address is of step
    /// `first`.
    fn by_tiles(start: *const L, tile: usize, steps: usize, first: usize) -> Self {
        Left { start: start.wrapping_sub(first * tile), row: steps, next: 1, step: tile }
    }

    /// Rows of `stride` steps; the address is of step `first`.
    fn by_rows(start: *const L, stride: usize, first: usize) -> Self {
        Left { start: start.wrapping_sub(first), row: stride, next: stride, step: 1 }
    }

    /// What begins at this row, the first of a tile, and this step.
    fn from(self, row: usize, step: usize) -> Self {
        Left { start: self.start.wrapping_add(row * self.row + step * self.step), ..self }
    }
}

/// Where memory of a thread is lent from: whole cache lines.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line {
    _bytes: [u64; 8],
}

/// Runs `f` on room for `count` numbers, of which nothing is known.
pub(crate) fn with_room<V, R>(count: usize, f: impl FnOnce(*mut V) -> R) -> R {
    let lines = (count * size_of::<V>()).div_ceil(size_of::<Line>());
    scratch::with(lines, |lines: &mut [Line]| f(lines.as_mut_ptr().cast()))
}

/// All products of a batch: one after another, each shared by the threads, or several to a task.
///
/// # Safety
/// As [`Product`] says, for every product.
pub(super) unsafe fn batch<N: Numbers>(numbers: N, first: Product<N::Out>, batch: &Batch) {
    let together = grid::together(shape(&numbers, &first), batch.count);
    if together == 0 {
        for i in 0..batch.count {
            // SAFETY: the caller's promise.
            unsafe { run(&numbers, first.of_batch(batch, i)) };
        }
        return;
    }
    parallel(batch.count.div_ceil(together), |task| {
        for i in task * together..batch.count.min((task + 1) * together) {
            // SAFETY: the caller's promise; inside a task nothing is shared further.
            unsafe { run(&numbers, first.of_batch(batch, i)) };
        }
    });
}

fn shape<N: Numbers>(numbers: &N, p: &Product<N::Out>) -> Shape {
    let tiles = numbers.tiles();
    let (tile, unit) = (tiles.rows(), tiles.cols().div_ceil(2));
    Shape { rows: p.rows, cols: p.cols, steps: p.depth.div_ceil(N::DEPTH), tile, unit }
}

/// The numbers of the depth that some steps stand for.
fn numbers_of<N: Numbers>(steps: &std::ops::Range<usize>, depth: usize) -> std::ops::Range<usize> {
    steps.start * N::DEPTH..(steps.end * N::DEPTH).min(depth)
}

/// The product, on the team if it is large enough to be shared.
///
/// # Safety
/// As [`Product`] says.
unsafe fn run<N: Numbers>(numbers: &N, p: Product<N::Out>) {
    if narrow(&p) {
        // SAFETY: the product itself.
        unsafe { exchanged(numbers, p) };
        return;
    }
    let shape = shape(numbers, &p);
    let blocks = grid::blocks(shape.steps);
    if let Some(left) = N::left_in_place(p.a, p.rows, p.depth) {
        // SAFETY: the product itself.
        unsafe { in_parts(numbers, p, Left::of(&left), 0..blocks.count()) };
        return;
    }
    let [rows, depths] = grid::regions(shape, size_of::<N::Left>());
    // A line more than needed, so that rows do not meet in the same sets of a cache.
    let stride = (depths.longest() * blocks.longest()).next_multiple_of(16) + 16;
    with_room(rows.longest().next_multiple_of(shape.tile) * stride, |room: *mut N::Left| {
        for rows in rows.iter() {
            for depth in depths.iter() {
                let start = blocks.get(depth.start).start;
                let steps = start..blocks.get(depth.end - 1).end;
                let region = p.tile(rows.clone(), 0..p.cols);
                // SAFETY: a region of the left operand, and room for it; then the part of the product that it is in.
                unsafe {
                    let left = pack_left(numbers, &region, steps, room, stride);
                    in_parts(numbers, region, left, depth);
                }
            }
        }
    });
}

/// Whether the rows of the left operand lie along the lines of memory, and its depth across them.
fn across<T>(p: &Product<T>) -> bool {
    p.a.row_stride == 1 && p.a.col_stride != 1
}

/// Whether there are so few columns that packing the left operand would take as long as the product; then rows and
/// columns change places, and it is a right operand that is read where it lies.
fn narrow<T>(p: &Product<T>) -> bool {
    across(p) && p.cols < p.rows && p.cols <= FEW
}

/// The transposed product, beside the output, and then into it.
///
/// # Safety
/// As [`Product`] says.
unsafe fn exchanged<N: Numbers>(numbers: &N, p: Product<N::Out>) {
    with_room(p.rows * p.cols, |room: *mut N::Out| {
        let product =
            Product { out: room, out_stride: p.rows, out_step: 1, write: Write::Store, ..p.exchanged() };
        // SAFETY: the same operands; the room holds the output, all of which is stored before it is read.
        unsafe {
            run(numbers, product);
            if p.write == Write::Store {
                let isa = crate::isa::current();
                transpose(isa, (room.cast_const(), p.rows), (p.out, p.out_stride), p.cols, p.rows);
                return;
            }
            for i in 0..p.rows {
                for j in 0..p.cols {
                    let to = p.out.add(i * p.out_stride + j);
                    *to += *room.add(j * p.rows + i);
                }
            }
        }
    });
}

/// These steps of all rows, `stride` steps from one row to the next; says how they lie there.
///
/// # Safety
/// As [`Product`] says; there is room for whole tiles.
unsafe fn pack_left<N: Numbers>(
    numbers: &N,
    p: &Product<N::Out>,
    steps: std::ops::Range<usize>,
    room: *mut N::Left,
    stride: usize,
) -> Left<N::Left> {
    // Pieces that read long runs of what is contiguous.
    let pieces = (p.rows * steps.len()).div_ceil(PACKED);
    let (left, [rows, parts]) = if across(p) {
        let left = Left::by_tiles(room.cast_const(), tile::ROWS, stride, steps.start);
        (left, [Pieces::of(p.rows, 1, 1), Pieces::of(steps.len(), pieces, 32)])
    } else {
        let left = Left::by_rows(room.cast_const(), stride, steps.start);
        (left, [Pieces::of(p.rows, pieces, 1), Pieces::of(steps.len(), 1, 1)])
    };
    parallel(rows.count() * parts.count(), |task| {
        let (rows, part) = (rows.get(task / parts.count()), parts.get(task % parts.count()));
        let steps = steps.start + part.start..steps.start + part.end;
        let depth = numbers_of::<N>(&steps, p.depth);
        let from = p.a.from(rows.start, depth.start);
        let to = left.from(rows.start, steps.start).start.cast_mut();
        // SAFETY: a part that no other task writes.
        unsafe {
            if across(p) {
                numbers.pack_tiles(from, rows.len(), depth.len(), to, stride);
            } else {
                numbers.pack_rows(from, rows.len(), depth.len(), to, stride);
            }
        }
    });
    left
}

/// Some blocks of the depth, as one parallel loop over parts of the output; `left` is addressed from the depth's first
/// step.
///
/// # Safety
/// As [`Product`] says, for `left` in place of `a`.
unsafe fn in_parts<N: Numbers>(
    numbers: &N,
    p: Product<N::Out>,
    left: Left<N::Left>,
    blocks: std::ops::Range<usize>,
) {
    let [rows, columns] = grid::grid(shape(numbers, &p));
    parallel(rows.count() * columns.count(), |task| {
        let (row, col) = if columns.count() < EVEN {
            (task / columns.count(), task % columns.count())
        } else {
            (task % rows.count(), task / rows.count())
        };
        let (rows, cols) = (rows.get(row), columns.get(col));
        let left = left.from(rows.start, 0);
        // SAFETY: parts of the product that do not overlap.
        unsafe { part(numbers, p.tile(rows, cols), left, blocks.clone()) };
    });
}

/// The rows up to which a right operand is read where it lies: fewer, the shorter the runs are that a tile reads.
fn few<N: Numbers>(tiles: &Tiles<N::Left, N::Right, N::Out>) -> usize {
    let run = tiles.cols() * size_of::<N::Right>();
    (FEW * run / RUN).clamp(FEWER, FEW)
}

/// # Safety
/// As [`in_parts`].
unsafe fn part<N: Numbers>(
    numbers: &N,
    p: Product<N::Out>,
    left: Left<N::Left>,
    depth: std::ops::Range<usize>,
) {
    let tiles = numbers.tiles();
    let blocks = grid::blocks(p.depth.div_ceil(N::DEPTH));
    let panel = numbers.panel();
    let whole = match N::right_in_place(p.b) {
        // Packing would cost more than it wins. Registers may not end beyond the matrix.
        Some(_) if p.rows <= few::<N>(&tiles) => p.cols - p.cols % tiles.lanes(),
        _ => 0,
    };
    let packed = p.tile(0..p.rows, whole..p.cols);
    with_room(packed.cols.next_multiple_of(panel) * blocks.longest(), |room: *mut N::Right| {
        for i in depth {
            let steps = blocks.get(i);
            let k = numbers_of::<N>(&steps, p.depth);
            let left = left.from(0, steps.start);
            let write = if i == 0 { p.write } else { Write::Add };
            // SAFETY: blocks of the product; the panels are filled before they are read.
            unsafe {
                if let Some(right) = N::right_in_place(p.b.from(k.start, 0)) {
                    let right = Right { start: right.data, width: panel, panel, step: right.row_stride };
                    let tiles = if p.rows == 1 { numbers.row_tiles() } else { tiles };
                    sweep(&tiles, &left, &right, steps.len(), &Product { write, cols: whole, ..p });
                }
                numbers.pack_right(packed.b.from(k.start, 0), k.len(), packed.cols, room);
                let right = Right::packed(room, panel, steps.len());
                sweep(&tiles, &left, &right, steps.len(), &Product { write, ..packed });
            }
        }
    });
}

/// All tiles of a block of the depth: the rows of a tile stay in the first-level cache while the panels go by.
///
/// # Safety
/// As [`Call`] says of every tile; `p` tells the output, `alpha` and how it is written.
pub(super) unsafe fn sweep<L: Copy, R, O: Copy>(
    tiles: &Tiles<L, R, O>,
    left: &Left<L>,
    right: &Right<R>,
    steps: usize,
    p: &Product<O>,
) {
    for r in (0..p.rows).step_by(tiles.rows()) {
        let rows = tiles.rows().min(p.rows - r);
        let left_at = left.from(r, 0).start;
        for c in (0..p.cols).step_by(tiles.cols()) {
            let call = Call {
                left: left_at,
                left_row: left.next,
                left_step: left.step,
                right: right.start.wrapping_add(c / right.width * right.panel + c % right.width),
                right_step: right.step,
                steps,
                out: p.out.wrapping_add(r * p.out_stride + c),
                out_stride: p.out_stride,
                cols: tiles.cols().min(p.cols - c),
                alpha: p.alpha,
                write: p.write,
            };
            // SAFETY: the caller's promise.
            unsafe { tiles.run(rows, &call) };
        }
    }
}
