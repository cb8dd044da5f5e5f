//! What a tensor in a file is to be: name, type and shape, for either format.
//!
//! ```
//! use formwork_formats::{Dtype, TensorSpec};
//! let spec = TensorSpec { name: "w".into(), dtype: Dtype::Q4_0, shape: vec![3, 64] };
//! assert_eq!(spec.bytes()?, 108);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use crate::error::{Error, Result};
use crate::{Dtype, ErrorKind};

/// Name, type and shape of a tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the file.
    pub name: String,
    /// The type of its numbers in the file. Block types are for GGUF alone.
    pub dtype: Dtype,
    /// Its dimensions, outermost first; `[]` is a scalar.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// How many bytes its numbers take.
    ///
    /// # Errors
    /// They do not fit the address space, or a row is no whole number of blocks.
    pub fn bytes(&self) -> Result<u64> {
        let Self { name, dtype, shape } = self;
        if !dtype.has_whole_blocks(shape) {
            let found = shape.last().copied().unwrap_or(1) as u64;
            let kind = ErrorKind::PartialBlock { dtype: *dtype, found, block: dtype.block() };
            return Err(Error::from(kind).at(name));
        }
        dtype.size_of(shape).map(|size| size as u64).ok_or_else(|| self.too_large())
    }

    /// The error of a tensor that ends behind all addresses.
    pub(crate) fn too_large(&self) -> Error {
        let shape = self.shape.iter().map(|&n| n as u64).collect();
        Error::from(ErrorKind::SizeOverflow { shape, dtype: self.dtype }).at(&self.name)
    }
}
