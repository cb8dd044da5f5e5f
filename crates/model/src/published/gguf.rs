//! The metadata of a GGUF file, both ways.
//!
//! Keys are llama.cpp's, `llama.block_count` and the like. What GGUF has no key for and training or a folder needs (dropout,
//! the standard deviation of an initialisation, the parameters behind RoPE factors) is written under `formwork.`, which other
//! programs pass over.

use serde_json::{Number, Value};

use super::{
    Family, Fields, Published,
    field::{Rule, given, shown},
    json::shortened,
    layout::Layout,
    noted, of_family,
};
use crate::{Error, Result};

/// What a GGUF file's tensors say about its model, beyond the metadata.
pub struct Tensors<'a> {
    /// The shape of the tensor of a name, outermost axis first; `None` if the file has none of this name.
    pub shape: &'a dyn Fn(&str) -> Option<Vec<usize>>,
    /// The numbers of `rope_freqs.weight`, if the file has it.
    pub rope_freqs: Option<Vec<f32>>,
}

impl Tensors<'_> {
    /// Whether the file has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        (self.shape)(name).is_some()
    }
}

/// What a GGUF file says about a model beyond its tokenizer and the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// Keys and values in order. Whole numbers are meant as u32, other numbers as f32, and as f64 under `formwork.`.
    pub metadata: Vec<(String, Value)>,
    /// The numbers of the tensor `rope_freqs.weight`, f32 and one per RoPE pair, where the model needs it.
    pub rope_freqs: Option<Vec<f32>>,
}

/// Reads the metadata of a GGUF file, without the arrays of its tokenizer.
///
/// An f32 is read as the shortest decimal that gives it, so that the 1e-5 of a folder is 1e-5 again.
///
/// # Errors
/// Another architecture, with those that are supported; a key that is missing, of the wrong type or out of range; a key or
/// tensor that changes what is computed in a way that is not supported. Each names the key.
pub fn from_gguf(metadata: &Fields, tensors: &Tensors<'_>) -> Result<Published> {
    let architecture = given(metadata, ARCHITECTURE);
    let family = architecture.and_then(Value::as_str).and_then(Family::named).ok_or_else(|| {
        let found = architecture.map_or("nothing".to_owned(), shown);
        let error = Error::invalid(ARCHITECTURE, Family::listed(), found);
        if architecture.is_some_and(|name| name == "clip") {
            return error.hint("the file holds the eyes of a vision model, not a language model");
        }
        error
    })?;
    for (key, only) in [("general.type", Value::from("model")), ("split.count", Value::from(1))] {
        if let Some(found) = given(metadata, key).filter(|found| **found != only && **found != 0) {
            let error = Error::invalid(key, &only, shown(found));
            return Err(if key == "split.count" {
                error.hint("the model is in several files; join them with llama-gguf-split --merge")
            } else {
                error.hint("the file holds no model of its own")
            });
        }
    }
    of_family!(family, L => read_as::<L>(metadata, tensors))
}

const ARCHITECTURE: &str = "general.architecture";

/// The name of a key in the file: rows without a place of their own stand under the architecture.
pub(crate) fn key<L: Layout>(name: &str) -> String {
    match name.split_once('.') {
        Some(("general" | "formwork", _)) => name.to_owned(),
        _ => format!("{}.{name}", L::NAME),
    }
}

fn read_as<L: Layout>(metadata: &Fields, tensors: &Tensors<'_>) -> Result<Published> {
    let (mut numbers, mut notes) = (L::default(), Vec::new());
    let metadata: Fields = plain(metadata)?;
    for name in L::REQUIRED {
        let key = key::<L>(name);
        if given(&metadata, &key).is_none() {
            return Err(Error::missing(format_args!("the key {key} in the metadata")));
        }
    }
    let known: Vec<(String, &Rule<L>)> =
        L::METADATA.iter().map(|field| (key::<L>(field.name), &field.rule)).collect();
    for (key, value) in metadata.iter().filter(|(_, value)| !value.is_null()) {
        match known.iter().find(|(known, _)| known == key) {
            Some((_, rule)) => rule.read(key, value, &mut numbers)?,
            None if of_model::<L>(key) => {
                noted(&mut notes, || format!("metadata: key {} is not known; ignored", shortened(key)));
            }
            None => {}
        }
    }
    if given(&metadata, &key::<L>("vocab_size")).is_none() {
        *numbers.vocab() = match (tensors.shape)(L::TOKENS).as_deref() {
            Some([vocab, _]) => *vocab,
            _ => return Err(Error::missing(format_args!("the matrix {}", L::TOKENS))),
        };
    }
    *numbers.is_tied() = !tensors.has(L::HEAD);
    numbers.read_own_metadata(&metadata, tensors)?;
    if numbers.model_name().is_empty() {
        L::NAME.clone_into(numbers.model_name());
    }
    let config = numbers.config();
    config.validate()?;
    Ok(Published { family: L::FAMILY, config, notes })
}

/// Whether a key is about the model, and not about the file, its tokenizer or somebody's notes.
fn of_model<L: Layout>(key: &str) -> bool {
    key.split_once('.').is_some_and(|(first, _)| first == L::NAME || first == "formwork")
}

/// Values as a folder would have them: f32 as the shortest decimal, and one number for layers that all have the same.
fn plain(metadata: &Fields) -> Result<Fields> {
    let model_key = |key: &str| {
        Family::ALL.iter().any(|f| key.strip_prefix(f.name()).is_some_and(|k| k.starts_with('.')))
    };
    let wanted = |key: &str| model_key(key) || key.starts_with("formwork.") || key == "general.name";
    let value = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::Array(list) => match list.split_first() {
                Some((first, rest)) if rest.iter().all(|other| other == first) => first,
                _ => {
                    let found = "a list of numbers that differ, or of none";
                    return Err(Error::invalid(key, "one number, as all layers are alike", found));
                }
            },
            one => one,
        };
        Ok((key.clone(), if key.starts_with("formwork.") { value.clone() } else { decimal(value) }))
    };
    metadata.iter().filter(|(key, _)| wanted(key)).map(value).collect()
}

/// The shortest decimal that gives the same f32, for a number that is one.
fn decimal(value: &Value) -> Value {
    let number = value.as_f64().filter(|_| value.is_f64());
    let shortest = number.and_then(|x| {
        let narrow = x as f32;
        (f64::from(narrow) == x).then(|| narrow.to_string().parse().ok()).flatten()
    });
    shortest.and_then(Number::from_f64).map_or_else(|| value.clone(), Value::Number)
}

/// The metadata of a model.
pub(super) fn write<L: Layout>(numbers: &L) -> Result<Gguf> {
    let mut metadata = vec![(ARCHITECTURE.to_owned(), Value::from(L::NAME))];
    let defaults = L::default();
    for field in L::METADATA {
        let value = field.rule.write(field.name, numbers)?;
        // What other programs do not read is written only where it says something.
        let is_extra = field.name.starts_with("formwork.");
        if let Some(value) = value
            && !(is_extra && field.rule.write(field.name, &defaults)?.as_ref() == Some(&value))
        {
            metadata.push((key::<L>(field.name), value));
        }
    }
    let rope_freqs = numbers.write_own_metadata(&mut metadata)?;
    Ok(Gguf { metadata, rope_freqs })
}
