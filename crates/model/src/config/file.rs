//! A config in and out of JSON and TOML.

use formwork_module::config;
use serde::Serialize;
use serde_json::Value;

use super::{BlockConfig, EmbedConfig, HeadConfig, InitConfig, ModelConfig, once::Once, pattern};
use crate::{Error, Result};

impl ModelConfig {
    /// Reads a config from JSON.
    ///
    /// # Errors
    /// No JSON, a field given twice, or what [`from_value`](Self::from_value) refuses.
    pub fn from_json(text: &str) -> Result<Self> {
        let Once(value) = serde_json::from_str(text).map_err(|e| Error::invalid("config", "JSON", e))?;
        Self::from_value(value)
    }

    /// Reads a config from TOML.
    ///
    /// # Errors
    /// No TOML, or what [`from_value`](Self::from_value) refuses.
    pub fn from_toml(text: &str) -> Result<Self> {
        let value =
            toml::from_str(text).map_err(|e| Error::invalid("config", "TOML", e.to_string().trim_end()))?;
        Self::from_value(value)
    }

    /// Reads a config from JSON values.
    ///
    /// `blocks` is a list with one entry per layer, or `{"layers": n, "each": {..}}`, where any value below `each` may
    /// be a pattern over the layers: `{"cycle": [a, b]}` gives layer `i` item `i mod 2`, and
    /// `{"ranges": [{"from": 0, "to": 4, "value": a}, ..]}` gives `a` to layers 0 to 3.
    ///
    /// # Errors
    /// Another schema, an unknown, missing or mistyped field with its full path, a pattern that does not fit.
    /// Whether the numbers fit together is checked when the model is built.
    pub fn from_value(mut value: Value) -> Result<Self> {
        let Some(fields) = value.as_object_mut() else {
            return Err(Error::invalid("config", "an object", value));
        };
        if let Some(schema) = fields.get("schema").and_then(Value::as_u64) {
            known_schema(schema)?;
        }
        if let Some(blocks) = fields.get_mut("blocks") {
            *blocks = Value::Array(pattern::expand(blocks.take())?);
        }
        config::read(value)
    }

    /// The config as JSON, layers written in the shortest form that [`from_json`](Self::from_json) reads back the same.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&Written::of(self)).expect("a config holds nothing that JSON cannot")
            + "\n"
    }

    /// The config as TOML, layers written in the shortest form that [`from_toml`](Self::from_toml) reads back the same.
    ///
    /// # Errors
    /// Settings of a stranger's part with a null, which TOML does not have.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(&Written::of(self))
            .map_err(|e| Error::invalid("config", "values that TOML has", e).hint("write it as JSON"))
    }
}

pub(super) fn known_schema(schema: u64) -> Result<()> {
    let known = ModelConfig::SCHEMA;
    match schema.cmp(&u64::from(known)) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Error::invalid("schema", known, schema)
            .hint("the config was written by a newer version of formwork; update this one")),
        std::cmp::Ordering::Less => Err(Error::invalid("schema", known, schema)),
    }
}

/// The config with its layers in the shortest form, as JSON values.
pub(crate) fn compact(config: &ModelConfig) -> Value {
    serde_json::to_value(Written::of(config)).expect("a config holds nothing that JSON cannot")
}

/// [`ModelConfig`] with shortened layers, in the same order of fields.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    name: &'a str,
    vocab: usize,
    context: usize,
    dim: usize,
    embed: &'a EmbedConfig,
    blocks: Blocks<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    norm: Option<&'a formwork_norm::NormConfig>,
    head: HeadConfig,
    init: InitConfig,
}

/// Typed where all layers are alike, since JSON values forget the order of fields.
#[derive(Serialize)]
#[serde(untagged)]
enum Blocks<'a> {
    Alike { layers: usize, each: &'a BlockConfig },
    Other(Value),
}

impl<'a> Written<'a> {
    fn of(config: &'a ModelConfig) -> Self {
        let ModelConfig { schema, name, vocab, context, dim, embed, blocks, norm, head, init } = config;
        let values = blocks.iter().map(|block| serde_json::to_value(block).expect("plain data")).collect();
        let blocks = match (pattern::compact(values), blocks.first()) {
            (Value::Object(_), Some(each)) if blocks.iter().all(|block| block == each) => {
                Blocks::Alike { layers: blocks.len(), each }
            }
            (other, _) => Blocks::Other(other),
        };
        let (norm, head, init) = (norm.as_ref(), *head, *init);
        Self {
            schema: *schema,
            name,
            vocab: *vocab,
            context: *context,
            dim: *dim,
            embed,
            blocks,
            norm,
            head,
            init,
        }
    }
}
