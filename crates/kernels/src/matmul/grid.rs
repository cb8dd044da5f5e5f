//! How a product is cut: by shape alone, so that neither threads nor caches can change a bit.
//!
//! - The depth goes by in *blocks*, whose sums meet in the output, in order.
//! - The output is a *grid* of parts, one for each task: strips of columns so narrow that a block of the right operand
//!   stays in a second-level cache, over all rows or as many as make packing that block cheap.
//! - Where the left operand has to be packed, that is done for a *region* of it at once, in memory of bounded size.

use std::ops::Range;

/// Steps of the depth that are summed in registers before the output is touched: enough for that to cost little.
const BLOCK: usize = 512;
/// Blocks are multiples of this many steps, but for the last.
const STEPS: usize = 16;
/// The most blocks of a region.
const DEEP: usize = 4;
/// Bytes of a region of the left operand.
const REGION: usize = 4 << 20;
/// Columns of a strip: two panels of the widest tiles, 256 KiB a block.
const STRIP: usize = 128;
/// Where there would be fewer strips than this, they are a panel wide, so that a thread which is held up leaves the others
/// something to take over.
const STRIPS: usize = 8;
/// Tasks that a product is cut into even if packing is then repeated, as long as each has [`WORTH`] multiplications of
/// numbers or of pairs.
const TASKS: usize = 4;
const WORTH: usize = 1 << 19;
/// Multiplications that every task has, where there are as many: a few microseconds.
const GRAIN: usize = 1 << 17;
/// The rows for which a block is packed again at ease, and those for which it is packed again for want of tasks.
const EASY: usize = 512;
const FEW: usize = 48;
/// Fewer products of a batch than this are shared among the threads one by one.
const MANY: usize = 8;

/// The shape of a product and of its tiles; the depth in steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) steps: usize,
    /// Rows of a tile.
    pub(crate) tile: usize,
    /// Columns that strips are multiples of.
    pub(crate) unit: usize,
}

impl Shape {
    fn work(&self) -> usize {
        self.rows.saturating_mul(self.cols).saturating_mul(self.steps).max(1)
    }
}

/// Even pieces of `0..whole`, each a multiple of `unit` but for the last; one that is empty if there is nothing to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    whole: usize,
    units: usize,
    unit: usize,
    count: usize,
}

impl Pieces {
    /// `count` pieces, but not more than there are units, and at least one.
    pub(crate) fn of(whole: usize, count: usize, unit: usize) -> Self {
        let units = whole.div_ceil(unit);
        Pieces { whole, units, unit, count: count.clamp(1, units.max(1)) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, i: usize) -> Range<usize> {
        let bound = |i: usize| (self.units * i / self.count * self.unit).min(self.whole);
        bound(i)..bound(i + 1)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count).map(move |i| self.get(i))
    }

    /// The length of the longest piece.
    pub(crate) fn longest(&self) -> usize {
        self.iter().map(|piece| piece.len()).max().unwrap_or(0)
    }
}

/// The blocks of a depth.
pub(crate) fn blocks(steps: usize) -> Pieces {
    Pieces::of(steps, steps.div_ceil(BLOCK), STEPS)
}

/// The rows of the regions of a left operand in `bytes` a step, and the blocks of each.
pub(crate) fn regions(shape: Shape, bytes: usize) -> [Pieces; 2] {
    let blocks = blocks(shape.steps);
    let depths = Pieces::of(blocks.count(), blocks.count().div_ceil(DEEP), 1);
    let steps = (depths.longest() * blocks.longest()).max(1);
    let rows = (REGION / (steps * bytes)).max(EASY);
    [Pieces::of(shape.rows, shape.rows.div_ceil(rows), shape.tile), depths]
}

/// The rows and the columns of the parts of an output.
pub(crate) fn grid(shape: Shape) -> [Pieces; 2] {
    let Shape { rows, cols, tile, unit, .. } = shape;
    let wanted = (shape.work() / WORTH).min(TASKS);
    let width = if cols.div_ceil(STRIP) < STRIPS { STRIP / 2 } else { STRIP };
    let mut strips = cols.div_ceil(width).min((shape.work() / GRAIN).max(1));
    if wanted > 1 {
        // An even number is shared evenly by two threads.
        strips = strips.next_multiple_of(2);
    }
    let strips = Pieces::of(cols, strips, unit);
    let down = wanted.div_ceil(strips.count()).min(rows / FEW).max(rows / EASY);
    [Pieces::of(rows, down, tile), strips]
}

/// How many products of a batch make a task; 0 if each is to be shared by the threads instead.
pub(crate) fn together(shape: Shape, count: usize) -> usize {
    let work = shape.work();
    if count < MANY && work >= 2 * WORTH {
        return 0;
    }
    (WORTH / work).clamp(1, count.max(1))
}
