//! The forward pass: one task a block of query tiles, which walks over the tiles of keys with a running softmax.
//!
//! A tile of keys is copied (or decoded) once for the whole block: strided rows of many heads would meet in few sets of
//! the nearest cache. Of a tile that the rule hides in part, the keys at its ends that no query sees are left out.

use std::ops::Range;

use super::{
    Inputs, Tile, ViewMut,
    plan::{Plan, QueryTile, spread, transpose_panel},
    tile::{Lanes, Matrix, WIDTH, each_row, exp, finite, product},
};
use crate::{
    Element, Write,
    disjoint::Disjoint,
    isa::{self, Isa},
    reduce::larger,
    scratch,
};

/// Keys of a tile.
pub(super) const KEYS: usize = 64;
/// Query tiles of a block.
const TOGETHER: usize = 8;
/// Keys that are left out of a tile together.
const STEP: usize = 8;

/// [`super::attention`] for any number of queries; sizes are checked.
pub(super) fn attention<T: Element>(x: &Inputs<'_, T>, out: &ViewMut<'_, T>, lse: &mut [T]) {
    let s = &x.shape;
    let plan = Plan::new(s);
    let (blocks, e) = (plan.blocks(TOGETHER), s.head_dim);
    let lse = Disjoint::new(lse);
    let columns = e.next_multiple_of(WIDTH);
    let space = TOGETHER * (2 * columns + 2) + columns + KEYS + 2 * KEYS * columns / WIDTH;
    spread(s.batch * s.kv_heads * blocks, TOGETHER * WIDTH * s.keys * e, |task| {
        let (at, index) = (task / blocks, task % blocks);
        let (batch, kv_head) = (at / s.kv_heads, at % s.kv_heads);
        if index == 0 {
            clear_padding(x, out, &lse, batch, kv_head);
        }
        let mut tiles = [const { None }; TOGETHER];
        for (tile, i) in tiles.iter_mut().zip(plan.block(TOGETHER, index)) {
            *tile = plan.tile(&x.rows[batch], (batch, kv_head), i);
        }
        scratch::with(space, |space: &mut [Lanes<T>]| {
            isa::dispatch(
                #[inline(always)]
                |isa| forward_block(isa, x, &tiles, (out, &lse), space),
            );
        });
    });
}

/// Output 0 and statistics −∞ for the queries that do not count, in all heads of one group.
fn clear_padding<T: Element>(
    x: &Inputs<'_, T>,
    out: &ViewMut<'_, T>,
    lse: &Disjoint<'_, T>,
    batch: usize,
    kv_head: usize,
) {
    let s = &x.shape;
    let group = s.heads / s.kv_heads;
    for head in kv_head * group..(kv_head + 1) * group {
        for t in (0..s.queries).filter(|t| !x.rows[batch].q.contains(t)) {
            let at = (batch * s.heads + head) * s.queries + t;
            // SAFETY: padding belongs to no tile, and this group's to this task alone.
            let (out, lse) = unsafe { (out.row([batch, head, t], s.head_dim), lse.slice(at..at + 1)) };
            out.fill(T::zero());
            lse[0] = T::neg_infinity();
        }
    }
}

#[inline(always)]
fn forward_block<T: Element>(
    isa: Isa,
    x: &Inputs<'_, T>,
    tiles: &[Option<QueryTile>; TOGETHER],
    (out, lse): (&ViewMut<'_, T>, &Disjoint<'_, T>),
    space: &mut [Lanes<T>],
) {
    let Some(Some(first)) = tiles.iter().find(|tile| tile.is_some()) else { return };
    let e = x.shape.head_dim;
    let columns = e.next_multiple_of(WIDTH);
    let (panel, space) = space.split_at_mut(columns); // [⌈e/32⌉, lanes, 32]
    let (s, space) = space.split_at_mut(KEYS); // Sᵀ: [keys, lanes]
    let (k, space) = space.split_at_mut(KEYS * columns / WIDTH);
    let (v, space) = space.split_at_mut(KEYS * columns / WIDTH);
    let each = 2 * columns + 2;
    tiles.iter().flatten().for_each(|tile| tile.prefetch(&x.q, e));
    for (tile, space) in tiles.iter().zip(space.chunks_exact_mut(each)) {
        if let Some(tile) = tile {
            Running::of(space).begin(isa, x, tile, panel);
        }
    }
    let valid = &x.rows[first.batch].k;
    for start in (0..valid.len()).step_by(KEYS) {
        let keys = start..valid.len().min(start + KEYS);
        let mut loaded = false;
        for (i, (tile, space)) in tiles.iter().zip(space.chunks_exact_mut(each)).enumerate() {
            let Some((tile, seen, kind)) = tile.as_ref().and_then(|tile| seen(x, tile, keys.clone())) else {
                continue;
            };
            if !loaded {
                let at = [tile.batch, tile.kv_head, valid.start + start];
                x.k.load(at, keys.len(), e, k);
                x.v.load(at, keys.len(), e, v);
                loaded = true;
            }
            // A part of the next tile of keys, while this one is worked on.
            let next = start + KEYS + i * (KEYS / TOGETHER);
            if let Some(n) = valid.len().checked_sub(next) {
                let at = [tile.batch, tile.kv_head, valid.start + next];
                x.k.prefetch(at, n.min(KEYS / TOGETHER), e);
                x.v.prefetch(at, n.min(KEYS / TOGETHER), e);
            }
            let rows = (seen.start - start) * columns / WIDTH..(seen.end - start) * columns / WIDTH;
            let [k, v] = [&k[rows.clone()], &v[rows]].map(|lanes| Matrix::rows_of_lanes(lanes, columns));
            Running::of(space).add(isa, x, tile, (seen, kind), (k, v), s);
        }
    }
    for (tile, space) in tiles.iter().zip(space.chunks_exact_mut(each)) {
        if let Some(tile) = tile {
            Running::of(space).finish(isa, x, tile, (out, lse), panel);
        }
    }
}

