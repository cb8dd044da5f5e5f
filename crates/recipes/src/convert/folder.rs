//! A model as a published folder.

use std::{collections::HashMap, path::Path};

use formwork_checkpoint::{Plan, Whole};
use formwork_formats::{
    ArchiveWriter, Dtype, Layout,
    gguf::{Layout as GgufLayout, Metadata, Value, Writer},
};
use formwork_model::{diff, published};
use formwork_module::{Error, Result};
use serde_json::{Map, Value as Json, json};

use super::{Conversion, Convert, Converted, StoredType, Transfer, gguf::HUGGINGFACE};
use crate::{
    files::{Files, SIDECAR, is_carried, is_read},
    folder::{SHARD_BYTES, create},
    gguf::{FILES, STORED},
    layout::{Layout as Kind, PUBLISHED_FILE, TOKENIZER_FILE},
    manner::{TEMPLATE_FILE, TEMPLATE_KEY},
    vocabulary,
};

/// Writes the folder: the weights, and what makes them a model.
pub(super) fn write(source: &Converted, path: &Path, options: &Convert) -> Result<Conversion> {
    let names = match source.opened.layout {
        // The names that it had, with or without the prefix.
        Kind::Published(_) => source.opened.names.clone(),
        _ => source.family.names(&source.config)?,
    };
    let plan = Plan::new(source.params.iter().cloned(), &names)?;
    let before = before(source);
    let mut layout = Layout::new().note("format", "pt");
    for whole in plan.tensors() {
        let dtype = dtype(source, whole, &before, options)?;
        layout = layout.tensor(&whole.name, dtype, &whole.shape);
    }
    let types: HashMap<String, Dtype> =
        layout.tensors.iter().map(|spec| (spec.name.clone(), spec.dtype)).collect();
    let files = described(source, &types, options)?;
    create(path)?;
    unmixed(path, &files)?;
    files.write(path)?;
    let target = |whole: &Whole| types.get(&whole.name).copied().unwrap_or(Dtype::F32);
    let transfer = Transfer::new(source);
    let mut writer = ArchiveWriter::create(path, &layout, SHARD_BYTES).map_err(Error::external)?;
    plan.write(&mut writer, &target, &|whole, part| transfer.numbers(whole, part, target(whole)))?;
    writer.finish().map_err(Error::external)?;
    Ok(transfer.finish())
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
fn before(source: &Converted) -> HashMap<String, Dtype> {
    let text = source.archive().gguf().and_then(|gguf| gguf.metadata().get(STORED)?.as_str());
    let named: HashMap<String, String> =
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    named.into_iter().filter_map(|(ours, name)| Some((ours, Dtype::from_name(&name)?))).collect()
}

fn dtype(
    source: &Converted,
    whole: &Whole,
    before: &HashMap<String, Dtype>,
    options: &Convert,
) -> Result<Dtype> {
    let chosen = match options.dtype {
        Some(StoredType::F32) => Dtype::F32,
        Some(StoredType::Format(format)) => {
            Dtype::from_name(&format.name().to_uppercase()).unwrap_or(Dtype::F32)
        }
        None => {
            let from = source.stored(whole)?;
            let old = whole.parts.first().and_then(|part| before.get(&part.ours));
            old.copied().filter(|old| from == Dtype::F32 && old.is_float()).unwrap_or(from)
        }
    };
    if chosen.block() > 1 {
        return Err(Error::invalid(
            "type",
            "numbers of 16 or 32 bits, which a folder can hold",
            chosen.name(),
        )
        .hint("choose f32, f16 or bf16, or write a .gguf file")
        .at(&whole.name));
    }
    Ok(chosen)
}

/// The small files of the folder.
fn described(source: &Converted, types: &HashMap<String, Dtype>, options: &Convert) -> Result<Files> {
    let metadata = source.archive().gguf().map(|gguf| gguf.metadata());
    let mut files = match metadata {
        Some(metadata) => {
            let mut files = files(metadata, source)?;
            if let Some(kept) = sidecar(metadata)? {
                files.set(SIDECAR, kept);
            }
            files
        }
        None => source.opened.files.clone(),
    };
    let is_kept = match metadata {
        Some(metadata) => match metadata.get(&format!("{FILES}{PUBLISHED_FILE}")) {
            Some(Value::String(kept)) => files.get(PUBLISHED_FILE).is_some_and(|bytes| bytes[..] == kept[..]),
            _ => false,
        },
        None => files.get(PUBLISHED_FILE).is_some(),
    };
    if files.get(PUBLISHED_FILE).is_none() {
        files.set(PUBLISHED_FILE, config(source, None)?);
    }
    if (options.dtype.is_some() || !is_kept)
        && let (Some(bytes), Some(dtype)) = (files.get(PUBLISHED_FILE), most(types))
        && let Some(typed) = typed(bytes, dtype)
    {
        files.set(PUBLISHED_FILE, typed);
    }
    Ok(files)
}

/// The files that metadata gives: those that it kept, and what can be told from its keys in place of the others.
pub(super) fn files(metadata: &Metadata, source: &Converted) -> Result<Files> {
    let mut files = Files::default();
    for (key, value) in metadata.iter() {
        let name = match key {
            HUGGINGFACE => Some(TOKENIZER_FILE),
            key => key.strip_prefix(FILES).filter(|name| is_safe(name)),
        };
        if let (Some(name), Value::String(bytes)) = (name, value) {
            files.set(name, bytes.clone());
        }
    }
    if !files.get(PUBLISHED_FILE).is_some_and(|bytes| says(bytes, source)) {
        files.set(PUBLISHED_FILE, config(source, Some(metadata))?);
    }
    if files.get(TOKENIZER_FILE).is_none()
        && let Some(tokenizer) = vocabulary::tokenizer(metadata)?
    {
        files.set(TOKENIZER_FILE, tokenizer.to_json().as_bytes().to_vec());
    }
    if !has_template(&files)
        && let Some(template) = metadata.get(TEMPLATE_KEY).and_then(Value::as_str)
    {
        files.set(TEMPLATE_FILE, template.as_bytes().to_vec());
    }
    if files.get("tokenizer_config.json").is_none() && metadata.contains("tokenizer.ggml.tokens") {
        files.set("tokenizer_config.json", pretty(&Json::Object(tokenizer_config(metadata, source)?))?);
    }
    if files.get("generation_config.json").is_none() {
        let ids = ids(metadata);
        if !ids.is_empty() {
            files.set("generation_config.json", pretty(&Json::Object(ids))?);
        }
    }
    Ok(files)
}

/// Whether files say how a conversation is written down.
fn has_template(files: &Files) -> bool {
    let config =
        files.get("tokenizer_config.json").and_then(|bytes| serde_json::from_slice::<Json>(bytes).ok());
    files.get(TEMPLATE_FILE).is_some() || config.is_some_and(|config| config.get("chat_template").is_some())
}

/// A name that stays inside its folder and is none of those that are written anew.
fn is_safe(name: &str) -> bool {
    let plain = |part: &str| !(part.is_empty() || part.starts_with('.') || part.contains(['\\', ':', '\0']));
    is_carried(name) && name.split('/').count() <= 2 && name.split('/').all(plain)
}

/// Whether a kept `config.json` still says the model.
fn says(bytes: &[u8], source: &Converted) -> bool {
    let Some(read) = serde_json::from_slice(bytes).ok().and_then(|value| published::read(&value).ok()) else {
        return false;
    };
    // The head is what the tensors say, and a name changes nothing.
    let mut config = read.config;
    (config.head, config.name) = (source.config.head, source.config.name.clone());
    // GGUF rounds to 32 bits.
    let number = |value: &Option<Json>| value.as_ref().and_then(Json::as_f64).map(|x| x as f32);
    diff(&config, &source.config).iter().all(|d| number(&d.a).is_some() && number(&d.a) == number(&d.b))
}

/// A `config.json` for the model.
fn config(source: &Converted, metadata: Option<&Metadata>) -> Result<Vec<u8>> {
    let mut config = source.family.to_config_json(&source.config)?;
    if let (Json::Object(fields), Some(metadata)) = (&mut config, metadata) {
        fields.extend(ids(metadata));
    }
    pretty(&config)
}

/// Token ids, as transformers calls them.
fn ids(metadata: &Metadata) -> Map<String, Json> {
    let known = [
        ("bos_token_id", "bos_token_id"),
        ("eos_token_id", "eos_token_id"),
        ("pad_token_id", "padding_token_id"),
    ];
    let id = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}"))?.as_u64();
    let mut ids: Map<String, Json> =
        known.iter().filter_map(|(name, key)| Some(((*name).to_owned(), id(key)?.into()))).collect();
    // A turn of a conversation may end with another token than a text.
    if let (Some(eos), Some(eot)) = (id("eos_token_id"), id("eot_token_id"))
        && eos != eot
    {
        ids.insert("eos_token_id".to_owned(), json!([eos, eot]));
    }
    ids
}

