//! Which keys a query sees: a rule, never a `t × t` tensor.

use std::ops::Range;

use formwork_kernels::attention::{Rule, Tile};
use serde::{Deserialize, Serialize};

/// A rule over positions in the text. Padding needs none: a padded token is neither a query nor a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mask {
    /// A query sees itself and what came before.
    #[default]
    Causal,
    /// Every query sees every key.
    Bidirectional,
}

impl Rule for Mask {
    fn allows(&self, query: usize, key: usize) -> bool {
        match self {
            Mask::Causal => key <= query,
            Mask::Bidirectional => true,
        }
    }

    fn tile(&self, queries: Range<usize>, keys: Range<usize>) -> Tile {
        match self {
            Mask::Bidirectional => Tile::Full,
            Mask::Causal if keys.end <= queries.start + 1 => Tile::Full,
            Mask::Causal if keys.start >= queries.end => Tile::Skip,
            Mask::Causal => Tile::Partial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_says_what_its_cells_say() {
        for mask in [Mask::Causal, Mask::Bidirectional] {
            for (q, k, t, s) in
                (0..5).flat_map(|q| (0..7).flat_map(move |k| [(q, k, 1, 1), (q, k, 3, 2), (q, k, 2, 5)]))
            {
                let cells: Vec<_> =
                    (q..q + t).flat_map(|i| (k..k + s).map(move |j| mask.allows(i, j))).collect();
                let expected = match (cells.contains(&true), cells.contains(&false)) {
                    (true, false) => Tile::Full,
                    (false, _) => Tile::Skip,
                    (true, true) => Tile::Partial,
                };
                assert_eq!(mask.tile(q..q + t, k..k + s), expected, "{mask:?} queries {q}+{t} keys {k}+{s}");
            }
        }
    }
}
