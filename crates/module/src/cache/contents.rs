//! How a cache stores keys and values, and what it gives to attention.

use std::{fmt, sync::Arc};

use formwork_kernels::{
    Element,
    attention::Blocks,
    blocks::{self, Format},
};
use formwork_tensor::dispatch;
use serde::{Deserialize, Serialize};

use crate::{DType, Result, Tensor};

/// How a cache stores keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheType {
    /// As they are computed: `f32`, or `f64` in a model of such.
    #[default]
    F32,
    /// The upper halves of `f32`: half the memory, 8 bits of precision.
    Bf16,
    /// Blocks of 32 integers of 8 bits with a scale: 8.5 bits a number. A head whose width is no multiple of 32 is
    /// filled up to one. Numbers must be finite.
    #[serde(rename = "q8_0")]
    Q8_0,
}

impl CacheType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Q8_0];

    /// Its word in settings and on the command line: `f32`, `bf16`, `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Bytes that one head's key (or value) of a token takes.
    ///
    /// ```
    /// use formwork_module::CacheType;
    /// assert_eq!(CacheType::ALL.map(|kind| kind.row_bytes(64)), [256, 128, 68]);
    /// ```
    pub fn row_bytes(self, head_dim: usize) -> usize {
        self.format().map_or(4 * head_dim, |format| Blocks::row_bytes(format, head_dim))
    }

    /// The format of its blocks, if it is not plain numbers.
    pub(super) fn format(self) -> Option<Format> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(Format::Bf16),
            Self::Q8_0 => Some(Format::Q8_0),
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Keys or values as a cache holds them: `[b, g, capacity, e]`, or fewer tokens after [`narrow`](Self::narrow).
#[derive(Clone, Debug)]
pub enum CacheTensor {
    /// Numbers.
    Plain(Tensor),
    /// Blocks that stand for numbers.
    Blocks(CacheBlocks),
}

impl CacheTensor {
    /// `[b, g, tokens, e]`
    ///
    /// # Errors
    /// A tensor of another number of dimensions.
    pub fn dims(&self) -> Result<[usize; 4]> {
        match self {
            Self::Plain(x) => x.dims(),
            Self::Blocks(x) => Ok(x.dims()),
        }
    }

    /// The tensor, if it is numbers.
    pub fn plain(&self) -> Option<&Tensor> {
        match self {
            Self::Plain(x) => Some(x),
            Self::Blocks(_) => None,
        }
    }

    /// The first `tokens` of each row and head, where they lie.
    ///
    /// # Errors
    /// More tokens than there are.
    pub fn narrow(&self, tokens: usize) -> Result<Self> {
        match self {
            Self::Plain(x) => Ok(Self::Plain(x.narrow(2, 0, tokens)?)),
            Self::Blocks(x) => {
                let mut x = x.clone();
                if tokens > x.dims[2] {
                    let found = format_args!("{tokens} of {}", x.dims[2]).to_string();
                    return Err(crate::Error::shape("cache", "as many tokens as there are", found));
                }
                x.dims[2] = tokens;
                Ok(Self::Blocks(x))
            }
        }
    }

    /// As numbers, `[b, g, tokens, e]`: as they lie where they are plain, in the type they have; decoded to memory of
    /// their own, as `dtype`, where they are in blocks.
    ///
    /// # Errors
    /// A size that does not fit memory.
    pub fn numbers(&self, dtype: DType) -> Result<Tensor> {
        let x = match self {
            Self::Plain(x) => return Ok(x.clone()),
            Self::Blocks(x) => x,
        };
        let [b, g, tokens, e] = x.dims;
        let whole = e.next_multiple_of(x.format.block());
        let mut row = vec![0.0f32; whole];
        dispatch!(dtype, T => {
            let mut numbers = vec![T::of(0.0); b * g * tokens * e];
            for (i, to) in numbers.chunks_exact_mut(e.max(1)).enumerate() {
                let (head, token) = (i / tokens, i % tokens);
                blocks::decode(x.format, &x.data[(head * x.capacity + token) * x.row_bytes()..][..x.row_bytes()], &mut row);
                for (to, &x) in to.iter_mut().zip(&row) {
                    *to = Element::of(f64::from(x));
                }
            }
            Tensor::from_vec(numbers, &[b, g, tokens, e])
        })
    }
}

/// Keys or values in blocks: `[b, g, tokens, e]`, each row of `e` numbers filled up to whole blocks.
#[derive(Clone)]
pub struct CacheBlocks {
    pub(super) data: Arc<Vec<u8>>,
    pub(super) format: Format,
    /// `[b, g, tokens, e]`
    pub(super) dims: [usize; 4],
    /// Tokens from one head to the next.
    pub(super) capacity: usize,
}

impl CacheBlocks {
    /// All of the memory: row `[b, g, token]` begins at byte `((b · heads + g) · capacity + token) · row_bytes`.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// What a block is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// `[b, g, tokens, e]`
    pub fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// Tokens that each head has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        Blocks::row_bytes(self.format, self.dims[3])
    }
}

impl fmt::Debug for CacheBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBlocks")
            .field("format", &self.format)
            .field("dims", &self.dims)
            .finish_non_exhaustive()
    }
}
