//! From the config of a part to the part, or to the hook that makes it.
//!
//! Errors of a part name its full path already: the scope knows it.

use std::{cell::RefCell, sync::Arc};

use formwork_activation::ActivationConfig;
use formwork_attention::{Attention, Settings as AttentionSettings};
use formwork_feedforward::{GatedMlp, Mlp, Settings as FeedForwardSettings};
use formwork_module::{
    Activation, Acts, Bias, Dropout, Embedding, Error, Init, Module, Norm, Position, Result, Scope, Weight,
};
use formwork_norm::NormConfig;
use formwork_position::PositionConfig;
use serde_json::Value;

use crate::{
    AttentionConfig, BlockConfig, Branches, Embed, FeedForwardConfig, HeadConfig, Heads, Hooks, ModelConfig,
    MultiHeadConfig, Place, PostNorm, PreNorm, ResidualConfig, ResidualInit,
};

/// Makes the parts of one model.
pub(crate) struct Parts<'a> {
    config: &'a ModelConfig,
    hooks: &'a Hooks,
    init: Init,
    residual_init: Init,
    /// Encodings without parameters, which layers of the same settings share, tables and all.
    shared: RefCell<Vec<Shared>>,
}

/// An encoding that other layers may use.
struct Shared {
    config: PositionConfig,
    dim: usize,
    heads: Option<Heads>,
    position: Arc<dyn Position>,
}

impl Shared {
    fn fits(&self, config: &PositionConfig, place: &formwork_position::Place) -> bool {
        self.config == *config && self.dim == place.dim && self.heads == place.heads
    }
}

/// Where a position encoding is wanted.
struct Wanted<'a, 'b> {
    scope: &'a Scope<'a>,
    config: &'b PositionConfig,
    layer: Option<usize>,
    dim: usize,
    heads: Option<Heads>,
    init: Init,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(config: &'a ModelConfig, hooks: &'a Hooks) -> Self {
        let std = config.init.std;
        let residual = match config.init.residual {
            ResidualInit::Plain => std,
            ResidualInit::DepthScaled => std / (2.0 * config.blocks.len() as f64).sqrt(),
        };
        let (init, residual_init) = (Init::Normal { std }, Init::Normal { std: residual });
        Self { config, hooks, init, residual_init, shared: RefCell::default() }
    }

    fn place<'s>(&self, scope: &'s Scope<'s>, layer: Option<usize>) -> Place<'s> {
        let Self { init, residual_init, .. } = *self;
        let ModelConfig { dim, context, .. } = *self.config;
        Place { scope, params: &Value::Null, layer, dim, context, heads: None, init, residual_init }
    }

    pub(crate) fn embed(&self, scope: &Scope<'_>) -> Result<Embed> {
        let ModelConfig { vocab, dim, init, embed, .. } = self.config;
        let tokens = Embedding::new(&scope.child("tokens"), *vocab, *dim, self.init)?;
        let at = scope.child("position");
        let position = self.position(&Wanted {
            scope: &at,
            config: &embed.position,
            layer: None,
            dim: *dim,
            heads: None,
            init: Init::Normal { std: init.position_std.unwrap_or(init.std) },
        })?;
        if !matches!(position.acts(), Acts::Embeddings | Acts::Nowhere) {
            let error = misplaced(&embed.position, "on embeddings", position.acts());
            return Err(at.locate(error.hint("move it to blocks.*.attn.position")));
        }
        let norm = embed.norm.as_ref().map(|norm| self.norm(&scope.child("norm"), None, norm)).transpose()?;
        let dropout = Dropout::new(embed.dropout)?;
        Ok(Embed { tokens, position, norm, dropout, site: scope.site() })
    }

    pub(crate) fn head(&self, scope: &Scope<'_>) -> Result<Option<Arc<dyn Weight>>> {
        let ModelConfig { vocab, dim, head, .. } = self.config;
        match head {
            HeadConfig::Tied {} => Ok(None),
            HeadConfig::Untied {} => Ok(Some(scope.weight("weight", [*vocab, *dim], self.init)?)),
        }
    }

