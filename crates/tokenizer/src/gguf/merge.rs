//! Merging neighbours until no pair may merge: the core of every byte-pair encoding.
//!
//! A heap holds the pairs that may merge; the best goes first, of equal ones the leftmost, and each merge can make two
//! new pairs. `n log n` for `n` pieces, whatever the text. A pair in the heap is out of date when one of its two pieces
//! has grown or gone since; that shows in their lengths, as a piece only ever grows.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A stretch of the text that is one piece for now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Its token, if it is one.
    pub(crate) id: Option<u32>,
    /// Where it begins, in bytes.
    pub(crate) start: usize,
    /// Its length; 0 when its left neighbour has taken it in.
    pub(crate) length: usize,
    previous: usize,
    next: usize,
}

const NONE: usize = usize::MAX;

/// A pair that may merge. Better is greater.
#[derive(Debug)]
struct Pair<R> {
    rank: R,
    left: usize,
    right: usize,
    length: usize,
    id: u32,
}

/// The memory of merging, kept between two texts.
#[derive(Debug)]
pub(crate) struct Merging<R> {
    pieces: Vec<Piece>,
    heap: BinaryHeap<Pair<R>>,
}

impl<R: Ord> Merging<R> {
    /// No pieces yet.
    pub(crate) fn new() -> Self {
        Merging { pieces: Vec::new(), heap: BinaryHeap::new() }
    }

    /// Starts over with these pieces: a token, if it is one, and a length in bytes each.
    pub(crate) fn begin(&mut self, pieces: impl Iterator<Item = (Option<u32>, usize)>) {
        self.pieces.clear();
        let mut start = 0;
        for (place, (id, length)) in pieces.enumerate() {
            self.pieces.push(Piece { id, start, length, previous: place.wrapping_sub(1), next: place + 1 });
            start += length;
        }
        if let Some(last) = self.pieces.last_mut() {
            last.next = NONE;
        }
    }

    /// Merges as long as `joined` gives two neighbours a rank and a token; the greatest rank first.
    pub(crate) fn run(&mut self, joined: impl Fn(&Piece, &Piece) -> Option<(R, u32)>) {
        let pieces = &mut self.pieces;
        let pair = |pieces: &[Piece], left: usize, right: usize| {
            if left == NONE || right == NONE {
                return None;
            }
            let (first, second) = (&pieces[left], &pieces[right]);
            let (rank, id) = joined(first, second)?;
            Some(Pair { rank, left, right, length: first.length + second.length, id })
        };
        self.heap.clear();
        self.heap.extend((1..pieces.len()).filter_map(|right| pair(pieces, right - 1, right)));
        while let Some(Pair { left, right, length, id, .. }) = self.heap.pop() {
            let (first, second) = (pieces[left], pieces[right]);
            if first.length == 0 || second.length == 0 || first.length + second.length != length {
                continue;
            }
            pieces[left] = Piece { id: Some(id), length, next: second.next, ..first };
            pieces[right].length = 0;
            if second.next != NONE {
                pieces[second.next].previous = left;
            }
            self.heap.extend(pair(pieces, first.previous, left));
            self.heap.extend(pair(pieces, left, second.next));
        }
    }

    /// The pieces that are left, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(|piece| piece.length > 0)
    }
}

impl<R: Ord> Ord for Pair<R> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then_with(|| Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl<R: Ord> PartialOrd for Pair<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Ord> PartialEq for Pair<R> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<R: Ord> Eq for Pair<R> {}

/// A score as a rank: numbers in their order; there is no other kind, the vocabulary was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score(pub(crate) f32);

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        // Zero is zero, whatever its sign.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges letters by a table of pairs, the first of the table before the second.
    fn check(text: &str, table: &[&str], expected: &[&str]) {
        let mut merging = Merging::new();
        merging.begin(text.chars().map(|_| (None, 1)));
        let of = |piece: &Piece| &text[piece.start..piece.start + piece.length];
        merging.run(|left, right| {
            let rank = table.iter().position(|pair| *pair == format!("{} {}", of(left), of(right)))?;
            Some((Reverse(rank), 0))
        });
        assert_eq!(merging.pieces().map(of).collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn the_best_pair_merges_first_and_of_equal_ones_the_leftmost() {
        check("abc", &["b c", "a b"], &["a", "bc"]);
        check("abc", &["a b", "b c"], &["ab", "c"]);
        check("aaaaa", &["a a", "aa aa"], &["aaaa", "a"]);
        check("aaaaa", &["a a", "aa a"], &["aa", "aaa"]);
        check("abab", &["a b", "ab ab"], &["abab"]);
        check("", &["a b"], &[]);
        check("a", &["a b"], &["a"]);
    }

    #[test]
    fn a_pair_whose_piece_has_gone_does_not_merge() {
        // "b c" waits in the heap while "a b" takes its b away.
        check("abcd", &["a b", "b c", "c d"], &["ab", "cd"]);
        check("xabab", &["x a", "a b", "xa b", "xab ab"], &["xabab"]);
    }

    #[test]
    fn scores_are_ordered_as_numbers() {
        assert_eq!(Score(0.0), Score(-0.0));
        assert!(Score(-1.5) > Score(-2.0) && Score(1e-30) > Score(0.0));
    }
}
