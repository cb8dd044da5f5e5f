//! Layers: how attention and feed-forward are wired into the residual stream.
//!
//! Every wiring is a [`Module`] over the same [`Branches`], `[b, t, d]` to `[b, t, d]`. A new one is a file here, a
//! variant of [`BlockConfig`](crate::BlockConfig), and a line where the builder matches on it.

pub mod post_norm;
pub mod pre_norm;

use formwork_module::{At, Dropout, Module, Norm, Pass, Result, Site, Tensor, children, dropout};

pub use post_norm::PostNorm;
pub use pre_norm::PreNorm;

/// The parts of a layer with two residual branches.
#[derive(Debug)]
pub struct Branches {
    /// The norm of the attention branch.
    pub attn_norm: Box<dyn Norm>,
    /// Attention.
    pub attn: Box<dyn Module>,
    /// The norm of the feed-forward branch.
    pub ffn_norm: Box<dyn Norm>,
    /// Feed-forward.
    pub ffn: Box<dyn Module>,
    /// Dropout on what either branch adds.
    pub dropout: Dropout,
    /// The place of the layer: the key of its dropout masks.
    pub site: Site,
}

impl Branches {
    /// What attention adds to the stream.
    fn attend(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let delta = self.attn.forward(x, pass).at("attn")?; // [b, t, d]
        dropout(&delta, self.dropout, &self.site, 0, pass)
    }

    /// What the feed-forward layer adds to the stream.
    fn feed(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let delta = self.ffn.forward(x, pass).at("ffn")?; // [b, t, d]
        dropout(&delta, self.dropout, &self.site, 1, pass)
    }

    children!(attn_norm, attn, ffn_norm, ffn);
}
