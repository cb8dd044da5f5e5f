//! The forward pass for one query a row, or a few: decoding with a cache.
//!
//! With few queries there is nothing to lay along lanes, so here a key's own dimensions lie there. The queries of all
//! heads of a group share every key that is read. Work is divided over key heads and over ranges of keys, whose partial
//! softmaxes are joined in order: `O = Σ exp(mᵢ − m) Oᵢ / Σ exp(mᵢ − m) lᵢ`. Ranges depend on how many keys count, not
//! on how many a cache has room for.

use std::ops::Range;

use super::{
    Inputs, Shape, Stored, Tile, ViewMut,
    rows::{Rows, dots, mix},
    tile::{Lanes, WIDTH, exp},
};
use crate::{
    Element,
    disjoint::Disjoint,
    isa::{self, Isa},
    reduce::{max, sum_map},
    scratch, team,
};

/// Keys of a range, at least.
const CHUNK: usize = 256;
/// Ranges of a key head, at most: partial results are read once more.
const CHUNKS: usize = 32;
/// Keys whose scores, or weighted values, are computed together.
const TOGETHER: usize = 64;
/// Queries of a group up to which this is faster than tiles of 32.
const FEW: usize = 8;
/// Numbers of keys and values that one thread should read before another is worth waking: 128 KiB of them.
const GRAIN: usize = 32 * 1024;

/// Whether an attention is one of few queries.
pub(super) fn suits(s: &Shape) -> bool {
    s.queries == 1 || s.queries * s.heads.checked_div(s.kv_heads).unwrap_or(1) <= FEW
}

/// Keys of each range that a row of `keys` keys is cut into: by its own length alone, so that it has the same bits in
/// every batch.
fn range_of(keys: usize) -> usize {
    keys.div_ceil(CHUNKS).next_multiple_of(TOGETHER).max(CHUNK)
}

/// [`super::attention`] for few queries a row; sizes are checked.
pub(super) fn attention<T: Element>(x: &Inputs<'_, T>, out: &ViewMut<'_, T>, lse: &mut [T]) {
    let (s, e) = (&x.shape, x.shape.head_dim);
    if lse.is_empty() {
        return;
    }
    let few = s.queries * (s.heads / s.kv_heads);
    let longest = x.rows.iter().map(|row| row.k.len()).max().unwrap_or(0);
    // The longest row has the longest ranges, but a shorter one may have more of them.
    let chunks =
        x.rows.iter().map(|row| row.k.len().div_ceil(range_of(row.k.len()))).max().unwrap_or(0).max(1);
    let chunk = range_of(longest);
    let width = e + 2; // of a partial result: maximum, sum, output
    let tasks = s.batch * s.kv_heads * chunks;
    let together = (GRAIN / (2 * e * longest.min(chunk)).max(1)).max(1);
    scratch::with(lse.len() * chunks * width, |partials: &mut [T]| {
        let parts = Disjoint::new(partials);
        team::parallel(tasks.div_ceil(together), |group| {
            let tile = TOGETHER * e.next_multiple_of(WIDTH) / WIDTH;
            scratch::with(tile, |tile: &mut [Lanes<T>]| {
                scratch::with(few * (chunk + e), |space: &mut [T]| {
                    for task in group * together..tasks.min((group + 1) * together) {
                        let (at, index) = (task / chunks, task % chunks);
                        let place = Place { batch: at / s.kv_heads, kv_head: at % s.kv_heads };
                        let n = x.rows[place.batch].k.len();
                        let own = range_of(n);
                        let keys = n.min(index * own)..n.min((index + 1) * own);
                        let part = |i: usize| {
                            let at = ((at * few + i) * chunks + index) * width;
                            // SAFETY: the parts of this range belong to this task alone, each taken once at a time.
                            unsafe { parts.slice(at..at + width) }
                        };
                        isa::dispatch(
                            #[inline(always)]
                            |isa| range_of_keys(isa, x, place, keys, (&mut *space, &mut *tile), part),
                        );
                    }
                });
            });
        });
        isa::dispatch(
            #[inline(always)]
            |isa| {
                for (i, (parts, lse)) in partials.chunks_exact(chunks * width).zip(lse).enumerate() {
                    let (head, t) = (i / s.queries, i % s.queries);
                    let (batch, head) = (head / s.heads, head % s.heads);
                    let sink =
                        if x.rows[batch].q.contains(&t) { x.sinks.map(|sinks| sinks[head]) } else { None };
                    // SAFETY: sizes are checked, and this loop is serial.
                    *lse = join(isa, parts, sink, unsafe { out.row([batch, head, t], e) });
                }
            },
        );
    });
}

#[derive(Clone, Copy)]
struct Place {
    batch: usize,
    kv_head: usize,
}

