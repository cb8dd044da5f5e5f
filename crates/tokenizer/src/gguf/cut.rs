//! Cutting a text into words: the patterns of byte-level vocabularies, as data.
//!
//! A [`Pattern`] is a list of alternatives; at each place the first that matches takes as much as it says, and text that
//! none matches stays together. A pre-tokenizer is one or more patterns, each cutting what the one before left.
//! Each alternative is a scanner that looks at every character a fixed number of times (so that a megabyte of spaces
//! costs a megabyte, where a backtracking engine gives up or takes its square), and can write itself as the regular
//! expression that it stands for, which is what a `tokenizer.json` needs and what the tests compare it with.

use std::ops::Range;

use crate::gguf::class::{Class, Classes};

/// Alternatives in the order they are tried.
pub(crate) type Pattern = &'static [Alternative];

/// What one part of a pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alternative {
    /// `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`.
    Contraction(Case),
    /// At most one character of `lead`, between `least` and `most` of `set`, and any number of `tail`.
    Run { lead: Lead, set: Set, least: usize, most: usize, tail: &'static str },
    /// Letters of which those after the first lower-case one are not `A-Z`, as names in code are cut.
    Cased { marks: Marks, contraction: Option<Case> },
    /// A sign of ASCII and the letters `A-Za-z` after it.
    SignAndLetters,
    /// Spaces up to the last line end among them.
    LineEnds,
    /// Spaces up to the one before a word, or up to the end.
    SpacesBeforeLast,
    /// Spaces up to the end.
    SpacesAtEnd,
    /// Spaces.
    Spaces,
}

/// Which letters a contraction may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// `'s`.
    Lower,
    /// `'s` and `'S`.
    Any,
}

/// Whether marks count as letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// They do not.
    Apart,
    /// They do.
    AsLetters,
}

/// The character that may stand before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// None.
    Nothing,
    /// ` `.
    Blank,
    /// `\s`.
    Space,
    /// `[^\r\n\p{L}\p{N}]`.
    NotWord,
    /// `[^\r\n\p{L}\p{P}\p{S}]`.
    NotSign,
}

/// The characters of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// `\p{L}`.
    Letters,
    /// `[\p{L}\p{M}]`.
    LettersAndMarks,
    /// `\p{N}`.
    Numbers,
    /// `[0-9]`.
    Digits,
    /// `[^\s\p{L}\p{N}]`.
    Signs,
    /// `[^\s\p{L}\p{M}\p{N}]`.
    SignsNoMarks,
    /// `[\p{P}\p{S}]`.
    PunctuationAndSymbols,
    /// `\p{P}` and these.
    PunctuationAnd(&'static str),
    /// `[\r\n]`.
    LineEnds,
    /// The characters between these first and last ones, in order, and no `\s`.
    Ranges(&'static [(char, char)]),
    /// Neither `\s` nor one of these.
    NotSpaceNor(&'static str),
}

/// One character of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Character {
    value: char,
    class: Class,
    /// Where it begins, in bytes.
    at: usize,
}

/// Cuts a text with one pattern after the other; gives the byte ranges of its words in order.
pub(crate) fn cut(text: &str, patterns: &[Pattern], classes: &Classes) -> Vec<Range<usize>> {
    let characters: Vec<Character> =
        text.char_indices().map(|(at, value)| Character { value, class: classes.of(value), at }).collect();
    let mut pieces: Vec<Range<usize>> = std::iter::once(0..characters.len()).collect();
    for pattern in patterns {
        let mut next = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let (part, mut at, mut gap) = (&characters[piece.clone()], 0, 0);
            while at < part.len() {
                match pattern.iter().find_map(|alternative| alternative.end(&part[at..])) {
                    Some(length) => {
                        if gap < at {
                            next.push(piece.start + gap..piece.start + at);
                        }
                        next.push(piece.start + at..piece.start + at + length);
                        at += length;
                        gap = at;
                    }
                    None => at += 1,
                }
            }
            if gap < at {
                next.push(piece.start + gap..piece.end);
            }
        }
        pieces = next;
    }
    let byte = |place: usize| characters.get(place).map_or(text.len(), |character| character.at);
    pieces.into_iter().map(|piece| byte(piece.start)..byte(piece.end)).collect()
}

