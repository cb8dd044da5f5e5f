//! A template's text as it is read before it is compiled.
//!
//! The engine bounds the steps of a template and the memory of its texts, but not how deep its lists stand in one
//! another, and going down a list of a million levels overflows the stack, which no program survives. Depth comes from
//! the length of an expression, which is bounded here, and from a loop that puts a list around a list in a namespace,
//! the only thing in the language that changes: what a template assigns to one goes through a filter ([`KEEP`]) that
//! refuses depth. What it assigns to a name goes through another ([`HOLD`]), which makes lists that
//! would only be made when they are read, so that they are paid for: `x + x` over and over is a list without end.
//!
//! Also the tag that no engine knows is rewritten, and the texts are found that the template compares contents with.

use std::ops::Range;

use formwork_module::{Error, Result};

/// The filter around whatever is assigned to an attribute of a namespace.
pub(super) const KEEP: &str = "formwork_keep";
/// The filter around whatever is assigned to a name.
pub(super) const HOLD: &str = "formwork_hold";

/// The longest template, in bytes; published ones have up to 17 thousand.
const LONGEST: usize = 256 << 10;
/// The most words and signs in one tag; published ones have up to 62.
const TOKENS: usize = 1000;
/// The most signs in a whole template that make values deeper: brackets, pipes and pluses; published ones have up to 800.
const DEEPENING: usize = 3000;
/// The most `elif`: each is one inside the other to the compiler; published ones have up to 20.
const ELIFS: usize = 500;

/// A template, ready for the engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    /// What the engine compiles.
    pub(super) source: String,
    /// Every different text in the code, rising, none empty.
    pub(super) literals: Vec<String>,
}

/// Reads a template and rewrites it.
///
/// # Errors
/// A template beyond the limits, or one whose brackets do not match.
pub(super) fn prepare(source: &str) -> Result<Prepared> {
    let within = |what: &str, most: usize, found: usize| match found > most {
        true => Err(Error::invalid("chat template", format_args!("at most {most} {what}"), found)),
        false => Ok(()),
    };
    within("bytes", LONGEST, source.len())?;
    let (mut out, mut literals, mut from) = (String::with_capacity(source.len() + 64), Vec::new(), 0);
    let (mut deepening, mut elifs) = (0, 0);
    for tag in tags(source)? {
        within("words and signs in one tag", TOKENS, tag.tokens)?;
        deepening += tag.deepening;
        literals.extend(tag.strings.into_iter().map(|range| unescape(&source[range])));
        let mut replace = |range: Range<usize>, with: &str| {
            out.push_str(&source[from..range.start]);
            out.push_str(with);
            from = range.end;
        };
        match &source[tag.word.clone()] {
            "elif" => elifs += 1,
            // It marks what the model said, for training: a scope and nothing more.
            "generation" => replace(tag.word, "with"),
            "endgeneration" => replace(tag.word, "endwith"),
            "set" => {
                if let Some(equals) = tag.equals {
                    let filter = if source[tag.word.end..equals].contains('.') { KEEP } else { HOLD };
                    replace(equals + 1..equals + 1, " (");
                    replace(tag.end..tag.end, &format!(") | {filter} "));
                }
            }
            _ => {}
        }
    }
    within("brackets, pipes and pluses", DEEPENING, deepening)?;
    within("`elif`", ELIFS, elifs)?;
    out.push_str(&source[from..]);
    literals.retain(|literal| !literal.is_empty());
    literals.sort_unstable();
    literals.dedup();
    Ok(Prepared { source: out, literals })
}

/// A `{{ }}` or `{% %}`.
#[derive(Default)]
struct Tag {
    /// The first word, empty in `{{ }}`.
    word: Range<usize>,
    /// The first `=` outside brackets.
    equals: Option<usize>,
    /// Where its end begins, the mark for whitespace included.
    end: usize,
    /// The insides of its string literals.
    strings: Vec<Range<usize>>,
    tokens: usize,
    deepening: usize,
}

/// Every tag of a template, by the rules of the engine: what a tag is must not be a matter of opinion.
fn tags(source: &str) -> Result<Vec<Tag>> {
    let bytes = source.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(start) = source.get(at..).and_then(|rest| rest.find('{')) {
        at += start;
        let opening = bytes.get(at + 1).copied();
        if !matches!(opening, Some(b'{' | b'%' | b'#')) {
            at += 1;
            continue;
        }
        let inside = at + 2 + usize::from(matches!(bytes.get(at + 2), Some(b'-' | b'+')));
        at = match opening {
            Some(b'#') => match source[inside..].find("#}") {
                Some(end) => inside + end + 2,
                None => break,
            },
            Some(b'%') => match basic(source, inside, "raw") {
                Some(raw) => match end_of_raw(source, raw) {
                    Some(end) => end,
                    None => break,
                },
                None => {
                    let tag = code(source, inside, "%}")?;
                    let end = tag.end;
                    found.push(tag);
                    end
                }
            },
            _ => {
                let mut tag = code(source, inside, "}}")?;
                tag.word = 0..0;
                let end = tag.end;
                found.push(tag);
                end
            }
        };
        // Past the end, with its mark.
        let closes = |at: usize| matches!(bytes.get(at), Some(b'-' | b'+'));
        if !matches!(opening, Some(b'#'))
            && at < bytes.len()
            && (closes(at) || bytes[at] == b'%' || bytes[at] == b'}')
        {
            at += usize::from(closes(at)) + 2;
        }
    }
    Ok(found)
}

