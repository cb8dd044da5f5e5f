//! A model as a GGUF file that llama.cpp reads as well.

use std::{collections::BTreeMap, path::Path};

use formwork_checkpoint::{Plan, Sink, Whole, dtype_of};
use formwork_formats::{
    Dtype, Entry,
    gguf::{Gguf, Layout, Metadata, Value, Writer},
};
use formwork_model::{
    Difference,
    published::{Gguf as Described, Tensors},
};
use formwork_module::{At, Error, Result};
use formwork_quant::{Recipe, Role};
use formwork_tokenizer::gguf::{TokenType, Vocabulary};
use serde_json::Value as Json;

use super::{Conversion, Convert, Converted, StoredType, Transfer, agree::contradiction, described};
use crate::{
    files::{Files, SIDECAR, parsed},
    gguf::{self, FILES, ROPE_FREQS, STORED, is_about, type_of, value},
    layout::{CONFIG_FILE, Layout as Kind, PUBLISHED_FILE, TOKENIZER_FILE},
    manner,
    settings::{self, GENERATION_FILE},
    vocabulary,
};

/// The key under which the specification keeps a `tokenizer.json`.
pub(super) const HUGGINGFACE: &str = "tokenizer.huggingface.json";

/// The key of the vocabulary itself.
const TOKENS: &str = "tokenizer.ggml.tokens";

/// Writes the file.
pub(super) fn write(source: &Converted, path: &Path, options: &Convert) -> Result<Conversion> {
    let names = source.family.gguf_names(&source.config)?;
    let plan = Plan::new(source.params.iter().cloned(), &names)?;
    let mut layout = Layout::new();
    let mut stored = BTreeMap::new();
    for whole in plan.tensors() {
        let (from, to) = (source.stored(whole)?, dtype(source, whole, options)?);
        if options.dtype.is_none() && from != to {
            // So that the way back gives the bytes that were here.
            stored.extend(whole.parts.iter().map(|part| (part.ours.clone(), from.name())));
        }
        layout = layout.tensor(&whole.name, to, &whole.shape);
    }
    let (mut metadata, factors, notes) = metadata(source, &layout)?;
    if !stored.is_empty() {
        metadata.set(STORED, serde_json::to_string(&stored).map_err(Error::external)?);
    }
    layout.metadata = metadata;
    let others = others(source, &plan);
    for entry in &others {
        layout = layout.tensor(entry.name(), entry.dtype(), entry.shape());
    }
    if let Some(factors) = &factors {
        layout = layout.tensor(ROPE_FREQS, Dtype::F32, &[factors.len()]);
    }
    if source.opened.archive.gguf().is_none() || options.dtype.is_some() {
        type_of(&mut layout);
    }
    let target = |whole: &Whole| {
        let spec = layout.tensors.iter().find(|spec| spec.name == whole.name);
        spec.map_or(Dtype::F32, |spec| spec.dtype)
    };
    let transfer = Transfer::new(source);
    let mut writer = Writer::create(path, &layout).map_err(Error::external)?;
    plan.write(&mut writer, &target, &|whole, part| transfer.numbers(whole, part, target(whole)))?;
    for entry in others {
        Sink::append_bytes(&mut writer, entry.name(), entry.bytes())?;
    }
    if let Some(factors) = factors {
        Sink::append_f32(&mut writer, ROPE_FREQS, &factors)?;
    }
    writer.finish().map_err(Error::external)?;
    let report = transfer.finish();
    Ok(Conversion { notes, ..report })
}

/// The type of a tensor in the file: what is asked for or what it had; readers expect 32 bits of vectors and of tables that
/// are added to everything.
fn dtype(source: &Converted, whole: &Whole, options: &Convert) -> Result<Dtype> {
    let from = source.stored(whole)?;
    let kept = if from == Dtype::F64 { Dtype::F32 } else { from };
    let Some(role) = source.role(whole) else { return Ok(Dtype::F32) };
    let Some(chosen) = options.dtype else {
        return Ok(if role == Role::Positions { Dtype::F32 } else { kept });
    };
    let format = match (chosen, whole.shape[..].try_into()) {
        (StoredType::Format(format), Ok(shape)) => Recipe::new(format).format(role, shape),
        _ => None,
    };
    Ok(format.map_or(Dtype::F32, dtype_of))
}

/// Tensors of a GGUF file that are no parameters and stay.
fn others<'a>(source: &'a Converted, plan: &Plan) -> Vec<&'a Entry> {
    match source.opened.layout {
        Kind::Gguf(_) => source.archive().entries().filter(|e| plan.tensor(e.name()).is_none()).collect(),
        _ => Vec::new(),
    }
}

