//! The backward pass: tiles of queries in turn, each walking over the tiles of keys with probabilities recomputed.
//!
//! Gradients of keys and values are sums over queries. One task owns a key head of a batch row and adds its tiles in
//! order; where there are few key heads, their query tiles are dealt to a fixed number of shards, which sum apart and
//! are joined in order.

use super::{
    Adjoint, BiasAdjoint, Gradients, Inputs, ViewMut,
    forward::{KEYS, for_key_tiles, scores},
    plan::{Plan, QueryTile, spread, transpose_panel},
    tile::{Lanes, Matrix, WIDTH, each_row, product},
};
use crate::{
    Element, Write,
    disjoint::Disjoint,
    isa::{self, Isa},
    reduce::sum_map2,
    scratch,
};

/// With fewer key heads than this, their queries are divided as well.
const TASKS: usize = 16;

/// [`super::attention_adjoint_with_bias`]; sizes are checked.
pub(super) fn attention_adjoint<T: Element>(
    x: &Inputs<'_, T>,
    a: &Adjoint<'_, T>,
    into: &Gradients<'_, T>,
    sinks: &mut [&mut dyn BiasAdjoint<T>],
) {
    let s = &x.shape;
    let job = Job { x, a, into, plan: Plan::new(s) };
    let heads = s.batch * s.kv_heads;
    let tile_work = 2 * WIDTH * s.keys * s.head_dim;
    if heads == 0 || s.head_dim == 0 {
        return;
    }
    if !sinks.is_empty() {
        // A head's biases are shared by all batch rows, so one task takes it through all of them.
        let group = s.heads / s.kv_heads;
        let sinks = Disjoint::new(sinks);
        spread(s.kv_heads, s.batch * job.plan.tiles() * tile_work, |kv_head| {
            // SAFETY: the heads of this group belong to this task alone.
            let sinks = unsafe { sinks.slice(kv_head * group..(kv_head + 1) * group) };
            (0..s.batch).for_each(|batch| job.whole_head(batch, kv_head, sinks));
        });
        return;
    }
    let shards = if heads >= TASKS { 1 } else { TASKS.div_ceil(heads).min(job.plan.tiles()).max(1) };
    if shards == 1 {
        spread(heads, job.plan.tiles() * tile_work, |i| {
            job.whole_head(i / s.kv_heads, i % s.kv_heads, &mut []);
        });
        return;
    }
    let sums = job.sums();
    scratch::with(heads * shards * sums, |partials: &mut [Lanes<T>]| {
        let parts = Disjoint::new(partials);
        spread(heads * shards, job.plan.tiles().div_ceil(shards) * tile_work, |task| {
            let (head, shard) = (task / shards, task % shards);
            // SAFETY: this shard's sums belong to this task alone.
            let part = unsafe { parts.slice(task * sums..(task + 1) * sums) };
            job.add_tiles(head / s.kv_heads, head % s.kv_heads, (shard, shards), part, &mut []);
        });
        spread(heads, shards * s.keys * s.head_dim, |head| {
            // SAFETY: all shards of this head belong to this task alone now.
            let parts = unsafe { parts.slice(head * shards * sums..(head + 1) * shards * sums) };
            let (first, rest) = parts.split_at_mut(sums);
            for part in rest.chunks_exact(sums) {
                for (sum, part) in first.iter_mut().zip(part) {
                    for l in 0..WIDTH {
                        sum.0[l] += part.0[l];
                    }
                }
            }
            job.write_keys(head / s.kv_heads, head % s.kv_heads, first);
        });
    });
}

struct Job<'j, 'a, T> {
    x: &'j Inputs<'a, T>,
    a: &'j Adjoint<'a, T>,
    into: &'j Gradients<'a, T>,
    plan: Plan,
}

impl<T: Element> Job<'_, '_, T> {
    /// Rows of 32 columns in the sums of one key head: `dK` and `dV`, each `[⌈e/32⌉, s]`.
    fn sums(&self) -> usize {
        2 * self.x.shape.head_dim.div_ceil(WIDTH) * self.x.shape.keys
    }

    fn whole_head(&self, batch: usize, kv_head: usize, sinks: &mut [&mut dyn BiasAdjoint<T>]) {
        scratch::with(self.sums(), |sums| {
            self.add_tiles(batch, kv_head, (0, 1), sums, sinks);
            self.write_keys(batch, kv_head, sums);
        });
    }

