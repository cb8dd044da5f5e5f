//! Post-norm wiring: each branch is added first and the sum normed, so every layer hands on normed rows.
//!
//! `h = attn_norm(x + attn(x))`, `y = ffn_norm(h + ffn(h))`; `x`, `h`, `y`: `[b, t, d]`.
//!
//! Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>; GPT-1 and BERT, neither of which has a final norm.

use formwork_module::{At, Module, Pass, Result, Tensor, Visit, VisitMut};

use super::Branches;

/// A post-norm layer; see the [module](self).
#[derive(Debug)]
pub struct PostNorm(pub Branches);

impl Module for PostNorm {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let parts = &self.0;
        let delta = parts.attend(x, pass)?; // [b, t, d]
        let (_, h) = parts.attn_norm.add_norm(x, &delta, pass).at("attn_norm")?; // [b, t, d]
        let delta = parts.feed(&h, pass)?; // [b, t, d]
        let (_, y) = parts.ffn_norm.add_norm(&h, &delta, pass).at("ffn_norm")?; // [b, t, d]
        Ok(y)
    }

    fn visit(&self, v: &mut dyn Visit) {
        self.0.visit(v);
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        self.0.visit_mut(v)
    }
}
