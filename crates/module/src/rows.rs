//! Which tokens of a batch are real, and at which position each row begins.

use std::ops::Range;

use formwork_kernels::scratch::List;

use crate::{Error, Result};

/// The real tokens of each row of a batch `[b, t]`: one range per row, the rest is padding.
///
/// Left padding is a range that ends at `t`, right padding one that starts at 0.
/// The default is a batch without padding, of any size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    ranges: Option<List<Range<usize>>>,
    /// The position of the first real token of each row; 0 where nothing is said.
    starts: Option<List<usize>>,
}

/// One row of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSpan {
    /// Its real tokens, as indices into the row.
    pub tokens: Range<usize>,
    /// How many tokens of this row came before the first of them: 0, or what the cache already holds.
    pub first: usize,
    /// The position of the first of them, for encodings: `first`, unless [`Rows::starting_at`] says otherwise.
    pub position: usize,
}

impl RowSpan {
    /// Tokens of a row after `first` others, at the position that follows theirs.
    pub fn new(tokens: Range<usize>, first: usize) -> Self {
        Self { tokens, first, position: first }
    }
}

impl Rows {
    /// Rows of the given lengths, padded at the end.
    pub fn right_padded(lengths: &[usize]) -> Self {
        Self::of(lengths.iter().map(|&len| 0..len))
    }

    /// Rows of the given lengths, padded at the beginning, in a batch `width` tokens wide.
    ///
    /// # Errors
    /// A length beyond `width`.
    pub fn left_padded(lengths: &[usize], width: usize) -> Result<Self> {
        if let Some(len) = lengths.iter().find(|&&len| len > width) {
            return Err(Error::invalid("padding", format_args!("rows of at most {width} tokens"), len));
        }
        Ok(Self::of(lengths.iter().map(|&len| width - len..width)))
    }

    /// Rows from a mask `[b][t]` that is true at real tokens.
    ///
    /// # Errors
    /// A row whose real tokens are not in one piece.
    pub fn from_mask<'m>(rows: impl IntoIterator<Item = &'m [bool]>) -> Result<Self> {
        let span = |(row, mask): (usize, &[bool])| {
            let start = mask.iter().position(|&real| real).unwrap_or(0);
            let len = mask[start..].iter().take_while(|&&real| real).count();
            match mask[start + len..].contains(&true) {
                false => Ok(start..start + len),
                true => Err(Error::invalid(
                    "padding mask",
                    "real tokens in one piece",
                    format_args!("a hole in row {row}"),
                )
                .hint("pad on the left or on the right of each row")),
            }
        };
        let ranges = rows.into_iter().enumerate().map(span).collect::<Result<Vec<_>>>()?;
        Ok(Self::of(ranges))
    }

    fn of(ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        Self { ranges: Some(ranges.into_iter().collect()), starts: None }
    }

    /// Sets the position of the first real token of each row, for texts that do not begin where their positions do.
    /// With a cache, it is the position of the first token that the cache took in.
    #[must_use]
    pub fn starting_at(mut self, positions: &[usize]) -> Self {
        self.starts = Some(positions.into());
        self
    }

    /// The position at which each of `b` rows starts.
    ///
    /// # Errors
    /// Another number of rows.
    pub(crate) fn starts(&self, b: usize) -> Result<&[usize]> {
        match &self.starts {
            Some(starts) if starts.len() != b => {
                let found = format!("{} positions", starts.len());
                Err(Error::shape("positions", format_args!("a first position for each of {b} rows"), found))
            }
            starts => Ok(starts.as_ref().map_or(&[], |starts| &starts[..])),
        }
    }

    /// The range of each of `b` rows of `t` tokens.
    ///
    /// # Errors
    /// Another number of rows, or a range past `t`.
    pub fn ranges(&self, b: usize, t: usize) -> Result<List<Range<usize>>> {
        let Some(ranges) = &self.ranges else { return Ok(List::repeated(0..t, b)) };
        if ranges.len() != b || ranges.iter().any(|r| r.end > t) {
            return Err(Error::shape(
                "padding",
                format_args!("ranges for [{b}, {t}] tokens"),
                format_args!("{ranges:?}"),
            ));
        }
        Ok(ranges.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_becomes_one_range_a_row_or_is_refused() {
        let check = |mask: &[bool], range: Option<Range<usize>>| {
            let found = Rows::from_mask([mask]).and_then(|rows| rows.ranges(1, mask.len()));
            assert_eq!(found.ok().map(|r| r[0].clone()), range, "{mask:?}");
        };
        check(&[true, true, true], Some(0..3));
        check(&[false, true, true], Some(1..3));
        check(&[true, false, false], Some(0..1));
        check(&[false, false], Some(0..0));
        check(&[true, false, true], None);
    }

    #[test]
    fn rows_may_start_at_any_position() {
        let pass = crate::Pass::infer().rows(Rows::right_padded(&[2, 3]).starting_at(&[7, 0]));
        let spans = pass.spans(2, 3).unwrap();
        assert_eq!(spans[0], RowSpan { tokens: 0..2, first: 0, position: 7 });
        assert_eq!(spans[1], RowSpan { tokens: 0..3, first: 0, position: 0 });
        let error = crate::Pass::infer().rows(Rows::default().starting_at(&[7])).spans(2, 3).unwrap_err();
        assert!(error.to_string().contains("for each of 2 rows"), "{error}");
    }

    #[test]
    fn ranges_must_fit_the_batch() {
        assert!(Rows::left_padded(&[2, 9], 5).is_err());
        assert!(Rows::right_padded(&[2, 9]).ranges(2, 5).is_err());
        assert!(Rows::right_padded(&[2]).ranges(2, 5).is_err());
        assert_eq!(Rows::default().ranges(2, 3).unwrap()[..], [0..3, 0..3]);
    }
}