impl Alternative {
    /// How many characters from the first on match; at least one.
    fn end(&self, text: &[Character]) -> Option<usize> {
        let spaces = || count(text, |character| character.class == Class::Space);
        let length = match *self {
            Alternative::Contraction(case) => contraction(text, case),
            Alternative::Run { lead, set, least, most, tail } => {
                let run = |from: usize| {
                    let found = count(text[from..].get(..most).unwrap_or(&text[from..]), |c| set.has(c));
                    (found >= least).then_some(from + found)
                };
                let end = text.first().filter(|first| lead.is(first)).and_then(|_| run(1)).or_else(|| run(0));
                end.map_or(0, |end| end + count(&text[end..], |c| tail.contains(c.value)))
            }
            Alternative::Cased { marks, contraction: ending } => {
                let end = cased(text, marks);
                end + ending.filter(|_| end > 0).map_or(0, |case| contraction(&text[end..], case))
            }
            Alternative::SignAndLetters => match text.first() {
                Some(sign) if sign.value.is_ascii_punctuation() => {
                    let letters = count(&text[1..], |c| c.value.is_ascii_alphabetic());
                    if letters > 0 { 1 + letters } else { 0 }
                }
                _ => 0,
            },
            Alternative::LineEnds => {
                let line_end = |c: &Character| matches!(c.value, '\r' | '\n');
                text[..spaces()].iter().rposition(line_end).map_or(0, |last| last + 1)
            }
            Alternative::SpacesBeforeLast => match spaces() {
                all if all == text.len() => all,
                some => some.saturating_sub(1),
            },
            Alternative::SpacesAtEnd => match spaces() {
                all if all == text.len() => all,
                _ => 0,
            },
            Alternative::Spaces => spaces(),
        };
        (length > 0).then_some(length)
    }

    /// The regular expression that this is.
    pub(crate) fn regex(&self) -> String {
        let contraction = |case: Case| match case {
            Case::Lower => "'s|'t|'re|'ve|'m|'ll|'d",
            Case::Any => "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
        };
        match *self {
            Alternative::Contraction(case) => contraction(case).to_owned(),
            Alternative::Run { lead, set, least, most, tail } => {
                let times = match (least, most) {
                    (1, usize::MAX) => "+".to_owned(),
                    (1, 1) => String::new(),
                    (least, most) if least == most => format!("{{{least}}}"),
                    (least, most) => format!("{{{least},{most}}}"),
                };
                let tail = if tail.is_empty() { String::new() } else { format!("[{}]*", escaped(tail)) };
                format!("{}{}{times}{tail}", lead.regex(), set.regex())
            }
            Alternative::Cased { marks, contraction: ending } => {
                let letter = match marks {
                    Marks::Apart => r"\p{L}",
                    Marks::AsLetters => r"[\p{L}\p{M}]",
                };
                let (upper, lower) = (format!("(?:(?={letter})[^a-z])"), format!("(?:(?={letter})[^A-Z])"));
                let ending = ending.map_or(String::new(), |case| format!("(?:{})?", contraction(case)));
                let lead = Lead::NotWord.regex();
                format!("{lead}{upper}*{lower}+{ending}|{lead}{upper}+{lower}*{ending}")
            }
            Alternative::SignAndLetters => r"[!-/:-@\[-`{-~][A-Za-z]+".to_owned(),
            Alternative::LineEnds => r"\s*[\r\n]+".to_owned(),
            Alternative::SpacesBeforeLast => r"\s+(?!\S)".to_owned(),
            Alternative::SpacesAtEnd => r"\s+$".to_owned(),
            Alternative::Spaces => r"\s+".to_owned(),
        }
    }
}

/// The regular expression of a whole pattern.
pub(crate) fn regex(pattern: Pattern) -> String {
    pattern.iter().map(Alternative::regex).collect::<Vec<_>>().join("|")
}

/// How many characters at the beginning are of a kind.
fn count(text: &[Character], is: impl Fn(&Character) -> bool) -> usize {
    text.iter().position(|character| !is(character)).unwrap_or(text.len())
}

/// The length of a contraction, or 0.
fn contraction(text: &[Character], case: Case) -> usize {
    let letter = |place: usize| {
        let value = text.get(place)?.value;
        Some(if case == Case::Any { value.to_ascii_lowercase() } else { value })
    };
    match (letter(0), letter(1), letter(2)) {
        (Some('\''), Some('s' | 't' | 'm' | 'd'), _) => 2,
        (Some('\''), Some('r' | 'v'), Some('e')) | (Some('\''), Some('l'), Some('l')) => 3,
        _ => 0,
    }
}

