//! All weights of a model, whether they are one file, an index with shards, or a folder of either.
//!
//! | Path | What is read |
//! |---|---|
//! | a file ending in `.json` | the index, and the shards beside it that it names |
//! | a file ending in `.gguf`, or that begins with `GGUF` | that GGUF file |
//! | any other file | that safetensors file alone |
//! | a folder | `model.safetensors`, else `model.safetensors.index.json`, else the only other index, else the only `.safetensors` file, else the only `.gguf` file |
//!
//! Symbolic links are followed, and shards are looked for beside the link: download caches keep a
//! folder of links to files elsewhere.
//!
//! ```
//! use formwork_formats::{Archive, ArchiveWriter, Dtype, Layout};
//! let folder = tempfile::tempdir().expect("a place to write");
//! let layout = Layout::new().tensor("a", Dtype::F32, &[3]).tensor("b", Dtype::F32, &[5]);
//! let mut writer = ArchiveWriter::create(folder.path(), &layout, 20)?; // at most 20 bytes a shard
//! writer.append_f32("a", &[1.0; 3])?;
//! writer.append_f32("b", &[2.0; 5])?;
//! writer.finish()?;
//! let archive = Archive::open(folder.path())?;
//! assert_eq!(archive.files().len(), 2);
//! assert_eq!(archive.entries().map(|entry| entry.elements()).sum::<usize>(), 8);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::gguf::{self, Gguf};
use crate::safetensors::{INDEX_NAME, Index, SINGLE_NAME};
use crate::{Bytes, Entry, ErrorKind, SafeTensors};

/// The checked headers of one or several files, in which each name stands once.
#[derive(Clone, Debug)]
pub struct Archive {
    files: Vec<SafeTensors>,
    /// The one file if it is of this format; then `files` is empty.
    gguf: Option<Gguf>,
    metadata: BTreeMap<String, String>,
}

impl Archive {
    /// Opens a file, an index with its shards, or a folder, as the table above says.
    ///
    /// Files are opened as [`Bytes::open`] does. A tensor that stands in a shard and not in the
    /// index is part of the archive, so that a loader sees everything that is there.
    ///
    /// # Errors
    /// A file is not readable or not as its format wants it, a shard is missing or outside the
    /// folder, a tensor is missing, in another shard than promised, or in two.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let chosen = if path.is_dir() { choose(path)? } else { path.to_path_buf() };
        let is = |name| chosen.extension().is_some_and(|extension| extension == name);
        let bytes = Bytes::open(&chosen)?;
        if !is("json") {
            let named = is("gguf");
            return Self::one(&bytes, named, Some(&chosen));
        }
        let folder = chosen.parent().unwrap_or(Path::new(""));
        let open = |shard: &str| {
            let path = folder.join(shard);
            if !path.exists() {
                return Err(ErrorKind::MissingShard { shard: shard.to_owned() }.into());
            }
            SafeTensors::open(&path)
        };
        Self::assemble(&bytes, open).map_err(|error| error.in_file(Some(&chosen)))
    }

    /// The archive of one safetensors or GGUF file in memory; which of them, its first bytes say.
    ///
    /// # Errors
    /// The bytes are not as the format wants them.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        Self::one(&bytes.into(), false, None)
    }

    /// The archive of an index and its shards in memory, each shard with the name the index gives it.
    ///
    /// # Errors
    /// As [`Archive::open`], and if a shard is handed over that the index does not name, or twice.
    pub fn from_shards(index: &[u8], shards: impl IntoIterator<Item = (String, Bytes)>) -> Result<Self> {
        let mut given = BTreeMap::new();
        for (shard, bytes) in shards {
            if given.insert(shard.clone(), bytes).is_some() {
                return Err(ErrorKind::DuplicateKey { key: shard }.into());
            }
        }
        let archive = Self::assemble(index, |shard| match given.remove(shard) {
            Some(bytes) => SafeTensors::parse(&bytes, Some(Path::new(shard))),
            None => Err(ErrorKind::MissingShard { shard: shard.to_owned() }.into()),
        })?;
        match given.pop_first() {
            Some((shard, _)) => Err(ErrorKind::UnlistedShard { shard }.into()),
            None => Ok(archive),
        }
    }

    /// All tensors: the files by name, in each the order of the data.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let gguf = self.gguf.iter().flat_map(Gguf::entries);
        self.files.iter().flat_map(SafeTensors::entries).chain(gguf)
    }

    /// The tensor of this name, or `None`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        match &self.gguf {
            Some(gguf) => gguf.entry(name),
            None => self.files.iter().find_map(|file| file.entry(name)),
        }
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        let gguf = self.gguf.as_ref().map_or(0, |gguf| gguf.entries().len());
        self.files.iter().map(|file| file.entries().len()).sum::<usize>() + gguf
    }

    /// Whether there is no tensor at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The string maps of all safetensors files together; where two files differ on a key, the first
    /// file's value. [`Archive::files`] has each file's own, [`Archive::gguf`] what a GGUF file says.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The safetensors files, by name; none where the archive is a GGUF file.
    pub fn files(&self) -> &[SafeTensors] {
        &self.files
    }

    /// The GGUF file, with its metadata, where the archive is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        self.gguf.as_ref()
    }

    /// One file of weights; `named` says that its name claims it to be GGUF.
    fn one(bytes: &Bytes, named: bool, file: Option<&Path>) -> Result<Self> {
        if named || bytes.starts_with(&gguf::MAGIC) {
            return Gguf::parse(bytes, file).map(Self::from);
        }
        SafeTensors::parse(bytes, file).map(|file| Self::new(vec![file]))
    }

    fn new(files: Vec<SafeTensors>) -> Self {
        let mut metadata = BTreeMap::new();
        for (key, value) in files.iter().flat_map(SafeTensors::metadata) {
            metadata.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Self { files, gguf: None, metadata }
    }

    fn assemble(index: &[u8], mut open: impl FnMut(&str) -> Result<SafeTensors>) -> Result<Self> {
        let Index { shards, weights } = Index::parse(index)?;
        let files = shards.iter().map(|shard| open(shard)).collect::<Result<Vec<_>>>()?;
        let mut seen = HashMap::new();
        for (file, shard) in files.iter().zip(&shards) {
            for entry in file.entries() {
                if let Some(first) = seen.insert(entry.name(), shard) {
                    let (first, second) = (first.clone(), shard.clone());
                    return Err(Error::from(ErrorKind::InTwoShards { first, second }).at(entry.name()));
                }
            }
        }
        for (tensor, promised) in &weights {
            let shard = &shards[*promised];
            let found = seen.get(tensor.as_str()).copied();
            if found != Some(shard) {
                let kind = ErrorKind::NotInShard { shard: shard.clone(), instead: found.cloned() };
                return Err(Error::from(kind).at(tensor));
            }
        }
        Ok(Self::new(files))
    }
}

