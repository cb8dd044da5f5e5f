//! What templates take from Python: methods of texts whose idea of whitespace is Python's, and a few that the engine's
//! own collection of Python methods leaves out.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, StringInput, ValueKind, from_args},
};
use minijinja_contrib::pycompat;

/// What Python's `str.strip` takes off: Unicode's white space and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The filter `trim`.
#[allow(clippy::needless_pass_by_value, reason = "the engine gives filters their texts so")]
pub(super) fn trim(text: StringInput<'_>, chars: Option<String>) -> String {
    strip(text.as_str(), chars.as_deref(), Side::Both).to_owned()
}

/// The test `iterable`, for which none is not.
pub(super) fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok() || value.kind() == ValueKind::String
}

/// The test `sequence`: whatever has a length and items, so texts and maps too.
pub(super) fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    is_iterable(value) && !matches!(kind, ValueKind::Plain | ValueKind::Invalid)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Both,
}

fn strip<'t>(mut text: &'t str, chars: Option<&str>, side: Side) -> &'t str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    if side != Side::Right {
        text = text.trim_start_matches(goes);
    }
    if side != Side::Left {
        text = text.trim_end_matches(goes);
    }
    text
}

/// Methods by name, those of texts first.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if value.kind() == ValueKind::String
        && let Some(text) = value.as_str()
        && let Some(result) = text_method(text, name, args)?
    {
        return Ok(result);
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

fn text_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let side = match name {
        "strip" => Some(Side::Both),
        "lstrip" => Some(Side::Left),
        "rstrip" => Some(Side::Right),
        _ => None,
    };
    Ok(Some(match name {
        _ if side.is_some() => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, chars, side.expect("just seen")))
        }
        "split" | "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            if separator == Some("") {
                return Err(Error::new(ErrorKind::InvalidOperation, "split: empty separator"));
            }
            let from = if name == "split" { Side::Left } else { Side::Right };
            split(text, separator, most, from).into_iter().map(Value::from).collect()
        }
        // The engine's own fills up to any width before it pays.
        "format" if widest(text) > 4 => {
            return Err(Error::new(ErrorKind::InvalidOperation, "format: expected widths below 10000"));
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "splitlines" => {
            let (keeps,): (Option<bool>,) = from_args(args)?;
            let keeps = keeps.unwrap_or(false);
            let line = |(line, end): (&str, &str)| {
                Value::from(if keeps { [line, end].concat() } else { line.to_owned() })
            };
            lines(text).into_iter().map(line).collect()
        }
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_space)),
        "removeprefix" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(part).unwrap_or(text))
        }
        "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(part).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (part,): (&str,) = from_args(args)?;
            if part.is_empty() {
                return Err(Error::new(ErrorKind::InvalidOperation, "partition: empty separator"));
            }
            let parts = match name {
                "partition" => text.split_once(part).map_or([text, "", ""], |(a, b)| [a, part, b]),
                _ => text.rsplit_once(part).map_or(["", "", text], |(a, b)| [a, part, b]),
            };
            parts.into_iter().map(Value::from).collect()
        }
        _ => return Ok(None),
    }))
}

/// The filter `indent`: every line but the first, unless `first` says so, and no empty one, unless `blank` does.
#[allow(clippy::needless_pass_by_value, reason = "the engine gives filters their arguments so")]
pub(super) fn indent(
    state: &State,
    text: StringInput<'_>,
    width: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let width = width.map_or_else(|| options.get::<Option<Value>>("width"), |width| Ok(Some(width)))?;
    let is_true =
        |name: &str| -> Result<bool, Error> { Ok(options.get::<Option<bool>>(name)?.unwrap_or(false)) };
    let (first, blank) = (is_true("first")?, is_true("blank")?);
    options.assert_all_used()?;
    let unit = match width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(unit) => unit.to_owned(),
            None => {
                let width = usize::try_from(width)?;
                state.consume_fuel(width as u64)?;
                " ".repeat(width)
            }
        },
    };
    let mut found: Vec<&str> = lines(text.as_str()).into_iter().map(|(line, _)| line).collect();
    if lines(text.as_str()).last().is_none_or(|(_, end)| !end.is_empty()) {
        found.push("");
    }
    state.consume_fuel((found.len() as u64).saturating_mul(unit.len() as u64 + 64) / 64)?;
    let mut out = String::with_capacity(text.as_str().len());
    for (at, line) in found.into_iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if if at == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&unit);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// The lines of a text, each with what ends it; whatever Python takes for the end of a line.
