//! Messages that cannot pass for anything else.
//!
//! The text of a conversation goes to the tokenizer whole, or words at the seams would be cut otherwise than in
//! training. There `<|im_end|>` is a token where the template wrote it, and eleven characters where a person did. So it
//! has to be known which characters came out of a message, even though the template may trim, cut and join contents as
//! it likes:
//!
//! 1. The conversation is rendered as it is. This is the text.
//! 2. It is rendered again with stand-ins in the contents: each character that could belong to a special token becomes
//!    a private character that occurs nowhere else. Whitespace stays, and so does every text that the template's own
//!    code names (`</think>`), so that the template decides as it did, unless it is part of a special token.
//! 3. If the second text is the first one up to the stand-ins, they say for each character where it came from, and
//!    these ranges are **protected**: the tokenizer recognises no special token that touches one of them.
//! 4. If not, the template looked at more than that. It is rendered a third time, with stand-ins only for special
//!    tokens, for parts of them (at least two characters, or any at the ends of a content, where the template could
//!    complete them), and for characters beyond ASCII (which a normaliser might turn into something else). That text
//!    is used: the template saw no special token in any message. (A stand-in has no capital, so a template that writes
//!    contents in capitals leaves characters beyond ASCII as they are.)

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use formwork_module::{Error, Result};
use formwork_tokenizer::{Encode, Frame, Markup, Tokenizer};

use super::{ChatTemplate, Message, Next, json, python::is_space};

/// A rendered conversation, and which bytes of it came out of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// The text.
    pub text: String,
    /// Rising byte ranges of `text`, apart from one another: no special token may touch them.
    pub protected: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// The tokens of a conversation. Special tokens are what the template wrote, never what stands in a message.
    ///
    /// # Errors
    /// Those of [`render`](Self::render) and of the tokenizer.
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message], next: Next) -> Result<Vec<u32>> {
        self.encode_with(&Markers::of(tokenizer), tokenizer, messages, next)
    }

    /// As [`encode`](Self::encode), with the tokenizer's special tokens listed before.
    pub(super) fn encode_with(
        &self,
        markers: &Markers,
        tokenizer: &Tokenizer,
        messages: &[Message],
        next: Next,
    ) -> Result<Vec<u32>> {
        let Guarded { text, protected } = self.guard_with(markers, messages, next)?;
        let how = Encode { frame: Frame::Bare, markup: Markup::Tokens };
        tokenizer.encode_around(&text, &protected, &how).map_err(Error::external)
    }

    /// The text of a conversation, and what of it came out of messages, where `special` are the special tokens.
    ///
    /// # Errors
    /// Those of [`render`](Self::render).
    pub fn guard<S: AsRef<str>>(
        &self,
        special: impl IntoIterator<Item = S>,
        messages: &[Message],
        next: Next,
    ) -> Result<Guarded> {
        self.guard_with(&Markers::new(special.into_iter().map(|s| s.as_ref().to_owned())), messages, next)
    }

    fn guard_with(&self, markers: &Markers, messages: &[Message], next: Next) -> Result<Guarded> {
        let plain = self.render(messages, next)?;
        let inert = |literal: &&String| !markers.stand_in(literal) && !markers.have_part(literal);
        let visible: Vec<&str> = self.literals().iter().filter(inert).map(String::as_str).collect();
        let contents = messages.iter().map(|message| message.content.as_str());
        let written: Vec<&str> = contents.chain([self.source()]).collect();
        let reads_escapes = !written.iter().any(|text| text.contains("\\u"));
        let mut used: HashSet<char> =
            written.into_iter().chain([plain.as_str()]).flat_map(str::chars).collect();
        let mut cover = Cover::All;
        loop {
            let mut disguise = Disguise::new(&mut used, reads_escapes);
            let mut hidden = Vec::with_capacity(messages.len());
            for message in messages {
                let taken = markers.cover(&message.content, &visible, cover);
                hidden.push(Message::new(message.role, disguise.put_on(&message.content, &taken)?));
            }
            let rendered = match self.render(&hidden, next) {
                Ok(rendered) => rendered,
                // The template missed what it had to see in a content; in the third text it sees more.
                Err(_) if cover == Cover::All => {
                    cover = Cover::Parts;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let guarded = disguise.take_off(&rendered);
            if cover == Cover::Parts || guarded.text == plain {
                return Ok(guarded);
            }
            cover = Cover::Parts;
        }
    }
}

/// How much of a content wears stand-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    All,
    Parts,
}

