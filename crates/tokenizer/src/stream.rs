//! Ids that arrive one at a time, shown as text without ever splitting a character.
//!
//! Everything that [`push`](DecodeStream::push) and [`finish`](DecodeStream::finish) return, put together, is what
//! [`Tokenizer::decode`](crate::Tokenizer::decode) makes of all the ids; the cost of an id does not grow with the text.
//! Text comes as soon as it is certain: with byte-level tokenizers a character when its last byte is there, with
//! LLaMA-2's byte pieces when the run of them ends.
//!
//! ```
//! use formwork_tokenizer::Tokenizer;
//!
//! let mut stream = Tokenizer::bytes().stream();
//! assert_eq!(stream.push(0xc3)?, None);          // half of é
//! assert_eq!(stream.push(0xa9)?, Some("é"));
//! assert_eq!(stream.push(0xf0)?, None);          // a quarter of something
//! assert_eq!(stream.finish()?, "\u{fffd}");
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```

use crate::decode::State;
use crate::error::Result;
use crate::how::Specials;
use crate::tokenizer::Tokenizer;

/// Decodes one id after the other.
#[derive(Clone, Debug)]
pub struct DecodeStream {
    tokenizer: Tokenizer,
    specials: Specials,
    state: State,
    out: String,
}

impl DecodeStream {
    pub(crate) fn new(tokenizer: Tokenizer, specials: Specials) -> Self {
        let state = tokenizer.decoding().start();
        DecodeStream { tokenizer, specials, state, out: String::new() }
    }

    /// Takes an id and returns the text that became certain with it, if any: whole characters only.
    ///
    /// # Errors
    /// If the id stands for no piece; the stream is as before then, and may go on.
    pub fn push(&mut self, id: u32) -> Result<Option<&str>> {
        self.out.clear();
        self.tokenizer.step(&mut self.state, id, self.specials, &mut self.out)?;
        Ok((!self.out.is_empty()).then_some(self.out.as_str()))
    }

    /// Ends the stream and returns the rest of its text; bytes without their character become U+FFFD.
    ///
    /// # Errors
    /// If the file's decoder, where it can only decode a whole text, refuses this one.
    pub fn finish(mut self) -> Result<String> {
        self.out.clear();
        self.tokenizer.decoding().finish(&mut self.state, &mut self.out)?;
        Ok(self.out)
    }
}
