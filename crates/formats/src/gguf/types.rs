//! The numbers by which GGUF names the types of tensors.
//!
//! The list is ggml's, <https://github.com/ggml-org/ggml/blob/master/include/ggml.h>. Types that have
//! no [`Dtype`] are known by name, so that a refusal can say what was found.
//!
//! ```
//! use formwork_formats::Dtype;
//! use formwork_formats::gguf::{Gguf, Layout, Writer};
//! let mut file = Vec::new();
//! let layout = Layout::new().tensor("w", Dtype::Q4_K, &[256]);
//! let mut writer = Writer::new(&mut file, &layout)?;
//! writer.append_bytes("w", &[0; 144])?;
//! writer.finish()?;
//! let kind = file.windows(12).position(|w| w == [0, 1, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0]);
//! assert!(kind.is_some()); // the dimension 256, and type 12 is Q4_K
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use crate::{Dtype, ErrorKind};

/// The types that we read and write.
const TYPES: [(u32, Dtype); 18] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (10, Dtype::Q2_K),
    (11, Dtype::Q3_K),
    (12, Dtype::Q4_K),
    (13, Dtype::Q5_K),
    (14, Dtype::Q6_K),
    (24, Dtype::I8),
    (25, Dtype::I16),
    (26, Dtype::I32),
    (27, Dtype::I64),
    (28, Dtype::F64),
    (30, Dtype::Bf16),
];

/// Those that exist, or did, and that we do not read.
const OTHERS: [(u32, &str); 25] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

/// The type of this number.
pub(super) fn dtype(number: u32) -> Result<Dtype, ErrorKind> {
    let known = TYPES.iter().find(|(n, _)| *n == number).map(|(_, dtype)| *dtype);
    known.ok_or_else(|| {
        let name = OTHERS.iter().find(|(n, _)| *n == number).map(|(_, name)| *name);
        ErrorKind::UnsupportedType { number, name }
    })
}

/// The number of this type, or `None` for one that GGUF does not have.
pub(super) fn number(dtype: Dtype) -> Option<u32> {
    TYPES.iter().find(|(_, known)| *known == dtype).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_types_lead_back_to_each_other() {
        let mut known = 0;
        for number in 0..100 {
            match dtype(number) {
                Ok(dtype) => {
                    assert_eq!(self::number(dtype), Some(number));
                    known += 1;
                }
                Err(ErrorKind::UnsupportedType { name, .. }) => assert_eq!(name.is_some(), number <= 42),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(known, 18);
        for dtype in [Dtype::U64, Dtype::U32, Dtype::U16, Dtype::U8, Dtype::Bool] {
            assert_eq!(number(dtype), None);
        }
    }
}
