//! A language model that no builder made: embeddings, one attention of our own, a tied head.
//!
//! `logits = (x + distances(x))·Eᵀ` with `x = E[ids]`; ids `[b, t]`, `x`: `[b, t, d]`, `E`: `[n, d]`.
//!
//! Whatever implements [`TokenModel`] is trained, judged, saved and generated from like any other.

use formwork::{
    Module, Pass, Result, Scope, Tensor, TokenModel, Weight, children,
    module::{Embedding, Init},
};
use ndarray::ArrayView2;

use crate::Distances;

/// A model of echoes; see the file's head.
#[derive(Debug)]
pub struct Echo {
    /// `[n, d]`, also the head.
    tokens: Embedding,
    /// What the tokens before have to say.
    attn: Distances,
    context: usize,
}

impl Echo {
    /// For a vocabulary, a width and a longest text.
    ///
    /// # Errors
    /// An odd width (there are two heads), or what the source refuses.
    pub fn new(scope: &Scope<'_>, [vocab, dim, context]: [usize; 3]) -> Result<Self> {
        let init = Init::Normal { std: 0.2 };
        Ok(Self {
            tokens: Embedding::new(&scope.child("tokens"), vocab, dim, init)?,
            attn: Distances::build(&scope.child("attn"), [dim, 2, context], [init, init])?,
            context,
        })
    }
}

impl Module for Echo {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        x.add(&self.attn.forward(x, pass)?) // [b, t, d]
    }
    children!(tokens, attn);
}

impl TokenModel for Echo {
    fn vocab(&self) -> usize {
        self.tokens.weight.shape()[0]
    }

    fn context(&self) -> Option<usize> {
        Some(self.context)
    }

    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let ids: Vec<u32> = tokens.iter().copied().collect();
        self.tokens.lookup(&ids, tokens.shape(), pass) // [b, t, d]
    }

    fn head(&self) -> &dyn Weight {
        &*self.tokens.weight
    }
}
