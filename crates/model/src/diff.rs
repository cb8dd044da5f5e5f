//! The fields in which two configs differ.
//!
//! Layers are compared in their shortest form, so that a field that all layers share is one line, `blocks.*.attn.heads`,
//! and one that differs between layers shows as its pattern.
//!
//! ```
//! use formwork_model::{diff, presets};
//!
//! let found = diff(&presets::llama2_7b(), &presets::llama2_70b());
//! let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
//! assert_eq!(lines, [
//!     "blocks.*.attn.heads: 32 | 64",
//!     "blocks.*.attn.kv_heads: - | 8",
//!     "blocks.*.ffn.hidden: 11008 | 28672",
//!     "blocks.layers: 32 | 80",
//!     "dim: 4096 | 8192",
//!     "name: \"llama2-7b\" | \"llama2-70b\"",
//! ]);
//! ```

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::Value;

use crate::{ModelConfig, config::compact};

/// One field in which two configs differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its path, with `*` for all layers.
    pub field: String,
    /// What the first config has, `None` if it does not give the field.
    pub a: Option<Value>,
    /// What the second config has.
    pub b: Option<Value>,
}

impl Difference {
    /// Whether both are the same number in 32 bits, to which GGUF files round: 1e-5 and 9.999999747e-6.
    pub fn is_rounding(&self) -> bool {
        let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_f64).map(|x| x as f32);
        number(&self.a).is_some() && number(&self.a) == number(&self.b)
    }
}

/// `field: a | b`, with `-` where a config does not give the field.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        write!(f, "{}: {} | {}", self.field, text(&self.a), text(&self.b))
    }
}

/// The fields in which `a` and `b` differ, by name.
///
/// Layers are compared in their shortest form: a field that all layers share is one line, `blocks.*.attn.heads`, and one
/// that differs between layers shows as its pattern.
pub fn diff(a: &ModelConfig, b: &ModelConfig) -> Vec<Difference> {
    let (mut left, mut right) = (flat(a), flat(b));
    let fields: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).cloned().collect();
    let pair = |field: String| Difference { a: left.remove(&field), b: right.remove(&field), field };
    fields.into_iter().map(pair).filter(|difference| difference.a != difference.b).collect()
}

fn flat(config: &ModelConfig) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    flatten("", compact(config), &mut fields);
    fields
}

fn flatten(path: &str, value: Value, into: &mut BTreeMap<String, Value>) {
    let leaf = |map: &serde_json::Map<_, _>| {
        map.is_empty() || map.contains_key("cycle") || map.contains_key("ranges")
    };
    match value {
        Value::Object(map) if !leaf(&map) => {
            for (key, value) in map {
                let below = match (path, key.as_str()) {
                    ("", key) => key.to_owned(),
                    ("blocks", "each") => "blocks.*".to_owned(),
                    (path, key) => format!("{path}.{key}"),
                };
                flatten(&below, value, into);
            }
        }
        leaf => {
            into.insert(path.to_owned(), leaf);
        }
    }
}
