//! Which keys a query may see, as a rule rather than a `[t, s]` tensor; and biases of scores, by rule as well.
//!
//! Positions are absolute within a batch row: key positions count from the row's first valid key, and query
//! positions from [`Row::first`](super::Row::first). A rule is asked for whole tiles first, so a causal mask costs
//! nothing away from the diagonal, and memory stays linear in the context.
//!
//! ```
//! use formwork_kernels::attention::{Causal, Rule, Tile};
//!
//! assert!(Causal.allows(5, 5) && !Causal.allows(5, 6));
//! assert_eq!(Causal.tile(8..16, 0..8), Tile::Full);
//! assert_eq!(Causal.tile(8..16, 8..16), Tile::Partial);
//! assert_eq!(Causal.tile(8..16, 16..24), Tile::Skip);
//! ```

use std::ops::Range;

/// What a rule says of all pairs of a range of queries and a range of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// No pair is allowed: the tile is not computed.
    Skip,
    /// Every pair is allowed.
    Full,
    /// Each pair must be asked for.
    Partial,
}

/// Which keys a query may see.
pub trait Rule: Sync {
    /// Whether the query at one position may see the key at another.
    fn allows(&self, query: usize, key: usize) -> bool;

    /// What holds for a whole tile; answering [`Tile::Partial`] is always right, only slower. Ranges are not empty.
    fn tile(&self, queries: Range<usize>, keys: Range<usize>) -> Tile {
        let _ = (queries, keys);
        Tile::Partial
    }

    /// `allowed[i]` for query `queries.start + i`: one call for a row of a tile. The default asks
    /// [`Rule::allows`], through a call that the compiler resolves.
    fn allow(&self, queries: Range<usize>, key: usize, allowed: &mut [bool]) {
        for (query, allowed) in queries.zip(allowed) {
            *allowed = self.allows(query, key);
        }
    }
}

/// A query sees itself and what came before: language models.
#[derive(Clone, Copy, Debug, Default)]
pub struct Causal;

impl Rule for Causal {
    fn allows(&self, query: usize, key: usize) -> bool {
        key <= query
    }

    fn tile(&self, queries: Range<usize>, keys: Range<usize>) -> Tile {
        if keys.start >= queries.end {
            Tile::Skip
        } else if keys.end <= queries.start + 1 {
            Tile::Full
        } else {
            Tile::Partial
        }
    }

    fn allow(&self, queries: Range<usize>, key: usize, allowed: &mut [bool]) {
        let (before, from) = allowed.split_at_mut(key.saturating_sub(queries.start).min(queries.len()));
        before.fill(false);
        from.fill(true);
    }
}

/// Every query sees every key: encoders.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everything;

impl Rule for Everything {
    fn allows(&self, _: usize, _: usize) -> bool {
        true
    }

    fn tile(&self, _: Range<usize>, _: Range<usize>) -> Tile {
        Tile::Full
    }
}

/// A number added to the scaled score of each pair: ALiBi, T5.
pub trait Bias<T>: Sync {
    /// The bias of one pair.
    fn score(&self, head: usize, query: usize, key: usize) -> T;

    /// `scores[i]` for query `queries.start + i`: one call for a row of a tile.
    fn fill(&self, head: usize, queries: Range<usize>, key: usize, scores: &mut [T]) {
        for (query, score) in queries.zip(scores) {
            *score = self.score(head, query, key);
        }
    }
}

/// Receives the gradient of one head's biases.
///
/// Every head has its own, and all calls to it come from one thread at a time, in an order that depends on the shape and
/// the rule alone: batch rows ascending, then tiles, then keys, then queries. So it may add into plain memory, and the
/// sums have the same bits for any number of threads. Pairs that the rule forbids are left out or have gradient 0.
pub trait BiasAdjoint<T: Copy>: Send {
    /// Takes the gradient of the score of one pair.
    fn add(&mut self, query: usize, key: usize, dscore: T);

    /// `dscores[i]` belongs to query `queries.start + i`: one call for a row of a tile.
    fn add_row(&mut self, queries: Range<usize>, key: usize, dscores: &[T]) {
        for (query, &dscore) in queries.zip(dscores) {
            self.add(query, key, dscore);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tile's answer must agree with every pair in it.
    fn check(rule: &impl Rule) {
        for (q0, q1, k0, k1) in (0..6).flat_map(|a| {
            (a + 1..7).flat_map(move |b| (0..6).flat_map(move |c| (c + 1..7).map(move |d| (a, b, c, d))))
        }) {
            let allowed = (q0..q1)
                .flat_map(|q| (k0..k1).map(move |k| (q, k)))
                .filter(|&(q, k)| rule.allows(q, k))
                .count();
            let want = match allowed {
                0 => Tile::Skip,
                n if n == (q1 - q0) * (k1 - k0) => Tile::Full,
                _ => Tile::Partial,
            };
            assert_eq!(rule.tile(q0..q1, k0..k1), want, "queries {q0}..{q1}, keys {k0}..{k1}");
            let mut row = vec![false; q1 - q0];
            rule.allow(q0..q1, k0, &mut row);
            assert!(
                row.iter().zip(q0..q1).all(|(&allowed, q)| allowed == rule.allows(q, k0)),
                "{q0}..{q1}, {k0}"
            );
        }
    }

    #[test]
    fn tiles_agree_with_their_pairs() {
        check(&Causal);
        check(&Everything);
    }
}
