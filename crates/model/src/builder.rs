//! From a config to a model.
//!
//! The config is validated once, then the tree is built in the order of its fields, each parameter asked of a source
//! under its path: a seed, an outline, a checkpoint. A stranger's parts come from [`Hooks`].
//!
//! ```
//! use formwork_model::{Builder, module::{params, Outline}, presets};
//!
//! let config = (presets::find("llama3-70b")?.config)();
//! let model = Builder::new(config).build(&Outline)?; // no memory for weights
//! let parameters: usize = params(&model).iter().map(|(_, param)| param.shape().len()).sum();
//! assert_eq!(parameters, 70_553_706_496);
//! # Ok::<(), formwork_model::Error>(())
//! ```

use formwork_module::{Error, Result, Scope, Source, held};

use crate::{Block, Hooks, ModelConfig, Transformer, parts::Parts};

/// A config and the hooks for the parts that are not ours.
#[derive(Clone, Debug)]
pub struct Builder {
    config: ModelConfig,
    pub(crate) hooks: Hooks,
}

impl Builder {
    /// A builder without hooks, which is all that a config without a part of kind `custom` needs.
    pub fn new(config: ModelConfig) -> Self {
        Self { config, hooks: Hooks::default() }
    }

    /// Replaces all hooks.
    #[must_use]
    pub fn hooks(mut self, hooks: &Hooks) -> Self {
        self.hooks = hooks.clone();
        self
    }

    /// What is to be built.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model, its parameters asked of `source`.
    ///
    /// # Errors
    /// What [`ModelConfig::validate`] refuses, a part in a place where it does nothing, a missing hook, an encoding
    /// that does not reach the context, what the source refuses, and a part that does not show what it has built.
    pub fn build(&self, source: &dyn Source) -> Result<Transformer> {
        let config = &self.config;
        config.validate()?;
        let scope = Scope::root(source);
        let parts = Parts::new(config, &self.hooks);
        let embed = parts.embed(&scope.child("embed"))?;
        let layers = scope.child("blocks");
        let blocks = config.blocks.iter().enumerate().map(|(i, block)| {
            let scope = layers.child(i);
            Ok(Block { module: parts.block(&scope, i, block)?.into(), site: scope.site() })
        });
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let norm =
            config.norm.as_ref().map(|norm| parts.norm(&scope.child("norm"), None, norm)).transpose()?;
        let head = parts.head(&scope.child("head"))?;
        let model = Transformer { config: config.clone(), embed, blocks, norm, head };
        shows_what_it_has(&model, &scope.built())?;
        Ok(model)
    }
}

impl ModelConfig {
    /// The model, its parameters asked of `source`; [`Builder`] does the same with hooks for a stranger's parts.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn build(&self, source: &dyn Source) -> Result<Transformer> {
        Builder::new(self.clone()).build(source)
    }
}

/// A part that forgets to show a parameter, or shows it under another name, would neither be trained nor saved.
fn shows_what_it_has(model: &Transformer, built: &[String]) -> Result<()> {
    let shown: Vec<_> = held(model).into_iter().map(|(name, _)| name).collect();
    if shown == built {
        return Ok(());
    }
    let at = shown.iter().zip(built).take_while(|(shown, built)| shown == built).count();
    let name = |list: &[String]| list.get(at).map_or("nothing".to_owned(), |name| format!("`{name}`"));
    Err(Error::invalid("visit", format_args!("{}, which was built next", name(built)), name(&shown))
        .hint("visit must show each parameter once, under the name and in the order in which it was built"))
}
