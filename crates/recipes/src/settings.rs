//! The settings of generation that a model comes with.
//!
//! | file | who writes it |
//! |---|---|
//! | `generation.json` | this project: the fields of [`Settings`] as they are |
//! | `generation_config.json` | published models: the fields of transformers |
//!
//! Of the published fields each is **mapped**, **inert** (it concerns speed, memory, or what a program returns), or
//! **refused** unless it has its default, since it would change what is written. One that nobody has listed is noted.
//! Transformers' own defaults hold: without `do_sample` the likeliest token is chosen every time and temperature,
//! `top_k`, `top_p` and `min_p` count for nothing; with it `top_k` is 50 unless the file says otherwise.
//!
//! ```
//! use formwork_recipes::settings::published;
//! let file = serde_json::json!({"do_sample": true, "temperature": 0.6, "eos_token_id": [2, 7, 9999]});
//! let found = published(&file, None, 512)?;
//! assert_eq!((found.settings.temperature, found.settings.top_k), (0.6, Some(50)));
//! assert_eq!(found.settings.end, [2, 7]);
//! assert_eq!(found.notes.len(), 1); // 9999 is no token of this model
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::path::Path;

use formwork_formats::Bytes;
use formwork_generate::Settings;
use formwork_module::{At, Error, Result, config};
use serde_json::{Map, Value};

use crate::files;

/// The name of this project's own file in a folder.
pub const GENERATION_FILE: &str = "generation.json";
/// The published name.
pub(crate) const PUBLISHED_FILE: &str = "generation_config.json";
/// The published config, which names the end of a text where the other file does not.
const CONFIG: &str = "config.json";

/// What a folder says about generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// The settings; the default where nothing is said.
    pub settings: Settings,
    /// The token that begins a text.
    pub begin: Option<u32>,
    /// The token that fills rows up.
    pub pad: Option<u32>,
    /// What the reader of the model should know: ids past its vocabulary, fields that nobody has listed.
    pub notes: Vec<String>,
}

/// Reads what a folder says: its `generation.json`, or its `generation_config.json` with the `config.json` beside it.
///
/// # Errors
/// A file that is broken, a number out of range, or a published field that would change the result and is not supported.
pub fn read(folder: &Path, vocab: usize) -> Result<Generation> {
    let file = |name: &str| {
        let path = folder.join(name);
        if path.is_file() { files::read_json(&path).map(Some) } else { Ok(None) }
    };
    found(&file, &|name| folder.join(name).display().to_string(), vocab)
}

/// As [`read`] for files in memory: `file` gives the bytes of the one of a name.
///
/// # Errors
/// Those of [`read`].
///
/// ```
/// use formwork_recipes::settings::from_files;
/// let file = |name: &str| (name == "generation.json").then(|| br#"{"temperature": 0.3}"#.to_vec());
/// assert_eq!(from_files(&file, 512)?.settings.temperature, 0.3);
/// # Ok::<(), formwork_module::Error>(())
/// ```
pub fn from_files(file: &dyn Fn(&str) -> Option<Vec<u8>>, vocab: usize) -> Result<Generation> {
    found(&|name| Ok(file(name).map(Bytes::from)), &str::to_owned, vocab)
}

/// What files say, wherever they are: `file` gives the bytes of the one of a name, `place` what a message calls it.
pub(crate) fn found(
    file: &dyn Fn(&str) -> Result<Option<Bytes>>,
    place: &dyn Fn(&str) -> String,
    vocab: usize,
) -> Result<Generation> {
    let json = |name: &str| match file(name)? {
        Some(bytes) => files::parsed(&bytes, "settings").in_file(place(name)).map(Some),
        None => Ok(None),
    };
    if let Some(value) = json(GENERATION_FILE)? {
        let own = || -> Result<Settings> {
            let settings: Settings = config::read(value)?;
            // Here a number out of range is the file's fault, later it would be taken for a flag's.
            settings.request()?;
            Ok(settings)
        };
        let settings = own().in_file(place(GENERATION_FILE))?;
        return Ok(Generation { settings, ..Generation::default() });
    }
    let config = json(CONFIG)?;
    match json(PUBLISHED_FILE)? {
        Some(value) => published(&value, config.as_ref(), vocab).in_file(place(PUBLISHED_FILE)),
        None => {
            let nothing = Value::Object(Map::new());
            let found = published(&nothing, config.as_ref(), vocab).in_file(place(CONFIG))?;
            let settings = Settings { end: found.settings.end, ..Settings::default() };
            Ok(Generation { settings, ..found })
        }
    }
}