/// The metadata of the file with the tensors of `layout`, the factors of its RoPE frequencies where they are no tensor of
/// the source, and notes.
fn metadata(source: &Converted, layout: &Layout) -> Result<(Metadata, Option<Vec<f32>>, Vec<String>)> {
    if let Some(gguf) = source.archive().gguf() {
        return Ok((gguf.metadata().clone(), None, Vec::new()));
    }
    let described = source.family.to_gguf(&source.config)?;
    let (mut metadata, mut notes) = about(source, &described, layout)?;
    if !metadata.contains("general.name") && !source.config.name.is_empty() {
        metadata.set("general.name", source.config.name.as_str());
    }
    tokenizer(source, &mut metadata, &mut notes)?;
    embed(source, &mut metadata, &mut notes)?;
    Ok((metadata, described.rope_freqs, notes))
}

/// What the file says of the model: what the config says, and of an earlier GGUF file what does not contradict it.
///
/// A config may have been edited since the folder was made. What was a key and is a default now, such as a scaling of
/// positions that was taken out, would then come back with the keys that nobody wrote again; so the metadata is read as
/// whoever loads the file will read it.
fn about(source: &Converted, described: &Described, layout: &Layout) -> Result<(Metadata, Vec<String>)> {
    let Some(bytes) = source.opened.files.get(SIDECAR) else {
        let metadata = told(Metadata::new(), described)?;
        return agreed(source, &metadata, described, layout).map(|()| (metadata, Vec::new()));
    };
    let kept = Gguf::from_bytes(bytes.clone()).map_err(Error::external);
    let kept = kept.in_file(source.opened.home.join(SIDECAR).display())?.metadata().clone();
    let metadata = told(kept.clone(), described)?;
    let Err(error) = agreed(source, &metadata, described, layout) else { return Ok((metadata, Vec::new())) };
    let family = source.family.name();
    let rest = kept.iter().filter(|(key, _)| !is_about(family, key));
    let metadata = told(rest.map(|(key, value)| (key, value.clone())).collect(), described)?;
    agreed(source, &metadata, described, layout)?;
    Ok((metadata, vec![format!("{error}: what {SIDECAR} says of the model is left out")]))
}

/// The metadata with what the config says of the model; a value that means the same stays as it is.
fn told(mut metadata: Metadata, described: &Described) -> Result<Metadata> {
    for (key, json) in &described.metadata {
        let value = value(key, json)?;
        if !metadata.get(key).is_some_and(|found| means(found, &value)) {
            metadata.set(key.clone(), value);
        }
    }
    Ok(metadata)
}

/// Refuses metadata that would be read as another model.
fn agreed(source: &Converted, metadata: &Metadata, described: &Described, layout: &Layout) -> Result<()> {
    let spec = |name: &str| layout.tensors.iter().find(|spec| spec.name == name);
    let shape = |name: &str| spec(name).map(|spec| spec.shape.clone());
    let tensors = Tensors { shape: &shape, rope_freqs: described.rope_freqs.clone() };
    let read = gguf::described(metadata, &tensors)?;
    match contradiction(&read.config, &source.config) {
        None => Ok(()),
        Some(Difference { field, a, b }) => {
            let text = |value: Option<Json>| value.map_or("nothing".to_owned(), |value| value.to_string());
            let expected = format!("{}, as the config says", text(b));
            Err(Error::invalid(field, expected, format_args!("{}, as the metadata says", text(a))))
        }
    }
}

/// Whether two values say the same number or text, in whatever type.
fn means(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_i64().map(|whole| whole as f64).or_else(|| value.as_f64());
    a == b || number(a).is_some_and(|a| number(b) == Some(a))
}

/// The vocabulary and the template, from a folder's files.
fn tokenizer(source: &Converted, metadata: &mut Metadata, notes: &mut Vec<String>) -> Result<()> {
    let files = &source.opened.files;
    let (Some(bytes), Some(tokenizer)) = (files.get(TOKENIZER_FILE), vocabulary::of(&source.opened)?) else {
        notes.push(format!(
            "the folder has no {TOKENIZER_FILE}: the file gets no vocabulary, and other programs may not load it"
        ));
        return Ok(());
    };
    // What stands there already came from a GGUF file, and may say more than a tokenizer.json can.
    let kept = vocabulary::tokenizer(metadata)?.is_some_and(|kept| kept.to_json().as_bytes() == &bytes[..]);
    if !kept {
        match tokenizer.to_vocabulary() {
            Ok(vocabulary) => {
                padded(vocabulary, source.config.vocab).write(metadata);
                ids(files, metadata)?;
            }
            Err(error) => notes.push(format!(
                "{TOKENIZER_FILE} cannot be said as a vocabulary of GGUF ({error}): it is kept whole, and other programs \
                 will not find a vocabulary"
            )),
        }
    }
    if metadata.contains(TOKENS) {
        ends(source, metadata)?;
    }
    if let Some(template) = manner::in_folder(&source.opened)?.0 {
        metadata.set(manner::TEMPLATE_KEY, template);
    }
    Ok(())
}