/// A `tokenizer_config.json` for the tokenizer beside it.
fn tokenizer_config(metadata: &Metadata, source: &Converted) -> Result<Map<String, Json>> {
    let tokens = metadata.strings("tokenizer.ggml.tokens").map_err(Error::external)?;
    let tokens: Vec<_> = tokens.into_iter().flatten().collect();
    let piece = |key: &str| {
        let id = usize::try_from(metadata.get(&format!("tokenizer.ggml.{key}"))?.as_u64()?).ok()?;
        tokens.get(id)?.str().ok().map(Json::from)
    };
    let flag = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}"))?.as_bool().map(Json::from);
    let fields = [
        ("add_bos_token", flag("add_bos_token")),
        ("add_eos_token", flag("add_eos_token")),
        ("bos_token", piece("bos_token_id")),
        ("clean_up_tokenization_spaces", Some(false.into())),
        ("eos_token", piece("eos_token_id")),
        ("model_max_length", Some(source.config.context.into())),
        ("pad_token", piece("padding_token_id")),
        ("tokenizer_class", Some("PreTrainedTokenizerFast".into())),
        ("unk_token", piece("unknown_token_id")),
    ];
    Ok(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

/// What of a file's metadata a folder has no place for, as a GGUF file without tensors.
fn sidecar(metadata: &Metadata) -> Result<Option<Vec<u8>>> {
    // A file that was made from a folder goes back to what the folder was.
    if metadata.iter().any(|(key, _)| key.starts_with(FILES)) {
        return Ok(None);
    }
    let mut layout = GgufLayout::new();
    let told = metadata.iter().filter(|(key, _)| *key != STORED && *key != HUGGINGFACE);
    layout.metadata = told.map(|(key, value)| (key, value.clone())).collect();
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, &layout).and_then(Writer::finish).map_err(Error::external)?;
    Ok(Some(bytes))
}

