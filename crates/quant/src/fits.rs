//! What a matrix of some width can be stored in.

use formwork_kernels::blocks::Format;

/// `format`, or what stands in for it where rows of `cols` numbers are no whole number of its blocks.
///
/// The rule of llama.cpp (`tensor_type_fallback`): formats in blocks of 256 give way to one of about as many bits in
/// blocks of 32, and where that does not fit either, f16 takes the tensor. The result always fits.
pub(crate) fn fits(format: Format, cols: usize) -> Format {
    let smaller = match format {
        Format::Q2_K | Format::Q3_K => Format::Q4_0,
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K => Format::Q8_0,
        other => other,
    };
    [format, smaller].into_iter().find(|f| f.row_bytes(cols).is_some()).unwrap_or(Format::F16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_has_blocks_of_32_and_the_last_resort_is_f16() {
        let check = |format: Format, [at_512, at_96, at_33]: [Format; 3]| {
            let found = [512, 96, 33].map(|cols| fits(format, cols));
            assert_eq!(found, [at_512, at_96, at_33], "{format}");
        };
        use Format::{Bf16, F16, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
        check(Q2_K, [Q2_K, Q4_0, F16]);
        check(Q3_K, [Q3_K, Q4_0, F16]);
        check(Q4_K, [Q4_K, Q5_0, F16]);
        check(Q5_K, [Q5_K, Q5_1, F16]);
        check(Q6_K, [Q6_K, Q8_0, F16]);
        for format in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0] {
            check(format, [format, format, F16]);
        }
        for format in [F16, Bf16] {
            check(format, [format; 3]);
        }
    }

    #[test]
    fn what_is_given_always_fits() {
        for format in Format::ALL {
            assert!((0..600).all(|cols| fits(format, cols).row_bytes(cols).is_some()), "{format}");
        }
    }
}