    /// Every `shards`-th query tile of a key head: writes its `dQ`, sums `dK` and `dV` from 0.
    fn add_tiles(
        &self,
        batch: usize,
        kv_head: usize,
        (shard, shards): (usize, usize),
        sums: &mut [Lanes<T>],
        sinks: &mut [&mut dyn BiasAdjoint<T>],
    ) {
        sums.fill(Lanes::default());
        if shard == 0 {
            self.clear_padding(batch, kv_head);
        }
        let columns = self.x.shape.head_dim.next_multiple_of(WIDTH);
        scratch::with(5 * columns + 2 * KEYS, |space: &mut [Lanes<T>]| {
            for index in (shard..self.plan.tiles()).step_by(shards) {
                let Some(tile) = self.plan.tile(&self.x.rows[batch], batch, kv_head, index) else { continue };
                isa::dispatch(
                    #[inline(always)]
                    |isa| backward_tile(isa, self, &tile, sums, space, sinks),
                );
            }
        });
    }

    /// Queries that do not count have gradient 0.
    fn clear_padding(&self, batch: usize, kv_head: usize) {
        let s = &self.x.shape;
        let group = s.heads / s.kv_heads;
        if self.into.write == Write::Store {
            for head in kv_head * group..(kv_head + 1) * group {
                for t in (0..s.queries).filter(|t| !self.x.rows[batch].q.contains(t)) {
                    // SAFETY: padding belongs to no tile, and this group's to this task alone.
                    unsafe { self.into.dq.row([batch, head, t], s.head_dim) }.fill(T::zero());
                }
            }
        }
    }

    /// Writes the finished sums to `dk` and `dv`.
    fn write_keys(&self, batch: usize, kv_head: usize, sums: &[Lanes<T>]) {
        let (s, valid) = (&self.x.shape, &self.x.rows[batch].k);
        let (dk, dv) = sums.split_at(sums.len() / 2);
        for (sums, view) in [(dk, &self.into.dk), (dv, &self.into.dv)] {
            for key in 0..s.keys {
                // SAFETY: this key head of this batch row belongs to this task alone.
                let row = unsafe { view.row([batch, kv_head, key], s.head_dim) };
                if valid.contains(&key) {
                    write_row(row, self.into.write, |block| &sums[block * s.keys + key - valid.start].0);
                } else if self.into.write == Write::Store {
                    row.fill(T::zero());
                }
            }
        }
    }
}

/// Stores or adds a row that lies in blocks of 32 columns.
#[inline(always)]
fn write_row<'a, T: Element>(row: &mut [T], write: Write, block: impl Fn(usize) -> &'a [T; WIDTH]) {
    for (i, row) in row.chunks_mut(WIDTH).enumerate() {
        for (to, &from) in row.iter_mut().zip(block(i)) {
            *to = write.combine(*to, from);
        }
    }
}

