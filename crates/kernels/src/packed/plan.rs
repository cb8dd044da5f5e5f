//! How a product is cut into tasks: by shape alone, never by the number of threads.

use std::ops::Range;

/// Work of a task, in multiplications: some microseconds.
const GRAIN: usize = 400 << 10;
/// A byte of weights takes about as long to read as so many multiplications.
const BYTE: usize = 8;
/// The tasks that a large product is cut into at most along its panels: enough for even shares, and few enough to
/// cost nothing.
const MOST: usize = 64;
/// Rows of a part of a large product; each part reads its weights again, from a cache.
const ROWS: usize = 192;
/// Bytes of weights that are read from a cache again for other rows of `x`, at little cost.
const NEAR: usize = 2 << 20;
/// The tasks that a large product should have at least.
const LEAST: usize = 16;
/// About the fewest rows of a part, unless they are all.
const FEW: usize = 48;

/// An output cut into a grid of parts, one for each task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    rows: usize,
    panels: usize,
    rows_each: usize,
    panels_each: usize,
    near: bool,
}

impl Plan {
    /// For `rows` rows, in tiles of `tile`, against `panels` panels of so many bytes and numbers.
    pub(super) fn new(rows: usize, tile: usize, panels: usize, bytes: usize, numbers: usize) -> Self {
        let work = (BYTE * bytes).saturating_add(numbers.saturating_mul(rows.min(ROWS)));
        let panels_each = (GRAIN / work.max(1)).max(panels.div_ceil(MOST)).clamp(1, panels.max(1));
        let across = panels.div_ceil(panels_each).max(1);
        let worth = (work.saturating_mul(panels) / GRAIN).saturating_mul(rows.div_ceil(ROWS)).clamp(1, LEAST);
        let near = panels.saturating_mul(bytes) <= NEAR;
        let mut down = rows.div_ceil(ROWS).max(worth.div_ceil(across));
        if near && down > 1 {
            // Two threads share an even number better.
            down = down.next_multiple_of(2);
        }
        let down = down.min(rows.div_ceil(FEW)).max(1);
        let rows_each = rows.div_ceil(down).next_multiple_of(tile).min(rows).max(1);
        Self { rows, panels, rows_each, panels_each, near }
    }

    /// Number of tasks.
    pub(super) fn tasks(&self) -> usize {
        self.rows.div_ceil(self.rows_each) * self.panels.div_ceil(self.panels_each)
    }

    /// The rows and the panels of a task.
    pub(super) fn part(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (down, across) = (self.rows.div_ceil(self.rows_each), self.panels.div_ceil(self.panels_each));
        let span = |i: usize, each: usize, all: usize| i * each..((i + 1) * each).min(all);
        // Neighbours share panels, so that a thread finds them in its cache. Where all panels fit, they share rows: mostly
        // those that the same thread has prepared.
        let (row, panel) =
            if self.near { (task / across, task % across) } else { (task % down, task / down) };
        (span(row, self.rows_each, self.rows), span(panel, self.panels_each, self.panels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_belongs_to_one_task() {
        for (rows, tile, panels, bytes, numbers, near) in [
            (1, 12, 1, 1 << 10, 1 << 10, true),
            (1, 16, 48, 20_000, 18_000, true),
            (512, 12, 2, 20_000, 18_000, true),
            (333, 16, 13, 40_000, 36_000, true),
            (700, 12, 1, 1 << 18, 1 << 18, true),
            (511, 16, 48, 1 << 18, 1 << 17, false),
        ] {
            let plan = Plan::new(rows, tile, panels, bytes, numbers);
            assert_eq!(plan.near, near, "{plan:?}");
            let mut seen = vec![0_u8; rows * panels];
            for task in 0..plan.tasks() {
                let (rows, part) = plan.part(task);
                assert!(rows.start % tile == 0, "{plan:?}: a part begins inside a tile");
                for row in rows {
                    part.clone().for_each(|panel| seen[row * panels + panel] += 1);
                }
            }
            assert!(seen.iter().all(|&s| s == 1), "{plan:?}");
        }
    }

    #[test]
    fn large_products_feed_several_threads_and_small_ones_do_not() {
        assert_eq!(Plan::new(1, 12, 2, 20_000, 18_000).tasks(), 1);
        assert!(Plan::new(1, 12, 48, 20_000, 18_000).tasks() >= 12);
        assert_eq!(Plan::new(1, 12, 1536, 20_000, 18_000).tasks(), 64);
        assert!(Plan::new(512, 12, 2, 20_000, 18_000).tasks() >= 8);
    }
}