/// What a query tile has summed so far.
struct Running<'s, T> {
    /// Qᵀ, scaled: `[e, lanes]`.
    qt: &'s mut [Lanes<T>],
    /// Oᵀ times `sum`: `[e, lanes]`.
    ot: &'s mut [Lanes<T>],
    /// The largest score.
    top: &'s mut Lanes<T>,
    /// The sum of `exp(score − top)`.
    sum: &'s mut Lanes<T>,
}

impl<'s, T: Element> Running<'s, T> {
    #[inline(always)]
    fn of(space: &'s mut [Lanes<T>]) -> Self {
        let half = space.len() / 2;
        let ([top, qt @ ..], [sum, ot @ ..]) = space.split_at_mut(half) else {
            unreachable!("the space of a tile has two rows beside its matrices")
        };
        Running { qt, ot, top, sum }
    }

    #[inline(always)]
    fn begin(self, isa: Isa, x: &Inputs<'_, T>, tile: &QueryTile, panel: &mut [Lanes<T>]) {
        tile.load(&x.q, x.shape.head_dim, x.scale, panel);
        transpose_panel(isa, panel, self.qt);
        self.ot.fill(Lanes::default());
        (*self.top, *self.sum) = (Lanes([T::neg_infinity(); WIDTH]), Lanes::default());
        if let Some(sinks) = x.sinks {
            for lane in 0..tile.lanes() {
                let [_, head, _] = tile.index(lane);
                (self.top.0[lane], self.sum.0[lane]) = (sinks[head], T::one());
            }
        }
    }

    /// Takes in a tile of keys.
    #[inline(always)]
    fn add(
        self,
        isa: Isa,
        x: &Inputs<'_, T>,
        tile: &QueryTile,
        (keys, kind): (Range<usize>, Tile),
        (k, v): (Matrix<'_, T>, Matrix<'_, T>),
        s: &mut [Lanes<T>],
    ) {
        let e = x.shape.head_dim;
        let s = &mut s[..keys.len()];
        scores(isa, x, tile, (keys.clone(), kind), (k, &self.qt[..e]), s, None);
        let mut top = *self.top;
        each_row(
            s,
            #[inline(always)]
            |s| {
                for l in 0..WIDTH {
                    top.0[l] = larger(s.0[l], top.0[l]);
                }
            },
        );
        let base = finite(&top);
        if top.0 != self.top.0 {
            // What was summed under the old maximum shrinks by exp(old − new); before the first key that is 0.
            let mut shrink = Lanes::<T>::default();
            for l in 0..WIDTH {
                shrink.0[l] = exp(isa, self.top.0[l] - base.0[l]);
            }
            self.sum.multiply(&shrink);
            each_row(
                &mut self.ot[..e],
                #[inline(always)]
                |o| o.multiply(&shrink),
            );
            *self.top = top;
        }
        let mut sum = *self.sum;
        each_row(
            s,
            #[inline(always)]
            |s| {
                for l in 0..WIDTH {
                    s.0[l] = exp(isa, s.0[l] - base.0[l]);
                    sum.0[l] += s.0[l];
                }
            },
        );
        *self.sum = sum;
        // The sum is complete: dropout changes what is done with probabilities, not what they are.
        if let Some(dropout) = x.dropout {
            let dropout = dropout.over(tile);
            for (key, s) in keys.clone().zip(s.iter_mut()) {
                s.multiply(&dropout.factors(key));
            }
        }
        product(isa, (v.transposed(), Matrix::of_lanes(s)), keys.len(), &mut self.ot[..e], Write::Add);
    }