fn lines(text: &str) -> Vec<(&str, &str)> {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let (mut found, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let at = rest.find(is_end).unwrap_or(rest.len());
        let end = match rest[at..].starts_with("\r\n") {
            true => 2,
            false => rest[at..].chars().next().map_or(0, char::len_utf8),
        };
        found.push((&rest[..at], &rest[at..at + end]));
        rest = &rest[at + end..];
    }
    found
}

/// Each word with a capital, where a word is a run of letters.
fn title(text: &str) -> String {
    let (mut out, mut inside) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        match inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_alphabetic();
    }
    out
}

/// The most digits in a row in a format; any number where one format stands in another.
fn widest(format: &str) -> usize {
    if format.split('{').any(|part| part.ends_with(':') || part.ends_with('!')) {
        return usize::MAX;
    }
    format.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0)
}

/// At most `most` cuts, from one side; without a separator at runs of whitespace, and never an empty part.
fn split<'t>(text: &'t str, separator: Option<&str>, most: usize, from: Side) -> Vec<&'t str> {
    let pieces = most.saturating_add(1);
    match (separator, from) {
        (Some(separator), Side::Right) => {
            let mut parts: Vec<_> = text.rsplitn(pieces, separator).collect();
            parts.reverse();
            parts
        }
        (Some(separator), _) => text.splitn(pieces, separator).collect(),
        (None, from) => {
            let (mut parts, mut rest) = (Vec::new(), strip(text, None, Side::Both));
            while !rest.is_empty() {
                let cut = if from == Side::Right { rest.rfind(is_space) } else { rest.find(is_space) };
                let Some(cut) = cut.filter(|_| parts.len() < most) else {
                    parts.push(rest);
                    break;
                };
                let (before, after) = (strip(&rest[..cut], None, Side::Right), &rest[cut..]);
                let after = strip(after, None, Side::Left);
                let (part, left) = if from == Side::Right { (after, before) } else { (before, after) };
                parts.push(part);
                rest = left;
            }
            if from == Side::Right {
                parts.reverse();
            }
            parts
        }
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    #[test]
    fn methods_answer_as_python_does() {
        let mut env = Environment::new();
        env.set_unknown_method_callback(super::method);
        env.add_filter("trim", super::trim);
        env.add_filter("indent", super::indent);
        let check = |expression: &str, expected: &str| {
            let rendered = env.render_str(&format!("{{{{ {expression} }}}}"), ()).unwrap();
            assert_eq!(rendered, expected, "{expression}");
        };
        check(r"'\x1c a \u00a0'.strip()", "a");
        check(r"'\x1f a \u3000'|trim", "a");
        check("'--a-'.lstrip('-')", "a-");
        check("' a  b c '.split()", "['a', 'b', 'c']");
        check("' a  b c '.split(none, 1)", "['a', 'b c']");
        check("' a  b c '.rsplit(none, 1)", "['a  b', 'c']");
        check("'a,b,c'.split(',', 1)", "['a', 'b,c']");
        check("'a,b,c'.rsplit(',', 1)", "['a,b', 'c']");
        check("'a,,c'.split(',')[-1]", "c");
        check("'abc'.removeprefix('a').removesuffix('c')", "b");
        check("'k=v=w'.partition('=')[2]", "v=w");
        check("'k=v=w'.rpartition('=')[0]", "k=v");
        check("'a\\r\\nb\\x0bc\\n'.splitlines()", "['a', 'b', 'c']");
        check("'a\\nb'.splitlines(true)|join('.')", "a\n.b");
        check("\"o'neill </b>x1y\".title()", "O'Neill </B>X1Y");
        check("'a\\n\\nb\\n'|indent(2)", "a\n\n  b\n");
        check("'a\\n\\nb'|indent('>', first=true, blank=true)", ">a\n>\n>b");
        check("{'a': 1}.get('b')", "None");
        check("'a {} b'.format('x')", "a x b");
        assert!(env.render_str("{{ 'a'.split('') }}", ()).is_err());
    }
}
