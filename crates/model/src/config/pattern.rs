//! One pattern language for whatever differs from layer to layer, on JSON values before they are read.
//!
//! In a file `blocks` is a list with one entry per layer, taken as it stands, or
//!
//! ```json
//! {"layers": 6, "each": {"kind": "pre_norm", "attn": {"kind": "multi_head", "heads": 4, "kv_heads": {"cycle": [4, 2]}}}}
//! ```
//!
//! where any value below `each` may be a pattern, an object with one of two keys and no other:
//!
//! - `{"cycle": [a, b]}`: `a b a b ..`, layer `i` takes item `i mod 2`;
//! - `{"ranges": [{"from": 0, "to": 4, "value": a}, {"from": 4, "to": 6, "value": b}]}`: layers `from ≤ i < to`,
//!   where every layer must be in exactly one range.
//!
//! Items may hold patterns themselves. The result is one value per layer, so that later errors can say
//! `blocks.3.attn.kv_heads`. Writing goes the other way: [`compact`] finds the shortest form that reads back the same.

use serde_json::{Map, Value, json};

use crate::{At, Error, Result};

/// More layers than any model has, so that a mistyped number is an error and not a full memory.
pub(crate) const MAX_LAYERS: usize = 2048;

const CYCLE: &str = "cycle";
const RANGES: &str = "ranges";

/// One value per layer out of the value of `blocks`.
///
/// # Errors
/// Neither of the two forms, or a pattern that does not fit the number of layers.
pub(super) fn expand(blocks: Value) -> Result<Vec<Value>> {
    let map = match blocks {
        Value::Array(list) => return Ok(list),
        Value::Object(map) => map,
        other => {
            return Err(Error::invalid(
                "blocks",
                "a list, or an object {\"layers\": n, \"each\": {..}}",
                other,
            ));
        }
    };
    if let Some(key) = map.keys().find(|key| !["layers", "each"].contains(&key.as_str())) {
        return Err(Error::invalid(
            format_args!("blocks.{key}"),
            "one of the fields layers, each",
            "an unknown one",
        ));
    }
    let field = |name: &str| {
        map.get(name).ok_or_else(|| Error::invalid(format_args!("blocks.{name}"), "a value", "no such field"))
    };
    let (count, each) = (field("layers")?, field("each")?);
    let layers =
        count.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MAX_LAYERS).contains(n));
    let layers = layers.ok_or_else(|| {
        Error::invalid("blocks.layers", format_args!("a whole number from 1 to {MAX_LAYERS}"), count)
    })?;
    (0..layers).map(|layer| resolve(each, layer, layers).at("each").at("blocks")).collect()
}

/// `value` as layer `layer` of `layers` sees it.
fn resolve(value: &Value, layer: usize, layers: usize) -> Result<Value> {
    if let Some((key, items)) = pattern(value) {
        let items = items.as_array().ok_or_else(|| Error::invalid(key, "a list", items))?;
        let item = if key == CYCLE { cycled(items, layer, layers)? } else { ranged(items, layer, layers)? };
        return resolve(item, layer, layers).at(key);
    }
    match value {
        Value::Object(map) => {
            let field = |(name, value): (&String, &Value)| {
                Ok((name.clone(), resolve(value, layer, layers).at(name)?))
            };
            map.iter().map(field).collect::<Result<Map<_, _>>>().map(Value::Object)
        }
        Value::Array(list) => {
            let item = |(i, value)| resolve(value, layer, layers).at(i);
            list.iter().enumerate().map(item).collect::<Result<Vec<_>>>().map(Value::Array)
        }
        other => Ok(other.clone()),
    }
}

fn pattern(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    map.iter()
        .next()
        .map(|(key, items)| (key.as_str(), items))
        .filter(|(key, _)| [CYCLE, RANGES].contains(key))
}

