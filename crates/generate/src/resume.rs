//! Going on with a text of which a row holds the beginning already: a chat's next turn, another try from the middle.

use formwork_module::{Error, Result};

use crate::{History, Session};

impl Session<'_> {
    /// Makes `ids` the whole text of a row and computes the logits that follow it, with as little work as possible.
    ///
    /// What the row's text and `ids` have in common at the beginning stays in the cache, what the row held beyond it is
    /// forgotten, and only the rest of `ids` goes through the model; the last token does in any case, unless its logits
    /// are known already. The result is that of a [`prompt`](Session::prompt) of `ids` in a fresh row: all of it is
    /// prompt, and the row is awake. Other rows stay as they are. As with [`chunked`](Session::chunked), a model whose
    /// position encoding changes as the text grows (dynamic NTK past its context) is the exception.
    ///
    /// Returns how many of the tokens did not have to go through the model.
    ///
    /// ```no_run
    /// # fn of(session: &mut formwork_generate::Session<'_>) -> formwork_module::Result<()> {
    /// session.resume(0, &[11, 7, 5, 3])?;
    /// let kept = session.resume(0, &[11, 7, 2])?; // another try: only 2 is new
    /// assert_eq!(kept, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A row that does not exist; no token; a text longer than the capacity; cancellation; those of the model. The texts
    /// are then as before.
    pub fn resume(&mut self, row: usize, ids: &[u32]) -> Result<usize> {
        let text = self.row(row)?;
        let (held, awake) = (text.history.clone(), text.awake);
        if ids.is_empty() {
            return Err(Error::invalid("resume", "at least one token", format_args!("none for row {row}"))
                .hint("begin with the model's begin token where the text is empty"));
        }
        if ids.len() > self.capacity {
            return Err(self.too_long(row, 0, ids.len()));
        }
        let shared = held.tokens().iter().zip(ids).take_while(|(a, b)| a == b).count();
        let text = &mut self.rows[row];
        (text.history, text.awake) = (History::new(ids), true);
        let done = self.forget(row, shared).and_then(|kept| self.advance().map(|()| kept));
        if done.is_err() {
            let text = &mut self.rows[row];
            (text.history, text.awake) = (held, awake);
            // What is in the cache beyond the shared tokens may be of either text. The first error is the one to tell.
            return self.forget(row, shared).and(done);
        }
        done
    }

    /// Forgets the logits and the cache of a row beyond the first `shared` tokens, and the last token of its text unless
    /// its logits are known; says how much of the cache is left.
    fn forget(&mut self, row: usize, shared: usize) -> Result<usize> {
        let text = &mut self.rows[row];
        text.ready_at = text.ready_at.filter(|&at| at <= shared);
        let keep = if text.is_ready() { shared } else { shared.min(text.history.len().saturating_sub(1)) };
        if self.cache.len(row) > keep {
            self.cache.truncate(row, keep)?;
        }
        Ok(self.cache.len(row))
    }
}