    pub(crate) fn norm(
        &self,
        scope: &Scope<'_>,
        layer: Option<usize>,
        config: &NormConfig,
    ) -> Result<Box<dyn Norm>> {
        match config {
            NormConfig::Custom(custom) => self.hooks.norm.make(custom, self.place(scope, layer)),
            ours => ours.build(scope, self.config.dim),
        }
    }

    pub(crate) fn block(
        &self,
        scope: &Scope<'_>,
        layer: usize,
        config: &BlockConfig,
    ) -> Result<Box<dyn Module>> {
        Ok(match config {
            BlockConfig::PreNorm(parts) => Box::new(PreNorm(self.branches(scope, layer, parts)?)),
            BlockConfig::PostNorm(parts) => Box::new(PostNorm(self.branches(scope, layer, parts)?)),
            BlockConfig::Custom(custom) => self.hooks.block.make(custom, self.place(scope, Some(layer)))?,
        })
    }

    fn branches(&self, scope: &Scope<'_>, layer: usize, config: &ResidualConfig) -> Result<Branches> {
        Ok(Branches {
            attn_norm: self.norm(&scope.child("attn_norm"), Some(layer), &config.attn_norm)?,
            attn: self.attention(&scope.child("attn"), layer, &config.attn)?,
            ffn_norm: self.norm(&scope.child("ffn_norm"), Some(layer), &config.ffn_norm)?,
            ffn: self.feedforward(&scope.child("ffn"), layer, &config.ffn)?,
            dropout: Dropout::new(config.dropout)?,
            site: scope.site(),
        })
    }

    fn attention(
        &self,
        scope: &Scope<'_>,
        layer: usize,
        config: &AttentionConfig,
    ) -> Result<Box<dyn Module>> {
        match config {
            AttentionConfig::MultiHead(config) => Ok(Box::new(self.multi_head(scope, layer, config)?)),
            AttentionConfig::Custom(custom) => {
                self.hooks.attention.make(custom, self.place(scope, Some(layer)))
            }
        }
    }

    fn multi_head(&self, scope: &Scope<'_>, layer: usize, config: &MultiHeadConfig) -> Result<Attention> {
        let dim = self.config.dim;
        let settings = AttentionSettings {
            dim,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            mask: config.mask,
            bias: config.bias,
            dropout: Dropout::new(config.dropout)?,
            init: self.init,
            residual_init: self.residual_init,
        };
        let at = scope.child("position");
        let position = self.position(&Wanted {
            scope: &at,
            config: &config.position,
            layer: Some(layer),
            dim: config.head_dim(dim),
            heads: Some(Heads { heads: config.heads, kv_heads: config.kv_heads() }),
            init: self.init,
        })?;
        if position.acts() == Acts::Embeddings {
            let error = misplaced(&config.position, "on heads or scores", position.acts());
            return Err(at.locate(error.hint("move it to embed.position")));
        }
        Attention::new(scope, &settings, position)
    }

    fn feedforward(
        &self,
        scope: &Scope<'_>,
        layer: usize,
        config: &FeedForwardConfig,
    ) -> Result<Box<dyn Module>> {
        Ok(match config {
            FeedForwardConfig::Mlp(c) => {
                let activation = self.activation(scope, layer, &c.activation)?;
                Box::new(Mlp::new(
                    scope,
                    &self.feedforward_settings(c.hidden, c.bias, c.dropout)?,
                    activation,
                )?)
            }
            FeedForwardConfig::Gated(c) => {
                let activation = self.activation(scope, layer, &c.activation)?;
                Box::new(GatedMlp::new(
                    scope,
                    &self.feedforward_settings(c.hidden, c.bias, c.dropout)?,
                    activation,
                )?)
            }
            FeedForwardConfig::Custom(custom) => {
                self.hooks.feedforward.make(custom, self.place(scope, Some(layer)))?
            }
        })
    }