/// The special tokens of a tokenizer, to be found in texts: whole, and in parts.
#[derive(Clone, Debug)]
pub(super) struct Markers {
    /// Sorted, each once, none empty.
    forward: Vec<Vec<u8>>,
    /// The same tokens from right to left, sorted.
    backward: Vec<Vec<u8>>,
}

impl Markers {
    /// Every special token of a tokenizer.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let ids = 0..u32::try_from(tokenizer.vocab()).unwrap_or(u32::MAX);
        let special = ids.filter(|id| tokenizer.is_special(*id));
        Self::new(special.filter_map(|id| tokenizer.piece(id)).map(str::to_owned))
    }

    fn new(special: impl Iterator<Item = String>) -> Self {
        let sorted = |mut list: Vec<Vec<u8>>| {
            list.sort_unstable();
            list.dedup();
            list
        };
        let forward = sorted(special.filter(|s| !s.is_empty()).map(String::into_bytes).collect());
        let backward = sorted(forward.iter().map(|s| s.iter().rev().copied().collect()).collect());
        Self { forward, backward }
    }

    /// Whether a special token stands in a text.
    fn stand_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        (0..bytes.len()).any(|at| longest(&self.forward, bytes[at..].iter()).whole > 0)
    }

    /// Whether a text is part of a special token.
    fn have_part(&self, text: &str) -> bool {
        let part = text.as_bytes();
        let within =
            |token: &Vec<u8>| part.len() <= token.len() && token.windows(part.len()).any(|w| w == part);
        self.forward.iter().any(within)
    }

    /// For each byte of a content, whether its character wears a stand-in.
    fn cover(&self, content: &str, visible: &[&str], cover: Cover) -> Vec<bool> {
        let bytes = content.as_bytes();
        let mut shown = vec![false; bytes.len()];
        for literal in visible {
            for (at, found) in content.match_indices(literal) {
                shown[at..at + found.len()].fill(true);
            }
        }
        let mut taken = vec![false; bytes.len()];
        for (at, c) in content.char_indices() {
            let range = at..at + c.len_utf8();
            let is_inert = is_space(c) || c.is_control() || matches!(c, '"' | '\\');
            let is_taken = !is_inert && (cover == Cover::All || !c.is_ascii());
            taken[range].fill(is_taken && !shown[at]);
        }
        for at in 0..bytes.len() {
            let ahead = longest(&self.forward, bytes[at..].iter());
            let behind = longest(&self.backward, bytes[..at + 1].iter().rev());
            if ahead.part >= 2 {
                hide(&mut taken, &shown, at..at + ahead.part);
            }
            if behind.part >= 2 {
                hide(&mut taken, &shown, at + 1 - behind.part..at + 1);
            }
            taken[at..at + ahead.whole].fill(true);
        }
        // A template joins its own text to the ends, and may trim them first.
        let trimmed = content.trim_matches(is_space);
        let from = content.len() - content.trim_start_matches(is_space).len();
        for (text, from) in [(content, 0), (trimmed, from)] {
            for token in &self.forward {
                let ends = |len: &usize| text.as_bytes().ends_with(&token[..*len]);
                if let Some(len) = (1..token.len()).rev().find(ends) {
                    taken[from + text.len() - len..from + text.len()].fill(true);
                }
                let starts = |at: &usize| text.as_bytes().starts_with(&token[*at..]);
                if let Some(at) = (1..token.len()).find(starts) {
                    taken[from..from + token.len() - at].fill(true);
                }
            }
            if !text.is_empty() && self.have_part(text) {
                taken[from..from + text.len()].fill(true);
            }
        }
        taken
    }
}

/// Hides a part of a special token, where the template does not have to see it.
fn hide(taken: &mut [bool], shown: &[bool], range: Range<usize>) {
    for at in range {
        taken[at] |= !shown[at];
    }
}

