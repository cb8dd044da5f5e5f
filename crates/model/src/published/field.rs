//! What becomes of one field of a published file, as a row of a table.
//!
//! A family lists every field that its published files may have. The rows that are read point at the place in the
//! family's numbers where the value belongs, so that one row serves for reading and for writing.

use formwork_activation::{ActivationConfig, Gelu, GeluTanh, Relu, Silu};
use serde_json::{Map, Number, Value};

use crate::{Error, Result, config::MAX_LAYERS};

/// Where a value belongs in the numbers `S` of a family.
pub(crate) type Place<S, T> = fn(&mut S) -> &mut T;

/// A field and what becomes of it.
pub(crate) struct Field<S: 'static> {
    /// The field's name; in a table of GGUF keys without the architecture in front.
    pub(crate) name: &'static str,
    /// What becomes of it.
    pub(crate) rule: Rule<S>,
}

/// What becomes of a field.
pub(crate) enum Rule<S: 'static> {
    /// A whole number from 1.
    Size(Place<S, usize>),
    /// A whole number from 1 to the most layers a model may have.
    Layers(Place<S, usize>),
    /// A whole number from 1, or nothing.
    OptionalSize(Place<S, Option<usize>>),
    /// A number above 0.
    Positive(Place<S, f64>),
    /// A rate of dropout, in `[0, 1)`.
    Rate(Place<S, f64>),
    /// A standard deviation, 0 or more.
    Deviation(Place<S, f64>),
    /// True or false.
    Flag(Place<S, bool>),
    /// A text.
    Text(Place<S, String>),
    /// The name of an activation.
    Activation(Place<S, ActivationConfig>),
    /// Another spelling of a field, read where the field itself is not given.
    Also(&'static str),
    /// Read by the family's own code, as it depends on other fields.
    Own,
    /// Without any effect on what the model computes.
    Inert,
    /// Refused unless it is one of these, given as JSON, or null.
    Only(&'static [&'static str]),
    /// A list, refused unless every item is this text.
    Each(&'static str),
}

/// The row of this name.
pub(crate) const fn field<S>(name: &'static str, rule: Rule<S>) -> Field<S> {
    Field { name, rule }
}

/// The largest size of an axis that is taken: above every model, and far below what a product could wrap.
pub(crate) const MAX_SIZE: usize = i32::MAX as usize;

impl<S: Clone> Rule<S> {
    /// Puts a value where it belongs.
    pub(crate) fn read(&self, name: &str, value: &Value, into: &mut S) -> Result<()> {
        match self {
            Rule::Size(place) => *place(into) = size(name, value, MAX_SIZE)?,
            Rule::Layers(place) => *place(into) = size(name, value, MAX_LAYERS)?,
            Rule::OptionalSize(place) => *place(into) = Some(size(name, value, MAX_SIZE)?),
            Rule::Positive(place) => {
                *place(into) = number(name, value, "a number above 0", |x| x > 0.0)?;
            }
            Rule::Rate(place) => {
                *place(into) = number(name, value, "a rate in [0, 1)", |x| (0.0..1.0).contains(&x))?;
            }
            Rule::Deviation(place) => {
                *place(into) = number(name, value, "a number of 0 or more", |x| x >= 0.0)?;
            }
            Rule::Flag(place) => *place(into) = flag(name, value)?,
            Rule::Text(place) => text(name, value)?.clone_into(place(into)),
            Rule::Activation(place) => *place(into) = activation(name, value)?,
            Rule::Only(allowed) => only(name, value, allowed)?,
            Rule::Each(item) => each(name, value, item)?,
            Rule::Also(_) | Rule::Own | Rule::Inert => {}
        }
        Ok(())
    }

    /// The value that reads back the same; `None` where the rule holds none.
    ///
    /// # Errors
    /// An activation that the layout has no name for.
    pub(crate) fn write(&self, name: &str, from: &S) -> Result<Option<Value>> {
        let from = &mut from.clone();
        Ok(match self {
            Rule::Size(place) | Rule::Layers(place) => Some((*place(from)).into()),
            Rule::OptionalSize(place) => place(from).map(Value::from),
            Rule::Positive(place) | Rule::Rate(place) | Rule::Deviation(place) => {
                Number::from_f64(*place(from)).map(Value::Number)
            }
            Rule::Flag(place) => Some((*place(from)).into()),
            Rule::Text(place) => Some(place(from).as_str().into()).filter(|text| text != ""),
            Rule::Activation(place) => Some(activation_name(name, place(from))?.into()),
            Rule::Also(_) | Rule::Own | Rule::Inert | Rule::Only(_) | Rule::Each(_) => None,
        })
    }

