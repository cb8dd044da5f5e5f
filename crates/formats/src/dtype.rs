//! The number types that a weight file can hold.
//!
//! The spellings are those of the safetensors header, <https://github.com/huggingface/safetensors>.
//!
//! ```
//! use formwork_formats::Dtype;
//! assert_eq!(Dtype::Bf16.bytes(), 2);
//! assert_eq!(Dtype::from_name("BF16"), Some(Dtype::Bf16));
//! ```

use std::fmt;

/// The type of one number in a file, always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

impl Dtype {
    /// Every type, floats first, each kind from wide to narrow.
    pub const ALL: [Self; 13] = [
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
    ];

    /// Size of one number in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The spelling in a safetensors header, for example `"BF16"`.
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
        }
    }

    /// The type with this spelling, or `None`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Whether the type has a fraction, so that it can be read as `f32` or `f64`.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Bytes of a tensor of this type and `shape`, or `None` if that does not fit a `usize`.
    ///
    /// A scalar, `[]`, holds one number. The product is taken from left to right and each step must
    /// fit, so a zero does not excuse an overflow to its left.
    pub fn size_of(self, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n))?.checked_mul(self.bytes())
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
    }
}