#[inline(always)]
fn backward_tile<T: Element>(
    isa: Isa,
    job: &Job<'_, '_, T>,
    tile: &QueryTile,
    sums: &mut [Lanes<T>],
    space: &mut [Lanes<T>],
    sinks: &mut [&mut dyn BiasAdjoint<T>],
) {
    let Job { x, a, into, .. } = *job;
    let (e, keys_in_all, lanes) = (x.shape.head_dim, x.shape.keys, tile.lanes());
    let columns = e.next_multiple_of(WIDTH);
    let (q, space) = space.split_at_mut(columns); // scaled: [⌈e/32⌉, lanes, 32]
    let (dout, space) = space.split_at_mut(columns); // [⌈e/32⌉, lanes, 32]
    let (qt, space) = space.split_at_mut(columns); // Qᵀ, scaled: [e, lanes]
    let (dot, space) = space.split_at_mut(columns); // dOᵀ: [e, lanes]
    let (dqt, space) = space.split_at_mut(columns); // dQᵀ / scale: [e, lanes]
    let (s, ds) = space.split_at_mut(KEYS);
    let (dk, dv) = sums.split_at_mut(sums.len() / 2);
    tile.load(&x.q, e, x.scale, q);
    tile.load(&a.dout, e, T::one(), dout);
    transpose_panel(isa, q, qt);
    transpose_panel(isa, dout, dot);
    dqt.fill(Lanes::default());
    let Statistics { lse, along } = statistics(job, tile);
    let dropout = x.dropout.map(|dropout| dropout.over::<T>(tile));
    for_key_tiles(
        x,
        tile,
        #[inline(always)]
        |keys, kind| {
            let (n, first) = (keys.len(), x.rows[tile.batch].k.start + keys.start);
            let (s, ds) = (&mut s[..n], &mut ds[..n]);
            scores(isa, x, tile, (keys.clone(), kind), &qt[..e], s);
            let at = [tile.batch, tile.kv_head, first];
            product(isa, (x.v.matrix(at, n, e), Matrix::of_lanes(dot)), e, ds, Write::Store);
            match &dropout {
                None => {
                    for (s, ds) in s.iter_mut().zip(ds.iter_mut()) {
                        for l in 0..WIDTH {
                            let p = (s.0[l] - lse.0[l]).fast_exp();
                            s.0[l] = p;
                            ds.0[l] = p * (ds.0[l] - along.0[l]);
                        }
                    }
                }
                Some(dropout) => {
                    for (key, (s, ds)) in keys.clone().zip(s.iter_mut().zip(ds.iter_mut())) {
                        let kept = dropout.factors(key);
                        for l in 0..WIDTH {
                            let p = (s.0[l] - lse.0[l]).fast_exp();
                            s.0[l] = p * kept.0[l];
                            ds.0[l] = p * (kept.0[l] * ds.0[l] - along.0[l]);
                        }
                    }
                }
            }
            if !sinks.is_empty() {
                hand_over(tile, keys.start, ds, sinks);
            }
            let (p, ds) = (Matrix::of_lanes(s), Matrix::of_lanes(ds));
            for block in 0..columns / WIDTH {
                let rows = block * keys_in_all + keys.start..block * keys_in_all + keys.end;
                let panel = block * WIDTH..(block + 1) * WIDTH;
                let (dout, q) = (Matrix::of_lanes(&dout[panel.clone()]), Matrix::of_lanes(&q[panel]));
                product(isa, (p, dout), lanes, &mut dv[rows.clone()], Write::Add);
                product(isa, (ds, q), lanes, &mut dk[rows], Write::Add);
            }
            product(isa, (x.k.matrix(at, n, e).transposed(), ds), n, &mut dqt[..e], Write::Add);
        },
    );
    let scale = Lanes([x.scale; WIDTH]);
    each_row(
        &mut dqt[..e],
        #[inline(always)]
        |dq| dq.multiply(&scale),
    );
    let dq = q; // its contents are used up
    transpose_panel(isa, dqt, dq);
    store_queries(&into.dq, into.write, tile, dq, e);
}

#[inline(always)]
fn store_queries<T: Element>(
    view: &ViewMut<'_, T>,
    write: Write,
    tile: &QueryTile,
    dq: &[Lanes<T>],
    e: usize,
) {
    for lane in 0..tile.lanes() {
        // SAFETY: this query belongs to this tile alone.
        let row = unsafe { view.row(tile.index(lane), e) };
        write_row(row, write, |block| &dq[block * WIDTH + lane].0);
    }
}

/// What the backward pass needs of each query.
struct Statistics<T> {
    /// The saved log-sum-exp; +∞, which makes every probability 0, where no query is or none saw a key.
    lse: Lanes<T>,
    /// `D = Σ_e dO · O`.
    along: Lanes<T>,
}

#[inline(always)]
fn statistics<T: Element>(job: &Job<'_, '_, T>, tile: &QueryTile) -> Statistics<T> {
    let (s, a) = (&job.x.shape, job.a);
    let (mut lse, mut along) = (Lanes([T::infinity(); WIDTH]), Lanes::default());
    for lane in 0..tile.lanes() {
        let at @ [batch, head, t] = tile.index(lane);
        let saved = a.lse[(batch * s.heads + head) * s.queries + t];
        if saved != T::neg_infinity() {
            lse.0[lane] = saved;
            along.0[lane] = sum_map2(a.dout.row(at, s.head_dim), a.out.row(at, s.head_dim), |a, b| a * b);
        }
    }
    Statistics { lse, along }
}

/// Gives each head of the tile the gradients of its scores, in the order of keys and then queries.
fn hand_over<T: Element>(
    tile: &QueryTile,
    first_key: usize,
    ds: &[Lanes<T>],
    sinks: &mut [&mut dyn BiasAdjoint<T>],
) {
    let (n, group) = (tile.queries.len(), sinks.len());
    for (i, head) in tile.heads.clone().enumerate() {
        for (key, ds) in (first_key..).zip(ds) {
            sinks[head % group].add_row(tile.positions.clone(), key, &ds.0[i * n..(i + 1) * n]);
        }
    }
}
