//! Where a stranger's parts enter: hooks by name, called wherever the config says `{"kind": "custom", "name": ..}`.
//!
//! A hook is told its [`Place`] and gives back the part. What it needs beyond that stands in the config under
//! `params`, so the model can be saved, loaded and resumed like any other.
//!
//! ```
//! use formwork_model::{Builder, ModelConfig, module::{children, Linear, Module, Pass, Result, Seed, Tensor}};
//!
//! /// Mixes nothing between tokens.
//! #[derive(Debug)]
//! struct Pointwise { inner: Linear }
//!
//! impl Module for Pointwise {
//!     fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
//!         self.inner.forward(x, pass)
//!     }
//!     children!(inner);
//! }
//!
//! let config = ModelConfig::from_json(r#"{
//!     "schema": 1, "name": "mine", "vocab": 11, "context": 5, "dim": 4,
//!     "blocks": {"layers": 2, "each": {"kind": "custom", "name": "pointwise"}},
//!     "head": {"kind": "tied"}, "init": {"std": 0.02}
//! }"#)?;
//! let model = Builder::new(config)
//!     .with_block("pointwise", |place| Ok(Pointwise { inner: Linear::new(&place.scope.child("inner"), place.dim, place.dim)? }))
//!     .build(&Seed::new(1))?;
//! let names: Vec<_> = formwork_model::module::params(&model).into_iter().map(|(name, _)| name).collect();
//! assert_eq!(names, ["embed.tokens.weight", "blocks.0.inner.weight", "blocks.1.inner.weight"]);
//! # Ok::<(), formwork_model::Error>(())
//! ```

use std::{collections::BTreeMap, fmt, sync::Arc};

use formwork_module::{
    Activation, Error, Init, Module, Norm, Position, Result, Scope,
    config::{self, Custom},
};
pub use formwork_position::Heads;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a hook is told about the place where its part will stand.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Where parameters are asked for; its path is the part's path in the config.
    pub scope: &'a Scope<'a>,
    /// The config's `params`, null if it gave none.
    pub params: &'a Value,
    /// The layer, counted from 0; `None` outside the blocks.
    pub layer: Option<usize>,
    /// Width of the last axis of what the part sees: the model's `dim`, or one head's for a position in attention.
    pub dim: usize,
    /// The longest text of the model.
    pub context: usize,
    /// The heads of the attention around a position encoding; `None` anywhere else.
    pub heads: Option<Heads>,
    /// How the config wants a matrix drawn.
    pub init: Init,
    /// How the config wants a matrix drawn that writes into the residual stream.
    pub residual_init: Init,
}

impl Place<'_> {
    /// The config's `params` as a type of the hook's own.
    ///
    /// # Errors
    /// A field that does not fit, with its path under `params`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        config::read(self.params.clone()).map_err(|e| e.at("params").at(self.scope.path()))
    }
}

type Hook<T> = Arc<dyn Fn(&Place<'_>) -> Result<T> + Send + Sync>;

/// The hooks of one joint, by name.
pub(crate) struct Table<T: ?Sized> {
    joint: &'static str,
    hooks: BTreeMap<String, Hook<Box<T>>>,
}

impl<T: ?Sized> Table<T> {
    fn new(joint: &'static str) -> Self {
        Self { joint, hooks: BTreeMap::new() }
    }

    fn add(
        &mut self,
        name: impl Into<String>,
        hook: impl Fn(&Place<'_>) -> Result<Box<T>> + Send + Sync + 'static,
    ) {
        self.hooks.insert(name.into(), Arc::new(hook));
    }

    /// The part that `custom` names, at `place`.
    pub(crate) fn make(&self, custom: &Custom, place: Place<'_>) -> Result<Box<T>> {
        let (joint, name) = (self.joint, &custom.name);
        let Some(hook) = self.hooks.get(name) else {
            let known: Vec<_> = self.hooks.keys().map(String::as_str).collect();
            let found = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let error =
                Error::invalid("name", format_args!("a hook `{name}` of Builder::with_{joint}"), found);
            let error = match config::nearest(name, known) {
                Some(near) => error.hint(format_args!("did you mean `{near}`?")),
                None => error.hint(format_args!("give the builder .with_{joint}(\"{name}\", ..)")),
            };
            return Err(error.at(place.scope.path()));
        };
        hook(&Place { params: &custom.params, ..place }).map_err(|error| match error.path().is_empty() {
            true => error.at(place.scope.path()),
            false => error,
        })
    }
}

impl<T: ?Sized> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { joint: self.joint, hooks: self.hooks.clone() }
    }
}

/// A stranger's parts, by joint and name. A loader that builds several models takes one of these.
#[derive(Clone)]
pub struct Hooks {
    pub(crate) norm: Table<dyn Norm>,
    pub(crate) activation: Table<dyn Activation>,
    pub(crate) position: Table<dyn Position>,
    pub(crate) attention: Table<dyn Module>,
    pub(crate) feedforward: Table<dyn Module>,
    pub(crate) block: Table<dyn Module>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            norm: Table::new("norm"),
            activation: Table::new("activation"),
            position: Table::new("position"),
            attention: Table::new("attention"),
            feedforward: Table::new("feedforward"),
            block: Table::new("block"),
        }
    }
}

/// Writes one method of [`Hooks`] and its twin of [`Builder`](crate::Builder) per joint.
macro_rules! joints {
    ($($(#[$doc:meta])* $with:ident, $field:ident: $Trait:ident;)*) => {
        impl Hooks {
            $($(#[$doc])*
            #[must_use]
            pub fn $with<P: $Trait + 'static>(
                mut self,
                name: impl Into<String>,
                hook: impl Fn(&Place<'_>) -> Result<P> + Send + Sync + 'static,
            ) -> Self {
                self.$field.add(name, move |place| Ok(Box::new(hook(place)?)));
                self
            })*
        }

        impl crate::Builder {
            $($(#[$doc])*
            #[must_use]
            pub fn $with<P: $Trait + 'static>(
                mut self,
                name: impl Into<String>,
                hook: impl Fn(&Place<'_>) -> Result<P> + Send + Sync + 'static,
            ) -> Self {
                self.hooks = self.hooks.$with(name, hook);
                self
            })*
        }
    };
}

joints! {
    /// A norm, wherever the config has one of kind `custom` and this name.
    with_norm, norm: Norm;
    /// An activation, wherever the config has one of kind `custom` and this name.
    with_activation, activation: Activation;
    /// A position encoding, in `embed` or in attention, wherever the config has one of kind `custom` and this name.
    with_position, position: Position;
    /// Attention, `[b, t, d]` to `[b, t, d]`, wherever the config has one of kind `custom` and this name.
    with_attention, attention: Module;
    /// A feed-forward layer, `[b, t, d]` to `[b, t, d]`, wherever the config has one of kind `custom` and this name.
    with_feedforward, feedforward: Module;
    /// A whole layer with its residual stream, `[b, t, d]` to `[b, t, d]`, wherever the config has one of kind
    /// `custom` and this name.
    with_block, block: Module;
}

/// The names per joint.
impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn names<T: ?Sized>(table: &Table<T>) -> Vec<&str> {
            table.hooks.keys().map(String::as_str).collect()
        }
        let mut hooks = f.debug_struct("Hooks");
        hooks.field("norm", &names(&self.norm)).field("activation", &names(&self.activation));
        hooks.field("position", &names(&self.position)).field("attention", &names(&self.attention));
        hooks.field("feedforward", &names(&self.feedforward)).field("block", &names(&self.block)).finish()
    }
}
