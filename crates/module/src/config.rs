//! Config as plain data, read with the full path of what is wrong.
//!
//! Each part owns its config struct (serde, unknown fields refused). Where there is a choice, an enum made by
//! [`choice!`](crate::choice) holds one variant per kind, told apart by a field `kind`, plus
//! [`Custom`] for a stranger's part. serde forgets the path inside such an enum; [`read`] does not.
//!
//! ```
//! use formwork_module::{choice, config};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Round { radius: f64 }
//!
//! choice! {
//!     /// A shape.
//!     pub enum Figure { Round(Round) = "round" }
//! }
//!
//! #[derive(Debug, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Drawing { figures: Vec<Figure> }
//!
//! let good = serde_json::json!({"figures": [{"kind": "round", "radius": 2.0}]});
//! assert_eq!(config::read::<Drawing>(good)?.figures[0], Figure::Round(Round { radius: 2.0 }));
//!
//! let bad = serde_json::json!({"figures": [{"kind": "round", "radius": 2.0}, {"kind": "round", "radios": 2.0}]});
//! let error = config::read::<Drawing>(bad).unwrap_err().to_string();
//! assert_eq!(error, "figures.1.radios: expected one of the fields radius, found an unknown one; did you mean `radius`?");
//! # Ok::<(), formwork_module::Error>(())
//! ```

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// A part from another crate, made by a hook of the builder; saved and loaded like any other config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// The name under which the hook was given.
    pub name: String,
    /// Whatever the hook wants to know.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

impl Custom {
    /// The error of a config that is asked to build a stranger's part by itself; `what` is the kind of part.
    pub fn without_hook(&self, what: &str) -> Error {
        let expected = format!("a hook of the builder named `{}`", self.name);
        Error::invalid(format_args!("custom {what}"), expected, "none")
            .hint(format_args!("give it to the builder, which alone knows how to make a custom {what}"))
    }
}

/// Reads a config out of JSON values.
///
/// # Errors
/// The path of the field, what was expected and what was found.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    match serde_path_to_error::deserialize(value) {
        Ok(config) => Ok(config),
        Err(error) => {
            let outer = dotted(error.path());
            let (inner, message) = unpack(&error.into_inner().to_string());
            Err(explain(&join(&outer, &inner), &message))
        }
    }
}

/// Between the path and the message of an error on its way out of a choice: serde hands on nothing but text.
const MARK: char = '\u{1}';

#[doc(hidden)]
pub fn variant<T: DeserializeOwned, E: serde::de::Error>(fields: Map<String, Value>) -> Result<T, E> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let outer = dotted(error.path());
        let (inner, message) = unpack(&error.into_inner().to_string());
        E::custom(format_args!("{MARK}{}{MARK}{message}", join(&outer, &inner)))
    })
}

#[doc(hidden)]
pub fn kind<E: serde::de::Error>(fields: &mut Map<String, Value>, known: &[&str]) -> Result<String, E> {
    let place = |message: String| E::custom(format_args!("{MARK}kind{MARK}{message}"));
    match fields.remove("kind") {
        Some(Value::String(kind)) if known.contains(&kind.as_str()) => Ok(kind),
        Some(Value::String(kind)) => Err(place(format!(
            "unknown kind `{kind}`, expected one of {}",
            known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
        ))),
        Some(other) => Err(place(format!("invalid type: {other}, expected a string"))),
        None => Err(E::custom(format_args!("missing field `kind`, one of {}", known.join(", ")))),
    }
}

fn dotted(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let name = |segment: &Segment| match segment {
        Segment::Seq { index } => index.to_string(),
        Segment::Map { key } => key.clone(),
        Segment::Enum { variant } => variant.clone(),
        Segment::Unknown => "?".to_owned(),
    };
    path.iter().map(name).collect::<Vec<_>>().join(".")
}

fn join(outer: &str, inner: &str) -> String {
    match (outer.is_empty(), inner.is_empty()) {
        (true, _) => inner.to_owned(),
        (_, true) => outer.to_owned(),
        _ => format!("{outer}.{inner}"),
    }
}

fn unpack(message: &str) -> (String, String) {
    let mut parts = message.splitn(3, MARK);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(""), Some(path), Some(rest)) => (path.to_owned(), rest.to_owned()),
        _ => (String::new(), message.to_owned()),
    }
}

