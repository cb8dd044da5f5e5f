//! A block whose two branches run beside each other, after one norm.
//!
//! `y = x + attn(norm(x)) + ffn(norm(x))`; `x`, `y`: `[b, t, d]`.
//!
//! Wang & Komatsuzaki 2021, *GPT-J-6B*. The parts are Formwork's; only the wiring is ours. Their configs stand under the
//! block's `params`, so the whole is still plain data.

use formwork::{
    At, Module, Norm, Pass, Result, Tensor,
    activation::Silu,
    attention::{self, Attention},
    children,
    feedforward::{self, GatedMlp},
    model::Place,
    norm::NormConfig,
    position::{self, PositionConfig},
};
use serde::Deserialize;

/// What stands under `params` in the config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParallelConfig {
    heads: usize,
    hidden: usize,
    norm: NormConfig,
    position: PositionConfig,
}

/// A parallel block; see the file's head.
#[derive(Debug)]
pub struct Parallel {
    /// Before both branches.
    pub norm: Box<dyn Norm>,
    /// One branch.
    pub attn: Attention,
    /// The other.
    pub ffn: GatedMlp,
}

impl Parallel {
    /// For a hook.
    ///
    /// # Errors
    /// Params that are not as above, sizes that do not fit, or what the source refuses.
    pub fn new(place: &Place<'_>) -> Result<Self> {
        let ParallelConfig { heads, hidden, norm, position } = place.read()?;
        let Place { dim, context, init, residual_init, scope, .. } = *place;
        let attn = attention::Settings { init, residual_init, ..attention::Settings::new(dim, heads) };
        let ffn = feedforward::Settings { init, residual_init, ..feedforward::Settings::new(dim, hidden) };
        let attention::Sizes { heads, kv_heads, head_dim } = attn.sizes()?;
        let heads = Some(position::Heads { heads, kv_heads });
        let head = position::Place { dim: head_dim, context, heads, init };

        let norm = norm.build(&scope.child("norm"), dim)?;
        let attn_scope = scope.child("attn");
        let position = position.build(&attn_scope.child("position"), &head)?;
        let attn = Attention::new(&attn_scope, &attn, position)?;
        let ffn = GatedMlp::new(&scope.child("ffn"), &ffn, Box::new(Silu {}))?;
        Ok(Self { norm, attn, ffn })
    }
}

impl Module for Parallel {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let normed = self.norm.forward(x, pass).at("norm")?; // [b, t, d]
        let a = self.attn.forward(&normed, pass).at("attn")?; // [b, t, d]
        let f = self.ffn.forward(&normed, pass).at("ffn")?; // [b, t, d]
        x.add(&a)?.add(&f)
    }

    // Writes `visit` and `visit_mut`; a field's name is the name of its parameters.
    children!(norm, attn, ffn);
}
