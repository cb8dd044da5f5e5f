//! `tokenizer_config.json` and `special_tokens_map.json`: what stands beside a published `tokenizer.json`.
//!
//! They name the tokens that begin, end and pad a text, and often carry the template of conversations. All else in
//! them (class names, lengths, flags of other programs) has no part in encoding, and is passed over.
//!
//! ```
//! use formwork_tokenizer::{BpeTrainer, config};
//!
//! let tokenizer = BpeTrainer { vocab: 258, special: vec!["<a>".into(), "<b>".into()], min_frequency: 2 }.train(["text"])?;
//! let json = br#"{"eos_token": "<b>", "pad_token": {"content": "<a>"}, "chat_template": "{{ messages }}"}"#;
//! let tokenizer = tokenizer.with_config(json)?;
//! assert_eq!((tokenizer.special().end.as_slice(), tokenizer.special().pad), ([257].as_slice(), Some(256)));
//! assert_eq!(config::chat_template(json)?.as_deref(), Some("{{ messages }}"));
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```

use serde_json::{Map, Value};

use crate::error::{Error, Result, shorten};
use crate::tokenizer::Tokenizer;

/// What a configuration says about the tokens of a tokenizer.
#[derive(Debug, Default, PartialEq)]
struct Config {
    begin: Option<String>,
    end: Option<String>,
    pad: Option<String>,
    unknown: Option<String>,
    adds_begin: Option<bool>,
    adds_end: Option<bool>,
}

/// The template of conversations in a `tokenizer_config.json`: the one there is, or of several the one named `default`.
///
/// # Errors
/// If the bytes are no JSON object, or the field is neither a text nor a list of named ones.
pub fn chat_template(json: &[u8]) -> Result<Option<String>> {
    let config = object(json)?;
    let wrong = |found: &Value| {
        let found = shorten(&found.to_string());
        refuse("chat_template", format!("expected a text or a list of {{name, template}}, found {found}"))
    };
    let list = match config.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong(other)),
    };
    let mut named = Vec::with_capacity(list.len());
    for entry in list {
        match (entry.get("name").and_then(Value::as_str), entry.get("template").and_then(Value::as_str)) {
            (Some(name), Some(template)) => named.push((name, template)),
            _ => return Err(wrong(entry)),
        }
    }
    let default = named.iter().find(|(name, _)| *name == "default");
    Ok(match (default, named.as_slice()) {
        (Some((_, template)), _) | (None, [(_, template)]) => Some((*template).to_owned()),
        _ => None,
    })
}

impl Tokenizer {
    /// The same tokenizer with the tokens that a `tokenizer_config.json` or a `special_tokens_map.json` names.
    ///
    /// `bos_token`, `eos_token`, `pad_token` and `unk_token`, each a text or an object with its `content`, become
    /// [`special`](Self::special); the end token comes before others that are known. `add_bos_token` and `add_eos_token`
    /// count where the `tokenizer.json` has no post-processor, which is the one that decides otherwise. As with
    /// [`with_special`](Self::with_special) nothing of this is written to `tokenizer.json`.
    ///
    /// # Errors
    /// If the bytes are no JSON object, if a token is of another kind than these, or if the begin or end token is not in
    /// the vocabulary. Names for padding and the unknown that are not in it are passed over: nothing can come of them.
    pub fn with_config(self, json: &[u8]) -> Result<Self> {
        let config = object(json)?;
        let flag = |field: &str| match config.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => {
                Err(refuse(field, format!("expected true or false, found {}", shorten(&other.to_string()))))
            }
        };
        let config = Config {
            begin: token(&config, "bos_token")?,
            end: token(&config, "eos_token")?,
            pad: token(&config, "pad_token")?,
            unknown: token(&config, "unk_token")?,
            adds_begin: flag("add_bos_token")?,
            adds_end: flag("add_eos_token")?,
        };
        self.configured(&config)
    }

    /// The same tokenizer with what a configuration says.
    fn configured(mut self, config: &Config) -> Result<Self> {
        let known = |field: &str, name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => self.id(name).map(Some).ok_or_else(|| {
                let name = shorten(name);
                refuse(
                    field,
                    format!(
                        "{name:?} is no token of the vocabulary; the two files are of different tokenizers"
                    ),
                )
            }),
        };
        let (begin, end) = (known("bos_token", &config.begin)?, known("eos_token", &config.end)?);
        let named = |name: &Option<String>| name.as_deref().and_then(|name| self.id(name));
        let (pad, unknown) = (named(&config.pad), named(&config.unknown));
        let special = &mut self.special;
        special.begin = begin.or(special.begin);
        special.pad = pad.or(special.pad);
        special.unknown = unknown.or(special.unknown);
        if let Some(end) = end {
            special.end.retain(|id| *id != end);
            special.end.insert(0, end);
        }
        if !self.has_template() {
            let one =
                |adds: Option<bool>, id: Option<u32>| id.filter(|_| adds == Some(true)).into_iter().collect();
            if config.adds_begin.is_some() {
                self.frame.before = one(config.adds_begin, self.special.begin);
            }
            if config.adds_end.is_some() {
                self.frame.after = one(config.adds_end, self.special.end.first().copied());
            }
        }
        Ok(self)
    }
}

/// The error of a field.
fn refuse(field: &str, problem: String) -> Error {
    Error::Config { field: field.into(), problem }
}

/// The object that the bytes are.
fn object(json: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(refuse("the file", "expected a JSON object, found another value".into())),
        Err(error) => {
            let problem =
                format!("expected JSON, found at line {} column {}: {error}", error.line(), error.column());
            Err(refuse("the file", shorten(&problem)))
        }
    }
}

/// The text of a token.
fn token(config: &Map<String, Value>, field: &str) -> Result<Option<String>> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => match other.get("content").and_then(Value::as_str) {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(refuse(
                field,
                format!(
                    "expected a token or an object with its content, found {}",
                    shorten(&other.to_string())
                ),
            )),
        },
    }
}
