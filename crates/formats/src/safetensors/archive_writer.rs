//! Writing a model into a folder, in one file or in shards with an index.
//!
//! All shards are written and synced under temporary names, then renamed, the index last. So that
//! old and new shards can never mix, shards are refused where weights are already; to replace a
//! checkpoint, write into an [`AtomicFolder`](crate::AtomicFolder).
//!
//! ```
//! use formwork_formats::{Archive, ArchiveWriter, Dtype, Layout};
//! let folder = tempfile::tempdir().expect("a place to write");
//! let layout = Layout::new().tensor("w", Dtype::Bf16, &[3]);
//! let mut writer = ArchiveWriter::create(folder.path(), &layout, 5_000_000_000)?;
//! writer.append_f32("w", &[1.0, 2.0, 3.0])?;
//! writer.finish()?;
//! assert_eq!(std::fs::metadata(folder.path().join("model.safetensors")).expect("one file").len(), 70);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use super::SINGLE_NAME;
use super::index::{self, INDEX_NAME};
use super::layout::Layout;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::{AtomicFile, ErrorKind, atomic_write};

/// The weights of a model being written into a folder, tensor by tensor in declared order.
///
/// A model that fits one shard becomes `model.safetensors` and no index; a larger one becomes
/// `model-00001-of-0000N.safetensors` and `model.safetensors.index.json`.
#[derive(Debug)]
pub struct ArchiveWriter {
    folder: PathBuf,
    shards: Shards,
}

#[derive(Debug)]
struct Shards {
    current: Option<Writer<'static>>,
    waiting: VecDeque<(PathBuf, Layout)>,
    /// Complete and synced, not yet in place; dropping them removes them.
    done: Vec<AtomicFile>,
    index: Option<Vec<u8>>,
    count: usize,
}

impl ArchiveWriter {
    /// Begins the weights of `layout` in `folder`, which must exist, with at most `shard_bytes`
    /// bytes of numbers in each file; published models use 5 · 10⁹.
    ///
    /// # Errors
    /// As [`Writer::create`]; or the folder holds an index, or the model takes several shards and
    /// the folder holds weights of any form.
    pub fn create(folder: impl AsRef<Path>, layout: &Layout, shard_bytes: u64) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        let in_folder = |error: Error| error.in_file(Some(&folder));
        // A name that stands in two shards is only seen with all of them together.
        layout.check().map_err(in_folder)?;
        let layouts = layout.split(shard_bytes).map_err(in_folder)?;
        let count = layouts.len();
        refuse_mixing(&folder, count).map_err(in_folder)?;
        let name = |i: usize| match count {
            1 => SINGLE_NAME.to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        let index = (count > 1).then(|| -> Result<Vec<u8>> {
            let tensors = layouts.iter().enumerate().flat_map(|(i, shard)| {
                shard.tensors.iter().map(move |tensor| (tensor.name.as_str(), name(i)))
            });
            Ok(index::encode(&tensors.collect::<BTreeMap<_, _>>(), layout.data_bytes()?))
        });
        let index = index.transpose().map_err(in_folder)?;
        let waiting =
            layouts.into_iter().enumerate().map(|(i, shard)| (folder.join(name(i)), shard)).collect();
        let mut shards = Shards { current: None, waiting, done: Vec::new(), index, count };
        shards.advance()?;
        Ok(Self { folder, shards })
    }

    /// Appends the next bytes of `tensor`, as [`Writer::append_bytes`].
    ///
    /// # Errors
    /// As [`Writer::append_bytes`].
    pub fn append_bytes(&mut self, tensor: &str, bytes: &[u8]) -> Result<()> {
        self.append(tensor, |writer| writer.append_bytes(tensor, bytes))
    }

    /// Appends the next numbers of `tensor`, as [`Writer::append_f32`].
    ///
    /// # Errors
    /// As [`Writer::append_f32`].
    pub fn append_f32(&mut self, tensor: &str, values: &[f32]) -> Result<()> {
        self.append(tensor, |writer| writer.append_f32(tensor, values))
    }

    /// Appends the next numbers of `tensor`, as [`Writer::append_f64`].
    ///
    /// # Errors
    /// As [`Writer::append_f64`].
    pub fn append_f64(&mut self, tensor: &str, values: &[f64]) -> Result<()> {
        self.append(tensor, |writer| writer.append_f64(tensor, values))
    }

    /// Puts all files in place, the index last.
    ///
    /// # Errors
    /// Not all declared numbers were appended, an earlier call failed, or the disk is full.
    pub fn finish(mut self) -> Result<()> {
        while self.shards.current.is_some() {
            self.shards.advance()?;
        }
        if self.shards.done.len() != self.shards.count {
            // The next shard could not be begun, and the caller went on.
            let (expected, found) = (self.shards.count, self.shards.done.len());
            return Err(Error::from(ErrorKind::MissingShards { expected, found }).in_file(Some(&self.folder)));
        }
        let Some(index) = self.shards.index else {
            return self.shards.done.into_iter().try_for_each(AtomicFile::commit);
        };
        let targets: Vec<_> = self.shards.done.iter().map(|file| file.target().to_path_buf()).collect();
        let placed = self.shards.done.into_iter().try_for_each(AtomicFile::commit);
        let result = placed.and_then(|()| atomic_write(self.folder.join(INDEX_NAME), &index));
        if result.is_err() {
            // Several shards are only ever placed where none was, so what is there now is ours.
            for shard in targets {
                let _ = std::fs::remove_file(shard);
            }
        }
        result
    }

    fn append(
        &mut self,
        tensor: &str,
        append: impl FnOnce(&mut Writer<'static>) -> Result<()>,
    ) -> Result<()> {
        if self.shards.current.as_ref().is_some_and(Writer::is_complete) {
            self.shards.advance()?;
        }
        match &mut self.shards.current {
            Some(writer) => append(writer),
            None => {
                let error = Error::from(ErrorKind::OutOfOrder { expected: None }).at(tensor);
                Err(error.in_file(Some(&self.folder)))
            }
        }
    }
}

/// What would be read instead of, or together with, the weights about to be written.
fn refuse_mixing(folder: &Path, count: usize) -> Result<()> {
    let listing = || -> std::io::Result<Option<String>> {
        let mut found = None;
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name == INDEX_NAME || count > 1 && name.ends_with(".safetensors") {
                // The first by name, since the system's order is arbitrary.
                found = found.into_iter().chain([name]).min();
            }
        }
        Ok(found)
    };
    match listing().map_err(|source| Error::io("list the folder", source))? {
        Some(found) => Err(ErrorKind::AlreadyThere { found }.into()),
        None => Ok(()),
    }
}

impl Shards {
    /// Closes the current shard and begins the next, if there is one.
    fn advance(&mut self) -> Result<()> {
        if let Some(writer) = self.current.take() {
            self.done.extend(writer.into_synced_file()?);
        }
        if let Some((path, layout)) = self.waiting.pop_front() {
            self.current = Some(Writer::create(path, &layout)?);
        }
        Ok(())
    }
}
