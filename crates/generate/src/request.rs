//! What is wanted of a text, and what came of it.
//!
//! ```
//! use formwork_generate::{Request, Sampler};
//! let request = Request { stop: vec!["\n\n".into()], ..Request::new(Sampler::greedy()) };
//! assert_eq!(request.max_tokens, 128);
//! ```

use serde::{Deserialize, Serialize};

use crate::Sampler;

/// How to choose tokens, and when to stop.
#[derive(Debug)]
pub struct Request {
    /// How each token is chosen.
    pub sampler: Sampler,
    /// The most new tokens of a row.
    pub max_tokens: usize,
    /// Tokens that end a row: the model's end-of-text, a chat's end of turn.
    pub end: Vec<u32>,
    /// Strings that end a row, found in its text, which then ends before them. They need a [`Text`](crate::Text) per row.
    pub stop: Vec<String>,
}

impl Request {
    /// At most 128 tokens, and no other end.
    pub fn new(sampler: Sampler) -> Self {
        Self { sampler, max_tokens: 128, end: Vec::new(), stop: Vec::new() }
    }
}

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model chose an end token.
    End,
    /// A stop string stands in the text.
    Stop,
    /// The number of tokens asked for is reached, or the session's capacity or the model's context is full.
    Length,
    /// The caller stopped it.
    Cancelled,
}

/// News of a row: a token, or its end, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Which row.
    pub row: usize,
    /// The token; `None` where a row ends without one.
    pub id: Option<u32>,
    /// The text that became certain, perhaps empty: all of a row's together are its output's text.
    pub text: &'a str,
    /// Set in the last event of a row, and only there.
    pub finish: Option<Finish>,
}

/// What was generated in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Which row.
    pub row: usize,
    /// Every token that the model chose, an end token and those of a stop string included.
    pub ids: Vec<u32>,
    /// Their text, without the end token and without the stop string; empty where no [`Text`](crate::Text) was given.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}