/// serde's sentence in our words.
fn explain(path: &str, message: &str) -> Error {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let at = |path: &str| if path.is_empty() { "config".to_owned() } else { path.to_owned() };
    if message.starts_with("unknown field")
        || message.starts_with("unknown kind")
        || message.starts_with("unknown variant")
    {
        let names = quoted(message);
        let (found, known) = names.split_first().map_or(("", &[][..]), |(f, k)| (f.as_str(), k));
        let nearest = nearest(found, known.iter().map(String::as_str));
        let is_field = message.starts_with("unknown field");
        // The path of an unknown field may or may not end in its name already.
        let path =
            if is_field && path.rsplit('.').next() != Some(found) { join(path, found) } else { at(path) };
        let error = match is_field {
            true if known.is_empty() => Error::invalid(path, "no field here", "an unknown one"),
            true => {
                Error::invalid(path, format_args!("one of the fields {}", known.join(", ")), "an unknown one")
            }
            false => {
                Error::invalid(path, format_args!("one of {}", known.join(", ")), format_args!("`{found}`"))
            }
        };
        return match nearest {
            Some(name) => error.hint(format_args!("did you mean `{name}`?")),
            None => error,
        };
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let field = quoted(message).into_iter().next().unwrap_or_default();
        let choices = rest.split_once(", ").map_or("a value", |(_, choices)| choices);
        return Error::invalid(join(path, &field), choices, "no such field");
    }
    let kind = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match kind.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => Error::invalid(at(path), expected, found),
        None => Error::invalid(at(path), "a legal value", message),
    }
}

/// The candidate with the fewest edits to `name`, if it is near enough to be what was meant.
///
/// ```
/// use formwork_module::config::nearest;
/// assert_eq!(nearest("kv_head", ["heads", "kv_heads", "dim"]), Some("kv_heads"));
/// assert_eq!(nearest("colour", ["heads", "kv_heads", "dim"]), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + name.chars().count() / 3;
    let scored = candidates.into_iter().map(|c| (edits(name, c), c));
    scored.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, c)| c)
}

/// Levenshtein's distance, row by row.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let fewest = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], fewest);
        }
    }
    row[b.len()]
}

/// Makes an enum of configs told apart by a field `kind`, with a variant [`Custom`] for a stranger's part.
///
/// See the [module](crate::config).
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $Name:ident { $($(#[$doc:meta])* $Variant:ident($Config:ty) = $kind:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[serde(tag = "kind")]
        $vis enum $Name {
            $(
                #[doc = concat!("Kind `", $kind, "`.")]
                $(#[$doc])*
                #[serde(rename = $kind)]
                $Variant($Config),
            )*
            /// Kind `custom`: a part from another crate, made by a hook of the builder.
            #[serde(rename = "custom")]
            Custom($crate::config::Custom),
        }

        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut fields = $crate::config::Fields::deserialize(deserializer)?;
                let kind = $crate::config::kind::<D::Error>(&mut fields, &[$($kind,)* "custom"])?;
                $(
                    if kind == $kind {
                        return $crate::config::variant::<$Config, D::Error>(fields).map($Name::$Variant);
                    }
                )*
                $crate::config::variant(fields).map($Name::Custom)
            }
        }
    };
}

#[doc(hidden)]
pub type Fields = Map<String, Value>;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        heads: usize,
        #[serde(default)]
        shape: Option<Box<Nested>>,
    }

    choice! {
        /// Something.
        enum Nested { Inner(Inner) = "inner", Empty(Empty) = "empty" }
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        parts: Vec<Nested>,
    }

    fn check(json: &str, message: &str) {
        let error = read::<Outer>(serde_json::from_str(json).unwrap()).unwrap_err().to_string();
        assert_eq!(error, message, "{json}");
    }

    #[test]
    fn every_error_has_its_full_path() {
        check(
            r#"{"parts": [{"kind": "inner", "heads": 3, "shape": {"kind": "inner", "heads": 2, "haeds": 1}}]}"#,
            "parts.0.shape.haeds: expected one of the fields heads, shape, found an unknown one; did you mean `heads`?",
        );
        check(
            r#"{"parts": [{"kind": "empty"}, {"kind": "iner", "heads": 3}]}"#,
            "parts.1.kind: expected one of inner, empty, custom, found `iner`; did you mean `inner`?",
        );
        check(
            r#"{"parts": [{"kind": "inner", "heads": "3"}]}"#,
            "parts.0.heads: expected usize, found string \"3\"",
        );
        check(
            r#"{"parts": [{"kind": "inner", "heads": -3}]}"#,
            "parts.0.heads: expected usize, found integer `-3`",
        );
        check(r#"{"parts": [{"kind": "inner"}]}"#, "parts.0.heads: expected a value, found no such field");
        check(
            r#"{"parts": [{"heads": 1}]}"#,
            "parts.0.kind: expected one of inner, empty, custom, found no such field",
        );
        check(
            r#"{"parts": [{"kind": "empty", "size": 1}]}"#,
            "parts.0.size: expected no field here, found an unknown one",
        );
        check(
            r#"{"part": []}"#,
            "part: expected one of the fields parts, found an unknown one; did you mean `parts`?",
        );
    }

    #[test]
    fn a_config_is_written_as_it_is_read() {
        let json = serde_json::json!({"parts": [
            {"kind": "empty"},
            {"kind": "inner", "heads": 3, "shape": {"kind": "custom", "name": "mine", "params": {"a": 1}}},
        ]});
        let outer: Outer = read(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(outer).unwrap(), json);
    }
}