/// Fields that concern speed, memory, what is returned, or who wrote the file; and two that transformers itself no
/// longer reads. `max_length` counts the prompt as well, so it says nothing about an answer.
const INERT: &[&str] = &[
    "_commit_hash",
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "cache_config",
    "cache_implementation",
    "chat_format",
    "compile_config",
    "continuous_batching_config",
    "disable_compile",
    "early_stopping",
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_cache_len",
    "max_length",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "renormalize_logits",
    "return_dict_in_generate",
    "speculation_type",
    "target_lookbehind",
    "transformers_version",
    "use_cache",
    "use_mtp",
];

/// A test of a value that changes nothing.
type IsDefault = fn(&Value) -> bool;

/// Fields that would change what is written, with the values that do not; null never does.
const DEFAULT_ONLY: &[(&str, IsDefault)] = &[
    ("constraints", is_empty),
    ("decoder_start_token_id", |_| true), // of encoder-decoder models alone
    ("diversity_penalty", is_zero),
    ("dola_layers", |_| false),
    ("encoder_no_repeat_ngram_size", is_zero),
    ("encoder_repetition_penalty", is_one),
    ("exponential_decay_length_penalty", |_| false),
    ("force_words_ids", is_empty),
    ("forced_bos_token_id", |_| false),
    ("forced_decoder_ids", is_empty),
    ("forced_eos_token_id", |_| false),
    ("guidance_scale", is_one),
    ("max_time", |_| false),
    ("min_length", is_zero),
    ("num_beam_groups", is_one),
    ("num_beams", is_one),
    ("num_return_sequences", is_one),
    ("penalty_alpha", is_zero),
    ("sequence_bias", is_empty),
    ("token_healing", |value| *value == Value::Bool(false)),
    ("watermarking_config", |_| false),
];

/// As [`DEFAULT_ONLY`], but counting only where tokens are drawn.
const SAMPLED_DEFAULT_ONLY: &[(&str, IsDefault)] =
    &[("epsilon_cutoff", is_zero), ("eta_cutoff", is_zero), ("top_h", |_| false), ("typical_p", is_one)];