/// Partial softmax of all queries of a group over a range of keys.
#[inline(always)]
fn range_of_keys<'p, T: Element>(
    isa: Isa,
    x: &Inputs<'_, T>,
    Place { batch, kv_head }: Place,
    keys: Range<usize>,
    (space, tile): (&mut [T], &mut [Lanes<T>]),
    part: impl Fn(usize) -> &'p mut [T],
) {
    let (s, row, e, n) = (&x.shape, &x.rows[batch], x.shape.head_dim, keys.len());
    let group = s.heads / s.kv_heads;
    let few = s.queries * group;
    // Head and query of the i-th row, and the query's position if it counts.
    let place = |i: usize| (kv_head * group + i / s.queries, i % s.queries);
    let position = |t: usize| row.q.contains(&t).then(|| row.first + t - row.q.start);
    let kind = |t: usize| match position(t) {
        Some(p) if n > 0 => x.rule.tile(p..p + 1, keys.clone()),
        _ => Tile::Skip,
    };
    for i in 0..few {
        let part = part(i);
        part.fill(T::zero());
        part[0] = T::neg_infinity();
    }
    if (0..s.queries).all(|t| kind(t) == Tile::Skip) {
        return;
    }
    let (q, scores) = space.split_at_mut(few * e);
    let scores = &mut scores[..few * n];
    for (i, q) in q.chunks_exact_mut(e.max(1)).enumerate() {
        let (head, t) = place(i);
        match position(t) {
            Some(_) => q.iter_mut().zip(x.q.row([batch, head, t], e)).for_each(|(to, &q)| *to = q * x.scale),
            None => q.fill(T::zero()),
        }
    }
    let pieces = (0..n).step_by(TOGETHER).map(|start| start..n.min(start + TOGETHER));
    let at = |piece: &Range<usize>| [batch, kv_head, row.k.start + keys.start + piece.start];
    for piece in pieces.clone() {
        let k = rows(isa, &x.k, at(&piece), piece.len(), e, tile);
        dots(isa, (q, few), k, &mut scores[piece.start..], n);
    }
    if let Some(transform) = x.transform {
        transform.apply(scores);
    }
    for (i, scores) in scores.chunks_exact_mut(n).enumerate() {
        let (head, t) = place(i);
        let (Some(query), kind) = (position(t), kind(t)) else {
            scores.fill(T::zero());
            continue;
        };
        adjust(x, head, query, keys.clone(), kind, scores);
        let top = max(scores);
        let base = if top == T::neg_infinity() { T::zero() } else { top };
        for s in scores.iter_mut() {
            *s = exp(isa, *s - base);
        }
        let part = part(i);
        (part[0], part[1]) = (top, sum_map(scores, |s| s));
        if let Some(dropout) = x.dropout {
            let (stream, threshold) = (dropout.stream([batch, head, query]), dropout.threshold::<T>());
            for (key, s) in keys.clone().zip(scores) {
                *s *= threshold.factor(stream, key);
            }
        }
    }
    // The queries are used up: their space takes the sums, which the parts have room for but not side by side.
    q.fill(T::zero());
    for piece in pieces {
        let v = rows(isa, &x.v, at(&piece), piece.len(), e, tile);
        mix(isa, (&scores[piece.start..], n, few), v, q);
    }
    for (i, sums) in q.chunks_exact(e.max(1)).enumerate() {
        part(i)[2..].copy_from_slice(sums);
    }
}

/// Rows as they lie, where the products can read them so, or decoded to a tile.
#[inline(always)]
fn rows<'r, T: Element>(
    isa: Isa,
    stored: &Stored<'r, T>,
    at: [usize; 3],
    n: usize,
    e: usize,
    tile: &'r mut [Lanes<T>],
) -> Rows<'r, T> {
    Rows::of(isa, stored, at, n, e).unwrap_or_else(|| {
        stored.load(at, n, e, tile);
        Rows::decoded(tile, n, e)
    })
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
    if x.bias.is_none() && kind == Tile::Full {
        return;
    }
    for (key, s) in keys.zip(scores) {
        if let Some(bias) = x.bias {
            *s += bias.score(head, query, key);
        }
        if kind == Tile::Skip || kind == Tile::Partial && !x.rule.allows(query, key) {
            *s = T::neg_infinity();
        }
    }
}

/// Joins partial results `[chunks, e + 2]` in their order, and a sink; writes the output and returns the log-sum-exp.
#[inline(always)]
fn join<T: Element>(isa: Isa, parts: &[T], sink: Option<T>, out: &mut [T]) -> T {
    let width = out.len() + 2;
    let sink = sink.unwrap_or(T::neg_infinity());
    let top = parts.chunks_exact(width).fold(sink, |top, p| if p[0] > top { p[0] } else { top });
    let base = if top == T::neg_infinity() { T::zero() } else { top };
    let mut sum = exp(isa, sink - base);
    out.fill(T::zero());
    for part in parts.chunks_exact(width) {
        let weight = exp(isa, part[0] - base);
        // A range that the query does not see adds nothing; one with a NaN adds that.
        if weight == T::zero() && part[1] == T::zero() {
            continue;
        }
        sum += weight * part[1];
        for (out, &o) in out.iter_mut().zip(&part[2..]) {
            *out = isa.mul_add(weight, o, *out);
        }
    }
    if sum == T::zero() {
        return T::neg_infinity();
    }
    let factor = sum.recip();
    for o in out {
        *o *= factor;
    }
    top + sum.ln()
}