/// The end of a tag that has nothing but one word.
fn basic(source: &str, at: usize, word: &str) -> Option<usize> {
    let space = |c: char| c.is_ascii_whitespace();
    let rest = source.get(at..)?.trim_start_matches(space).strip_prefix(word)?.trim_start_matches(space);
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
    Some(source.len() - rest.len())
}

fn end_of_raw(source: &str, mut at: usize) -> Option<usize> {
    loop {
        at += source[at..].find("{%")? + 2;
        let marked = at + usize::from(matches!(source.as_bytes().get(at), Some(b'-' | b'+')));
        if let Some(end) = basic(source, marked, "endraw") {
            return Some(end);
        }
    }
}

/// Reads a tag from behind its beginning to its end.
fn code(source: &str, mut at: usize, close: &str) -> Result<Tag> {
    let bytes = source.as_bytes();
    let (mut tag, mut open) = (Tag::default(), Vec::new());
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let rest = |at: usize| bytes.get(at..).unwrap_or_default();
    while at < bytes.len() {
        let marked = usize::from(matches!(bytes[at], b'-' | b'+'));
        if open.is_empty() && rest(at + marked).starts_with(close.as_bytes()) {
            tag.end = at;
            return Ok(tag);
        }
        let from = at;
        at += 1;
        match bytes[from] {
            b if b.is_ascii_whitespace() => continue,
            quote @ (b'\'' | b'"') => {
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                // Quotes are ASCII, so these are boundaries; a text without an end is the compiler's to refuse.
                tag.strings.extend(source.get(from + 1..at).map(|_| from + 1..at));
                at += 1;
                continue;
            }
            b',' | b':' => continue,
            b if is_word(&b) => {
                at += rest(at).iter().take_while(|b| is_word(b)).count();
                if tag.tokens == 0 {
                    tag.word = from..at;
                }
            }
            bracket @ (b'(' | b'[' | b'{') => open.push(bracket),
            bracket @ (b')' | b']' | b'}') => {
                let ((b')', Some(b'(')) | (b']', Some(b'[')) | (b'}', Some(b'{'))) = (bracket, open.pop())
                else {
                    let line = 1 + source[..from].matches('\n').count();
                    return Err(Error::invalid(
                        "chat template",
                        "brackets that match",
                        format_args!("`{}` in line {line}", char::from(bracket)),
                    ));
                };
            }
            b'=' | b'!' | b'<' | b'>' if bytes.get(at) == Some(&b'=') => at += 1,
            b'=' if open.is_empty() && tag.equals.is_none() => tag.equals = Some(from),
            _ => {}
        }
        tag.tokens += 1;
        tag.deepening += usize::from(matches!(bytes[from], b'(' | b'[' | b'{' | b'|' | b'+'));
    }
    tag.end = bytes.len();
    Ok(tag)
}

/// The escapes that templates write; of any other the character stays.
fn unescape(raw: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(raw.len()), raw.chars());
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                other => out.extend(other),
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_rewritten_where_they_are_tags() {
        let check = |source: &str, expected: &str| assert_eq!(prepare(source).unwrap().source, expected);
        check("{%- generation -%}x{% endgeneration %}", "{%- with -%}x{% endwith %}");
        check(
            "{# {% generation %} #}{{ '{% generation %}' }}",
            "{# {% generation %} #}{{ '{% generation %}' }}",
        );
        check(
            "{% raw %}{% generation %}{{ ' {%- endraw -%}{%generation%}",
            "{% raw %}{% generation %}{{ ' {%- endraw -%}{%with%}",
        );
        check(
            "{% set generation = 1 %} generation",
            "{% set generation = ( 1 ) | formwork_hold %} generation",
        );
        check("{%set ns.x=[1] if '%}' else 2-%}", "{%set ns.x= ([1] if '%}' else 2) | formwork_keep -%}");
        check("{% set a, n.b = 1, 2 %}", "{% set a, n.b = ( 1, 2 ) | formwork_keep %}");
        check("{% set x= a.b == 1 %}", "{% set x= ( a.b == 1 ) | formwork_hold %}");
        check("{% set n.x %}y{% endset %}", "{% set n.x %}y{% endset %}");
        check("{{ {'a': {'b': 1}} }}{%generation%}", "{{ {'a': {'b': 1}} }}{%with%}");
        check("{ { {%generation", "{ { {%with");
    }

    #[test]
    fn literals_are_those_of_the_code() {
        let check = |source: &str, expected: &[&str]| {
            assert_eq!(prepare(source).unwrap().literals, expected, "{source}");
        };
        check("it's {{ 'a' ~ \"b'c\" }} {% if '}}' in x %}'d'{% endif %} {# 'e' #}", &["a", "b'c", "}}"]);
        check(r"{{ 'x\n\'y' }}{{ '' }}{{ 'ä", &["x\n'y", "ä"]);
    }

    #[test]
    fn what_is_beyond_any_template_is_refused() {
        let check = |source: &str, expected: &str| {
            let error = prepare(source).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&" ".repeat(LONGEST + 1), "bytes");
        check(&format!("{{{{ {}1 }}}}", "-".repeat(TOKENS)), "words and signs");
        check(&"{{ x|e }}".repeat(DEEPENING + 1), "pipes");
        check(&"{% elif 1 %}".repeat(ELIFS + 1), "elif");
        check("\n{{ (1] }}", "`]` in line 2");
        check("{% set n.x = [n.x]) if (1 %}", "`)` in line 1");
        check("{% set n.x = 1 }}", "`}` in line 1");
    }
}