/// Fields that are mapped.
const MAPPED: &[&str] = &[
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "do_sample",
    "eos_token_id",
    "max_new_tokens",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "pad_token_id",
    "repetition_penalty",
    "stop_strings",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
];

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// Maps the fields of a `generation_config.json`, for a model with `vocab` ids; `config` is its `config.json`, whose end
/// ids count where the first has none.
///
/// # Errors
/// No object, a field of another type or out of range, or one that would change the result and is not supported.
pub fn published(generation: &Value, config: Option<&Value>, vocab: usize) -> Result<Generation> {
    let Some(fields) = generation.as_object() else {
        return Err(Error::invalid("generation config", "an object", kind(generation)));
    };
    let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let samples = match field("do_sample") {
        None => false,
        Some(value) => value.as_bool().ok_or_else(|| wrong("do_sample", "true or false", value))?,
    };
    let mut notes = Vec::new();
    for (name, value) in fields {
        let sampled = SAMPLED_DEFAULT_ONLY.iter().find(|(known, _)| known == name);
        let only = DEFAULT_ONLY.iter().find(|(known, _)| known == name).or(sampled.filter(|_| samples));
        if let Some((_, is_default)) = only {
            if !value.is_null() && !is_default(value) {
                return Err(Error::invalid(name, "its default", shown(value)).hint(
                    "this setting changes what is written and is not supported; remove it from the file",
                ));
            }
        } else if sampled.is_none() && !INERT.contains(&name.as_str()) && !MAPPED.contains(&name.as_str()) {
            notes.push(format!(
                "generation_config.json: {} is not known here and changes nothing",
                name.escape_debug()
            ));
        }
    }
    let mut ids = Ids { vocab, notes };
    let of_config = |name: &str| config.and_then(|config| config.get(name)).filter(|value| !value.is_null());
    let either = |name: &'static str| field(name).or_else(|| of_config(name));
    let end = ids.read("eos_token_id", either("eos_token_id"))?;
    let begin = ids.read("bos_token_id", either("bos_token_id"))?.first().copied();
    let pad = ids.read("pad_token_id", either("pad_token_id"))?.first().copied();
    let ban = ids.read("suppress_tokens", field("suppress_tokens"))?;
    let mut settings = Settings { end, ban, ..Settings::default() };
    settings.ban_first = ids.read("begin_suppress_tokens", field("begin_suppress_tokens"))?;
    settings.ban_phrases = ids.phrases(field("bad_words_ids"))?;
    // As the reference has it: a phrase that is an end token alone is not banned, or no text would end.
    let end = &settings.end;
    settings.ban_phrases.retain(|phrase| !matches!(phrase[..], [id] if end.contains(&id)));

    let number = |name: &str| -> Result<Option<f64>> {
        field(name).map(|value| value.as_f64().ok_or_else(|| wrong(name, "a number", value))).transpose()
    };
    let count = |name: &str| -> Result<Option<usize>> {
        let read = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
        field(name).map(|value| read(value).ok_or_else(|| wrong(name, "a whole number", value))).transpose()
    };
    settings.no_repeat_ngram = count("no_repeat_ngram_size")?.filter(|size| *size > 0);
    settings.min_tokens = count("min_new_tokens")?.unwrap_or(0);
    settings.repetition_penalty = number("repetition_penalty")?.unwrap_or(1.0);
    if let Some(most) = count("max_new_tokens")? {
        settings.max_tokens = most;
    }
    if let Some(value) = field("stop_strings") {
        settings.stop = match value {
            Value::String(one) => vec![one.clone()],
            _ => config::read(value.clone()).map_err(|_| wrong("stop_strings", "texts", value))?,
        };
    }
    // Read in any case, so that a field of a wrong type is an error whether it counts or not.
    let (temperature, top_p, min_p) = (number("temperature")?, number("top_p")?, number("min_p")?);
    let top_k = count("top_k")?.unwrap_or(50);
    settings.temperature = 0.0;
    if samples {
        settings.temperature = temperature.unwrap_or(1.0);
        settings.top_k = (top_k > 0).then_some(top_k);
        settings.top_p = top_p.filter(|p| *p != 1.0);
        settings.min_p = min_p;
    }
    settings.request()?;
    Ok(Generation { settings, begin, pad, notes: ids.notes })
}

/// Reads token ids; those past the vocabulary can never come up, so they are noted and left out.
struct Ids {
    vocab: usize,
    notes: Vec<String>,
}

impl Ids {
    fn one(&mut self, name: &str, value: &Value) -> Result<Option<u32>> {
        // Some files spell "none" as −1.
        if value.as_i64() == Some(-1) {
            return Ok(None);
        }
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| wrong(name, "a token id or a list of them", value))?;
        if id as usize >= self.vocab {
            self.notes
                .push(format!("{name}: {id} is past the vocabulary of {} and never comes up", self.vocab));
            return Ok(None);
        }
        Ok(Some(id))
    }

    /// One id or a list.
    fn read(&mut self, name: &str, value: Option<&Value>) -> Result<Vec<u32>> {
        let several = match value {
            None => return Ok(Vec::new()),
            Some(Value::Array(several)) => several.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let mut ids = Vec::with_capacity(several.len());
        for value in several {
            ids.extend(self.one(name, value)?.filter(|id| !ids.contains(id)));
        }
        Ok(ids)
    }

    /// `bad_words_ids`: sequences never completed. One with a token past the vocabulary never could be.
    fn phrases(&mut self, value: Option<&Value>) -> Result<Vec<Vec<u32>>> {
        const NAME: &str = "bad_words_ids";
        let Some(value) = value else { return Ok(Vec::new()) };
        let mut phrases = Vec::new();
        for phrase in value.as_array().ok_or_else(|| wrong(NAME, "lists of token ids", value))? {
            let ids = phrase.as_array().ok_or_else(|| wrong(NAME, "lists of token ids", phrase))?;
            let ids = ids.iter().map(|id| self.one(NAME, id)).collect::<Result<Option<Vec<u32>>>>()?;
            phrases.extend(ids);
        }
        Ok(phrases)
    }
}

fn wrong(name: &str, expected: &str, found: &Value) -> Error {
    Error::invalid(name, expected, shown(found))
}

/// A value, shortened, without characters that a terminal would obey.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    let is_plain = |c: &char| !c.is_control();
    let start: String = text.chars().take(MOST).filter(is_plain).collect();
    let more = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    format!("{start}{more}")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
