//! The forward pass: one task a tile of queries, which walks over the tiles of keys with a running softmax.

use std::ops::Range;

use super::{
    Inputs, Tile, ViewMut,
    plan::{Plan, QueryTile, spread, transpose_panel},
    tile::{Lanes, Matrix, WIDTH, each_row, finite, product},
};
use crate::{
    Element, Write,
    disjoint::Disjoint,
    isa::{self, Isa},
    reduce::larger,
    scratch,
};

/// Keys of a tile.
pub(super) const KEYS: usize = 32;

/// [`super::attention`] for any number of queries; sizes are checked.
pub(super) fn attention<T: Element>(x: &Inputs<'_, T>, out: &ViewMut<'_, T>, lse: &mut [T]) {
    let s = &x.shape;
    let plan = Plan::new(s);
    let lse = Disjoint::new(lse);
    let columns = s.head_dim.next_multiple_of(WIDTH);
    spread(s.batch * s.kv_heads * plan.tiles(), WIDTH * s.keys * s.head_dim, |task| {
        let (at, index) = (task / plan.tiles(), task % plan.tiles());
        let (batch, kv_head) = (at / s.kv_heads, at % s.kv_heads);
        if index == 0 {
            clear_padding(x, out, &lse, batch, kv_head);
        }
        let Some(tile) = plan.tile(&x.rows[batch], batch, kv_head, plan.balanced(index)) else { return };
        scratch::with(3 * columns + KEYS, |space: &mut [Lanes<T>]| {
            isa::dispatch(
                #[inline(always)]
                |isa| forward_tile(isa, x, &tile, (out, &lse), space),
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
fn forward_tile<T: Element>(
    isa: Isa,
    x: &Inputs<'_, T>,
    tile: &QueryTile,
    (out, lse): (&ViewMut<'_, T>, &Disjoint<'_, T>),
    space: &mut [Lanes<T>],
) {
    let e = x.shape.head_dim;
    let columns = e.next_multiple_of(WIDTH);
    let (panel, space) = space.split_at_mut(columns); // [⌈e/32⌉, lanes, 32]
    let (qt, space) = space.split_at_mut(columns); // Qᵀ, scaled: [e, lanes]
    let (ot, s) = space.split_at_mut(columns); // Oᵀ: [e, lanes]
    tile.load(&x.q, e, x.scale, panel);
    transpose_panel(isa, panel, qt);
    ot.fill(Lanes::default());
    let dropout = x.dropout.map(|dropout| dropout.over(tile));
    let mut top = Lanes([T::neg_infinity(); WIDTH]);
    let mut sum = Lanes::<T>::default();
    for_key_tiles(
        x,
        tile,
        #[inline(always)]
        |keys, kind| {
            let s = &mut s[..keys.len()];
            scores(isa, x, tile, (keys.clone(), kind), &qt[..e], s);
            let old = top;
            each_row(
                s,
                #[inline(always)]
                |s| {
                    for l in 0..WIDTH {
                        top.0[l] = larger(s.0[l], top.0[l]);
                    }
                },
            );
            // What was summed under the old maximum shrinks by exp(old − new); before the first key that is 0.
            let base = finite(&top);
            let mut shrink = Lanes::<T>::default();
            for l in 0..WIDTH {
                shrink.0[l] = (old.0[l] - base.0[l]).fast_exp();
            }
            sum.multiply(&shrink);
            each_row(
                s,
                #[inline(always)]
                |s| {
                    for l in 0..WIDTH {
                        s.0[l] = (s.0[l] - base.0[l]).fast_exp();
                        sum.0[l] += s.0[l];
                    }
                },
            );
            // The sum is complete: dropout changes what is done with probabilities, not what they are.
            if let Some(dropout) = &dropout {
                for (key, s) in keys.clone().zip(s.iter_mut()) {
                    s.multiply(&dropout.factors(key));
                }
            }
            each_row(
                &mut ot[..e],
                #[inline(always)]
                |o| o.multiply(&shrink),
            );
            let first = x.rows[tile.batch].k.start + keys.start;
            let v = x.v.matrix([tile.batch, tile.kv_head, first], keys.len(), e);
            product(isa, (v.transposed(), Matrix::of_lanes(s)), keys.len(), &mut ot[..e], Write::Add);
        },
    );
    // A query that saw no key has sum 0.
    let factor = Lanes(sum.0.map(|sum| if sum == T::zero() { T::zero() } else { sum.recip() }));
    each_row(
        &mut ot[..e],
        #[inline(always)]
        |o| o.multiply(&factor),
    );
    transpose_panel(isa, ot, panel);
    for lane in 0..tile.lanes() {
        let at @ [batch, head, t] = tile.index(lane);
        let flat = (batch * x.shape.heads + head) * x.shape.queries + t;
        // SAFETY: this query belongs to this tile alone.
        let (out, lse) = unsafe { (out.row(at, e), lse.slice(flat..flat + 1)) };
        lse[0] = top.0[lane] + sum.0[lane].ln(); // −∞ + −∞ for no key
        for (out, block) in out.chunks_mut(WIDTH).zip(panel.chunks_exact(WIDTH)) {
            out.copy_from_slice(&block[lane].0[..out.len()]);
        }
    }
}

/// Calls `f` with the positions of each tile of keys that the rule does not skip.
#[inline(always)]
pub(super) fn for_key_tiles<T: Element>(
    x: &Inputs<'_, T>,
    tile: &QueryTile,
    mut f: impl FnMut(Range<usize>, Tile),
) {
    let n = x.rows[tile.batch].k.len();
    for start in (0..n).step_by(KEYS) {
        let keys = start..n.min(start + KEYS);
        let kind = x.rule.tile(tile.positions.clone(), keys.clone());
        if kind != Tile::Skip {
            f(keys, kind);
        }
    }
}

/// `s[key].0[query] = scale · q·k + bias`, −∞ where the rule forbids.
#[inline(always)]
pub(super) fn scores<T: Element>(
    isa: Isa,
    x: &Inputs<'_, T>,
    tile: &QueryTile,
    (keys, kind): (Range<usize>, Tile),
    qt: &[Lanes<T>],
    s: &mut [Lanes<T>],
) {
    let (e, first) = (x.shape.head_dim, x.rows[tile.batch].k.start + keys.start);
    let k = x.k.matrix([tile.batch, tile.kv_head, first], keys.len(), e);
    product(isa, (k, Matrix::of_lanes(qt)), e, s, Write::Store);
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
