//! The forward pass for one query a row: decoding with a cache.
//!
//! With one query there is nothing to lay along lanes, so here a key's own dimensions lie there. The query heads of a
//! group share every key that is read. Work is divided over key heads and over ranges of 256 keys, whose partial
//! softmaxes are joined in order: `O = Σ exp(mᵢ − m) Oᵢ / Σ exp(mᵢ − m) lᵢ`.

use std::ops::Range;

use super::{
    Inputs, Tile, ViewMut,
    plan::spread,
    tile::{Lanes, Matrix, WIDTH, product},
};
use crate::{
    Element, Write,
    disjoint::Disjoint,
    isa::{self, Isa, LANES},
    reduce::{max, padded, sum_lanes, sum_map},
    scratch,
};

/// Keys of one task.
const CHUNK: usize = 256;
/// Query heads whose outputs are summed together.
const HEADS: usize = 8;

/// [`super::attention`] for one query a row; sizes are checked.
pub(super) fn attention<T: Element>(x: &Inputs<'_, T>, out: &ViewMut<'_, T>, lse: &mut [T]) {
    let s = &x.shape;
    let group = s.heads.checked_div(s.kv_heads).unwrap_or(0);
    let chunks = s.keys.div_ceil(CHUNK).max(1);
    let width = s.head_dim + 2; // of a partial result: maximum, sum, output
    scratch::with(s.batch * s.heads * chunks * width, |partials: &mut [T]| {
        let parts = Disjoint::new(partials);
        let work = group * s.keys.min(CHUNK) * s.head_dim;
        spread(s.batch * s.kv_heads * chunks, work, |task| {
            let (at, chunk) = (task / chunks, task % chunks);
            let (batch, kv_head) = (at / s.kv_heads, at % s.kv_heads);
            scratch::with(group * CHUNK, |scores: &mut [T]| {
                isa::dispatch(
                    #[inline(always)]
                    |isa| {
                        let n = x.rows[batch].k.len();
                        let keys = n.min(chunk * CHUNK)..n.min((chunk + 1) * CHUNK);
                        let part = |head: usize| {
                            let at = ((batch * s.heads + head) * chunks + chunk) * width;
                            // SAFETY: each head's part of this chunk belongs to this task alone, and is taken once at a time.
                            unsafe { parts.slice(at..at + width) }
                        };
                        chunk_of_keys(isa, x, (batch, kv_head), keys, scores, part);
                    },
                );
            });
        });
        for (i, (parts, lse)) in partials.chunks_exact(chunks * width).zip(lse).enumerate() {
            let (batch, head) = (i / s.heads, i % s.heads);
            // SAFETY: sizes are checked, and this loop is serial.
            *lse = join(parts, width, unsafe { out.row([batch, head, 0], s.head_dim) });
        }
    });
}

/// Partial softmax of all heads of a group over a range of keys.
#[inline(always)]
fn chunk_of_keys<'p, T: Element>(
    isa: Isa,
    x: &Inputs<'_, T>,
    (batch, kv_head): (usize, usize),
    keys: Range<usize>,
    scores: &mut [T],
    part: impl Fn(usize) -> &'p mut [T],
) {
    let (s, row) = (&x.shape, &x.rows[batch]);
    let group = s.heads / s.kv_heads;
    let heads = kv_head * group..(kv_head + 1) * group;
    let position = row.first..row.first + 1;
    let kind =
        if keys.is_empty() || row.q.is_empty() { Tile::Skip } else { x.rule.tile(position, keys.clone()) };
    if kind == Tile::Skip {
        for head in heads {
            let part = part(head);
            part.fill(T::zero());
            part[0] = T::neg_infinity();
        }
        return;
    }
    let n = keys.len();
    let at = [batch, kv_head, row.k.start + keys.start];
    let (k, v) = (x.k.matrix(at, n, s.head_dim), x.v.matrix(at, n, s.head_dim));
    for (j, k) in k.rows(n, s.head_dim).enumerate() {
        for head in 0..group {
            let q = x.q.row([batch, heads.start + head, 0], s.head_dim);
            scores[head * n + j] = x.scale * dot(isa, q, k);
        }
    }
    for (head, scores) in heads.clone().zip(scores.chunks_exact_mut(n)) {
        adjust(x, head, row.first, keys.clone(), kind, scores);
        let top = max(scores);
        let base = if top == T::neg_infinity() { T::zero() } else { top };
        for s in scores.iter_mut() {
            *s = (*s - base).fast_exp();
        }
        let part = part(head);
        (part[0], part[1]) = (top, sum_map(scores, |s| s));
        if let Some(dropout) = x.dropout {
            let (stream, threshold) = (dropout.stream([batch, head, row.first]), dropout.threshold::<T>());
            for (key, s) in keys.clone().zip(scores) {
                *s *= threshold.factor(stream, key);
            }
        }
    }
    weighted_sums(isa, &scores[..group * n], (v, n), |head| &mut part(heads.start + head)[2..]);
}

