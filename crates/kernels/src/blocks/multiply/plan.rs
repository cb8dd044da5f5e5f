//! How a product is cut into tasks, and a task into panels: by shape alone, never by the number of threads.

use std::ops::Range;

/// The most rows of `x` that count as few. Row products lose to the crate's packed ones beyond, and win by far below,
/// since packing a panel costs as much as some dozens of rows. Measured at widths from 576 to 4096.
pub(super) const FEW: usize = 64;
/// How many of few rows meet a panel at once: [`matmul`](crate::matmul::matmul()) has row products for as many.
const AT_ONCE: usize = 8;
/// Numbers of a panel that meets few rows: half of a first-level cache, as `f32`.
const SMALL: usize = 1 << 12;
/// Numbers that a task decodes for few rows: some microseconds.
const READ: usize = 1 << 15;
/// Numbers of a panel that meets many rows: part of a second-level cache.
const LARGE: usize = 1 << 18;
/// The longest side of a tile of many rows. Decoding a number again for so many multiplications costs little.
const SIDE: usize = 512;
/// Sides are multiples of this, so that register blocks divide them.
const STEP: usize = 32;
/// The tasks that a product is cut into, as long as each has [`WORTH`] multiplications.
const TASKS: usize = 8;
const WORTH: usize = 1 << 20;

/// An output cut into a grid of parts, one for each task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    out: [usize; 2],
    part: [usize; 2],
    /// Rows of `W` that are decoded together.
    pub(super) panel: usize,
    /// Rows of a part that meet a panel together.
    pub(super) rows: usize,
}

impl Plan {
    /// For `[m, k] · [n, k]ᵀ`: parts of the columns of the output are rows of `W`.
    pub(super) fn linear(m: usize, n: usize, k: usize) -> Self {
        let depth = k.max(1);
        if m <= FEW {
            // Row products take four rows of `W` at once.
            let panel = (SMALL / depth).max(4).next_multiple_of(4);
            let cols = (READ / depth).next_multiple_of(panel).max(panel);
            return Self { out: [m, n], part: [m.max(1), cols], panel, rows: AT_ONCE };
        }
        let rows = cut(m, m.div_ceil(SIDE), STEP);
        let most = (LARGE / depth).clamp(2 * STEP, SIDE);
        let pieces = n.div_ceil(most).max(wanted([m, n], k, m.div_ceil(rows)));
        let cols = cut(n, pieces, STEP);
        Self { out: [m, n], part: [rows, cols], panel: cols, rows }
    }

    /// For `[m, n] · [n, k]`, with rows of `W` in blocks of `block` numbers.
    pub(super) fn transposed(m: usize, n: usize, k: usize, block: usize) -> Self {
        let rows = cut(m, m.div_ceil(SIDE), STEP);
        let pieces = k.div_ceil(SIDE).max(wanted([m, k], n, m.div_ceil(rows)));
        let cols = cut(k, pieces, block.max(2 * STEP));
        Self { out: [m, k], part: [rows, cols], panel: (LARGE / cols).min(n.max(1)), rows }
    }

    /// Number of tasks; none where the output has no element.
    pub(super) fn tasks(&self) -> usize {
        let [down, across] = self.grid();
        down * across
    }

    /// Rows and columns of the output that a task writes.
    pub(super) fn part(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let [_, across] = self.grid();
        let span =
            |i: usize, axis: usize| i * self.part[axis]..((i + 1) * self.part[axis]).min(self.out[axis]);
        (span(task / across, 0), span(task % across, 1))
    }

    fn grid(&self) -> [usize; 2] {
        [self.out[0].div_ceil(self.part[0]), self.out[1].div_ceil(self.part[1])]
    }
}

/// Into how many pieces the columns should be cut, where the rows make `down` already.
fn wanted([m, n]: [usize; 2], depth: usize, down: usize) -> usize {
    let work = m.saturating_mul(n).saturating_mul(depth);
    (work / WORTH).min(TASKS).div_ceil(down.max(1)).max(1)
}

/// The side of each of `pieces` even pieces, rounded up to a multiple of `step`; at most the whole, at least 1.
fn cut(side: usize, pieces: usize, step: usize) -> usize {
    side.div_ceil(pieces.max(1)).next_multiple_of(step).min(side).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_belongs_to_one_part_and_cuts_are_between_blocks() {
        for (m, n, k) in [
            (1, 1, 32),
            (3, 131, 64),
            (8, 300, 0),
            (9, 49, 96),
            (700, 0, 32),
            (0, 7, 32),
            (1100, 576, 576),
            (17, 1000, 14336),
            (33, 600, 512),
        ] {
            for (plan, width) in [(Plan::linear(m, n, k), n)]
                .into_iter()
                .chain([1, 32, 256].map(|block| (Plan::transposed(m, n, k, block), k)))
            {
                let mut seen = vec![0_u8; m * width];
                for task in 0..plan.tasks() {
                    let (rows, cols) = plan.part(task);
                    for row in rows {
                        cols.clone().for_each(|col| seen[row * width + col] += 1);
                    }
                }
                assert!(seen.iter().all(|&s| s == 1), "[{m}, {n}, {k}]: {plan:?}");
                assert!(plan.panel > 0);
            }
            for block in [1, 32, 256] {
                let plan = Plan::transposed(m, n, k, block);
                assert!(plan.part[1] == k.max(1) || plan.part[1].is_multiple_of(block), "{plan:?}");
            }
        }
    }

    #[test]
    fn large_products_feed_several_threads_and_small_ones_do_not() {
        assert_eq!(Plan::linear(1, 1536, 576).tasks(), 28);
        assert_eq!(Plan::linear(1, 8, 576).tasks(), 1);
        assert!(Plan::linear(512, 192, 576).tasks() >= 4);
        assert!(Plan::linear(70, 64, 64).tasks() == 1);
        assert!(Plan::transposed(512, 576, 576, 32).tasks() >= 4);
        assert_eq!(Plan::linear(512, 4096, 14336).panel, 64);
    }
}
