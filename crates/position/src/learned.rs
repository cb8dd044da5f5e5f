//! A learned vector for each position.
//!
//! `y[b, i] = x[b, i] + table[p(b, i)]`; `x`, `y`: `[b, t, d]`, `table`: `[context, d]`, `p` the position in the text.
//!
//! Gehring et al. 2017, <https://arxiv.org/abs/1705.03122>; GPT and BERT use it. It cannot encode a position past its
//! table.
//!
//! ```
//! use formwork_module::{Init, Pass, Position, Scope, Seed, Tensor};
//! use formwork_position::{Learned, LearnedConfig, Place};
//!
//! let place = Place { dim: 1, context: 2, heads: None, init: Init::Constant(0.5) };
//! let learned = Learned::new(&Scope::root(&Seed::new(1)), &place, &LearnedConfig::default())?;
//! let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0], &[1, 3, 1])?;
//! assert_eq!(learned.embed(&x.narrow(1, 0, 2)?, &mut Pass::infer())?.to_vec::<f32>()?, [1.5, 2.5]);
//! let error = learned.embed(&x, &mut Pass::infer()).unwrap_err().to_string();
//! assert!(error.starts_with("learned position: expected positions below 2, the rows of the table, found position 2"));
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{
    Acts, Embedding, Error, Pass, Position, Result, RowSpan, Scope, Tensor, Visit, VisitMut,
};
use serde::{Deserialize, Serialize};

use crate::{Place, of_tokens};

/// Settings of a [`Learned`] table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedConfig {
    /// Rows of the table; the model's context by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
}

/// A learned position table; see the [module](self).
#[derive(Debug)]
pub struct Learned {
    /// `[context, d]`; named `weight`.
    pub table: Embedding,
}

impl Learned {
    /// A table for embeddings of width `place.dim`.
    ///
    /// # Errors
    /// A width or a context of 0, or what the source refuses.
    pub fn new(scope: &Scope<'_>, place: &Place, config: &LearnedConfig) -> Result<Self> {
        let context = config.context.unwrap_or(place.context);
        if context == 0 || place.dim == 0 {
            let found = format!("context {context}, dim {}", place.dim);
            return Err(scope.locate(Error::invalid(
                "learned position",
                "a context and a dim of at least 1",
                found,
            )));
        }
        Ok(Self { table: Embedding::new(scope, context, place.dim, place.init)? })
    }

    /// Rows of the table.
    fn context(&self) -> usize {
        self.table.weight.shape()[0]
    }

    fn check(&self, spans: &[RowSpan]) -> Result<()> {
        let context = self.context();
        let ends = spans.iter().map(|span| span.position + span.tokens.len()).enumerate();
        match ends.max_by_key(|&(_, end)| end) {
            Some((row, end)) if end > context => {
                let expected = format!("positions below {context}, the rows of the table");
                let found = format!("position {} in row {row} of the batch", end - 1);
                let hint = "shorten the text, or build the model with a longer context";
                Err(Error::invalid("learned position", expected, found).hint(hint))
            }
            _ => Ok(()),
        }
    }
}

impl Position for Learned {
    fn acts(&self) -> Acts {
        Acts::Embeddings
    }

    fn embed(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [b, t, _] = x.dims()?;
        let spans = pass.spans(b, t)?;
        self.check(&spans)?;
        // Padding gets row 0: no token sees it, and its gradient is 0.
        let rows = self.table.lookup(&of_tokens(&spans, t), &[b, t], pass)?; // [b, t, d]
        x.add(&rows)
    }

    fn limit(&self) -> Option<usize> {
        Some(self.context())
    }

    fn visit(&self, v: &mut dyn Visit) {
        self.table.visit(v);
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        self.table.visit_mut(v)
    }
}