    fn feedforward_settings(&self, hidden: usize, bias: Bias, dropout: f64) -> Result<FeedForwardSettings> {
        let Self { init, residual_init, .. } = *self;
        Ok(FeedForwardSettings {
            dim: self.config.dim,
            hidden,
            bias,
            dropout: Dropout::new(dropout)?,
            init,
            residual_init,
        })
    }

    fn activation(
        &self,
        scope: &Scope<'_>,
        layer: usize,
        config: &ActivationConfig,
    ) -> Result<Box<dyn Activation>> {
        match config {
            ActivationConfig::Custom(custom) => {
                let scope = scope.child("activation");
                self.hooks.activation.make(custom, self.place(&scope, Some(layer)))
            }
            ours => ours.build(),
        }
    }

    fn position(&self, wanted: &Wanted<'_, '_>) -> Result<Arc<dyn Position>> {
        let &Wanted { scope, config, layer, dim, heads, init } = wanted;
        let context = self.config.context;
        let position = match config {
            PositionConfig::Custom(custom) => {
                let place = Place { dim, heads, init, ..self.place(scope, layer) };
                Arc::from(self.hooks.position.make(custom, place)?)
            }
            ours => {
                self.shared_position(ours, scope, &formwork_position::Place { dim, context, heads, init })?
            }
        };
        match position.limit() {
            Some(limit) if limit < context => {
                let expected = format!("an encoding that reaches context {context}");
                let error = Error::invalid(
                    "context, position",
                    expected,
                    format_args!("one that ends after {limit} positions"),
                );
                Err(scope.locate(error.hint("lower context, or lengthen the encoding's table")))
            }
            _ => Ok(position),
        }
    }

    fn shared_position(
        &self,
        config: &PositionConfig,
        scope: &Scope<'_>,
        place: &formwork_position::Place,
    ) -> Result<Arc<dyn Position>> {
        let mut shared = self.shared.borrow_mut();
        if let Some(same) = shared.iter().find(|same| same.fits(config, place)) {
            return Ok(same.position.clone());
        }
        let position = config.build(scope, place)?;
        if !position.has_parameters() {
            let (dim, heads) = (place.dim, place.heads);
            shared.push(Shared { config: config.clone(), dim, heads, position: position.clone() });
        }
        Ok(position)
    }
}

fn misplaced(config: &PositionConfig, wanted: &str, acts: Acts) -> Error {
    let config = serde_json::to_value(config).unwrap_or_default();
    let name = config.get("name").or(config.get("kind")).and_then(Value::as_str).unwrap_or_default();
    let acts = match acts {
        Acts::Nowhere => "nowhere",
        Acts::Embeddings => "on embeddings",
        Acts::Heads => "on queries and keys",
        Acts::Scores => "on attention scores",
    };
    Error::invalid(
        "position",
        format_args!("an encoding that acts {wanted}"),
        format_args!("`{name}`, which acts {acts}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use formwork_module::Outline;
    use formwork_position::Place;

    #[test]
    fn layers_of_equal_settings_share_an_encoding_unless_it_has_parameters() {
        let (config, hooks) = (crate::presets::llama3_8b(), Hooks::default());
        let parts = Parts::new(&config, &hooks);
        let scope = Scope::root(&Outline);
        let same = |config: [&PositionConfig; 2], dims: [usize; 2]| {
            let [a, b] = [0, 1].map(|i| {
                let place = Place { dim: dims[i], context: 8, heads: None, init: parts.init };
                parts
                    .shared_position(config[i], &scope.child(format!("{config:?}{dims:?}{i}")), &place)
                    .expect("legal")
            });
            Arc::ptr_eq(&a, &b)
        };
        let rope = &config.blocks[0].multi_head().expect("LLaMA has heads").position;
        let other =
            &crate::presets::llama2_7b().blocks[0].multi_head().expect("LLaMA has heads").position.clone();
        let learned = &crate::presets::gpt2_small().embed.position;
        assert!(same([rope, rope], [6, 6]));
        assert!(!same([rope, rope], [6, 4]));
        assert!(!same([rope, other], [6, 6]));
        assert!(!same([learned, learned], [6, 6]));
    }
}