/// How far a text agrees with a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Longest {
    /// The length of the longest token that the text begins with.
    whole: usize,
    /// The length of the longest beginning that the text shares with a token.
    part: usize,
}

fn longest<'t>(sorted: &[Vec<u8>], text: impl Iterator<Item = &'t u8>) -> Longest {
    let (mut candidates, mut found) = (sorted, Longest::default());
    for (depth, &byte) in text.enumerate() {
        let from = candidates.partition_point(|token| token.get(depth).is_none_or(|b| *b < byte));
        let to = candidates.partition_point(|token| token.get(depth).is_none_or(|b| *b <= byte));
        candidates = &candidates[from..to];
        // Sorted: one that ends here stands first.
        let Some(first) = candidates.first() else { break };
        found.part = depth + 1;
        if first.len() == found.part {
            found.whole = found.part;
        }
    }
    found
}

/// Stand-ins and what they stand for.
struct Disguise<'u> {
    used: &'u mut HashSet<char>,
    stand_ins: HashMap<char, char>,
    behind: HashMap<char, char>,
    /// The next candidate.
    next: u32,
    /// Whether an escape in the text can be none but a stand-in's.
    reads_escapes: bool,
}

impl<'u> Disguise<'u> {
    fn new(used: &'u mut HashSet<char>, reads_escapes: bool) -> Self {
        Self { used, stand_ins: HashMap::new(), behind: HashMap::new(), next: 0xF_0000, reads_escapes }
    }

    /// A private character that no text of this conversation has.
    fn stand_in(&mut self, c: char) -> Result<char> {
        if let Some(&known) = self.stand_ins.get(&c) {
            return Ok(known);
        }
        loop {
            let candidate = char::from_u32(self.next);
            self.next = match self.next {
                0xF_FFFD => 0x10_0000,
                0x10_FFFD => 0xE000,
                0xF8FF => {
                    return Err(Error::invalid(
                        "chat",
                        "messages of fewer different characters",
                        "more than 100000",
                    ));
                }
                next => next + 1,
            };
            if let Some(free) = candidate.filter(|free| self.used.insert(*free)) {
                self.stand_ins.insert(c, free);
                self.behind.insert(free, c);
                return Ok(free);
            }
        }
    }

    fn put_on(&mut self, content: &str, taken: &[bool]) -> Result<String> {
        let wear = |(at, c)| if taken[at] { self.stand_in(c) } else { Ok(c) };
        content.char_indices().map(wear).collect()
    }

    /// The text without stand-ins, and where they were.
    fn take_off(&self, rendered: &str) -> Guarded {
        let (mut text, mut protected) = (String::with_capacity(rendered.len()), Vec::<Range<usize>>::new());
        let mut rest = rendered;
        while let Some(c) = rest.chars().next() {
            let (from, escape) = (text.len(), self.escaped(rest));
            let original = escape.map(|(_, original)| original).or_else(|| self.behind.get(&c).copied());
            rest = &rest[escape.map_or(c.len_utf8(), |(len, _)| len)..];
            let Some(original) = original else {
                text.push(c);
                continue;
            };
            match escape {
                Some(_) => json::escape(original, json::Characters::Ascii, &mut text),
                None => text.push(original),
            }
            match protected.last_mut() {
                Some(last) if last.end == from => last.end = text.len(),
                _ => protected.push(from..text.len()),
            }
        }
        Guarded { text, protected }
    }

    /// The length of an escape at the beginning of a text that `tojson(ensure_ascii=true)` made of a stand-in, and what
    /// this one stands for.
    fn escaped(&self, text: &str) -> Option<(usize, char)> {
        let unit = |at: usize| -> Option<u16> {
            let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
            u16::from_str_radix(digits, 16).ok()
        };
        let first = unit(0).filter(|_| self.reads_escapes)?;
        let units = [first, unit(6).unwrap_or(0)];
        let (c, len) = match char::from_u32(first.into()) {
            Some(c) => (c, 6),
            None => (char::decode_utf16(units).next()?.ok()?, 12),
        };
        self.behind.get(&c).map(|original| (len, *original))
    }
}
