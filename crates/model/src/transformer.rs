//! The assembled language model.
//!
//! `logits = head(norm(block_{l−1}(.. block_0(embed(ids)))))`; ids `[b, t]`, stream `[b, t, d]`, logits `[b, t, n]`.
//! Training, full-sequence inference and cached decoding all run through this one [`forward`](Module::forward).
//!
//! ```
//! use formwork_model::{module::{Pass, Positions, Seed, TokenModel}, presets};
//! use ndarray::array;
//!
//! let mut config = (presets::find("gpt2-small")?.config)();
//! (config.vocab, config.dim) = (11, 24); // shrunk: 12 heads of width 2
//! config.blocks.truncate(2);
//! let model = config.build(&Seed::new(1))?;
//! let logits = model.logits(array![[3, 1, 4], [1, 5, 9]].view(), Positions::Last, &mut Pass::infer())?;
//! assert_eq!(**logits.shape(), [2, 11]);
//! # Ok::<(), formwork_model::Error>(())
//! ```

use std::{borrow::Cow, sync::Arc};

use formwork_module::{
    At, Kind, Module, Norm, Pass, Result, Site, Tensor, TokenModel, Visit, VisitMut, Weight,
};
use ndarray::ArrayView2;

use crate::{Embed, ModelConfig};

/// A language model built from a [`ModelConfig`]; see the [module](self).
#[derive(Debug)]
pub struct Transformer {
    /// What it was built from.
    pub(crate) config: ModelConfig,
    /// From ids to the stream.
    pub embed: Embed,
    /// The layers.
    pub blocks: Vec<Block>,
    /// The norm after the last layer.
    pub norm: Option<Box<dyn Norm>>,
    /// `[n, d]`; `None` where the token table is the head.
    pub head: Option<Arc<dyn Weight>>,
}

/// A layer and its place.
#[derive(Clone, Debug)]
pub struct Block {
    /// `[b, t, d]` to `[b, t, d]`; shared, so that a tape can hold a layer that will be recomputed.
    pub module: Arc<dyn Module>,
    /// The place `blocks.{i}`, under which a tap sees the layer's output.
    pub site: Site,
}

impl Transformer {
    /// What the model was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }
}

impl Module for Transformer {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        for Block { module, site } in &self.blocks {
            pass.check_cancelled().at(&site.path)?;
            x = module.forward(&x, pass).at(&site.path)?; // [b, t, d]
            pass.show(site, "output", &x);
        }
        match &self.norm {
            Some(norm) => norm.forward(&x, pass).at("norm"), // [b, t, d]
            None => Ok(x),
        }
    }

    fn visit(&self, v: &mut dyn Visit) {
        v.enter("embed");
        self.embed.visit(v);
        v.leave();
        v.enter("blocks");
        for (i, block) in self.blocks.iter().enumerate() {
            v.enter(&i.to_string());
            block.module.visit(v);
            v.leave();
        }
        v.leave();
        if let Some(norm) = &self.norm {
            v.enter("norm");
            norm.visit(v);
            v.leave();
        }
        if let Some(head) = &self.head {
            v.enter("head");
            head.visit("weight", v);
            v.leave();
        }
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.enter("embed");
        self.embed.visit_mut(v).at("embed")?;
        v.leave();
        v.enter("blocks");
        for (i, block) in self.blocks.iter_mut().enumerate() {
            v.enter(&i.to_string());
            let module = Arc::get_mut(&mut block.module).ok_or(Kind::Busy { what: "the layer" });
            module.map_err(Into::into).and_then(|module| module.visit_mut(v)).at(&block.site.path)?;
            v.leave();
        }
        v.leave();
        if let Some(norm) = &mut self.norm {
            v.enter("norm");
            norm.visit_mut(v).at("norm")?;
            v.leave();
        }
        if let Some(head) = &mut self.head {
            v.enter("head");
            v.weight("weight", head).at("head")?;
            v.leave();
        }
        Ok(())
    }
}

impl TokenModel for Transformer {
    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn context(&self) -> Option<usize> {
        Some(self.config.context)
    }

    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (b, t) = tokens.dim();
        let ids = tokens.to_slice().map_or_else(|| tokens.iter().copied().collect(), Cow::Borrowed);
        self.embed.forward(&ids, [b, t], pass).at("embed")
    }

    /// A tied head is whatever weight the token table is at this moment: replacing one replaces both.
    fn head(&self) -> &dyn Weight {
        self.head.as_deref().unwrap_or(&*self.embed.tokens.weight)
    }
}
