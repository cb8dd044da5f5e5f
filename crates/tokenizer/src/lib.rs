//! Tokenizers: text to ids and back, for training and for models that others have published.
//!
//! - [`Tokenizer::load`] reads a published `tokenizer.json` (GPT-2, LLaMA 1 to 3, BERT and kin) through the tokenizers
//!   library, built without C; what it reads is validated first, since such files come from strangers.
//! - [`Tokenizer::from_vocabulary`] makes one from the vocabulary inside a GGUF file, encoding as llama.cpp does;
//!   [`Tokenizer::to_vocabulary`] writes one. See [`gguf`].
//! - [`Tokenizer::encode_around`] encodes a prompt in which other people's words can spell no special token.
//! - [`Tokenizer::with_config`] and [`config::chat_template`] read the `tokenizer_config.json` beside a tokenizer.
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
//!   digits or signs may be cut otherwise than by the Python library; it still decodes to the same text. (The scanners
//!   of GGUF vocabularies never give up.)
//! - A byte that a byte-level vocabulary has no token for is dropped, as in llama.cpp and the tokenizers library; other
//!   vocabularies without an unknown token refuse a character that they do not know, where that library drops it.
//! - Of the vocabularies in GGUF files those of models `gpt2` and `llama` are read (with the pre-tokenizers listed in
//!   the error for another one); `bert`, `t5`, `rwkv` and others are refused.
//! - A normaliser that replaces nothing by something (pattern `^`) is refused: the tokenizers library panics after it.
//! - SentencePiece's character map (normaliser `Precompiled`: T5, XLM-R) is refused.
//! - Truncation and padding in a file are kept when it is saved, and never applied.

#![forbid(unsafe_code)]

mod around;
mod bytes;
mod characters;
pub mod config;
mod decode;
mod engine;
mod error;
mod file;
pub mod gguf;
mod how;
mod pieces;
mod prefixes;
mod protected;
mod special;
mod stream;
mod table;
mod tokenizer;
mod train;
mod utf8;
mod validate;

pub use error::{Error, Result};
pub use file::Kind;
pub use how::{Encode, Frame, Markup, Specials};
pub use special::Special;
pub use stream::DecodeStream;
pub use tokenizer::Tokenizer;
pub use train::BpeTrainer;
