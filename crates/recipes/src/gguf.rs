//! GGUF files: their metadata as plain data, and models written into one.

use std::path::{Path, PathBuf};

use formwork_checkpoint::{Saving, Sink};
use formwork_formats::{
    Archive, Dtype, Entry,
    gguf::{Layout, Metadata, Value, Writer},
};
use formwork_model::published::{self, Published, Tensors};
use formwork_module::{Error, Result};
use serde_json::{Map, Number, Value as Json};

use crate::{folder::create, layout::is_gguf};

/// The tensor of RoPE factors, which is no parameter.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";
/// The key that says which type most matrices have.
pub(crate) const FILE_TYPE: &str = "general.file_type";
/// The key that says which generation of block layouts the file has.
pub(crate) const QUANTIZATION_VERSION: &str = "general.quantization_version";
/// What the keys begin with under which the files of a folder are kept.
pub(crate) const FILES: &str = "formwork.file.";
/// The key of a JSON object with the types that tensors had before they were widened.
pub(crate) const STORED: &str = "formwork.stored";
/// The only generation in use.
const GENERATION: u32 = 2;
/// The most elements of an array that may be about layers.
const PER_LAYER: usize = 10_000;
/// The most values about a model, those in lists counted one by one; published files have a hundred.
const VALUES: usize = 1 << 18;

/// Reads the model that a GGUF file describes.
pub(crate) fn read(archive: &Archive) -> Result<Published> {
    let Some(gguf) = archive.gguf() else {
        return Err(Error::invalid("model", "a GGUF file", "another one"));
    };
    let rope_freqs = gguf.entry(ROPE_FREQS).map(Entry::to_f32).transpose().map_err(Error::external)?;
    let shape = |name: &str| gguf.entry(name).map(|entry| entry.shape().to_vec());
    described(gguf.metadata(), &Tensors { shape: &shape, rope_freqs })
}

/// Reads the model that metadata and tensors describe.
pub(crate) fn described(metadata: &Metadata, tensors: &Tensors<'_>) -> Result<Published> {
    published::from_gguf(&fields(metadata)?, tensors)
}

/// The metadata about the model as JSON: everything but the vocabulary, long lists, and what only a converter reads.
fn fields(metadata: &Metadata) -> Result<Map<String, Json>> {
    let told = || metadata.iter().filter(|(key, _)| !key.starts_with("tokenizer.") && !is_converters(key));
    // A byte of a list is a value of 32 bytes here, so that their number is looked at first.
    let size = |value: &Value| match value {
        Value::Array(list) if list.len() <= PER_LAYER => 1 + list.len(),
        _ => 1,
    };
    let found: usize = told().map(|(_, value)| size(value)).sum();
    if found > VALUES {
        return Err(Error::invalid(
            "metadata",
            format_args!("at most {VALUES} values about the model"),
            found,
        ));
    }
    let architecture = metadata.str("general.architecture").map_err(Error::external)?.unwrap_or_default();
    let mut fields = Map::new();
    for (key, value) in told() {
        match json(value) {
            Some(json) => drop(fields.insert(key.to_owned(), json)),
            // What describes the file may be anything; what describes the model may not be passed over.
            None if !is_about(architecture, key) => {}
            None => {
                let expected = "a finite number, a UTF-8 text, or a list with one for each layer";
                return Err(Error::invalid(key, expected, value));
            }
        }
    }
    Ok(fields)
}

/// Whether only a converter reads a key.
fn is_converters(key: &str) -> bool {
    key.starts_with(FILES) || key == STORED
}

/// Whether a key is about the model, and not about the file, its tokenizer or somebody's notes.
pub(crate) fn is_about(architecture: &str, key: &str) -> bool {
    let start = key.split_once('.').map_or("", |(start, _)| start);
    start == architecture || (start == "formwork" && !is_converters(key))
}

fn json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Bool(value) => (*value).into(),
        Value::String(_) => value.as_str()?.into(),
        Value::F32(value) => Json::Number(Number::from_f64(f64::from(*value))?),
        Value::F64(value) => Json::Number(Number::from_f64(*value)?),
        Value::Array(list) if list.len() <= PER_LAYER => match (list.i64s(), list.f64s(), list.bools()) {
            (Some(list), _, _) => list.map(Json::from).collect(),
            (_, Some(list), _) => list.map(Json::from).collect(),
            (_, _, Some(list)) => list.map(Json::from).collect(),
            _ => list.strings()?.filter_map(|text| Some(Json::from(text.str().ok()?))).collect(),
        },
        Value::Array(_) => return None,
        whole => whole.as_u64().map(Json::from).or_else(|| whole.as_i64().map(Json::from))?,
    })
}