    /// Whether a model cannot do without the value: where a file leaves it out, somebody should know what was assumed.
    pub(crate) fn is_size(&self) -> bool {
        matches!(self, Rule::Size(_) | Rule::Layers(_))
    }
}

/// A whole number from 1 to `most`.
pub(crate) fn size(name: &str, value: &Value, most: usize) -> Result<usize> {
    let found = value.as_u64().and_then(|n| usize::try_from(n).ok());
    found
        .filter(|n| (1..=most).contains(n))
        .ok_or_else(|| Error::invalid(name, format_args!("a whole number from 1 to {most}"), shown(value)))
}

/// A finite number that is allowed.
pub(crate) fn number(name: &str, value: &Value, expected: &str, allowed: fn(f64) -> bool) -> Result<f64> {
    let found = value.as_f64().filter(|x| x.is_finite() && allowed(*x));
    found.ok_or_else(|| Error::invalid(name, expected, shown(value)))
}

/// A text.
pub(crate) fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str> {
    value.as_str().ok_or_else(|| Error::invalid(name, "a text", shown(value)))
}

/// True or false.
pub(crate) fn flag(name: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| Error::invalid(name, "true or false", shown(value)))
}

/// Refuses a value that is none of those that the model code has.
fn only(name: &str, value: &Value, allowed: &[&str]) -> Result<()> {
    let same = |json: &&str| {
        let expected: Value = serde_json::from_str(json).expect("tables hold JSON");
        match (value.as_f64(), expected.as_f64()) {
            (Some(found), Some(expected)) => found == expected, // 1 is 1.0
            _ => *value == expected,
        }
    };
    match allowed.iter().any(same) {
        true => Ok(()),
        false => Err(Error::invalid(name, allowed.join(" or "), shown(value)).hint(UNSUPPORTED)),
    }
}

const UNSUPPORTED: &str = "it changes what the model computes, and nothing else is supported";

fn each(name: &str, value: &Value, item: &str) -> Result<()> {
    let expected = format!("a list of \"{item}\"");
    let Some(list) = value.as_array() else { return Err(Error::invalid(name, expected, shown(value))) };
    match list.iter().position(|found| found != item) {
        None => Ok(()),
        Some(i) => {
            Err(Error::invalid(format_args!("{name}.{i}"), format_args!("\"{item}\""), shown(&list[i]))
                .hint(UNSUPPORTED))
        }
    }
}

/// The names of activations; the first of a kind is the one that is written.
///
/// The tanh form has several names, which differ in the last bit at most: `gelu_new` is GPT-2's own.
const ACTIVATIONS: &[(&str, ActivationConfig)] = &[
    ("gelu_new", ActivationConfig::GeluTanh(GeluTanh {})),
    ("gelu_pytorch_tanh", ActivationConfig::GeluTanh(GeluTanh {})),
    ("gelu_python_tanh", ActivationConfig::GeluTanh(GeluTanh {})),
    ("gelu_fast", ActivationConfig::GeluTanh(GeluTanh {})),
    ("gelu_accurate", ActivationConfig::GeluTanh(GeluTanh {})),
    ("gelu", ActivationConfig::Gelu(Gelu {})),
    ("gelu_python", ActivationConfig::Gelu(Gelu {})),
    ("relu", ActivationConfig::Relu(Relu {})),
    ("silu", ActivationConfig::Silu(Silu {})),
    ("swish", ActivationConfig::Silu(Silu {})),
];

fn activation(name: &str, value: &Value) -> Result<ActivationConfig> {
    let found = ACTIVATIONS.iter().find(|(known, _)| value == known);
    found.map(|(_, activation)| activation.clone()).ok_or_else(|| {
        let names: Vec<_> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
        Error::invalid(name, format_args!("one of {}", names.join(", ")), shown(value))
    })
}

fn activation_name(name: &str, activation: &ActivationConfig) -> Result<&'static str> {
    let found = ACTIVATIONS.iter().find(|(_, known)| known == activation);
    found.map(|(name, _)| *name).ok_or_else(|| {
        Error::invalid(name, "an activation that published configs name", "one of another crate")
    })
}

/// A value as an error shows it: short, whatever a file holds.
pub(crate) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(map) => format!("an object of {} fields", map.len()),
        // Escaped here: JSON leaves characters as they are that a terminal would obey.
        Value::String(text) => {
            let start: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
            let more = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
            format!("\"{start}{more}\"")
        }
        other => other.to_string(),
    }
}

/// The value of a field that is there and not null, which everywhere means the default.
pub(crate) fn given<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}
