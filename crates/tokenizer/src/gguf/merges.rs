//! The merges of a byte-level vocabulary: pairs of tokens in the order they merge.

use crate::error::{Result, shorten};
use crate::gguf::check::refuse;
use crate::gguf::texts::Texts;
use crate::pieces::Pieces;
use crate::table::Table;

/// Pairs by rank, and a way to find them by their tokens.
#[derive(Debug)]
pub(crate) struct Merges {
    /// By rank; of a pair that occurs twice the first counts.
    pairs: Vec<Pair>,
    ranks: Table,
}

/// Two tokens and the one they make.
#[derive(Clone, Copy, Debug)]
struct Pair {
    both: [u32; 2],
    whole: u32,
}

impl Merges {
    /// Reads the merges of a file, in which all three texts must be tokens; there are at most 2^30, which the caller
    /// has checked.
    pub(crate) fn read(lines: &Texts, pieces: &Pieces) -> Result<Self> {
        let mut merges = Merges { pairs: Vec::with_capacity(lines.len()), ranks: Table::new(lines.len()) };
        let mut text = String::new();
        for (rank, line) in (0..).zip(lines.iter()) {
            let fail = |problem: String| refuse(format_args!("merges[{rank}]"), problem);
            let Some((left, right)) = std::str::from_utf8(line).ok().and_then(split) else {
                let found = shorten(&String::from_utf8_lossy(line));
                return Err(fail(format!("expected two pieces with a space between, found {found:?}")));
            };
            text.clear();
            text.push_str(left);
            text.push_str(right);
            let id = |piece: &str| {
                pieces.id(piece).ok_or_else(|| {
                    fail(format!(
                        "the piece {:?} is no token; tokens and merges are of different vocabularies",
                        shorten(piece)
                    ))
                })
            };
            let pair = Pair { both: [id(left)?, id(right)?], whole: id(&text)? };
            let Merges { pairs, ranks } = &mut merges;
            ranks.insert(&pair.both, rank, |other| pairs[other as usize].both == pair.both);
            pairs.push(pair);
        }
        Ok(merges)
    }

    /// The rank of a pair and the token it makes, if it merges.
    pub(crate) fn find(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let both = [left, right];
        let rank = self.ranks.find(&both, |rank| self.pairs[rank as usize].both == both)?;
        Some((rank, self.pairs[rank as usize].whole))
    }

    /// Every pair that merges, by rank; not those that occurred before.
    pub(crate) fn iter(&self) -> impl Iterator<Item = [u32; 2]> {
        let first = |(rank, both): &(u32, [u32; 2])| {
            self.find(both[0], both[1]).is_some_and(|found| found.0 == *rank)
        };
        (0..).zip(self.pairs.iter().map(|pair| pair.both)).filter(first).map(|(_, both)| both)
    }

    /// The lines that were read.
    pub(crate) fn lines(&self, pieces: &Pieces) -> Texts {
        let text = |id: u32| pieces.piece(id).unwrap_or_default();
        self.pairs
            .iter()
            .map(|Pair { both: [left, right], .. }| format!("{} {}", text(*left), text(*right)))
            .collect()
    }
}

/// The two pieces of a line. A piece may begin with a space in vocabularies that are not byte-level, so the first
/// character never separates.
fn split(line: &str) -> Option<(&str, &str)> {
    let space = line.char_indices().skip(1).find(|(_, character)| *character == ' ')?.0;
    Some((&line[..space], &line[space + 1..]))
}
