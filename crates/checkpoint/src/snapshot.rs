//! A folder from which a run goes on: parameters, the state of the optimiser, and where the run was.
//!
//! | file | holds |
//! |---|---|
//! | `model.safetensors` | the parameters, exact |
//! | `state.safetensors` | named tensors of the run, such as the optimiser's moments |
//! | `state.json` | everything else, written last |
//!
//! The folder is filled under another name and renamed when it is complete: a run that is killed at any moment leaves
//! the snapshots before it as they were.

use std::path::{Path, PathBuf};

use formwork_formats::{Archive, AtomicFolder, Bytes, Dtype, Entry, Layout, Writer, atomic_write};
use formwork_module::{At, DType, Error, Kind, Param, Pool, Result, State, Tensor};
use formwork_tensor::Storage;

use crate::{Keep, Report, save, save::exact};

/// A complete snapshot on disk.
#[derive(Debug)]
pub struct Snapshot {
    folder: PathBuf,
}

const STATE: &str = "state.safetensors";
const META: &str = "state.json";

impl Snapshot {
    /// Writes a snapshot as the folder `folder`, which must not exist.
    ///
    /// # Errors
    /// What the system says, with the path.
    pub fn write(folder: &Path, params: &[(String, Param)], state: &State) -> Result<Self> {
        let temporary = AtomicFolder::create(folder).map_err(Error::external)?;
        save(temporary.path(), params, Keep::Exact, u64::MAX)?;
        let tensors =
            state.tensors.iter().map(|(name, t)| Ok((name, t.compact()?))).collect::<Result<Vec<_>>>()?;
        let layout = tensors.iter().fold(Layout::new(), |l, (name, t)| l.tensor(*name, exact(t), t.shape()));
        let mut writer = Writer::create(temporary.path().join(STATE), &layout).map_err(Error::external)?;
        for (name, tensor) in &tensors {
            match tensor.dtype() {
                DType::F64 => writer.append_f64(name, tensor.slice()?),
                _ => writer.append_f32(name, tensor.slice()?),
            }
            .map_err(Error::external)?;
        }
        writer.finish().map_err(Error::external)?;
        let meta = serde_json::to_vec_pretty(&state.meta).map_err(Error::external)?;
        atomic_write(temporary.path().join(META), &meta).map_err(Error::external)?;
        temporary.commit().map_err(Error::external)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// A snapshot that was written before.
    ///
    /// # Errors
    /// A folder that is not a complete snapshot.
    pub fn open(folder: &Path) -> Result<Self> {
        match Self::is_at(folder) {
            true => Ok(Self { folder: folder.to_owned() }),
            false => Err(Error::missing(format_args!("{META} in {}", folder.display()))
                .hint("it is no complete snapshot of a run")),
        }
    }

    /// Whether a folder is a complete snapshot.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(META).is_file()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The parameters' tensors.
    ///
    /// # Errors
    /// A file that is broken.
    pub fn parameters(&self) -> Result<Archive> {
        Archive::open(&self.folder).map_err(Error::external)
    }

    /// Puts the snapshot's numbers into the parameters of a model that is already built.
    ///
    /// # Errors
    /// A [`Report`] of the differences, or another type of numbers, before any number is changed; a model without
    /// numbers.
    pub fn restore(&self, params: &[(String, Param)]) -> Result<()> {
        let archive = self.parameters()?;
        Report::compare(params, &archive).check()?;
        let entry = |name: &String| archive.entry(name).ok_or_else(|| Error::missing(name));
        for (name, param) in params {
            let (expected, found) = (param.value()?.dtype(), in_memory(entry(name)?));
            if expected != found {
                return Err(Kind::DType { op: "snapshot", expected, found }.into()).at(name);
            }
        }
        for (name, param) in params {
            // What is computed from a parameter comes from its pool, before and after.
            let pool = param.value()?.pool().cloned();
            param.set(&tensor(entry(name)?, pool)?).at(name)?;
        }
        Ok(())
    }

    /// The state of the run.
    ///
    /// # Errors
    /// A file that is broken.
    pub fn state(&self) -> Result<State> {
        let archive = Archive::open(self.folder.join(STATE)).map_err(Error::external)?;
        let bytes = Bytes::read(self.folder.join(META)).map_err(Error::external)?;
        let meta = serde_json::from_slice(&bytes)
            .map_err(|e| Error::external(format!("{}: {e}", self.folder.join(META).display())))?;
        let named = archive.entries().map(|entry| Ok((entry.name().to_owned(), tensor(entry, None)?)));
        Ok(State { meta, tensors: named.collect::<Result<_>>()? })
    }
}

/// The type in which an entry is computed with.
fn in_memory(entry: &Entry) -> DType {
    if entry.dtype() == Dtype::F64 { DType::F64 } else { DType::F32 }
}

/// An entry as a tensor of the type in which it was kept; results computed from it come from `pool`.
fn tensor(entry: &Entry, pool: Option<Pool>) -> Result<Tensor> {
    let storage = match in_memory(entry) {
        DType::F64 => Storage::adopt::<f64>(entry.to_f64().map_err(Error::external)?, pool),
        _ => Storage::adopt::<f32>(entry.to_f32().map_err(Error::external)?, pool),
    };
    Tensor::from_storage(storage, 0, entry.shape())
}
