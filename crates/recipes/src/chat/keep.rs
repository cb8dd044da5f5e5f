//! What a template may put into a namespace, and filters that pay for what they do before they do it.
//!
//! A namespace is the only thing that changes while a template runs, so it is where lists could grow around lists, or
//! around themselves. What goes into one is copied, at most [`DEPTH`] deep: a copy holds no namespace, and no list that
//! is made only when it is read (a slice, a sum of lists), of which a million could stand on one another.

use minijinja::{
    Error, ErrorKind, Output, State, Value, escape_formatter,
    value::{Tuple, ValueKind},
};

/// Lists in lists.
const DEPTH: usize = 32;
/// The same, of a value that is printed.
const PRINTED: usize = 256;

/// The filter around what is assigned to an attribute of a namespace.
pub(super) fn keep(state: &mut State, value: &Value) -> Result<Value, Error> {
    copy(state, value, DEPTH)
}

/// The filter around what is assigned to a name: lists are made, all else stays as it is.
pub(super) fn hold(state: &mut State, value: &Value) -> Result<Value, Error> {
    let is_made = value.downcast_object_ref::<Vec<Value>>().is_some()
        || value.downcast_object_ref::<Tuple>().is_some()
        || !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_made {
        return Ok(value.clone());
    }
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        pay(state, items.len())?;
        items.push(item?);
    }
    Ok(Value::from(items))
}

fn copy(state: &State, value: &Value, left: usize) -> Result<Value, Error> {
    let refused = |what: &str| {
        let message = format!("a namespace holds texts, numbers, lists and maps, not {what}");
        Err(Error::new(ErrorKind::InvalidOperation, message))
    };
    match value.kind() {
        ValueKind::Plain => refused("functions"),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map if left == 0 => {
            refused("lists in lists in lists")
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()?.checked() {
                pay(state, items.len())?;
                items.push(copy(state, &item?, left - 1)?);
            }
            let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
            Ok(if is_tuple { Value::from(Tuple::from(items)) } else { Value::from(items) })
        }
        ValueKind::Map => {
            let mut pairs = Vec::new();
            for key in value.try_iter()?.checked() {
                pay(state, pairs.len())?;
                let key = key?;
                let item = copy(state, &value.get_item(&key)?, left - 1)?;
                pairs.push((key, item));
            }
            Ok(Value::from_pairs(pairs))
        }
        _ => Ok(value.clone()),
    }
}

/// What a template prints: a list that is made only when it is read is paid for before it is, whole.
pub(super) fn print(out: &mut Output<'_>, state: &mut State, value: &Value) -> Result<(), Error> {
    afford(state, value, PRINTED)?;
    escape_formatter(out, state, value)
}

/// The filter `string`.
pub(super) fn string(state: &mut State, value: &Value) -> Result<Value, Error> {
    afford(state, value, PRINTED)?;
    Ok(if value.kind() == ValueKind::String { value.clone() } else { Value::from(value.to_string()) })
}

/// The filters `length` and `count`.
pub(super) fn length(state: &mut State, value: &Value) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.chars().count());
    }
    let mut count = 0;
    if value.is_undefined() {
        return Ok(count);
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        let message = format!("a {} has no length", value.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    for item in value.try_iter()?.checked() {
        item?;
        pay(state, count)?;
        count += 1;
    }
    Ok(count)
}

/// Pays for every item in a value, and refuses lists too deep to be printed.
fn afford(state: &State, value: &Value, left: usize) -> Result<(), Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(());
    }
    let Some(left) = left.checked_sub(1) else {
        return Err(Error::new(ErrorKind::InvalidOperation, "lists in lists too deep to be printed"));
    };
    for (at, item) in value.try_iter()?.checked().enumerate() {
        pay(state, at)?;
        let item = item?;
        if value.kind() == ValueKind::Map {
            afford(state, &value.get_item(&item)?, left)?;
        }
        afford(state, &item, left)?;
    }
    Ok(())
}

/// A step for the first item and every eighth: most lists that are kept are short.
fn pay(state: &State, items: usize) -> Result<(), Error> {
    if items.is_multiple_of(8) { state.consume_fuel(1) } else { Ok(()) }
}

/// The filter `sum`, of numbers: the engine's own also joins lists, and pays for none of them.
pub(super) fn sum(values: &Value, start: Option<Value>) -> Result<Value, Error> {
    let (mut whole, mut rest, mut is_whole) = (0i64, 0.0, true);
    let mut add = |value: Value| -> Result<(), Error> {
        if value.is_integer() {
            let too_large = || Error::new(ErrorKind::InvalidOperation, "sum: a number too large");
            whole = whole.checked_add(i64::try_from(value)?).ok_or_else(too_large)?;
        } else {
            rest += f64::try_from(value)?;
            is_whole = false;
        }
        Ok(())
    };
    start.map_or(Ok(()), &mut add)?;
    for value in values.try_iter()?.checked() {
        add(value?)?;
    }
    Ok(if is_whole { Value::from(whole) } else { Value::from(rest + whole as f64) })
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    #[test]
    fn what_is_kept_is_a_copy_of_bounded_depth() {
        let mut env = Environment::new();
        env.add_filter("keep", super::keep);
        env.add_filter("sum", super::sum);
        let check = |source: &str, expected: Option<&str>| {
            let rendered = env.render_str(source, ()).ok();
            assert_eq!(rendered.as_deref(), expected, "{source}");
        };
        check("{{ [1, 'a', {'b': (1, none)}] | keep }}", Some("[1, 'a', {'b': (1, None)}]"));
        check("{{ [1, 2, 3][1:] | keep }}{{ (1,) | keep }}", Some("[2, 3](1,)"));
        check("{% set n = namespace() %}{% set n.x = n %}{{ n | keep }}", None);
        check("{{ range | keep }}", None);
        check("{{ [1, 2, 3] | sum }} {{ [1, 0.5] | sum(1) }}", Some("6 2.5"));
        check("{{ [[1], [2]] | sum(start=[]) }}", None);
    }
}
