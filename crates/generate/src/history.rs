//! The text of one row so far, and how often each token stands in it.
//!
//! ```
//! use formwork_generate::History;
//! let mut history = History::new(&[5, 7, 5]);
//! history.push(7);
//! assert_eq!((history.prompt(), history.generated()), (&[5, 7, 5][..], &[7][..]));
//! let sevens = history.seen().find(|seen| seen.id == 7).expect("7 is in the text");
//! assert_eq!((sevens.total, sevens.generated), (2, 1));
//! ```

/// The tokens of one row: a prompt, and what was generated after it.
///
/// A second prompt makes all before it prompt too, so that two prompts with an answer between them are the same
/// history as their concatenation given at once.
#[derive(Clone, Debug, Default)]
pub struct History {
    tokens: Vec<u32>,
    /// How many of the tokens are prompt.
    prompt: usize,
    /// By rising id, so that processors go through them in an order that does not change. A sorted list, not a map: its
    /// memory can be set aside, so that a decoded token asks for none.
    seen: Vec<Seen>,
}

/// How often a token stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The token.
    pub id: u32,
    /// How often, in the prompt and after it.
    pub total: usize,
    /// How often since the last prompt ended.
    pub generated: usize,
}

impl History {
    /// A text that is all prompt.
    pub fn new(prompt: &[u32]) -> Self {
        let mut history = Self::default();
        history.extend_prompt(prompt);
        history
    }

    /// All tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens up to the end of the last prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt]
    }

    /// The tokens generated since the last prompt.
    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Each different token once, by rising id.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter()
    }

    /// Adds a generated token.
    pub fn push(&mut self, id: u32) {
        let seen = match self.place(id) {
            Ok(at) => &mut self.seen[at],
            Err(at) => {
                self.seen.insert(at, Seen { id, total: 0, generated: 0 });
                &mut self.seen[at]
            }
        };
        seen.total += 1;
        seen.generated += 1;
        self.tokens.push(id);
    }

    /// Sets memory aside, so that the text can grow to `len` tokens of `vocab` different ones without asking for more.
    pub(crate) fn reserve(&mut self, len: usize, vocab: usize) {
        let more = len.saturating_sub(self.tokens.len());
        self.tokens.reserve(more);
        self.seen.reserve(more.min(vocab.saturating_sub(self.seen.len())));
    }

    /// Adds a prompt; everything before it counts as prompt from now on.
    pub fn extend_prompt(&mut self, prompt: &[u32]) {
        self.seen.iter_mut().for_each(|seen| seen.generated = 0);
        self.seen.extend(prompt.iter().map(|&id| Seen { id, total: 1, generated: 0 }));
        // Sorting once is what a long prompt costs; inserting each token in its place would cost the square of that.
        self.seen.sort_by_key(|seen| seen.id);
        self.seen.dedup_by(|next, kept| {
            let same = next.id == kept.id;
            kept.total += if same { next.total } else { 0 };
            same
        });
        self.tokens.extend_from_slice(prompt);
        self.prompt = self.tokens.len();
    }

    /// Forgets all tokens from `len` on; a longer `len` changes nothing.
    pub fn truncate(&mut self, len: usize) {
        for (at, id) in self.tokens.iter().enumerate().skip(len) {
            let seen = self.place(*id).expect("every token is counted");
            let seen = &mut self.seen[seen];
            seen.total -= 1;
            seen.generated -= usize::from(at >= self.prompt);
        }
        self.seen.retain(|seen| seen.total > 0);
        self.tokens.truncate(len);
        self.prompt = self.prompt.min(self.tokens.len());
    }

    /// Where a token is counted, or would be.
    fn place(&self, id: u32) -> Result<usize, usize> {
        self.seen.binary_search_by_key(&id, |seen| seen.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_counts_are_those_of_the_shorter_text() {
        let mut full = History::new(&[3, 5, 3]);
        [5, 7, 7, 3].iter().for_each(|&id| full.push(id));
        for len in 0..=8 {
            let mut cut = full.clone();
            cut.truncate(len);
            let mut fresh = History::new(&full.prompt()[..len.min(3)]);
            full.generated().iter().take(len.saturating_sub(3)).for_each(|&id| fresh.push(id));
            assert_eq!(cut.tokens(), fresh.tokens(), "{len}");
            assert_eq!(cut.prompt(), fresh.prompt(), "{len}");
            assert!(cut.seen().eq(fresh.seen()), "{len}: {:?} and {:?}", cut.seen, fresh.seen);
        }
    }

    #[test]
    fn a_second_prompt_is_the_same_as_one_concatenated_prompt() {
        let mut twice = History::new(&[3, 5]);
        twice.push(5);
        twice.extend_prompt(&[7, 3]);
        let once = History::new(&[3, 5, 5, 7, 3]);
        assert_eq!((twice.tokens(), twice.prompt()), (once.tokens(), once.prompt()));
        assert!(twice.seen().eq(once.seen()));
    }
}
