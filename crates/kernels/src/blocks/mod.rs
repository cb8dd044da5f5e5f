//! Matrices in the block formats of published files: what a block is, decoding, encoding, products.
//!
//! A row of a matrix is cut into blocks of [`Format::block`] numbers, each of [`Format::block_bytes`] bytes: small
//! integers with a scale, and in some formats an offset. Rows hold whole blocks, so that rows can be taken apart.

mod format;

pub use format::Format;
