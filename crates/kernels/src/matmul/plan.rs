//! How a batch of row products is cut into tasks: by shape alone, never by the number of threads.
//!
//! Rows stay together, as they read the weight once; the weight is read at the speed of memory. Products too small to
//! be worth a task share one.

use std::ops::Range;

/// Multiplications that are worth a task: some tens of microseconds on one core.
const WORTH: usize = 1 << 20;
/// Elements of a weight that one task reads: a few microseconds at the speed of memory.
const READ: usize = 1 << 15;
/// Columns of a task are multiples of this.
const STEP: usize = 64;

/// A batch of products cut into tasks.
pub(super) struct Plan {
    count: usize,
    cols: usize,
    /// Columns of a task, but for the last.
    width: usize,
    /// Whole products per task, where a task is more than a part of one.
    together: usize,
}

/// Some columns of one product.
pub(super) struct Part {
    pub(super) index: usize,
    pub(super) cols: Range<usize>,
}

impl Plan {
    pub(super) fn of(count: usize, rows: usize, cols: usize, depth: usize) -> Plan {
        let work = rows.saturating_mul(cols).saturating_mul(depth).max(1);
        let width = if depth.saturating_mul(cols) > READ {
            // At least one step: beyond `READ` the division gives 0.
            (READ / depth).max(1).next_multiple_of(STEP).min(cols)
        } else {
            cols
        };
        let together = if width == cols { (WORTH / work).clamp(1, count.max(1)) } else { 1 };
        Plan { count, cols, width, together }
    }

    fn parts_each(&self) -> usize {
        self.cols.div_ceil(self.width)
    }

    /// Number of tasks.
    pub(super) fn tasks(&self) -> usize {
        self.count.div_ceil(self.together) * self.parts_each()
    }

    /// What belongs to a task.
    pub(super) fn parts(&self, task: usize) -> impl Iterator<Item = Part> {
        let (group, part) = (task / self.parts_each(), task % self.parts_each());
        let cols = part * self.width..((part + 1) * self.width).min(self.cols);
        let products = group * self.together..((group + 1) * self.together).min(self.count);
        products.map(move |index| Part { index, cols: cols.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_every_output_belongs_to_one_part() {
        for (count, rows, cols, depth) in [
            (1, 1, 1, 1),
            (7, 5, 3, 2),
            (2, 3, 70, 4000),
            (3, 4, 50257, 11),
            (1, 1, 9, 0),
            (1, 2, 3, READ + 1),
            (1, 1, 65, 3 * READ),
        ] {
            let plan = Plan::of(count, rows, cols, depth);
            let mut seen = vec![0_u8; count * cols];
            for part in (0..plan.tasks()).flat_map(|t| plan.parts(t)) {
                for j in part.cols {
                    seen[part.index * cols + j] += 1;
                }
            }
            assert!(seen.iter().all(|&s| s == 1), "{count} × [{rows}, {cols}], depth {depth}");
        }
    }

    #[test]
    fn work_is_shared_where_it_is_worth_it() {
        for (count, rows, cols, depth, tasks) in
            [(1, 1, 768, 768, 12), (1, 1, 100, 100, 1), (90, 4, 64, 64, 2)]
        {
            let plan = Plan::of(count, rows, cols, depth);
            assert_eq!(plan.tasks(), tasks, "{count} × [{rows}, {cols}], depth {depth}");
        }
    }
}
