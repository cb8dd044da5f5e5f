//! Low-rank adaptation: a weight that wraps another, of which only a small correction learns.
//!
//! `W' = W + (α/r)·B·A`; `W`: `[out, in]`, `A`: `[r, in]`, `B`: `[out, r]`, drawn as zeros, so that `W' = W` at first.
//!
//! Hu et al. 2021, <https://arxiv.org/abs/2106.09685>. Formwork knows nothing of it: [`weights_mut`] hands out every
//! weight of every model, and whatever implements [`Weight`] may take its place.

use std::sync::Arc;

use formwork::{
    Error, Module, Param, Pass, Result, Scope, Source, Tensor, Visit, Weight,
    module::{Held, Init, held, weights_mut},
};

/// Which weights to adapt, and how.
#[derive(Clone, Debug)]
pub struct LoraConfig {
    /// The rank `r` of the correction, above 0.
    pub rank: usize,
    /// The correction is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Layers by the end of their path: `attn.q` is that of every block.
    pub targets: Vec<String>,
}

/// A weight with a low-rank correction; see the file's head.
#[derive(Debug)]
pub struct Lora {
    base: Arc<dyn Weight>,
    /// `[r, in]`, `A`; named `lora_down`.
    down: Param,
    /// `[out, r]`, `B`; named `lora_up`.
    up: Param,
    scale: f64,
}

impl Lora {
    /// Freezes the whole model, then wraps each target, its correction asked of `source`. Gives how many it wrapped.
    ///
    /// # Errors
    /// A rank of 0, a target that ends no layer's path (nothing is changed then), or what the source refuses.
    pub fn adapt<M: Module + ?Sized>(
        model: &mut M,
        source: &dyn Source,
        config: &LoraConfig,
    ) -> Result<usize> {
        if config.rank == 0 {
            return Err(Error::invalid("lora", "a rank of at least 1", config.rank));
        }
        let list = held(model); // a quantised weight is no parameter, and can be adapted as well
        for target in &config.targets {
            if !list.iter().any(|(name, _)| layer(name).is_some_and(|layer| is_target(layer, target))) {
                let error =
                    Error::invalid("lora", "a target that ends a layer's path", format_args!("`{target}`"));
                return Err(error.hint("targets look like attn.q or ffn.down"));
            }
        }
        for (_, held) in &list {
            if let Held::Param(param) = held {
                param.freeze();
            }
        }
        let root = Scope::root(source);
        let mut wrapped = 0;
        weights_mut(model, &mut |name, weight| {
            let Some(layer) = layer(name) else { return Ok(()) };
            if config.targets.iter().any(|target| is_target(layer, target)) {
                Self::wrap(weight, &root.child(layer), config)?;
                wrapped += 1;
            }
            Ok(())
        })?;
        Ok(wrapped)
    }

    fn wrap(weight: &mut Arc<dyn Weight>, scope: &Scope<'_>, config: &LoraConfig) -> Result<()> {
        let ([out, inp], rank) = (weight.shape(), config.rank);
        let down =
            scope.param("lora_down", &[rank, inp], Init::Uniform { bound: 1.0 / (inp as f64).sqrt() })?;
        let up = scope.param("lora_up", &[out, rank], Init::Constant(0.0))?;
        *weight = Arc::new(Self { base: weight.clone(), down, up, scale: config.alpha / rank as f64 });
        Ok(())
    }
}

/// `blocks.0.attn.q` for `blocks.0.attn.q.weight`.
fn layer(name: &str) -> Option<&str> {
    name.strip_suffix(".weight")
}

/// Whether the path ends with whole names of the target.
fn is_target(layer: &str, target: &str) -> bool {
    layer.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl Weight for Lora {
    fn shape(&self) -> [usize; 2] {
        self.base.shape()
    }

    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let y = self.base.apply(x, bias, pass)?; // [.., out]
        let low = self.down.apply(x, None, pass)?; // [.., r]
        y.add_scaled(&self.up.apply(&low, None, pass)?, self.scale) // [.., out]
    }

    fn gather(&self, ids: &[u32], dims: &[usize], pass: &mut Pass<'_>) -> Result<Tensor> {
        let rows = self.base.gather(ids, dims, pass)?; // [.., in]
        let low = self.up.gather(ids, &[ids.len()], pass)?.matmul(&pass.take(&self.down)?)?; // [ids, in]
        rows.add_scaled(&low.reshape(rows.shape())?, self.scale) // [.., in]
    }

    fn to_dense(&self, pass: &mut Pass<'_>) -> Result<Tensor> {
        let low = pass.take(&self.up)?.matmul(&pass.take(&self.down)?)?; // [out, in]
        self.base.to_dense(pass)?.add_scaled(&low, self.scale) // [out, in]
    }

    fn visit(&self, name: &str, v: &mut dyn Visit) {
        self.base.visit(name, v);
        v.param("lora_down", &self.down);
        v.param("lora_up", &self.up);
    }
}