    /// Writes the output and the statistics.
    #[inline(always)]
    fn finish(
        self,
        isa: Isa,
        x: &Inputs<'_, T>,
        tile: &QueryTile,
        (out, lse): (&ViewMut<'_, T>, &Disjoint<'_, T>),
        panel: &mut [Lanes<T>],
    ) {
        let e = x.shape.head_dim;
        // A query that saw no key has sum 0.
        let factor = Lanes(self.sum.0.map(|sum| if sum == T::zero() { T::zero() } else { sum.recip() }));
        each_row(
            &mut self.ot[..e],
            #[inline(always)]
            |o| o.multiply(&factor),
        );
        transpose_panel(isa, self.ot, panel);
        for lane in 0..tile.lanes() {
            let at @ [batch, head, t] = tile.index(lane);
            let flat = (batch * x.shape.heads + head) * x.shape.queries + t;
            // SAFETY: this query belongs to this tile alone.
            let (out, lse) = unsafe { (out.row(at, e), lse.slice(flat..flat + 1)) };
            lse[0] = self.top.0[lane] + self.sum.0[lane].ln(); // −∞ + −∞ for no key
            for (out, block) in out.chunks_mut(WIDTH).zip(panel.chunks_exact(WIDTH)) {
                out.copy_from_slice(&block[lane].0[..out.len()]);
            }
        }
    }
}

/// The positions of a tile of keys that a query tile looks at, if any: without those at the ends that the rule hides
/// from all of its queries.
#[inline(always)]
pub(super) fn seen<'t, T: Element>(
    x: &Inputs<'_, T>,
    tile: &'t QueryTile,
    keys: Range<usize>,
) -> Option<(&'t QueryTile, Range<usize>, Tile)> {
    let kind = |keys: Range<usize>| x.rule.tile(tile.positions.clone(), keys);
    match kind(keys.clone()) {
        Tile::Skip => None,
        Tile::Full => Some((tile, keys, Tile::Full)),
        Tile::Partial => {
            let Range { mut start, mut end } = keys;
            while start < end && kind(start..end.min(start + STEP)) == Tile::Skip {
                start = end.min(start + STEP);
            }
            // From the start on in whole steps, so that the last one alone may be short.
            while start < end && kind(end - (end - start - 1) % STEP - 1..end) == Tile::Skip {
                end -= (end - start - 1) % STEP + 1;
            }
            (start < end).then(|| (tile, start..end, kind(start..end)))
        }
    }
}

/// `s[key].0[query] = f(scale · q·k) + bias`, −∞ where the rule forbids; `slopes` are those of `f`, if it is not the
/// identity.
#[inline(always)]
pub(super) fn scores<T: Element>(
    isa: Isa,
    x: &Inputs<'_, T>,
    tile: &QueryTile,
    (keys, kind): (Range<usize>, Tile),
    (k, qt): (Matrix<'_, T>, &[Lanes<T>]),
    s: &mut [Lanes<T>],
    slopes: Option<&mut [Lanes<T>]>,
) {
    product(isa, (k, Matrix::of_lanes(qt)), x.shape.head_dim, s, Write::Store);
    if let Some(transform) = x.transform {
        match slopes {
            None => transform.apply(Matrix::flat(s)),
            Some(slopes) => transform.apply_with_slopes(Matrix::flat(s), Matrix::flat(slopes)),
        }
    }
    if x.bias.is_some() || kind == Tile::Partial {
        adjust(x, tile, keys, kind, s);
    }
}

/// Adds biases and hides what the rule forbids.
fn adjust<T: Element>(
    x: &Inputs<'_, T>,
    tile: &QueryTile,
    keys: Range<usize>,
    kind: Tile,
    s: &mut [Lanes<T>],
) {
    let n = tile.queries.len();
    for (key, s) in keys.zip(s) {
        if let Some(bias) = x.bias {
            let mut added = [T::zero(); WIDTH];
            for (head, added) in tile.heads.clone().zip(added.chunks_mut(n)) {
                bias.fill(head, tile.positions.clone(), key, added);
            }
            for (s, &added) in s.0.iter_mut().zip(&added) {
                *s += added;
            }
        }
        if kind == Tile::Partial {
            let mut allowed = [false; WIDTH];
            x.rule.allow(tile.positions.clone(), key, &mut allowed[..n]);
            for lane in n..tile.lanes() {
                allowed[lane] = allowed[lane - n]; // the same queries of the next head
            }
            for (s, &allowed) in s.0.iter_mut().zip(&allowed) {
                *s = if allowed { *s } else { T::neg_infinity() };
            }
        }
    }
}
