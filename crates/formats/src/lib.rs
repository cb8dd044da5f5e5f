//! Weight files as checked bytes: read, mapped, and written so that a crash loses nothing.
//!
//! This crate knows names, number types, shapes and bytes. It knows no tensor, no model and no
//! other crate of the workspace; what to do with the bytes is for the crates above it.
//!
//! | To | Use |
//! |---|---|
//! | read a file, an index with its shards, or a folder | [`Archive::open`], [`Archive::from_bytes`], [`Archive::from_shards`] |
//! | read exactly one safetensors file | [`SafeTensors::open`], [`SafeTensors::from_bytes`] |
//! | read a GGUF file with its metadata | [`Gguf::open`](gguf::Gguf::open), [`Archive::gguf`] |
//! | take numbers out of an entry | [`Entry::to_f32`], [`Entry::copy_into_f32`], [`Entry::as_f32`], [`Entry::rows`] |
//! | write one safetensors file, tensor by tensor | [`Writer`] with a [`Layout`] |
//! | write a GGUF file | [`gguf::Writer`] with a [`gguf::Layout`] |
//! | write a folder of shards | [`ArchiveWriter`] |
//! | replace any file, or publish a whole folder, in one step | [`atomic_write`], [`AtomicFile`], [`AtomicFolder`] |
//!
//! Files come from strangers: every count is compared with the bytes that are there before
//! anything is allocated, all arithmetic is checked, and each way in which a file can be wrong is
//! an [`ErrorKind`] of its own that names the file and the tensor.
//!
//! ```
//! use formwork_formats::{Archive, Bytes, Dtype, Layout, Writer};
//!
//! let layout = Layout::new().tensor("norm.gain", Dtype::Bf16, &[3]).note("format", "pt");
//! let mut file = Vec::new();
//! let mut writer = Writer::new(&mut file, &layout)?;
//! writer.append_f32("norm.gain", &[1.0, -2.5, 0.125])?;
//! writer.finish()?;
//!
//! let archive = Archive::from_bytes(Bytes::from(file))?;
//! let gain = archive.entry("norm.gain").expect("written above");
//! assert_eq!(gain.shape(), [3]);
//! assert_eq!(gain.to_f32()?, [1.0, -2.5, 0.125]);
//! # Ok::<(), formwork_formats::Error>(())
//! ```
//!
//! Features: `mmap` (default) maps files instead of reading them. Without it everything behaves
//! the same and costs one copy of the file in memory.

#![deny(unsafe_code)]

mod archive;
mod atomic;
mod bytes;
mod convert;
mod dtype;
mod entry;
mod error;
pub mod gguf;
mod kind;
#[allow(unsafe_code, reason = "the memory map and the cast of its bytes")]
mod raw;
mod safetensors;
mod sentence;
mod spec;
mod stream;

pub use archive::Archive;
pub use atomic::{AtomicFile, AtomicFolder, atomic_write, remove_stale_temporaries};
pub use bytes::{Bytes, F32View};
pub use dtype::Dtype;
pub use entry::Entry;
pub use error::{Error, Result};
pub use kind::ErrorKind;
pub use safetensors::{
    ArchiveWriter, INDEX_NAME, Layout, MAX_DIMS, MAX_HEADER, SINGLE_NAME, SafeTensors, Writer,
};
pub use spec::TensorSpec;
