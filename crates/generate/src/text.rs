//! From tokens to text, one token at a time: what generation asks of a tokenizer, so that it need not know one.
//!
//! A closure is a [`Text`] too:
//!
//! ```
//! use formwork_generate::Text;
//! let mut letters = |id: u32, text: &mut String| {
//!     text.push((b'a' + id as u8) as char);
//!     Ok(())
//! };
//! let mut text = String::new();
//! letters.push(2, &mut text)?;
//! Text::finish(&mut letters, &mut text)?;
//! assert_eq!(text, "c");
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::Result;

/// A stream of tokens becoming text.
pub trait Text {
    /// Takes a token and adds to `text` whatever is certain now: whole characters, perhaps none.
    ///
    /// # Errors
    /// A token that the tokenizer does not know.
    fn push(&mut self, id: u32, text: &mut String) -> Result<()>;

    /// Adds what was still waiting for more tokens; called once, at the end.
    ///
    /// # Errors
    /// Whatever the tokenizer refuses.
    fn finish(&mut self, text: &mut String) -> Result<()> {
        let _ = text;
        Ok(())
    }
}

impl<F: FnMut(u32, &mut String) -> Result<()>> Text for F {
    fn push(&mut self, id: u32, text: &mut String) -> Result<()> {
        self(id, text)
    }
}
