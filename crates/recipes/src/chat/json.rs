//! `tojson` as chat templates mean it: JSON in the spelling of Python's `json.dumps`.
//!
//! `", "` and `": "` between items, characters as they are unless `ensure_ascii`, keys in their order unless
//! `sort_keys`, nothing escaped for HTML. `indent` takes a number or a text, `separators` a pair.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind},
};

/// Containers inside one another; a namespace that holds itself has no end.
const DEPTH: usize = 64;

/// Which characters stand in JSON as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Characters {
    All,
    Ascii,
}

/// Adds a character of a text in quotes.
pub(super) fn escape(c: char, characters: Characters, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        c if c < ' ' || (characters == Characters::Ascii && c > '~') => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
        c => out.push(c),
    }
}

/// The filter.
#[allow(clippy::needless_pass_by_value, reason = "the engine gives filters their options so")]
pub(super) fn tojson(
    state: &State,
    value: &Value,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let option = |name: &str| -> Result<Option<Value>, Error> {
        Ok(options.get::<Option<Value>>(name)?.filter(|value| !value.is_none()))
    };
    let indent =
        match indent.filter(|value| !value.is_none()).map_or_else(|| option("indent"), |v| Ok(Some(v)))? {
            None => None,
            Some(value) => Some(match value.as_str() {
                Some(text) => text.to_owned(),
                None => " ".repeat(usize::try_from(value)?.min(64)),
            }),
        };
    let (mut item, mut key) = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(pair) = option("separators")? {
        let pair: Vec<Value> = pair.try_iter()?.take(3).collect();
        let [Some(first), Some(second)] = [0, 1].map(|at| pair.get(at).and_then(Value::as_str)) else {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be two texts"));
        };
        (item, key) = (first.to_owned(), second.to_owned());
    }
    let is_true =
        |name: &str| -> Result<bool, Error> { Ok(option(name)?.is_some_and(|value| value.is_true())) };
    let characters = if is_true("ensure_ascii")? { Characters::Ascii } else { Characters::All };
    let sorted = is_true("sort_keys")?;
    options.assert_all_used()?;
    let mut writer = Writer { state, out: String::new(), paid: 0, indent, item, key, characters, sorted };
    writer.value(value, 0)?;
    writer.pay()?;
    Ok(Value::from(writer.out))
}

struct Writer<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    out: String,
    /// Bytes whose fuel is paid.
    paid: usize,
    indent: Option<String>,
    item: String,
    key: String,
    characters: Characters,
    sorted: bool,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: lists in lists without end"));
        }
        self.pay()?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut is_empty = true;
                for item in value.try_iter()?.checked() {
                    self.separate(is_empty, depth + 1);
                    is_empty = false;
                    self.value(&item?, depth + 1)?;
                }
                self.close(']', is_empty, depth);
            }
            ValueKind::Map => {
                let mut keys = Vec::new();
                for key in value.try_iter()?.checked() {
                    keys.push(key?);
                }
                if self.sorted {
                    keys.sort();
                }
                self.out.push('{');
                for (at, name) in keys.iter().enumerate() {
                    self.separate(at == 0, depth + 1);
                    match name.kind() {
                        ValueKind::None => self.text("null"),
                        ValueKind::Bool => self.text(if name.is_true() { "true" } else { "false" }),
                        ValueKind::String => self.text(name.as_str().unwrap_or_default()),
                        _ => self.text(&name.to_string()),
                    }
                    self.out.push_str(&self.key);
                    self.value(&value.get_item(name)?, depth + 1)?;
                }
                self.close('}', keys.is_empty(), depth);
            }
            other => {
                let message = format!("tojson: expected a value that JSON has, found {other}");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) {
        // Python names what JSON has no number for.
        match f64::try_from(value.clone()) {
            Ok(x) if x.is_infinite() => self.out.push_str(if x > 0.0 { "Infinity" } else { "-Infinity" }),
            _ => self.out.push_str(&value.to_string()),
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        text.chars().for_each(|c| escape(c, self.characters, &mut self.out));
        self.out.push('"');
    }

    fn separate(&mut self, is_first: bool, depth: usize) {
        if !is_first {
            self.out.push_str(&self.item);
        }
        self.line(depth);
    }

    fn close(&mut self, bracket: char, is_empty: bool, depth: usize) {
        if !is_empty {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    /// Fuel for what was written since the last time: the engine charges for a result only once it is there.
    fn pay(&mut self) -> Result<(), Error> {
        let due = (self.out.len() - self.paid) as u64 / 64 + 1;
        self.paid = self.out.len();
        self.state.consume_fuel(due)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use minijinja::Environment;

    #[test]
    fn values_are_spelled_as_json_dumps_spells_them() {
        let mut env = Environment::new();
        env.add_filter("tojson", super::tojson);
        let check = |options: &str, expected: &str| {
            let source =
                format!("{{{{ {{'b': [1, 2.5, true, none, []], 'a': text, 'c': {{}}}}|tojson{options} }}}}");
            let context = BTreeMap::from([("text", "ä<\"'\\\n\u{1}😀")]);
            assert_eq!(env.render_str(&source, context).unwrap(), expected, "{options}");
        };
        // What Python 3's json.dumps answers.
        check("", r#"{"b": [1, 2.5, true, null, []], "a": "ä<\"'\\\n\u0001😀", "c": {}}"#);
        check(
            "(ensure_ascii=true)",
            r#"{"b": [1, 2.5, true, null, []], "a": "\u00e4<\"'\\\n\u0001\ud83d\ude00", "c": {}}"#,
        );
        check(
            "(sort_keys=true, separators=(',', ':'))",
            r#"{"a":"ä<\"'\\\n\u0001😀","b":[1,2.5,true,null,[]],"c":{}}"#,
        );
        check(
            "(indent=2)",
            "{\n  \"b\": [\n    1,\n    2.5,\n    true,\n    null,\n    []\n  ],\n  \"a\": \"ä<\\\"'\\\\\\n\\u0001😀\",\n  \"c\": {}\n}",
        );
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut env = Environment::new();
        env.add_filter("tojson", super::tojson);
        let error =
            env.render_str("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns|tojson }}", ()).unwrap_err();
        assert!(error.to_string().contains("without end"), "{error}");
    }
}
