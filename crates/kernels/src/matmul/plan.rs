//! How a batch of products is cut into tasks: by shape alone, never by the number of threads.
//!
//! Large tiles amortise packing, many tiles feed many threads, tiny ones drown in the cost of sharing. A product
//! becomes at least four tiles as long as each holds [`WORTH`] multiplications, and no side exceeds [`SIDE`];
//! products that hold less share a task.

use super::Path;
use std::ops::Range;

/// Multiplications that are worth a task: some tens of microseconds on one core.
const WORTH: usize = 1 << 20;
/// The longest side of a tile: its operands at a depth of 512 are then half of a second-level cache each.
const SIDE: usize = 512;
/// Tile sides are multiples of this, so that every register block of every instruction set divides them.
const STEP: usize = 64;
/// The tiles that a product of middling size is cut into.
const TILES: usize = 4;
/// Elements of a weight that one task of row products reads: a few microseconds at the speed of memory.
const READ: usize = 1 << 15;

/// A batch of products cut into tasks.
pub(super) struct Plan {
    count: usize,
    rows: usize,
    cols: usize,
    /// Shape of a tile, but for those at the edges.
    tile: [usize; 2],
    /// Whole products per task, where a task is more than a tile.
    together: usize,
}

/// One tile of one product.
pub(super) struct Part {
    pub(super) index: usize,
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
}

impl Plan {
    pub(super) fn of(path: Path, count: usize, rows: usize, cols: usize, depth: usize) -> Plan {
        let work = rows.saturating_mul(cols).saturating_mul(depth).max(1);
        let mut tile = [rows, cols];
        if path == Path::Rows {
            // Rows stay together, as they read the weight once; the weight is read at the speed of memory.
            if depth.saturating_mul(cols) > READ {
                // At least one step: beyond `READ` the division gives 0.
                tile[1] = (READ / depth).max(1).next_multiple_of(STEP).min(cols);
            }
        } else {
            for side in &mut tile {
                *side = even_cut(*side, side.div_ceil(SIDE));
            }
            let tiles = |t: [usize; 2]| rows.div_ceil(t[0]) * cols.div_ceil(t[1]);
            let worth = |t: [usize; 2]| t[0] * t[1] * depth >= 2 * WORTH;
            while tiles(tile) * count < TILES && worth(tile) {
                let longer = usize::from(tile[1] > tile[0]);
                let half = even_cut(tile[longer], 2);
                if half == tile[longer] {
                    break;
                }
                tile[longer] = half;
            }
        }
        let whole = tile == [rows, cols];
        Plan {
            count,
            rows,
            cols,
            tile,
            together: if whole { (WORTH / work).clamp(1, count.max(1)) } else { 1 },
        }
    }

    fn tiles(&self) -> [usize; 2] {
        [self.rows.div_ceil(self.tile[0]), self.cols.div_ceil(self.tile[1])]
    }

    /// Number of tasks.
    pub(super) fn tasks(&self) -> usize {
        let [down, across] = self.tiles();
        self.count.div_ceil(self.together) * down * across
    }

    /// The tiles that belong to a task.
    pub(super) fn parts(&self, task: usize) -> impl Iterator<Item = Part> {
        let [down, across] = self.tiles();
        let (group, tile) = (task / (down * across), task % (down * across));
        let span = |i: usize, side: usize, end: usize| i * side..((i + 1) * side).min(end);
        let rows = span(tile / across, self.tile[0], self.rows);
        let cols = span(tile % across, self.tile[1], self.cols);
        span(group, self.together, self.count).map(move |index| Part {
            index,
            rows: rows.clone(),
            cols: cols.clone(),
        })
    }
}

/// The side of each of `parts` even pieces, rounded up to [`STEP`]; the whole if it is no longer than that.
fn even_cut(side: usize, parts: usize) -> usize {
    side.div_ceil(parts.max(1)).next_multiple_of(STEP).min(side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_of_every_output_belongs_to_one_part() {
        for path in [Path::Rows, Path::External] {
            for (count, rows, cols, depth) in [
                (1, 1, 1, 1),
                (7, 5, 3, 2),
                (1, 768, 512, 128),
                (2, 130, 70, 4000),
                (3, 4, 50257, 11),
                (1, 1, 9, 0),
                (1, 2, 3, READ + 1),
                (1, 1, 65, 3 * READ),
            ] {
                let plan = Plan::of(path, count, rows, cols, depth);
                let mut seen = vec![0_u8; count * rows * cols];
                for part in (0..plan.tasks()).flat_map(|t| plan.parts(t)) {
                    for i in part.rows {
                        for j in part.cols.clone() {
                            seen[(part.index * rows + i) * cols + j] += 1;
                        }
                    }
                }
                assert!(seen.iter().all(|&s| s == 1), "{path:?} {count} × [{rows}, {cols}], depth {depth}");
            }
        }
    }

    #[test]
    fn work_is_shared_where_it_is_worth_it() {
        for (count, rows, cols, depth, tasks) in [
            (1, 768, 512, 128, 4),
            (1, 768, 128, 512, 4),
            (1, 2048, 2048, 2048, 16),
            (1, 64, 64, 64, 1),
            (48, 64, 64, 32, 6),
            (48, 256, 256, 64, 48),
        ] {
            let plan = Plan::of(Path::External, count, rows, cols, depth);
            assert_eq!(plan.tasks(), tasks, "{count} × [{rows}, {cols}], depth {depth}");
        }
        assert_eq!(Plan::of(Path::Rows, 1, 1, 768, 768).tasks(), 12);
        assert_eq!(Plan::of(Path::Rows, 1, 1, 100, 100).tasks(), 1);
    }
}
