//! Sums and products of what a config asks for: too much for 64 bits is the largest number that fits.

pub(crate) fn sum(terms: impl IntoIterator<Item = u64>) -> u64 {
    terms.into_iter().fold(0, u64::saturating_add)
}

pub(crate) fn product(factors: impl IntoIterator<Item = usize>) -> u64 {
    factors.into_iter().fold(1, |product, factor| product.saturating_mul(factor as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_the_largest_that_does() {
        assert_eq!((sum([2, 3]), sum([])), (5, 0));
        assert_eq!(sum([u64::MAX, 1, 7]), u64::MAX);
        assert_eq!((product([2, 3, 4]), product([])), (24, 1));
        assert_eq!(product([usize::MAX, 3]), u64::MAX);
    }
}
