//! What a conversation is made of.
//!
//! ```
//! use formwork_recipes::chat::{Message, Role};
//! let message = Message::user("Who wrote Faust?");
//! assert_eq!(serde_json::to_string(&message).unwrap(), r#"{"role":"user","content":"Who wrote Faust?"}"#);
//! assert!("root".parse::<Role>().is_err());
//! ```

use std::{fmt, str::FromStr};

use formwork_module::{Error, Result};
use serde::{Deserialize, Serialize};

/// Who speaks.
///
/// The set is closed: a template writes a role's name between its own tokens, so a free name could end one message and
/// begin another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the conversation is about and how to behave in it; the first message, if it is there.
    System,
    /// What some templates have in place of `System`, or beside it.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of something that the model asked for.
    Tool,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::System, Self::Developer, Self::User, Self::Assistant, Self::Tool];

    /// The name that templates know.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|role| role.name()).collect();
            Error::invalid("role", names.join(", "), format_args!("{name:?}"))
        })
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said: text, whatever stands in it.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }

    /// A message of [`Role::System`].
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// A message of [`Role::User`].
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// A message of [`Role::Assistant`].
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }
}
