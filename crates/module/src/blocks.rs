//! A matrix as the bytes of a block format: what a visitor sees of a weight that does not learn.

use std::{fmt, ops::Deref, sync::Arc};

use formwork_kernels::blocks::Format;

use crate::{Error, Result};

/// A matrix `[out, in]` in a block format, named by its place; clones share the bytes.
#[derive(Clone)]
pub struct Blocks {
    path: String,
    shape: [usize; 2],
    format: Format,
    bytes: Arc<dyn Deref<Target = [u8]> + Send + Sync>,
    release: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Blocks {
    /// A matrix from its rows, each of whole blocks; the bytes may be mapped from a file.
    ///
    /// # Errors
    /// A width that is no whole number of blocks, or another number of bytes than the shape asks for.
    pub fn new(
        path: impl Into<String>,
        shape: [usize; 2],
        format: Format,
        bytes: impl Deref<Target = [u8]> + Send + Sync + 'static,
    ) -> Result<Self> {
        let path = path.into();
        let [out, inp] = shape;
        let Some(row) = format.row_bytes(inp) else {
            let expected = format!("rows of a multiple of {} numbers for {format}", format.block());
            return Err(Error::shape("blocks", expected, format_args!("{shape:?}")).at(path));
        };
        if row.checked_mul(out) != Some(bytes.len()) {
            let expected = format!("{out} rows of {row} bytes for {shape:?} in {format}");
            return Err(Error::invalid("blocks", expected, format_args!("{} bytes", bytes.len())).at(path));
        }
        Ok(Self { path, shape, format, bytes: Arc::new(bytes), release: None })
    }

    /// Sets how to tell the system that the bytes are not needed for now: pages of a mapped file leave memory, and come
    /// back when next touched.
    #[must_use]
    pub fn released_by(mut self, release: impl Fn() + Send + Sync + 'static) -> Self {
        self.release = Some(Arc::new(release));
        self
    }

    /// Tells the system that the bytes are not needed for now; nothing happens unless
    /// [`released_by`](Self::released_by) says how.
    pub fn release(&self) {
        if let Some(release) = &self.release {
            release();
        }
    }

    /// The full name of its place, such as `blocks.3.attn.q.weight`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub(crate) fn shape_ref(&self) -> &[usize] {
        &self.shape
    }

    /// How its numbers stand in memory.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Its rows, one after another.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocks({} {:?} {})", self.path, self.shape, self.format)
    }
}