impl From<Gguf> for Archive {
    fn from(gguf: Gguf) -> Self {
        Self { files: Vec::new(), gguf: Some(gguf), metadata: BTreeMap::new() }
    }
}

/// The file of `folder` that stands for the model.
fn choose(folder: &Path) -> Result<PathBuf> {
    for name in [SINGLE_NAME, INDEX_NAME] {
        let path = folder.join(name);
        // A link that leads nowhere counts: opening it says so, where going on would load another.
        if path.symlink_metadata().is_ok() {
            return Ok(path);
        }
    }
    let listing = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        // The system's order is arbitrary, and errors are the same on every run.
        names.sort();
        Ok(names)
    };
    let names = listing().map_err(|source| Error::io("list the folder", source).in_file(Some(folder)))?;
    for suffix in [".safetensors.index.json", ".safetensors", ".gguf"] {
        let mut found: Vec<String> = names.iter().filter(|name| name.ends_with(suffix)).cloned().collect();
        match (found.len(), found.pop()) {
            (_, None) => {}
            // One shard of several is no model; its index was lost, or never written.
            (1, Some(only)) if suffix == ".safetensors" && is_shard(&only) => {
                return Err(Error::from(ErrorKind::ShardWithoutIndex { shard: only }).in_file(Some(folder)));
            }
            (1, Some(only)) => return Ok(folder.join(only)),
            (_, Some(last)) => {
                found.push(last);
                return Err(Error::from(ErrorKind::Ambiguous { found }).in_file(Some(folder)));
            }
        }
    }
    Err(Error::from(ErrorKind::NoWeights).in_file(Some(folder)))
}

/// Whether `name` ends like `-00001-of-00003.safetensors`.
fn is_shard(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = name.strip_suffix(".safetensors").and_then(|stem| stem.rsplit_once("-of-"));
    parts.is_some_and(|(part, count)| {
        digits(count) && part.rsplit_once('-').is_some_and(|(_, number)| digits(number))
    })
}
