//! What a layout of packed weights must say of itself for [`linear`](super::linear()) to drive it.
//!
//! Rows of `W` stand in panels of [`Layout::PANEL`]; rows of `x` are prepared in tiles, and a tile meets a panel over
//! the whole depth. A layout is a type without values.

use super::product::Activations;
use crate::isa::Isa;

/// Rows of `W` that make a panel, in the blocks of their file.
pub(super) struct Rows<'a> {
    /// At most [`Layout::PANEL`] rows, which follow each other.
    pub(super) bytes: &'a [u8],
    /// Bytes of a row.
    pub(super) row_bytes: usize,
}

/// A way for weights to stand in packed memory, and for activations to meet them.
///
/// The sum of an output must not depend on the height of the tile that its row of `x` is in.
pub(super) trait Layout {
    /// What activations are prepared in. `Default` is what zeros become.
    type Unit: Copy + Default + Send + Sync + 'static;

    /// Rows of `W` in a panel.
    const PANEL: usize;
    /// The most rows of `x` in a tile; it divides 48, and times [`Layout::PANEL`] it is at most 1024.
    const TALLEST: usize;

    /// Bytes of a panel with rows of `cols` numbers; a multiple of 64, so that every panel is aligned to as many.
    fn panel_bytes(cols: usize) -> usize;

    /// Units of a prepared row of `cols` numbers.
    fn units(cols: usize) -> usize;

    /// How high the next tile is where `rows` rows are left: at most [`Layout::TALLEST`], more than `rows` only if
    /// zeros fill it up.
    fn height(rows: usize) -> usize;

    /// Those of the prepared activations that this layout multiplies with.
    fn activations<'a>(all: &Activations<'a>) -> &'a [Self::Unit];

    /// Writes a panel, which holds zeros before; rows that are missing stand as any finite numbers.
    fn pack(rows: &Rows<'_>, panel: &mut [u8]);

    /// Prepares a tile of `height` rows: `x` holds its rows, perhaps fewer; `out` has the units of all of them and
    /// junk in it.
    fn prepare(x: &[f32], cols: usize, height: usize, out: &mut [Self::Unit]);

    /// `sums = x·Wᵀ`, `[height, PANEL]`, for a prepared tile and a panel; `sums` may hold junk.
    ///
    /// Unlike the others it is not called inside [`isa::dispatch`](crate::isa::dispatch), which would compile the
    /// kernels of all sets for each of them: it chooses its own functions by `isa`, which the CPU has.
    fn product(isa: Isa, panel: &[u8], x: &[Self::Unit], height: usize, sums: &mut [f32]);

    /// The same sums, stored where they are wanted, or `false` where the layout makes whole panels of sums only and
    /// nothing was stored. It is called as `product` is, with at most [`Layout::PANEL`] columns.
    ///
    /// # Safety
    /// What `to` stands for, in `height` rows, may be written and read, and nobody else uses it meanwhile.
    unsafe fn store(_: Isa, _: &[u8], _: &[Self::Unit], _height: usize, _to: To) -> bool {
        false
    }
}

/// Rows of an output that lie `stride` apart; of each, the first `cols`.
#[derive(Clone, Copy, Debug)]
pub(super) struct To {
    pub(super) start: *mut f32,
    pub(super) stride: usize,
    pub(super) cols: usize,
}

/// The tiles of `rows` rows, one after the other: first row, rows in use, height.
pub(super) fn tiles<L: Layout>(rows: std::ops::Range<usize>) -> impl Iterator<Item = Tile> {
    let mut start = rows.start;
    std::iter::from_fn(move || {
        let left = rows.end - start;
        (left > 0).then(|| {
            let height = L::height(left);
            let tile = Tile { start, rows: height.min(left), height };
            start += tile.rows;
            tile
        })
    })
}

/// Rows of `x` that meet a panel together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// The first of them.
    pub(super) start: usize,
    /// How many there are.
    pub(super) rows: usize,
    /// How many are computed.
    pub(super) height: usize,
}

/// Units of all tiles of `rows` rows.
pub(super) fn prepared<L: Layout>(rows: usize, cols: usize) -> usize {
    tiles::<L>(0..rows).map(|tile| tile.height).sum::<usize>() * L::units(cols)
}