/// The type that most numbers have.
fn most(types: &HashMap<String, Dtype>) -> Option<Dtype> {
    let mut counts: Vec<(Dtype, usize)> = Vec::new();
    for dtype in types.values() {
        match counts.iter_mut().find(|(found, _)| found == dtype) {
            Some((_, count)) => *count += 1,
            None => counts.push((*dtype, 1)),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(dtype, _)| dtype)
}

/// A config that names the type of the weights; `None` where it does already.
fn typed(config: &[u8], dtype: Dtype) -> Option<Vec<u8>> {
    let name = match dtype {
        Dtype::F64 => "float64",
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        _ => return None,
    };
    let mut value: Json = serde_json::from_slice(config).ok()?;
    let fields = value.as_object_mut()?;
    let old = if fields.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
    if fields.get(old).is_some_and(|found| found == name) {
        return None;
    }
    fields.insert(old.to_owned(), name.into());
    pretty(&value).ok()
}

fn pretty(value: &Json) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(Error::external)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_stays_inside_its_folder() {
        let check = |name: &str, safe: bool| assert_eq!(is_safe(name), safe, "{name}");
        check("generation_config.json", true);
        check("additional_chat_templates/tools.jinja", true);
        for name in [
            "",
            "..",
            "../x",
            "a/../x",
            "/etc/passwd",
            "a/b/c",
            "a/",
            "C:x",
            "a\\b",
            ".bashrc",
            "model.safetensors",
        ] {
            check(name, false);
        }
    }
}
