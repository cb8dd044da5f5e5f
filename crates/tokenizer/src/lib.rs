//! Tokenizers: text to ids and back, for training and for models that others have published.
//!
//! - [`Tokenizer::load`] reads a published `tokenizer.json` (GPT-2, LLaMA 1 to 3, BERT and kin) through the tokenizers
//!   library, built without C; what it reads is validated first, since such files come from strangers.
//! - [`BpeTrainer`] trains a byte-level byte-pair encoding; [`Tokenizer::bytes`] and [`Tokenizer::characters`] need no
//!   training. All of them are saved as a `tokenizer.json` that other programs read too.
//! - [`DecodeStream`] shows the text of ids as they come and never splits a character.
//!
//! ```
//! use formwork_tokenizer::{BpeTrainer, Tokenizer};
//!
//! let tokenizer = BpeTrainer::new(300).train(["the cat and the dog and the bird"])?;
//! let ids = tokenizer.encode("the dog 🐕")?;
//! assert_eq!(tokenizer.decode(&ids)?, "the dog 🐕");
//! assert_eq!(ids.len(), 10); // "the", five letters and spaces, four bytes of a dog
//! tokenizer.fits(1024)?;                                 // every id has a row in a model with 1024
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```
//!
//! # Known limits
//!
//! - The patterns that cut a text into words give up after a million steps on one match, so a run of a million spaces,
//!   digits or signs may be cut otherwise than by the Python library. It still decodes to the same text.
//! - SentencePiece's character map (normaliser `Precompiled`: T5, XLM-R) is refused.
//! - Truncation and padding in a file are kept when it is saved, and never applied.

#![forbid(unsafe_code)]

mod bytes;
mod characters;
mod decode;
mod engine;
mod error;
mod file;
mod pieces;
mod special;
mod stream;
mod tokenizer;
mod train;
mod utf8;
mod validate;

pub use error::{Error, Result};
pub use file::Kind;
pub use special::Special;
pub use stream::DecodeStream;
pub use tokenizer::{Encode, Frame, Markup, Specials, Tokenizer};
pub use train::BpeTrainer;
