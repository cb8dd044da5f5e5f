//! The number types that a weight file can hold.
//!
//! A plain type is a number of its own; in a block type, several numbers of a row share a scale and
//! perhaps an offset. The spellings of the plain types are those of the safetensors header,
//! <https://github.com/huggingface/safetensors>, those of the block types are ggml's,
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! ```
//! use formwork_formats::Dtype;
//! assert_eq!(Dtype::from_name("BF16"), Some(Dtype::Bf16));
//! assert_eq!((Dtype::Bf16.block(), Dtype::Bf16.block_bytes()), (1, 2));
//! assert_eq!((Dtype::Q4_K.block(), Dtype::Q4_K.block_bytes()), (256, 144));
//! assert_eq!(Dtype::Q4_0.size_of(&[3, 64]), Some(3 * 2 * 18));
//! ```

use std::fmt;

/// The type of the numbers of a tensor in a file, always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "these are the names under which the block types are known")]
pub enum Dtype {
    /// IEEE double precision, 8 bytes.
    F64,
    /// IEEE single precision, 4 bytes.
    F32,
    /// IEEE half precision, 2 bytes: 5 exponent bits, largest value 65504.
    F16,
    /// The upper half of an `F32`, 2 bytes: its range with 8 bits of precision.
    Bf16,
    /// Signed integer, 8 bytes.
    I64,
    /// Signed integer, 4 bytes.
    I32,
    /// Signed integer, 2 bytes.
    I16,
    /// Signed integer, 1 byte.
    I8,
    /// Unsigned integer, 8 bytes.
    U64,
    /// Unsigned integer, 4 bytes.
    U32,
    /// Unsigned integer, 2 bytes.
    U16,
    /// Unsigned integer, 1 byte.
    U8,
    /// A truth value in 1 byte: 0 is false, everything else true.
    Bool,
    /// Blocks of 32 numbers: a scale, and 4 bits each.
    Q4_0,
    /// Blocks of 32 numbers: a scale, a minimum, and 4 bits each.
    Q4_1,
    /// Blocks of 32 numbers: a scale, and 5 bits each.
    Q5_0,
    /// Blocks of 32 numbers: a scale, a minimum, and 5 bits each.
    Q5_1,
    /// Blocks of 32 numbers: a scale, and 8 bits each.
    Q8_0,
    /// Blocks of 256 numbers: 16 groups with a scale and a minimum, and 2 bits each.
    Q2_K,
    /// Blocks of 256 numbers: 16 groups with a scale, and 3 bits each.
    Q3_K,
    /// Blocks of 256 numbers: 8 groups with a scale and a minimum, and 4 bits each.
    Q4_K,
    /// Blocks of 256 numbers: 8 groups with a scale and a minimum, and 5 bits each.
    Q5_K,
    /// Blocks of 256 numbers: 16 groups with a scale, and 6 bits each.
    Q6_K,
}

impl Dtype {
    /// Every type: floats, integers, each from wide to narrow, and then the types in blocks.
    pub const ALL: [Self; 23] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// How many numbers stand in one block; 1 for the plain types.
    pub fn block(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
            _ => 1,
        }
    }

    /// Whether the numbers stand in blocks, so that only the `quant` crate can read them.
    pub fn is_blocks(self) -> bool {
        self.block() > 1
    }

    /// Size of one block in bytes; of one number for the plain types.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// The spelling, for example `"BF16"` or `"Q4_K"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
        }
    }

    /// The type with this spelling, or `None`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Whether it is a plain type with a fraction, so that it can be read as `f32` or `f64`.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Whether the last dimension of `shape` holds whole blocks, as every row must; always so for
    /// the plain types.
    pub fn has_whole_blocks(self, shape: &[usize]) -> bool {
        shape.last().copied().unwrap_or(1).is_multiple_of(self.block())
    }

    /// Bytes of a tensor of this type and `shape`, or `None` if that does not fit a `usize` or a row
    /// is no whole number of blocks.
    ///
    /// A scalar, `[]`, holds one number. A dimension of zero does not excuse the others: their product
    /// must fit as well, so that no stride computed from the shape can wrap.
    pub fn size_of(self, shape: &[usize]) -> Option<usize> {
        if !self.has_whole_blocks(shape) {
            return None;
        }
        let most = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n.max(1)))?;
        let bytes = most.div_ceil(self.block()).checked_mul(self.block_bytes())?;
        Some(if shape.contains(&0) { 0 } else { bytes })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_type() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(Dtype::from_name("F8_E4M3"), None);
        assert_eq!(Dtype::from_name("f32"), None);
    }

    #[test]
    fn sizes_are_checked_products() {
        assert_eq!(Dtype::F32.size_of(&[]), Some(4));
        assert_eq!(Dtype::F16.size_of(&[2, 3, 5]), Some(60));
        assert_eq!(Dtype::U8.size_of(&[0, 7]), Some(0));
        assert_eq!(Dtype::U8.size_of(&[usize::MAX]), Some(usize::MAX));
        assert_eq!(Dtype::F16.size_of(&[usize::MAX]), None);
        assert_eq!(Dtype::U8.size_of(&[usize::MAX, 2]), None);
        assert_eq!(Dtype::U8.size_of(&[usize::MAX, 2, 0]), None);
        assert_eq!(Dtype::U8.size_of(&[0, usize::MAX, 2]), None);
    }

    #[test]
    fn rows_are_whole_blocks() {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_blocks()) {
            let (block, bytes) = (dtype.block(), dtype.block_bytes());
            assert_eq!(dtype.size_of(&[2, 3 * block]), Some(6 * bytes), "{dtype}");
            assert_eq!(dtype.size_of(&[block, 0]), Some(0), "{dtype}");
            // Whole blocks in all, and none of the rows is.
            assert_eq!(dtype.size_of(&[block, block / 2]), None, "{dtype}");
            assert_eq!(dtype.size_of(&[]), None, "{dtype}");
            assert_eq!(dtype.size_of(&[usize::MAX, block]), None, "{dtype}");
        }
    }
}
