//! Parameters into a file, under their own names or those of a published layout.

use std::path::Path;

use formwork_formats::{ArchiveWriter, Bytes, Dtype, Layout, Writer};
use formwork_module::{DType, Error, Held, Param, Result, Stored, Tensor};

use crate::{
    names::Names,
    plan::{Part, Plan, Whole},
    types::dtype_of,
    write::{Numbers, Sink},
};

/// The type in which numbers are written. A matrix in blocks is written as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// That of the numbers in memory: nothing is lost, training can go on.
    Exact,
    /// That in which each parameter's file held it: what came as bf16 is written, and rounded, as bf16. What was decoded
    /// from blocks is written as 32-bit numbers.
    Stored,
}

impl Keep {
    /// The type in which something is written.
    ///
    /// # Errors
    /// A parameter without numbers.
    pub fn of(self, held: &Held) -> Result<Dtype> {
        Ok(match (self, held) {
            (_, Held::Blocks(blocks)) => dtype_of(blocks.format()),
            (Keep::Exact, Held::Param(param)) => exact(&param.value()?),
            (Keep::Stored, Held::Param(param)) => match param.stored() {
                Stored::F64 => Dtype::F64,
                Stored::F16 => Dtype::F16,
                Stored::Bf16 => Dtype::Bf16,
                _ => Dtype::F32,
            },
        })
    }
}

pub(crate) fn exact(value: &Tensor) -> Dtype {
    if value.dtype() == DType::F64 { Dtype::F64 } else { Dtype::F32 }
}

/// What a model holds, placed in a layout and given the types in which it will be written.
#[derive(Debug)]
pub struct Saving<'a> {
    plan: Plan,
    held: std::collections::HashMap<&'a str, &'a Held>,
    keep: Keep,
}

impl<'a> Saving<'a> {
    /// Places all that a model holds.
    ///
    /// # Errors
    /// What the layout has no place for.
    pub fn new(held: &'a [(String, Held)], names: &Names, keep: Keep) -> Result<Self> {
        let plan = Plan::of(held, names)?;
        Ok(Self { plan, held: held.iter().map(|(name, held)| (name.as_str(), held)).collect(), keep })
    }

    /// The tensors in the order in which they are written.
    pub fn tensors(&self) -> &[Whole] {
        self.plan.tensors()
    }

    /// The type in which a tensor is written: that of its parts where they agree, else one that holds all of them.
    ///
    /// # Errors
    /// A parameter without numbers.
    pub fn dtype(&self, whole: &Whole) -> Result<Dtype> {
        let types = whole.parts.iter().map(|part| self.keep.of(self.part(part)?));
        let types = types.collect::<Result<Vec<_>>>()?;
        Ok(match types.first() {
            Some(first) if types.iter().all(|dtype| dtype == first) => *first,
            _ if types.contains(&Dtype::F64) => Dtype::F64,
            _ => Dtype::F32,
        })
    }

    /// Writes every tensor, each declared with [`dtype`](Saving::dtype) before.
    ///
    /// # Errors
    /// A number that the type cannot hold, or what the sink says.
    pub fn write(&self, sink: &mut dyn Sink) -> Result<()> {
        let dtype = |whole: &Whole| self.dtype(whole).unwrap_or(Dtype::F32);
        self.plan.write(sink, &dtype, &|_, part| {
            Ok(match self.part(part)? {
                Held::Param(param) => Numbers::Tensor(param.value()?.compact()?),
                Held::Blocks(blocks) => Numbers::Blocks(blocks.clone()),
            })
        })
    }

    fn part(&self, part: &Part) -> Result<&'a Held> {
        self.held.get(part.ours.as_str()).copied().ok_or_else(|| Error::missing(&part.ours))
    }

    /// The header of a safetensors file.
    fn layout(&self) -> Result<Layout> {
        let mut layout = Layout::new().note("format", "pt");
        for whole in self.tensors() {
            let dtype = self.dtype(whole)?;
            if dtype.block() > 1 {
                return Err(Error::invalid("safetensors", "numbers of 16, 32 or 64 bits", dtype.name())
                    .hint("safetensors has no blocks; save it as GGUF, or load it decoded to f32 first")
                    .at(&whole.name));
            }
            layout = layout.tensor(&whole.name, dtype, &whole.shape);
        }
        Ok(layout)
    }
}

/// Writes parameters to `folder`: `model.safetensors`, or shards of at most `shard_bytes` with an index.
///
/// Each file is written beside its place and renamed when it is complete.
///
/// # Errors
/// A parameter without numbers, a number that the narrower type cannot hold, or what the system says.
pub fn save(folder: &Path, params: &[(String, Param)], keep: Keep, shard_bytes: u64) -> Result<()> {
    save_as(folder, &all(params), &Names::identity(), keep, shard_bytes)
}

/// As [`save`] for all that a model holds, under the names of another layout: parts joined, axes and rows as it has them.
///
/// With the names [`fitted`](Names::fitted) to the archive that a model came from, and [`Keep::Stored`], every tensor gets
/// the name, the type and the bytes that it had; inert ones are dropped.
///
/// # Errors
/// Those of [`save`], a parameter that has no place in the layout, and a matrix in blocks of several numbers.
pub fn save_as(
    folder: &Path,
    held: &[(String, Held)],
    names: &Names,
    keep: Keep,
    shard_bytes: u64,
) -> Result<()> {
    let saving = Saving::new(held, names, keep)?;
    let layout = saving.layout()?;
    let mut writer = ArchiveWriter::create(folder, &layout, shard_bytes).map_err(Error::external)?;
    saving.write(&mut writer)?;
    writer.finish().map_err(Error::external)
}

/// The same as one file in memory.
///
/// # Errors
/// A parameter without numbers, or a number that the narrower type cannot hold.
pub fn to_bytes(params: &[(String, Param)], keep: Keep) -> Result<Bytes> {
    let held = all(params);
    let saving = Saving::new(&held, &Names::identity(), keep)?;
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &saving.layout()?).map_err(Error::external)?;
    saving.write(&mut writer)?;
    writer.finish().map_err(Error::external)?;
    Ok(bytes.into())
}

fn all(params: &[(String, Param)]) -> Vec<(String, Held)> {
    params.iter().map(|(name, param)| (name.clone(), Held::Param(param.clone()))).collect()
}
