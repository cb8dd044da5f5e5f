//! Parts of a text in which no special token is recognised: what other people wrote into a prompt.

use std::ops::Range;

/// Byte ranges, in order and apart from each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protected {
    ranges: Vec<Range<usize>>,
}

impl Protected {
    /// Ranges in any order, overlapping or not; empty ones protect nothing.
    pub(crate) fn new(ranges: &[Range<usize>]) -> Self {
        let mut list: Vec<Range<usize>> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
        list.sort_unstable_by_key(|range| (range.start, range.end));
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(list.len());
        for range in list {
            match ranges.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        Protected { ranges }
    }

    /// Whether nothing is protected.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a stretch of the text has a protected byte in it.
    pub(crate) fn touches(&self, start: usize, end: usize) -> bool {
        let first = self.ranges.partition_point(|range| range.end <= start);
        start < end && self.ranges.get(first).is_some_and(|range| range.start < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_protected_if_one_byte_of_it_is() {
        #[allow(clippy::reversed_empty_ranges, reason = "a caller may pass one")]
        let protected = Protected::new(&[7..9, 2..4, 3..5, 9..9, 11..2]);
        for (start, end, expected) in [
            (0, 2, false),
            (0, 3, true),
            (4, 5, true),
            (5, 7, false),
            (5, 8, true),
            (8, 20, true),
            (9, 20, false),
            (3, 3, false),
            (0, 20, true),
        ] {
            assert_eq!(protected.touches(start, end), expected, "{start}..{end}");
        }
        assert!(!Protected::default().touches(0, 100) && Protected::default().is_empty());
    }
}
