//! How the queries of an attention are dealt to tiles, by shape alone.
//!
//! A tile holds up to 32 queries of one head. Where a row has fewer, a tile takes several heads that share keys. Tiles of
//! the same queries and other heads of the group follow each other, so that consecutive tiles, taken together as a block,
//! look at nearly the same keys: a block brings each tile of keys into near memory once.

use std::ops::Range;

use super::{
    Row, Shape,
    tile::{Lanes, WIDTH, transpose},
    view::View,
};
use crate::{Element, isa::Isa, team};

/// The division of each key head's queries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    group: usize,
    heads_per_tile: usize,
    queries_per_tile: usize,
    query_tiles: usize,
}

/// The queries that lie along the lanes of one tile: heads of one group × consecutive queries.
#[derive(Clone, Debug)]
pub(super) struct QueryTile {
    pub(super) batch: usize,
    pub(super) kv_head: usize,
    pub(super) heads: Range<usize>,
    /// Indices along `t`.
    pub(super) queries: Range<usize>,
    /// Their positions in the text.
    pub(super) positions: Range<usize>,
}

impl Plan {
    pub(super) fn new(s: &Shape) -> Plan {
        let group = s.heads.checked_div(s.kv_heads).unwrap_or(0);
        let queries_per_tile = s.queries.clamp(1, WIDTH);
        let heads_per_tile = (WIDTH / queries_per_tile).min(group).max(1);
        Plan { group, heads_per_tile, queries_per_tile, query_tiles: s.queries.div_ceil(queries_per_tile) }
    }

    /// Tiles of one key head in one batch row.
    pub(super) fn tiles(&self) -> usize {
        self.group.div_ceil(self.heads_per_tile) * self.query_tiles
    }

    /// Blocks of up to `together` tiles.
    pub(super) fn blocks(&self, together: usize) -> usize {
        self.tiles().div_ceil(together)
    }

    /// The block at place `index` of a parallel loop. Blocks are taken from both ends of the queries in turn, so that any
    /// contiguous share of a causal attention has its part of the long rows.
    pub(super) fn block(&self, together: usize, index: usize) -> Range<usize> {
        let at = if index.is_multiple_of(2) { index / 2 } else { self.blocks(together) - 1 - index / 2 };
        at * together..self.tiles().min((at + 1) * together)
    }

    /// Tile `index`, queries ascending and then heads; `None` where padding leaves it without queries.
    pub(super) fn tile(
        &self,
        row: &Row,
        (batch, kv_head): (usize, usize),
        index: usize,
    ) -> Option<QueryTile> {
        let head_tiles = self.group.div_ceil(self.heads_per_tile);
        let (query_tile, head_tile) = (index / head_tiles, index % head_tiles);
        let head = head_tile * self.heads_per_tile;
        let start = query_tile * self.queries_per_tile;
        let end = row.q.len().min(start + self.queries_per_tile);
        (start < end).then(|| QueryTile {
            batch,
            kv_head,
            heads: kv_head * self.group + head
                ..kv_head * self.group + self.group.min(head + self.heads_per_tile),
            queries: row.q.start + start..row.q.start + end,
            positions: row.first + start..row.first + end,
        })
    }
}

impl QueryTile {
    /// Lanes in use.
    pub(super) fn lanes(&self) -> usize {
        self.heads.len() * self.queries.len()
    }

    /// Batch row, head and query of a lane.
    #[inline(always)]
    pub(super) fn index(&self, lane: usize) -> [usize; 3] {
        let n = self.queries.len();
        [self.batch, self.heads.start + lane / n, self.queries.start + lane % n]
    }

    /// Asks for this tile's rows of a view to be near when [`QueryTile::load`] comes for them.
    #[inline(always)]
    pub(super) fn prefetch<T: Element>(&self, view: &View<'_, T>, e: usize) {
        (0..self.lanes()).for_each(|lane| view.prefetch(self.index(lane), e));
    }

    /// Copies this tile's rows of a view, times `scale`, to a panel `[⌈e/32⌉, 32 queries, 32 columns]`; what is no
    /// query or no column becomes 0.
    #[inline(always)]
    pub(super) fn load<T: Element>(&self, view: &View<'_, T>, e: usize, scale: T, panel: &mut [Lanes<T>]) {
        panel.fill(Lanes::default());
        let scale = Lanes([scale; WIDTH]);
        for lane in 0..self.lanes() {
            let (whole, tail) = view.row(self.index(lane), e).as_chunks::<WIDTH>();
            let mut rows = panel[lane..].iter_mut().step_by(WIDTH);
            for (from, to) in whole.iter().zip(&mut rows) {
                let to = std::hint::black_box(to); // as in `each_row`
                to.0 = *from;
                to.multiply(&scale);
            }
            if let (Some(to), false) = (rows.next(), tail.is_empty()) {
                to.0[..tail.len()].copy_from_slice(tail);
                to.multiply(&scale);
            }
        }
    }
}

/// Transposes each block of 32 × 32: `[⌈e/32⌉, queries, columns]` to `[e, queries]` or back.
#[inline(always)]
pub(super) fn transpose_panel<T: Element>(isa: Isa, from: &[Lanes<T>], to: &mut [Lanes<T>]) {
    let ((from, _), (to, _)) = (from.as_chunks::<WIDTH>(), to.as_chunks_mut::<WIDTH>());
    for (from, to) in from.iter().zip(to) {
        transpose(isa, from, to);
    }
}

/// [`team::parallel`] with so many consecutive tasks taken together that calling the team is worth it.
///
/// `work` is the number of multiplications in one task.
pub(super) fn spread(tasks: usize, work: usize, f: impl Fn(usize) + Sync) {
    const GRAIN: usize = 64 * 1024;
    let together = (GRAIN / work.max(1)).max(1);
    team::parallel(tasks.div_ceil(together), |i| (i * together..tasks.min((i + 1) * together)).for_each(&f));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_valid_query_of_every_head_is_in_one_tile() {
        for (heads, kv_heads, queries) in
            [(1, 1, 1), (6, 2, 5), (12, 1, 3), (3, 3, 33), (4, 2, 100), (40, 1, 2), (2, 1, 0)]
        {
            let shape = Shape { batch: 1, heads, kv_heads, queries, keys: 0, head_dim: 1 };
            let plan = Plan::new(&shape);
            let row = Row { q: queries / 3..queries, k: 0..0, first: 9 };
            let mut seen = vec![];
            let mut order: Vec<_> = (0..plan.blocks(3)).flat_map(|i| plan.block(3, i)).collect();
            for kv_head in 0..kv_heads {
                for tile in order.iter().filter_map(|&i| plan.tile(&row, (0, kv_head), i)) {
                    assert!(tile.lanes() <= WIDTH);
                    assert_eq!(tile.positions.start - 9, tile.queries.start - row.q.start);
                    seen.extend((0..tile.lanes()).map(|l| tile.index(l)));
                }
            }
            seen.sort_unstable();
            let want: Vec<_> = (0..heads).flat_map(|h| row.q.clone().map(move |t| [0, h, t])).collect();
            assert_eq!(seen, want);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..plan.tiles()));
        }
    }
}
