//! Pre-norm wiring: norms stand inside the branches, so the stream itself is never normed.
//!
//! `h = x + attn(attn_norm(x))`, `y = h + ffn(ffn_norm(h))`; `x`, `h`, `y`: `[b, t, d]`.
//!
//! Radford et al. 2019 (GPT-2), with a final norm after the last layer; why it trains more steadily:
//! Xiong et al. 2020, <https://arxiv.org/abs/2002.04745>.

use formwork_module::{At, Module, Pass, Result, Tensor, Visit, VisitMut};

use super::Branches;

/// A pre-norm layer; see the [module](self).
#[derive(Debug)]
pub struct PreNorm(pub Branches);

impl Module for PreNorm {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let parts = &self.0;
        let normed = parts.attn_norm.forward(x, pass).at("attn_norm")?; // [b, t, d]
        let delta = parts.attend(&normed, pass)?; // [b, t, d]
        let (h, normed) = parts.ffn_norm.add_norm(x, &delta, pass).at("ffn_norm")?; // [b, t, d] each
        h.add_scaled(&parts.feed(&normed, pass)?, 1.0) // [b, t, d]
    }

    fn visit(&self, v: &mut dyn Visit) {
        self.0.visit(v);
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        self.0.visit_mut(v)
    }
}
