//! Parameters into a file, under their own names, in building order.

use std::path::Path;

use formwork_formats::{ArchiveWriter, Bytes, Dtype, Layout, Writer};
use formwork_module::{DType, Error, Param, Result, Stored, Tensor};

/// The type in which numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// That of the numbers in memory: nothing is lost, training can go on.
    Exact,
    /// That in which each parameter's file held it: what came as bf16 is written, and rounded, as bf16.
    Stored,
}

impl Keep {
    fn of(self, param: &Param, value: &Tensor) -> Dtype {
        match (self, param.stored()) {
            (Keep::Exact, _) => exact(value),
            (Keep::Stored, Stored::F64) => Dtype::F64,
            (Keep::Stored, Stored::F16) => Dtype::F16,
            (Keep::Stored, Stored::Bf16) => Dtype::Bf16,
            (Keep::Stored, _) => Dtype::F32,
        }
    }
}

pub(crate) fn exact(value: &Tensor) -> Dtype {
    if value.dtype() == DType::F64 { Dtype::F64 } else { Dtype::F32 }
}

/// Writes parameters to `folder`: `model.safetensors`, or shards of at most `shard_bytes` with an index.
///
/// Each file is written beside its place and renamed when it is complete.
///
/// # Errors
/// A parameter without numbers, a number that the narrower type cannot hold, or what the system says.
pub fn save(folder: &Path, params: &[(String, Param)], keep: Keep, shard_bytes: u64) -> Result<()> {
    let (layout, values) = laid_out(params, keep)?;
    let mut writer = ArchiveWriter::create(folder, &layout, shard_bytes).map_err(Error::external)?;
    for ((name, _), value) in params.iter().zip(&values) {
        match value.dtype() {
            DType::F64 => writer.append_f64(name, value.slice()?),
            _ => writer.append_f32(name, value.slice()?),
        }
        .map_err(Error::external)?;
    }
    writer.finish().map_err(Error::external)
}

/// The same as one file in memory.
///
/// # Errors
/// A parameter without numbers, or a number that the narrower type cannot hold.
pub fn to_bytes(params: &[(String, Param)], keep: Keep) -> Result<Bytes> {
    let (layout, values) = laid_out(params, keep)?;
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &layout).map_err(Error::external)?;
    for ((name, _), value) in params.iter().zip(&values) {
        match value.dtype() {
            DType::F64 => writer.append_f64(name, value.slice()?),
            _ => writer.append_f32(name, value.slice()?),
        }
        .map_err(Error::external)?;
    }
    writer.finish().map_err(Error::external)?;
    Ok(bytes.into())
}

fn laid_out(params: &[(String, Param)], keep: Keep) -> Result<(Layout, Vec<Tensor>)> {
    let mut layout = Layout::new().note("format", "pt");
    let mut values = Vec::with_capacity(params.len());
    for (name, param) in params {
        let value = param.value()?.compact()?;
        layout = layout.tensor(name, keep.of(param, &value), param.shape());
        values.push(value);
    }
    Ok((layout, values))
}