/// Adds biases and hides what the rule forbids.
fn adjust<T: Element>(
    x: &Inputs<'_, T>,
    head: usize,
    query: usize,
    keys: Range<usize>,
    kind: Tile,
    scores: &mut [T],
) {
    for (key, s) in keys.zip(scores) {
        if let Some(bias) = x.bias {
            *s += bias.score(head, query, key);
        }
        if kind == Tile::Partial && !x.rule.allows(query, key) {
            *s = T::neg_infinity();
        }
    }
}

#[inline(always)]
fn dot<T: Element>(isa: Isa, q: &[T], k: &[T]) -> T {
    let ((qs, q_tail), (ks, k_tail)) = (q.as_chunks::<LANES>(), k.as_chunks::<LANES>());
    let mut sums = [T::zero(); LANES];
    for (q, k) in qs.iter().zip(ks) {
        for l in 0..LANES {
            sums[l] = isa.mul_add(q[l], k[l], sums[l]);
        }
    }
    if !q_tail.is_empty() {
        let (q, k) = (padded(q_tail), padded(k_tail));
        for l in 0..LANES {
            sums[l] = isa.mul_add(q[l], k[l], sums[l]);
        }
    }
    sum_lanes(sums)
}

/// `out(r)[:] = Σ_j p[r, j] · v[j, :]` for `p: [heads, n]`, `v: [n, e]`.
#[inline(always)]
fn weighted_sums<'p, T: Element>(
    isa: Isa,
    p: &[T],
    (v, n): (Matrix<'_, T>, usize),
    out: impl Fn(usize) -> &'p mut [T],
) {
    let e = out(0).len();
    let whole = e / WIDTH * WIDTH;
    for (block, p) in p.chunks(HEADS * n).enumerate() {
        let mut sums = [Lanes::default(); HEADS];
        let sums = &mut sums[..p.len() / n];
        let heads = Matrix { data: p, row: n, column: 1 };
        for column in (0..whole).step_by(WIDTH) {
            product(isa, (heads, Matrix { data: &v.data[column..], ..v }), n, sums, Write::Store);
            for (r, sums) in sums.iter().enumerate() {
                out(block * HEADS + r)[column..column + WIDTH].copy_from_slice(&sums.0);
            }
        }
        for (r, p) in p.chunks_exact(n).enumerate() {
            let out = &mut out(block * HEADS + r)[whole..];
            out.fill(T::zero());
            if !out.is_empty() {
                for (&p, v) in p.iter().zip(v.rows(n, e)) {
                    for (out, &v) in out.iter_mut().zip(&v[whole..]) {
                        *out = isa.mul_add(p, v, *out);
                    }
                }
            }
        }
    }
}

/// Joins partial results `[chunks, width]` in their order; writes the output and returns the log-sum-exp.
fn join<T: Element>(parts: &[T], width: usize, out: &mut [T]) -> T {
    let top = parts.chunks_exact(width).fold(T::neg_infinity(), |top, p| if p[0] > top { p[0] } else { top });
    let base = if top == T::neg_infinity() { T::zero() } else { top };
    let mut sum = T::zero();
    out.fill(T::zero());
    for part in parts.chunks_exact(width) {
        let weight = (part[0] - base).fast_exp();
        // A range that the query does not see adds nothing; one with a NaN adds that.
        if weight == T::zero() && part[1] == T::zero() {
            continue;
        }
        sum += weight * part[1];
        for (out, &o) in out.iter_mut().zip(&part[2..]) {
            *out += weight * o;
        }
    }
    if sum == T::zero() {
        return T::neg_infinity();
    }
    let factor = sum.recip();
    out.iter_mut().for_each(|o| *o *= factor);
    top + sum.ln()
}