/// A value of the model's metadata as a GGUF file has it: whole numbers are u32, others f32, and under our own keys f64
/// where f32 would round.
pub(crate) fn value(key: &str, json: &Json) -> Result<Value> {
    let refused = || Error::invalid(key, "a value that GGUF can hold", json);
    Ok(match json {
        Json::Bool(value) => (*value).into(),
        Json::String(text) => text.as_str().into(),
        Json::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => match u32::try_from(whole) {
                Ok(whole) => whole.into(),
                Err(_) => whole.into(),
            },
            (_, Some(number)) if key.starts_with("formwork.") && !is_short(number) => number.into(),
            (_, Some(number)) => (number as f32).into(),
            _ => return Err(refused()),
        },
        _ => return Err(refused()),
    })
}

/// Whether the shortest decimal of the nearest f32 is the number, as that of 1e-5 is.
fn is_short(number: f64) -> bool {
    (number as f32).to_string().parse() == Ok(number)
}

/// The file to write for a path: itself, or `model.gguf` in a folder.
pub(crate) fn target(path: &Path) -> Result<PathBuf> {
    if is_gguf(path) {
        return Ok(path.to_owned());
    }
    create(path)?;
    Ok(path.join("model.gguf"))
}

/// Writes a model that came from a GGUF file: its metadata and the tensors that are no parameters as they were.
pub(crate) fn save(path: &Path, saving: &Saving<'_>, archive: &Archive) -> Result<()> {
    let mut layout = Layout::new();
    layout.metadata = archive.gguf().map(|gguf| gguf.metadata().clone()).unwrap_or_default();
    for whole in saving.tensors() {
        layout = layout.tensor(&whole.name, saving.dtype(whole)?, &whole.shape);
    }
    let known: std::collections::HashSet<&str> =
        saving.tensors().iter().map(|whole| whole.name.as_str()).collect();
    let others: Vec<&Entry> = archive.entries().filter(|entry| !known.contains(entry.name())).collect();
    for entry in &others {
        layout = layout.tensor(entry.name(), entry.dtype(), entry.shape());
    }
    let unchanged = |spec: &formwork_formats::TensorSpec| {
        archive.entry(&spec.name).is_some_and(|entry| entry.dtype() == spec.dtype)
    };
    if !layout.tensors.iter().all(unchanged) {
        type_of(&mut layout);
    }
    let mut writer = Writer::create(path, &layout).map_err(Error::external)?;
    saving.write(&mut writer)?;
    for entry in others {
        Sink::append_bytes(&mut writer, entry.name(), entry.bytes())?;
    }
    writer.finish().map_err(Error::external)
}

/// Puts in the metadata which type most numbers of a file have.
pub(crate) fn type_of(layout: &mut Layout) {
    let mut sizes: Vec<(Dtype, u64)> = Vec::new();
    for spec in layout.tensors.iter().filter(|spec| spec.shape.len() > 1) {
        let numbers = spec.shape.iter().map(|&n| n as u64).product::<u64>();
        match sizes.iter_mut().find(|(dtype, _)| *dtype == spec.dtype) {
            Some((_, sum)) => *sum += numbers,
            None => sizes.push((spec.dtype, numbers)),
        }
    }
    let most = sizes.iter().max_by_key(|(_, numbers)| *numbers).map(|(dtype, _)| *dtype);
    if let Some(number) = most.and_then(file_type) {
        layout.metadata.set(FILE_TYPE, number);
    }
    if sizes.iter().any(|(dtype, _)| dtype.block() > 1) {
        layout.metadata.set(QUANTIZATION_VERSION, GENERATION);
    }
}

/// The number by which llama.cpp knows files that are mostly of a type; of mixtures, the plainest.
fn file_type(dtype: Dtype) -> Option<u32> {
    Some(match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q4_0 => 2,
        Dtype::Q4_1 => 3,
        Dtype::Q8_0 => 7,
        Dtype::Q5_0 => 8,
        Dtype::Q5_1 => 9,
        Dtype::Q2_K => 10,
        Dtype::Q3_K => 11,
        Dtype::Q4_K => 14,
        Dtype::Q5_K => 16,
        Dtype::Q6_K => 18,
        Dtype::Bf16 => 32,
        _ => return None,
    })
}
