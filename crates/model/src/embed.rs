//! From token ids to the residual stream.
//!
//! `x = dropout(norm(table[ids] + position))`; ids `[b, t]`, table `[n, d]`, `x`: `[b, t, d]`. Norm and position are
//! optional: GPT-2 adds learned positions, LLaMA adds nothing here, BERT norms the sum.

use std::sync::Arc;

use formwork_module::{
    At, Dropout, Embedding, Norm, Pass, Position, Result, Site, Tensor, Visit, VisitMut, dropout,
};

/// Token embeddings and what is added to them.
#[derive(Debug)]
pub struct Embed {
    /// The token table, `[n, d]`.
    pub tokens: Embedding,
    /// An encoding that acts on embeddings, or nowhere.
    pub position: Arc<dyn Position>,
    /// A norm over the sum.
    pub norm: Option<Box<dyn Norm>>,
    /// Dropout on the sum.
    pub dropout: Dropout,
    /// The place `embed`: the key of its dropout mask.
    pub site: Site,
}

impl Embed {
    /// The stream before the first layer: `[b, t, d]`; `ids` stand row-major under the shape `[b, t]`.
    ///
    /// # Errors
    /// An id past the table, a position past the encoding's reach.
    pub fn forward(&self, ids: &[u32], [b, t]: [usize; 2], pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.tokens.lookup(ids, &[b, t], pass).at("tokens")?; // [b, t, d]
        let x = self.position.embed(&x, pass).at("position")?; // [b, t, d]
        let x = match &self.norm {
            Some(norm) => norm.forward(&x, pass).at("norm")?, // [b, t, d]
            None => x,
        };
        dropout(&x, self.dropout, &self.site, 0, pass)
    }

    /// Shows the parameters; embeddings are no [`Module`](formwork_module::Module), since their input is ids.
    pub fn visit(&self, v: &mut dyn Visit) {
        v.enter("tokens");
        self.tokens.visit(v);
        v.leave();
        v.enter("position");
        self.position.visit(v);
        v.leave();
        if let Some(norm) = &self.norm {
            v.enter("norm");
            norm.visit(v);
            v.leave();
        }
    }

    /// Hands out the parameters.
    ///
    /// # Errors
    /// Those of the visitor.
    pub fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.enter("tokens");
        self.tokens.visit_mut(v).at("tokens")?;
        v.leave();
        v.enter("position");
        <dyn Position>::visit_shared(&mut self.position, v).at("position")?;
        v.leave();
        if let Some(norm) = &mut self.norm {
            v.enter("norm");
            norm.visit_mut(v).at("norm")?;
            v.leave();
        }
        Ok(())
    }
}
