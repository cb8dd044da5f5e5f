//! A tokenizer's stream as the text of a generator. An id that the tokenizer does not have becomes U+FFFD.

use formwork_generate::Text;
use formwork_module::{Error, Result};
use formwork_tokenizer::{DecodeStream, Tokenizer};

/// Tokens become text as soon as their characters are whole; special tokens are left out.
pub struct Decode {
    tokenizer: Tokenizer,
    /// `None` between texts.
    stream: Option<DecodeStream>,
}

impl Decode {
    /// For one row of a session.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: tokenizer.clone(), stream: None }
    }
}

impl Text for Decode {
    fn push(&mut self, id: u32, text: &mut String) -> Result<()> {
        // Tables of models are rounded up: a row without a token may be chosen, and a text does not end over it.
        if self.tokenizer.piece(id).is_none() {
            text.push(char::REPLACEMENT_CHARACTER);
            return Ok(());
        }
        let stream = self.stream.get_or_insert_with(|| self.tokenizer.stream());
        text.push_str(stream.push(id).map_err(Error::external)?.unwrap_or_default());
        Ok(())
    }

    fn finish(&mut self, text: &mut String) -> Result<()> {
        if let Some(stream) = self.stream.take() {
            text.push_str(&stream.finish().map_err(Error::external)?);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Decode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decode").field("tokenizer", &self.tokenizer.kind()).finish_non_exhaustive()
    }
}
