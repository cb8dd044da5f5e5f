//! Conversations: a model's chat template, messages that cannot pass for anything else, and a chat that remembers.
//!
//! - [`ChatTemplate`] writes [`Message`]s down as the model was trained to read them.
//! - [`ChatTemplate::encode`] makes tokens of them, so that **no text of a message ever becomes a special token**.
//! - [`Chat`] holds a conversation with a model: system prompt, history, streamed answers, the cache kept between turns.
//!
//! ```
//! use formwork_recipes::chat::{ChatTemplate, Message, Next};
//! use formwork_tokenizer::BpeTrainer;
//!
//! let special = vec!["<|end|>".to_owned()];
//! let tokenizer = BpeTrainer { vocab: 257, special, min_frequency: 2 }.train(["a text"])?;
//! let template = ChatTemplate::new("{% for m in messages %}{{ m.content }}<|end|>{% endfor %}")?;
//! let ids = template.encode(&tokenizer, &[Message::user("no <|end|> here")], Next::Nothing)?;
//! // Fifteen bytes of the user, and one end.
//! assert_eq!((ids.len(), ids[15]), (16, 256));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod conversation;
mod date;
mod guard;
mod json;
mod keep;
mod message;
mod python;
mod source;
mod template;

pub use conversation::{Chat, Ends, Options, Overflow, Reply};
pub use date::Date;
pub use guard::Guarded;
pub use message::{Message, Role};
pub use template::{ChatTemplate, Next};
