//! Special tokens are found in a text before anything else: the longest of them everywhere, then the next.
//!
//! User-defined tokens are always found; control tokens and the unknown one only where markup is allowed.
//! A token may take the spaces before or after it, as those of some models do.

use std::ops::Range;

use crate::gguf::TokenType;
use crate::how::Markup;
use crate::prefixes::Prefixes;
use crate::protected::Protected;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// Text, as a range of bytes.
    Text(Range<usize>),
    /// A token that was found.
    Token(u32),
}

/// A token to look for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Its id.
    pub(crate) id: u32,
    /// What is looked for.
    pub(crate) text: Box<str>,
    /// What it is for.
    pub(crate) kind: TokenType,
    /// The spaces it takes.
    pub(crate) takes: Takes,
}

/// The spaces that a token takes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Takes {
    /// None.
    #[default]
    Nothing,
    /// Those before it.
    Before,
    /// Those after it.
    After,
}

/// All tokens to look for.
#[derive(Debug)]
pub(crate) struct Partition {
    /// The longest first; of equally long ones the smallest id.
    wanted: Vec<Wanted>,
    prefixes: Prefixes,
}

impl Partition {
    /// Puts the tokens in the order they are looked for.
    pub(crate) fn new(mut wanted: Vec<Wanted>) -> Self {
        wanted.sort_by_key(|token| (std::cmp::Reverse(token.text.len()), token.id));
        let prefixes =
            Prefixes::new(wanted.iter().zip(0..).map(|(token, place)| (token.text.clone(), place)));
        Partition { wanted, prefixes }
    }

    /// All tokens to look for.
    pub(crate) fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Cuts a text at its tokens; none but user-defined ones is found in a protected part.
    pub(crate) fn split(&self, text: &str, markup: Markup, protected: &Protected) -> Vec<Fragment> {
        // One look at the text finds the few tokens that occur, so that a large list costs nothing.
        let mut occurs = vec![false; self.wanted.len()];
        for at in 0..text.len() {
            self.prefixes.at(&text.as_bytes()[at..], |_, place| occurs[place as usize] = true);
        }
        let mut fragments = if text.is_empty() { Vec::new() } else { vec![Fragment::Text(0..text.len())] };
        for (token, _) in self.wanted.iter().zip(occurs).filter(|(_, occurs)| *occurs) {
            if token.kind.is_special() && markup == Markup::Text {
                continue;
            }
            let mut next = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                match fragment {
                    Fragment::Text(range) => token.split(text, range, protected, &mut next),
                    token => next.push(token),
                }
            }
            fragments = next;
        }
        fragments
    }
}

impl Wanted {
    /// Cuts one fragment at each occurrence.
    fn split(&self, text: &str, range: Range<usize>, protected: &Protected, out: &mut Vec<Fragment>) {
        let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
        let Range { mut start, end } = range;
        let mut from = start;
        while let Some(at) = text[from..end].find(&*self.text).map(|at| from + at) {
            let after = at + self.text.len();
            if self.kind.is_special() && protected.touches(at, after) {
                from = at + text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            let mut before = at;
            if self.takes == Takes::Before {
                before -= text.as_bytes()[start..at].iter().rev().take_while(|byte| space(byte)).count();
            }
            if start < before {
                out.push(Fragment::Text(start..before));
            }
            out.push(Fragment::Token(self.id));
            start = after;
            if self.takes == Takes::After {
                start += text.as_bytes()[after..end].iter().take_while(|byte| space(byte)).count();
            }
            from = start;
        }
        if start < end {
            out.push(Fragment::Text(start..end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        let token = |id, text: &str, kind, takes| Wanted { id, text: text.into(), kind, takes };
        Partition::new(vec![
            token(0, "<s>", TokenType::Control, Takes::Nothing),
            token(1, "<|end|>", TokenType::Control, Takes::After),
            token(2, "<mask>", TokenType::Control, Takes::Before),
            token(3, "xx", TokenType::UserDefined, Takes::Nothing),
            token(4, "|>>x", TokenType::Control, Takes::Nothing),
            token(5, "<unk>", TokenType::Unknown, Takes::Nothing),
        ])
    }

    /// Text fragments are written as they are, tokens as their number in braces.
    fn check(text: &str, markup: Markup, protected: &[Range<usize>], expected: &str) {
        let fragments = partition().split(text, markup, &Protected::new(protected));
        let shown: Vec<String> = fragments
            .into_iter()
            .map(|fragment| match fragment {
                Fragment::Text(range) => text[range].to_owned(),
                Fragment::Token(id) => format!("{{{id}}}"),
            })
            .collect();
        assert_eq!(shown.join("·"), expected, "{text:?}");
    }

    #[test]
    fn tokens_are_found_where_markup_is_allowed() {
        check("a<s>b<s>", Markup::Tokens, &[], "a·{0}·b·{0}");
        check("<s><unk>", Markup::Tokens, &[], "{0}·{5}");
        check("a<s>xxb", Markup::Text, &[], "a<s>·{3}·b");
        check("", Markup::Tokens, &[], "");
    }

    #[test]
    fn the_longest_token_is_found_first_wherever_it_is() {
        // "<|end|>" is the longest, though "|>>x" would need its last two signs.
        check("<|end|>>x", Markup::Tokens, &[], "{1}·>x");
        check("<|end||>>xx", Markup::Tokens, &[], "<|end|·{4}·x");
        check("xxx", Markup::Tokens, &[], "{3}·x");
    }

    #[test]
    fn tokens_take_the_spaces_beside_them() {
        check("a <|end|> \n b", Markup::Tokens, &[], "a ·{1}·b");
        check("a \t<mask> b", Markup::Tokens, &[], "a·{2}· b");
        check(" <mask>", Markup::Tokens, &[], "{2}");
        check("<s> <mask>", Markup::Tokens, &[], "{0}·{2}");
        check("<|end|>  <mask>", Markup::Tokens, &[], "{1}·{2}");
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "one range is protected")]
    fn no_special_token_is_found_in_a_protected_part() {
        let text = "<s>é<s>xx<s>";
        check(text, Markup::Tokens, &[3..10], "{0}·é<s>·{3}·{0}");
        check(text, Markup::Tokens, &[5..6], "{0}·é<s>·{3}·{0}");
        check(text, Markup::Tokens, &[0..1, 12..13], "<s>é·{0}·{3}·<s>");
        check(text, Markup::Tokens, &[3..5, 8..10], "{0}·é·{0}·{3}·{0}");
    }
}
