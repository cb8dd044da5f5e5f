//! The backward pass: blocks of query tiles in turn, each walking over the tiles of keys with probabilities recomputed.
//!
//! Gradients of keys and values are sums over queries. One task owns a key head of a batch row and adds its blocks in
//! order; where there are few key heads, their blocks are dealt to a fixed number of shards, which sum apart and are
//! joined in order.

use super::{
    Adjoint, BiasAdjoint, Gradients, Inputs,
    backward_tile::{backward_block, of_a_block, write_row},
    forward::KEYS,
    plan::{Plan, QueryTile, spread},
    tile::{Lanes, WIDTH},
};
use crate::{Element, Write, disjoint::Disjoint, isa, reduce::sum_map2, scratch};

/// With fewer key heads in all batch rows than this, their queries are divided as well.
const FEW: usize = 12;
/// And so many tasks are made.
const TASKS: usize = 16;
/// Query tiles of a block.
pub(super) const TOGETHER: usize = 2;

/// [`super::attention_adjoint_with_bias`]; sizes are checked.
pub(super) fn attention_adjoint<T: Element>(
    x: &Inputs<'_, T>,
    a: &Adjoint<'_, T>,
    into: &mut Gradients<'_, T>,
    biases: &mut [&mut dyn BiasAdjoint<T>],
) {
    let s = &x.shape;
    sinks_adjoint(x, a, into);
    let plan = Plan::new(s);
    let job = Job { x, a, into, plan, blocks: plan.blocks(TOGETHER) };
    let heads = s.batch * s.kv_heads;
    let block_work = 2 * TOGETHER * WIDTH * s.keys * s.head_dim;
    if heads == 0 || s.head_dim == 0 {
        return;
    }
    if !biases.is_empty() {
        // A head's biases are shared by all batch rows, so one task takes it through all of them.
        let group = s.heads / s.kv_heads;
        let biases = Disjoint::new(biases);
        spread(s.kv_heads, s.batch * job.blocks * block_work, |kv_head| {
            // SAFETY: the heads of this group belong to this task alone.
            let biases = unsafe { biases.slice(kv_head * group..(kv_head + 1) * group) };
            (0..s.batch).for_each(|batch| job.whole_head((batch, kv_head), biases));
        });
        return;
    }
    let shards = if heads >= FEW { 1 } else { TASKS.div_ceil(heads).min(job.blocks).max(1) };
    if shards == 1 {
        spread(heads, job.blocks * block_work, |i| job.whole_head((i / s.kv_heads, i % s.kv_heads), &mut []));
        return;
    }
    let sums = job.sums();
    scratch::with(heads * shards * sums, |partials: &mut [Lanes<T>]| {
        let parts = Disjoint::new(partials);
        spread(heads * shards, job.blocks.div_ceil(shards) * block_work, |task| {
            let (head, shard) = (task / shards, task % shards);
            // SAFETY: this shard's sums belong to this task alone.
            let part = unsafe { parts.slice(task * sums..(task + 1) * sums) };
            job.add_blocks((head / s.kv_heads, head % s.kv_heads), (shard, shards), part, &mut []);
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
            job.write_keys((head / s.kv_heads, head % s.kv_heads), first);
        });
    });
}

/// `dsink = −Σ exp(sink − lse) · D` over the queries of a head.
fn sinks_adjoint<T: Element>(x: &Inputs<'_, T>, a: &Adjoint<'_, T>, into: &mut Gradients<'_, T>) {
    let (Some(sinks), Some(dsinks)) = (x.sinks, into.dsinks.as_deref_mut()) else { return };
    let s = &x.shape;
    for (head, (&sink, dsink)) in sinks.iter().zip(dsinks).enumerate() {
        let mut sum = T::zero();
        for (batch, row) in x.rows.iter().enumerate() {
            for t in row.q.clone() {
                let lse = a.lse[(batch * s.heads + head) * s.queries + t];
                if lse != T::neg_infinity() {
                    let at = [batch, head, t];
                    let along = sum_map2(a.dout.row(at, s.head_dim), a.out.row(at, s.head_dim), |a, b| a * b);
                    sum += (sink - lse).fast_exp() * along;
                }
            }
        }
        *dsink = into.write.combine(*dsink, -sum);
    }
}

/// One call.
pub(super) struct Job<'j, 'a, T> {
    pub(super) x: &'j Inputs<'a, T>,
    pub(super) a: &'j Adjoint<'a, T>,
    pub(super) into: &'j Gradients<'a, T>,
    plan: Plan,
    /// Blocks of query tiles of a key head.
    blocks: usize,
}

impl<T: Element> Job<'_, '_, T> {
    /// Rows of 32 columns in the sums of one key head: `dK` and `dV`, each `[⌈e/32⌉, s]`.
    fn sums(&self) -> usize {
        2 * self.x.shape.head_dim.div_ceil(WIDTH) * self.x.shape.keys
    }

    fn whole_head(&self, head: (usize, usize), biases: &mut [&mut dyn BiasAdjoint<T>]) {
        scratch::with(self.sums(), |sums| {
            self.add_blocks(head, (0, 1), sums, biases);
            self.write_keys(head, sums);
        });
    }

    /// One of `shards` shares of the query tiles of a key head: writes their `dQ`, sums `dK` and `dV` from 0.
    fn add_blocks(
        &self,
        (batch, kv_head): (usize, usize),
        (shard, shards): (usize, usize),
        sums: &mut [Lanes<T>],
        biases: &mut [&mut dyn BiasAdjoint<T>],
    ) {
        sums.fill(Lanes::default());
        if shard == 0 {
            self.clear_padding(batch, kv_head);
        }
        let x = self.x;
        let (e, valid) = (x.shape.head_dim, &x.rows[batch].k);
        let columns = e.next_multiple_of(WIDTH);
        let slopes = if x.transform.is_some() { KEYS } else { 0 };
        let keys = valid.len() * columns / WIDTH;
        let space = of_a_block(columns) + slopes + 2 * keys;
        scratch::with(space, |space: &mut [Lanes<T>]| {
            let (kv, space) = space.split_at_mut(2 * keys);
            let (k, v) = kv.split_at_mut(keys);
            isa::dispatch(
                #[inline(always)]
                |_| {
                    x.k.load([batch, kv_head, valid.start], valid.len(), e, k);
                    x.v.load([batch, kv_head, valid.start], valid.len(), e, v);
                },
            );
            // Contiguous shares of the order that takes blocks from both ends: each has short rows and long ones.
            for index in shard * self.blocks / shards..(shard + 1) * self.blocks / shards {
                let tiles = self.block((batch, kv_head), index);
                if index + 1 < self.blocks {
                    for tile in self.block((batch, kv_head), index + 1).iter().flatten() {
                        [&x.q, &self.a.dout, &self.a.out].into_iter().for_each(|view| tile.prefetch(view, e));
                    }
                }
                isa::dispatch(
                    #[inline(always)]
                    |isa| backward_block(isa, self, &tiles, (k, v), sums, space, biases),
                );
            }
        });
    }

    fn block(&self, head: (usize, usize), index: usize) -> [Option<QueryTile>; TOGETHER] {
        let mut tiles = [const { None }; TOGETHER];
        for (tile, i) in tiles.iter_mut().zip(self.plan.block(TOGETHER, index)) {
            *tile = self.plan.tile(&self.x.rows[head.0], head, i);
        }
        tiles
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
    fn write_keys(&self, (batch, kv_head): (usize, usize), sums: &[Lanes<T>]) {
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
