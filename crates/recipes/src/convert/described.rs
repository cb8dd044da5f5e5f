//! The small files of a published folder: those that a model brought with it, and what can be told from metadata in place
//! of the others.

use std::collections::HashMap;

use formwork_formats::{
    Dtype,
    gguf::{Layout as GgufLayout, Metadata, Value, Writer},
};
use formwork_model::published;
use formwork_module::{Error, Result};
use serde_json::{Map, Value as Json, json};

use super::{Convert, Converted, agree::contradiction, gguf::HUGGINGFACE};
use crate::{
    files::{Files, SIDECAR, is_carried, parsed},
    gguf::{FILES, STORED},
    layout::{PUBLISHED_FILE, TOKENIZER_FILE},
    manner::{TEMPLATE_FILE, TEMPLATE_KEY, TOKENIZER_CONFIG},
    vocabulary,
};

/// The small files of the folder.
pub(super) fn described(
    source: &Converted,
    types: &HashMap<String, Dtype>,
    options: &Convert,
) -> Result<Files> {
    let (mut files, is_kept) = match source.archive().gguf() {
        Some(gguf) => {
            let metadata = gguf.metadata();
            let mut files = files(metadata, source)?;
            if let Some(kept) = sidecar(metadata)? {
                files.set(SIDECAR, kept);
            }
            let is_kept = match metadata.get(&format!("{FILES}{PUBLISHED_FILE}")) {
                Some(Value::String(kept)) => {
                    files.get(PUBLISHED_FILE).is_some_and(|bytes| bytes[..] == kept[..])
                }
                _ => false,
            };
            (files, is_kept)
        }
        None => {
            let mut files = source.opened.files.clone();
            // A folder of ours may have one of another model beside its own config.
            let is_kept = files.get(PUBLISHED_FILE).is_some_and(|bytes| says(bytes, source));
            if !is_kept {
                files.set(PUBLISHED_FILE, config(source, None)?);
            }
            (files, is_kept)
        }
    };
    if (options.dtype.is_some() || !is_kept)
        && let (Some(bytes), Some(dtype)) = (files.get(PUBLISHED_FILE), most(types))
        && let Some(typed) = typed(bytes, dtype)?
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
    if !has_template(&files)?
        && let Some(template) = metadata.get(TEMPLATE_KEY).and_then(Value::as_str)
    {
        files.set(TEMPLATE_FILE, template.as_bytes().to_vec());
    }
    if files.get(TOKENIZER_CONFIG).is_none() && metadata.contains("tokenizer.ggml.tokens") {
        files.set(TOKENIZER_CONFIG, pretty(&Json::Object(tokenizer_config(metadata, source)?))?);
    }
    Ok(files)
}

/// Whether files say how a conversation is written down.
fn has_template(files: &Files) -> Result<bool> {
    if files.get(TEMPLATE_FILE).is_some() {
        return Ok(true);
    }
    let Some(bytes) = files.get(TOKENIZER_CONFIG) else { return Ok(false) };
    let config = parsed(bytes, TOKENIZER_CONFIG)?;
    Ok(config.get("chat_template").is_some())
}

/// A name that stays inside its folder and is none of those that are written anew.
fn is_safe(name: &str) -> bool {
    let plain = |part: &str| !(part.is_empty() || part.starts_with('.') || part.contains(['\\', ':', '\0']));
    is_carried(name) && name.split('/').count() <= 2 && name.split('/').all(plain)
}

/// Whether a `config.json` that was found says the model.
fn says(bytes: &[u8], source: &Converted) -> bool {
    let read = parsed(bytes, PUBLISHED_FILE).and_then(|value| published::read(&value));
    read.is_ok_and(|read| contradiction(&read.config, &source.config).is_none())
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
fn typed(config: &[u8], dtype: Dtype) -> Result<Option<Vec<u8>>> {
    let name = match dtype {
        Dtype::F64 => "float64",
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        _ => return Ok(None),
    };
    let mut value = parsed(config, PUBLISHED_FILE)?;
    let Some(fields) = value.as_object_mut() else { return Ok(None) };
    let old = if fields.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
    if fields.get(old).is_some_and(|found| found == name) {
        return Ok(None);
    }
    fields.insert(old.to_owned(), name.into());
    pretty(&value).map(Some)
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