fn cycled(items: &[Value], layer: usize, layers: usize) -> Result<&Value> {
    match items.len() {
        n if (1..=layers).contains(&n) => Ok(&items[layer % n]),
        n => Err(Error::invalid(CYCLE, format_args!("1 to {layers} items, as there are {layers} layers"), n)),
    }
}

fn ranged(items: &[Value], layer: usize, layers: usize) -> Result<&Value> {
    let wrong = |i: usize, found: &dyn std::fmt::Display| {
        let expected = format!("{{\"from\": a, \"to\": b, \"value\": ..}} with a < b ≤ {layers}");
        Error::invalid(i, expected, found).at(RANGES)
    };
    let mut hit = None;
    for (i, item) in items.iter().enumerate() {
        let bound = |name| item.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let (Some(from), Some(to), Some(value), Some(3)) =
            (bound("from"), bound("to"), item.get("value"), item.as_object().map(Map::len))
        else {
            return Err(wrong(i, item));
        };
        if from >= to || to > layers {
            return Err(wrong(i, &format_args!("from {from} to {to}")));
        }
        if (from..to).contains(&layer) && hit.replace(value).is_some() {
            return Err(Error::invalid(
                RANGES,
                "each layer in one range",
                format_args!("layer {layer} in two"),
            ));
        }
    }
    hit.ok_or_else(|| {
        Error::invalid(RANGES, "each layer in one range", format_args!("layer {layer} in none"))
            .hint("`from` is the first layer, `to` the one after the last, counted from 0")
    })
}

/// The shortest form of `blocks` that [`expand`] reads back as `layers`.
///
/// Settings of a stranger's part may look like a pattern; such layers are written out one by one.
pub(super) fn compact(layers: Vec<Value>) -> Value {
    let short = json!({"layers": layers.len(), "each": merge(&layers.iter().collect::<Vec<_>>())});
    match expand(short.clone()) {
        Ok(read) if read == layers => short,
        _ => Value::Array(layers),
    }
}