/// `lead? upper* lower+ | lead? upper+ lower*`, where a letter that is not ASCII is both upper and lower.
fn cased(text: &[Character], marks: Marks) -> usize {
    let letter = |c: &Character| match marks {
        Marks::Apart => c.class == Class::Letter,
        Marks::AsLetters => matches!(c.class, Class::Letter | Class::Mark),
    };
    let (upper, lower) = (
        |c: &Character| letter(c) && !c.value.is_ascii_lowercase(),
        |c: &Character| letter(c) && !c.value.is_ascii_uppercase(),
    );
    let with_lower = |from: usize| {
        let uppers = from + count(&text[from..], upper);
        let lowers = count(&text[uppers..], lower);
        if lowers > 0 {
            return Some(uppers + lowers);
        }
        // The upper ones give back until one is lower too; what follows it is `A-Z` only, and ends the match.
        text[from..uppers].iter().rposition(lower).map(|last| from + last + 1)
    };
    let with_upper = |from: usize| {
        let uppers = count(&text[from..], upper);
        // The lower ones after them are none, or the first alternative had matched.
        (uppers > 0).then_some(from + uppers)
    };
    let led = text.first().filter(|first| Lead::NotWord.is(first)).map(|_| 1);
    led.and_then(with_lower)
        .or_else(|| with_lower(0))
        .or_else(|| led.and_then(with_upper))
        .or_else(|| with_upper(0))
        .unwrap_or(0)
}

impl Lead {
    fn is(self, c: &Character) -> bool {
        let line_end = matches!(c.value, '\r' | '\n');
        match self {
            Lead::Nothing => false,
            Lead::Blank => c.value == ' ',
            Lead::Space => c.class == Class::Space,
            Lead::NotWord => !line_end && !matches!(c.class, Class::Letter | Class::Number),
            Lead::NotSign => {
                !line_end && !matches!(c.class, Class::Letter | Class::Punctuation | Class::Symbol)
            }
        }
    }

    fn regex(self) -> &'static str {
        match self {
            Lead::Nothing => "",
            Lead::Blank => " ?",
            Lead::Space => r"\s?",
            Lead::NotWord => r"[^\r\n\p{L}\p{N}]?",
            Lead::NotSign => r"[^\r\n\p{L}\p{P}\p{S}]?",
        }
    }
}

impl Set {
    fn has(self, c: &Character) -> bool {
        match self {
            Set::Letters => c.class == Class::Letter,
            Set::LettersAndMarks => matches!(c.class, Class::Letter | Class::Mark),
            Set::Numbers => c.class == Class::Number,
            Set::Digits => c.value.is_ascii_digit(),
            Set::Signs => !matches!(c.class, Class::Space | Class::Letter | Class::Number),
            Set::SignsNoMarks => {
                !matches!(c.class, Class::Space | Class::Letter | Class::Number | Class::Mark)
            }
            Set::PunctuationAndSymbols => matches!(c.class, Class::Punctuation | Class::Symbol),
            Set::PunctuationAnd(more) => c.class == Class::Punctuation || more.contains(c.value),
            Set::LineEnds => matches!(c.value, '\r' | '\n'),
            Set::Ranges(ranges) => {
                let after = ranges.partition_point(|(first, _)| *first <= c.value);
                c.class != Class::Space && after > 0 && c.value <= ranges[after - 1].1
            }
            Set::NotSpaceNor(others) => c.class != Class::Space && !others.contains(c.value),
        }
    }

    fn regex(self) -> String {
        match self {
            Set::Letters => r"\p{L}".into(),
            Set::LettersAndMarks => r"[\p{L}\p{M}]".into(),
            Set::Numbers => r"\p{N}".into(),
            Set::Digits => "[0-9]".into(),
            Set::Signs => r"[^\s\p{L}\p{N}]".into(),
            Set::SignsNoMarks => r"[^\s\p{L}\p{M}\p{N}]".into(),
            Set::PunctuationAndSymbols => r"[\p{P}\p{S}]".into(),
            Set::PunctuationAnd(more) => format!(r"[\p{{P}}{}]", escaped(more)),
            Set::LineEnds => r"[\r\n]".into(),
            Set::Ranges(ranges) => {
                let list: String = ranges
                    .iter()
                    .map(|(first, last)| format!(r"{}-{}", class(*first), class(*last)))
                    .collect();
                format!(r"(?:(?!\s)[{list}])")
            }
            Set::NotSpaceNor(others) => format!(r"[^\s{}]", escaped(others)),
        }
    }
}

/// Characters as they are written between the brackets of a regular expression.
fn escaped(characters: &str) -> String {
    characters.chars().map(class).collect()
}

/// One of them.
fn class(character: char) -> String {
    match character {
        '\r' => r"\r".into(),
        '\n' => r"\n".into(),
        // A backslash before a letter or a digit would mean something else, before a sign it never does.
        sign if sign.is_ascii_punctuation() => format!(r"\{sign}"),
        other => other.into(),
    }
}
