//! The joint between a model and its position encoding.

use std::{fmt, sync::Arc};

use crate::{Blocks, Error, Kind, Param, Pass, Result, RowSpan, Tensor, Visit, VisitMut};

/// Where a position encoding acts, so that a builder can refuse one that stands where nothing would call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acts {
    /// Nowhere: no encoding.
    Nowhere,
    /// On the token embeddings.
    Embeddings,
    /// On queries and keys.
    Heads,
    /// On the attention scores.
    Scores,
}

/// Whether a key, once turned, stays as it is while its text grows.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'p> {
    /// It does: a key is turned once, and a cache holds it turned.
    Fixed,
    /// It does not, because the angles depend on how long the text is by now: a cache holds keys unturned, and every
    /// pass turns anew all that it looks at.
    Growing(&'p dyn GrowingKeys),
}

/// What an encoding with [`Keys::Growing`] does beside [`Position::rotate`].
pub trait GrowingKeys: fmt::Debug {
    /// Turns all keys of texts under way, `k [b, s, g, e]`: `rows` says which of them are tokens of each row, and the
    /// position of the first; with the last of them its text ends by now. What comes of the others is of no account.
    ///
    /// # Errors
    /// A head width that cannot be turned, or rows that do not fit `[b, s]`.
    fn rotate_all(&self, k: &Tensor, rows: &[RowSpan]) -> Result<Tensor>;
}

/// A position encoding. It acts in one of three places, and leaves the other two as they are.
pub trait Position: fmt::Debug + Send + Sync {
    /// Which of `embed`, `rotate` and `bias` it overrides.
    fn acts(&self) -> Acts;

    /// Adds to token embeddings `[b, t, d]`: learned and sinusoidal encodings.
    ///
    /// # Errors
    /// A position past the table.
    fn embed(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let _ = pass;
        Ok(x.clone())
    }

    /// Turns queries or keys `[b, t, heads, e]`: rotary encodings.
    ///
    /// The length of a row's text, where the angles depend on it, is the position that follows its last token in this
    /// pass.
    ///
    /// # Errors
    /// A head width that cannot be turned.
    fn rotate(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let _ = pass;
        Ok(x.clone())
    }

    /// Whether a turned key stays as it is while the text grows; it does unless an encoding says otherwise.
    fn keys(&self) -> Keys<'_> {
        Keys::Fixed
    }

    /// What is added to the attention scores, by tile: ALiBi, T5.
    ///
    /// # Errors
    /// A parameter without numbers.
    fn bias(&self, pass: &mut Pass<'_>) -> Result<Option<ScoreBias>> {
        let _ = pass;
        Ok(None)
    }

    /// The longest text that it can encode, if there is a limit.
    fn limit(&self) -> Option<usize> {
        None
    }

    /// Shows its parameters.
    fn visit(&self, v: &mut dyn Visit) {
        let _ = v;
    }

    /// Hands out its parameters.
    ///
    /// # Errors
    /// Those of the visitor.
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        let _ = v;
        Ok(())
    }
}

impl dyn Position {
    /// Whether it holds a parameter. One that does belongs to one place in the tree; others may be shared by layers.
    pub fn has_parameters(&self) -> bool {
        struct Any(bool);
        impl Visit for Any {
            fn enter(&mut self, _: &str) {}
            fn leave(&mut self) {}
            fn param(&mut self, _: &str, _: &Param) {
                self.0 = true;
            }
            fn blocks(&mut self, _: &str, _: &Blocks) {
                self.0 = true;
            }
        }
        let mut any = Any(false);
        self.visit(&mut any);
        any.0
    }

    /// Hands out the parameters of an encoding that layers may share, as long as there are none in it.
    ///
    /// # Errors
    /// One with parameters that something else holds too, and those of the visitor.
    pub fn visit_shared(shared: &mut Arc<dyn Position>, v: &mut dyn VisitMut) -> Result<()> {
        if !shared.has_parameters() {
            return Ok(());
        }
        let busy = || Error::from(Kind::Busy { what: "the position encoding" });
        Arc::get_mut(shared).ok_or_else(busy)?.visit_mut(v)
    }
}

/// A term added to the score of `(head, query position, key position)` before the softmax.
#[derive(Clone)]
#[non_exhaustive]
pub enum ScoreBias {
    /// A function without parameters.
    Fixed(Arc<dyn Fn(usize, usize, usize) -> f64 + Send + Sync>),
    /// An entry of a table that may learn: the function gives the index into its row-major elements.
    Table {
        /// The table, of any shape; tracked if it learns.
        table: Tensor,
        /// The index for `(head, query position, key position)`.
        index: Arc<dyn Fn(usize, usize, usize) -> usize + Send + Sync>,
    },
}

impl fmt::Debug for ScoreBias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScoreBias::Fixed(_) => f.write_str("ScoreBias::Fixed"),
            ScoreBias::Table { table, .. } => write!(f, "ScoreBias::Table({})", table.shape()),
        }
    }
}