fn merge(values: &[&Value]) -> Value {
    let Some((&first, rest)) = values.split_first() else { return Value::Null };
    if rest.iter().all(|&value| value == first) {
        return first.clone();
    }
    if let Some(fields) = first.as_object()
        && rest.iter().all(|v| {
            v.as_object().is_some_and(|map| map.len() == fields.len() && map.keys().eq(fields.keys()))
        })
    {
        let field =
            |key: &String| (key.clone(), merge(&values.iter().map(|value| &value[key]).collect::<Vec<_>>()));
        return Value::Object(fields.keys().map(field).collect());
    }
    let period = (1..=values.len().div_ceil(2)).find(|&p| values[p..].iter().eq(&values[..values.len() - p]));
    if let Some(period) = period {
        return json!({CYCLE: values[..period]});
    }
    let mut ranges: Vec<(usize, usize, &Value)> = Vec::new();
    for (i, &value) in values.iter().enumerate() {
        match ranges.last_mut() {
            Some((_, to, last)) if *last == value => *to = i + 1,
            _ => ranges.push((i, i + 1, value)),
        }
    }
    if 2 * ranges.len() > values.len() {
        return json!({CYCLE: values}); // ranges would be longer than one item per layer
    }
    let ranges: Vec<_> =
        ranges.into_iter().map(|(from, to, value)| json!({"from": from, "to": to, "value": value})).collect();
    json!({RANGES: ranges})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(layers: usize, each: &Value) -> Value {
        json!({"layers": layers, "each": each})
    }

    #[test]
    fn patterns_resolve_to_one_value_per_layer() {
        let check = |pattern: Value, layers: &[Value]| {
            assert_eq!(expand(each(layers.len(), &pattern)).unwrap(), layers, "{pattern}");
        };
        check(json!({"a": 1}), &[json!({"a": 1}), json!({"a": 1})]);
        check(json!({"a": {"cycle": [1, 2]}}), &[json!({"a": 1}), json!({"a": 2}), json!({"a": 1})]);
        check(
            json!({"ranges": [{"from": 1, "to": 3, "value": {"a": {"cycle": [5, 7]}}}, {"from": 0, "to": 1, "value": "x"}]}),
            &[json!("x"), json!({"a": 7}), json!({"a": 5})],
        );
        check(json!({"cycle": [{"cycle": [1, 2, 3]}, 9]}), &[json!(1), json!(9), json!(3), json!(9)]);
        check(json!({"cycle": 1, "b": 2}), &[json!({"cycle": 1, "b": 2})]);
    }

    #[test]
    fn a_pattern_that_does_not_fit_says_where() {
        let check = |blocks: Value, message: &str| {
            let error = expand(blocks.clone()).unwrap_err().to_string();
            assert!(error.contains(message), "{blocks}: {error}");
        };
        check(json!(3), "blocks: expected a list, or an object");
        check(json!({"layers": 2}), "blocks.each: expected a value, found no such field");
        check(json!({"layers": 0, "each": {}}), "blocks.layers: expected a whole number from 1");
        check(json!({"layers": 1e12, "each": {}}), "blocks.layers: expected a whole number from 1");
        check(
            json!({"layers": 2, "each": {}, "every": 1}),
            "blocks.every: expected one of the fields layers, each",
        );
        check(
            each(2, &json!({"attn": {"heads": {"cycle": []}}})),
            "blocks.each.attn.heads: cycle: expected 1 to 2 items",
        );
        check(
            each(2, &json!({"cycle": [1, 2, 3]})),
            "blocks.each: cycle: expected 1 to 2 items, as there are 2 layers, found 3",
        );
        check(each(2, &json!({"cycle": 1})), "blocks.each: cycle: expected a list, found 1");
        let ranges = |list: Value| each(3, &json!({"a": {"ranges": list}}));
        check(
            ranges(json!([{"from": 0, "to": 2, "value": 1}])),
            "blocks.each.a: ranges: expected each layer in one range, found layer 2 in none",
        );
        check(
            ranges(json!([{"from": 0, "to": 3, "value": 1}, {"from": 1, "to": 2, "value": 1}])),
            "found layer 1 in two",
        );
        check(ranges(json!([{"from": 0, "to": 4, "value": 1}])), "blocks.each.a.ranges: 0: expected");
        check(ranges(json!([{"from": 0, "till": 3, "value": 1}])), "blocks.each.a.ranges: 0: expected");
    }

    #[test]
    fn layers_are_written_in_the_shortest_form_that_reads_back() {
        let check = |layers: &[Value], written: Value| {
            let found = compact(layers.to_vec());
            assert_eq!(found, written);
            assert_eq!(expand(found).unwrap(), layers);
        };
        let (a, b) = (json!({"h": 1, "n": {"eps": 2}}), json!({"h": 3, "n": {"eps": 2}}));
        check(&[a.clone(), a.clone()], each(2, &a));
        check(&[a.clone(), b.clone(), a.clone()], each(3, &json!({"h": {"cycle": [1, 3]}, "n": {"eps": 2}})));
        check(
            &[a.clone(), b.clone(), b.clone()],
            each(3, &json!({"h": {"cycle": [1, 3, 3]}, "n": {"eps": 2}})),
        );
        check(
            &[a.clone(), a.clone(), a.clone(), b],
            each(
                4,
                &json!({"h": {"ranges": [{"from": 0, "to": 3, "value": 1}, {"from": 3, "to": 4, "value": 3}]}, "n": {"eps": 2}}),
            ),
        );
        check(
            &[json!({"x": 1}), json!({"y": 1}), json!({"x": 1})],
            each(3, &json!({"cycle": [{"x": 1}, {"y": 1}]})),
        );
        let lookalike = json!({"params": {"cycle": [1]}});
        check(&[lookalike.clone(), lookalike.clone()], json!([lookalike, lookalike]));
        check(&[], json!([]));
    }
}
