//! The three ways in which encoders turn a number into an integer.
//!
//! They differ at ties and out of range, and the bits of a block depend on it.

/// The nearest integer, ties to even, for |x| below 2^22.
///
/// Adding 1.5·2^23 leaves no room for a fraction, so the addition rounds and the integer stands in the fraction
/// bits. Beyond that range, and for what is not finite, the result is some integer within ±2^22, always the same.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// `x` without its fraction, kept to the low eight bits; 0 if that is no 32-bit integer.
///
/// C leaves the last case open. What x86 does is this, and it matters: the inverse of a scale below 2.9e-39
/// overflows, so that a block of tiny numbers reaches it.
#[inline(always)]
pub(super) fn truncated(x: f32) -> i8 {
    let whole = if x.abs() < 2_147_483_648.0 { x as i32 } else { 0 };
    whole as i8
}

/// `1/x`, or 0 for 0.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_integer_takes_the_even_one_of_two() {
        let table = [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (2.500_001, 3),
            (-31.49, -31),
            (4.0e6, 4_000_000),
        ];
        for (x, want) in table {
            assert_eq!(nearest(x), want, "{x}");
        }
    }

    #[test]
    fn truncation_goes_towards_zero_and_gives_zero_out_of_range() {
        let table = [(15.999, 15), (-0.7, 0), (-3.2, -3), (f32::INFINITY, 0), (f32::NAN, 0), (3e9, 0)];
        for (x, want) in table {
            assert_eq!(truncated(x), want, "{x}");
        }
    }
}
