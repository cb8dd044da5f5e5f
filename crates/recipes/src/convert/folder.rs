//! A model as a published folder.

use std::{collections::HashMap, path::Path};

use formwork_checkpoint::{Numbers, Plan, Whole, dtype_of, format_of};
use formwork_formats::{ArchiveWriter, Dtype, Layout};
use formwork_kernels::blocks;
use formwork_module::{At, Error, Result};

use super::{Conversion, Convert, Converted, StoredType, Transfer, described::described};
use crate::{
    files::{Files, is_read, parsed},
    folder::{SHARD_BYTES, create},
    gguf::STORED,
    layout::Layout as Kind,
};

/// Writes the folder: the weights, and what makes them a model.
pub(super) fn write(source: &Converted, path: &Path, options: &Convert) -> Result<Conversion> {
    let names = match source.opened.layout {
        // The names that it had, with or without the prefix.
        Kind::Published(_) => source.opened.names.clone(),
        _ => source.family.names(&source.config)?,
    };
    let plan = Plan::new(source.params.iter().cloned(), &names)?;
    let (before, mut notes) = (before(source)?, Vec::new());
    let mut layout = Layout::new().note("format", "pt");
    for whole in plan.tensors() {
        let dtype = match options.dtype {
            Some(chosen) => asked(chosen),
            None => kept(source, whole, &before, &mut notes)?,
        };
        layout = layout.tensor(&whole.name, held(whole, dtype)?, &whole.shape);
    }
    let types: HashMap<String, Dtype> =
        layout.tensors.iter().map(|spec| (spec.name.clone(), spec.dtype)).collect();
    let files = described(source, &types, options)?;
    create(path)?;
    unmixed(path, &files)?;
    let target = |whole: &Whole| types.get(&whole.name).copied().unwrap_or(Dtype::F32);
    let transfer = Transfer::new(source);
    let mut writer = ArchiveWriter::create(path, &layout, SHARD_BYTES).map_err(Error::external)?;
    plan.write(&mut writer, &target, &|whole, part| transfer.numbers(whole, part, target(whole)))?;
    writer.finish().map_err(Error::external)?;
    // Last, so that what goes wrong with the weights leaves a model that was there as it was.
    files.write(path)?;
    Ok(Conversion { notes, ..transfer.finish() })
}

/// Refuses a folder with a file of another model that would not be replaced: it would be read with this one.
fn unmixed(folder: &Path, files: &Files) -> Result<()> {
    match Files::read(folder)?.iter().find(|(name, _)| is_read(name) && files.get(name).is_none()) {
        Some((name, _)) => {
            let expected = "a folder without files of another model";
            Err(Error::invalid("convert", expected, format_args!("{name} in {}", folder.display()))
                .hint("choose another folder, or remove the file"))
        }
        None => Ok(()),
    }
}

/// The types that a GGUF file says its tensors had before they were widened, by our names.
fn before(source: &Converted) -> Result<HashMap<String, Dtype>> {
    let Some(value) = source.archive().gguf().and_then(|gguf| gguf.metadata().get(STORED)) else {
        return Ok(HashMap::new());
    };
    let wrong = || {
        let expected = "a JSON object with the type of each tensor that was widened";
        Error::invalid(STORED, expected, "something else").in_file(source.opened.weights.display())
    };
    let text = value.as_str().ok_or_else(wrong)?;
    let named = parsed(text.as_bytes(), STORED).in_file(source.opened.weights.display())?;
    let named = named.as_object().ok_or_else(wrong)?;
    let types = named.iter().map(|(ours, name)| Some((ours.clone(), Dtype::from_name(name.as_str()?)?)));
    types.collect::<Option<_>>().ok_or_else(wrong)
}

fn asked(chosen: StoredType) -> Dtype {
    match chosen {
        StoredType::F32 => Dtype::F32,
        StoredType::Format(format) => dtype_of(format),
    }
}

/// The type that a tensor has, or had before it was widened for a GGUF file.
fn kept(
    source: &Converted,
    whole: &Whole,
    before: &HashMap<String, Dtype>,
    notes: &mut Vec<String>,
) -> Result<Dtype> {
    let from = source.stored(whole)?;
    let old = whole.parts.first().and_then(|part| before.get(&part.ours)).copied();
    let Some(old) = old.filter(|old| from == Dtype::F32 && old.is_float()) else { return Ok(from) };
    if fits(source, whole, old)? {
        return Ok(old);
    }
    notes.push(format!(
        "{}: it was {old} before, and its numbers have changed since, so that they no longer fit; it is kept in {from}",
        whole.name
    ));
    Ok(from)
}

/// Whether the numbers of a tensor that was widened are still those of the narrower type.
fn fits(source: &Converted, whole: &Whole, narrow: Dtype) -> Result<bool> {
    let Some(format) = format_of(narrow) else { return Ok(narrow.block() == 1) };
    for part in &whole.parts {
        let (dtype, bytes) = (Dtype::F32, source.plan.bytes(source.archive(), &part.ours)?);
        let wide = Numbers::Stored { dtype, bytes }.into_tensor(&part.shape)?;
        let wide: &[f32] = wide.slice()?;
        let Some(size) = format.row_bytes(wide.len()) else { return Ok(false) };
        let (mut bytes, mut again) = (vec![0; size], vec![0f32; wide.len()]);
        blocks::encode(format, wide, &mut bytes);
        blocks::decode(format, &bytes, &mut again);
        if wide.iter().zip(&again).any(|(a, b)| a.to_bits() != b.to_bits()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The type, if a folder can hold it.
fn held(whole: &Whole, dtype: Dtype) -> Result<Dtype> {
    match dtype.block() {
        1 => Ok(dtype),
        _ => {
            let expected = "numbers of 16 or 32 bits, which a folder can hold";
            Err(Error::invalid("type", expected, dtype.name())
                .hint("choose f32, f16 or bf16, or write a .gguf file")
                .at(&whole.name))
        }
    }
}