/// A vocabulary as long as the table of the model, which readers expect: rows without a token get one that no text gives.
fn padded(mut vocabulary: Vocabulary, rows: usize) -> Vocabulary {
    let known = vocabulary.tokens.len();
    if known < rows {
        // Absent lists mean that all are alike; they are not any more.
        vocabulary.types.resize(known, TokenType::Normal);
        vocabulary.types.resize(rows, TokenType::Unused);
        vocabulary.tokens.extend((known..rows).map(|id| format!("[PAD{id}]")));
        if !vocabulary.scores.is_empty() {
            vocabulary.scores.resize(rows, UNLIKELY);
        }
    }
    vocabulary
}

/// The score of a token that no text gives.
const UNLIKELY: f32 = -1000.0;

/// Token ids that only the configs of the model name.
fn ids(files: &Files, metadata: &mut Metadata) -> Result<()> {
    let known = [
        ("bos_token_id", "bos_token_id"),
        ("eos_token_id", "eos_token_id"),
        ("pad_token_id", "padding_token_id"),
    ];
    for (name, key) in known {
        let key = format!("tokenizer.ggml.{key}");
        let places = [(settings::PUBLISHED_FILE, name), (PUBLISHED_FILE, name)];
        if let Some(&id) = named(files, &places)?.first()
            && !metadata.contains(&key)
        {
            metadata.set(key, id);
        }
    }
    Ok(())
}

/// The ids that stand at the first of these places, a file and a field in it, that has any: one id or a list.
fn named(files: &Files, places: &[(&str, &str)]) -> Result<Vec<u32>> {
    for (file, field) in places {
        let json = files.get(file).map(|bytes| parsed(bytes, file)).transpose()?;
        let several = match json.as_ref().and_then(|json| json.get(field)) {
            Some(Json::Array(several)) => several.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        let ids: Vec<u32> = several.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    Ok(Vec::new())
}

/// The end of a text as the settings of generation have it now.
///
/// The token that the tokenizer calls its end stays while it is one of theirs. Otherwise the first of theirs takes its
/// place, or other readers would go on where the folder ends. Where the end is put behind every text that is encoded, it
/// has to stay for that; then theirs ends a turn.
fn ends(source: &Converted, metadata: &mut Metadata) -> Result<()> {
    const END: &str = "eos_token_id";
    let files = &source.opened.files;
    let mut places = vec![(GENERATION_FILE, "end"), (settings::PUBLISHED_FILE, END)];
    // Elsewhere a config may name the end of the model that this one was tuned from; here it was made from metadata.
    places.extend(files.get(SIDECAR).map(|_| (PUBLISHED_FILE, END)));
    let mut chosen = named(files, &places)?;
    chosen.retain(|id| (*id as usize) < source.config.vocab);
    let Some(&first) = chosen.first() else { return Ok(()) };
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let is_framed = metadata.get(&key("add_eos_token")).and_then(Value::as_bool) == Some(true);
    let place = if is_framed { "eot_token_id" } else { END };
    let is_chosen = |name: &str| {
        let found = metadata.get(&key(name)).and_then(Value::as_u64);
        found.is_some_and(|found| chosen.iter().any(|id| u64::from(*id) == found))
    };
    if !is_chosen(END) && !is_chosen(place) {
        metadata.set(key(place), first);
    }
    Ok(())
}

/// Keeps every file of the model that the way back would not give with the same bytes.
fn embed(source: &Converted, metadata: &mut Metadata, notes: &mut Vec<String>) -> Result<()> {
    let again = described::files(metadata, source)?;
    for (name, bytes) in source.opened.files.iter() {
        // A config that is kept is left alone; one that is made anew is told the type of the weights.
        let same = name != PUBLISHED_FILE && again.get(name).is_some_and(|found| found[..] == bytes[..]);
        if same || name == SIDECAR || name == CONFIG_FILE {
            continue;
        }
        if std::str::from_utf8(bytes).is_err() {
            notes.push(format!("{name} is no text, which is all that metadata can hold: it is left out"));
            continue;
        }
        let key = match name {
            TOKENIZER_FILE => HUGGINGFACE.to_owned(),
            other => format!("{FILES}{other}"),
        };
        metadata.set(key, Value::String(bytes.clone()));
    }
    Ok(())
}
