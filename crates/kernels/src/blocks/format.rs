//! The names and sizes of the block formats.
//!
//! ```
//! use formwork_kernels::blocks::Format;
//! assert_eq!((Format::Q4_0.block(), Format::Q4_0.block_bytes()), (32, 18));
//! assert_eq!(Format::Q4_0.row_bytes(96), Some(54));
//! assert_eq!(Format::Q4_0.row_bytes(40), None); // a row holds whole blocks
//! ```

use std::fmt;

/// How the numbers of a matrix stand in memory; the layouts are those of ggml.
///
/// The two 16-bit formats are blocks of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "these are the names under which the formats are known")]
pub enum Format {
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// 32 numbers of 4 bits and a scale.
    Q4_0,
    /// 32 numbers of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 numbers of 5 bits and a scale.
    Q5_0,
    /// 32 numbers of 5 bits, a scale and a minimum.
    Q5_1,
    /// 32 numbers of 8 bits and a scale.
    Q8_0,
    /// 256 numbers of 2 bits; 16 groups with a scale and a minimum of 4 bits each.
    Q2_K,
    /// 256 numbers of 3 bits; 16 groups with a scale of 6 bits.
    Q3_K,
    /// 256 numbers of 4 bits; 8 groups with a scale and a minimum of 6 bits each.
    Q4_K,
    /// 256 numbers of 5 bits; 8 groups with a scale and a minimum of 6 bits each.
    Q5_K,
    /// 256 numbers of 6 bits; 16 groups with a scale of 8 bits.
    Q6_K,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 12] = [
        Self::F16,
        Self::Bf16,
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

    /// Numbers in a block.
    pub fn block(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
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

    /// Bytes of a row of `n` numbers, or `None` if that is no whole number of blocks or does not fit a `usize`.
    pub fn row_bytes(self, n: usize) -> Option<usize> {
        match n.is_multiple_of(self.block()) {
            true => (n / self.block()).checked_mul(self.block_bytes()),
            false => None,
        }
    }

    /// The name, in lower case, as a command line spells it: `q4_k`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q2_K => "q2_k",
            Self::Q3_K => "q3_k",
            Self::Q4_K => "q4_k",
            Self::Q5_K => "q5_k",
            Self::Q6_K => "q6_k",
        }
    }

    /// The format of this name, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
