//! Small models of every family, tokens, comparisons.

use formwork_kernels::{Element, adamw};
use formwork_model::{
    AttentionConfig, BlockConfig, FeedForwardConfig, ModelConfig, MultiHeadConfig, ResidualConfig, Result,
    Transformer,
    module::{
        DType, Flat, Init, Module, Param, Pass, Positions, Seed, Source, Spec, Tensor, TokenModel, params,
    },
    presets,
};
use formwork_tensor::{Scalar, dispatch};
use ndarray::{Array2, ArrayD, ArrayView2};

/// `[b, t]` ids below `vocab`, no two rows alike.
pub(crate) fn ids(b: usize, t: usize, vocab: usize) -> Array2<u32> {
    Array2::from_shape_fn((b, t), |(row, i)| ((row * 31 + i * i * 7 + i * 3 + 5) % vocab) as u32)
}

/// The residual parts of every layer, to be changed.
pub(crate) fn residuals(config: &mut ModelConfig) -> impl Iterator<Item = &mut ResidualConfig> {
    config.blocks.iter_mut().map(|block| match block {
        BlockConfig::PreNorm(parts) | BlockConfig::PostNorm(parts) => parts,
        BlockConfig::Custom(custom) => panic!("{} has no parts", custom.name),
    })
}

/// The attention of every layer, to be changed.
pub(crate) fn attentions(config: &mut ModelConfig) -> impl Iterator<Item = &mut MultiHeadConfig> {
    residuals(config).map(|parts| match &mut parts.attn {
        AttentionConfig::MultiHead(attn) => attn,
        AttentionConfig::Custom(custom) => panic!("{} has no heads", custom.name),
    })
}

/// Sizes of a small model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small {
    pub(crate) layers: usize,
    pub(crate) dim: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) hidden: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
}

/// Unequal sizes, so that a swapped axis fails.
pub(crate) const SMALL: Small =
    Small { layers: 2, dim: 18, heads: 6, kv_heads: 2, head_dim: 4, hidden: 23, vocab: 37, context: 19 };

/// A preset with other sizes and everything else as published.
pub(crate) fn shrunk(mut config: ModelConfig, small: Small) -> ModelConfig {
    let Small { layers, dim, heads, kv_heads, head_dim, hidden, vocab, context } = small;
    (config.dim, config.vocab, config.context) = (dim, vocab, context);
    config.blocks.truncate(layers);
    for attn in attentions(&mut config) {
        (attn.heads, attn.kv_heads, attn.head_dim) = (heads, Some(kv_heads), Some(head_dim));
    }
    for parts in residuals(&mut config) {
        match &mut parts.ffn {
            FeedForwardConfig::Mlp(ffn) => ffn.hidden = hidden,
            FeedForwardConfig::Gated(ffn) => ffn.hidden = hidden,
            FeedForwardConfig::Custom(custom) => panic!("{} has no hidden width", custom.name),
        }
    }
    config
}

pub(crate) fn gpt2() -> ModelConfig {
    shrunk(presets::gpt2_small(), Small { kv_heads: SMALL.heads, head_dim: 3, ..SMALL })
}

pub(crate) fn llama() -> ModelConfig {
    shrunk(presets::llama3_8b(), SMALL)
}

/// GPT-1's wiring: a norm after each branch and none at the end.
pub(crate) fn post_norm() -> ModelConfig {
    let mut config = gpt2();
    config.name = "gpt1".to_owned();
    config.norm = None;
    for block in &mut config.blocks {
        if let BlockConfig::PreNorm(parts) = block.clone() {
            *block = BlockConfig::PostNorm(parts);
        }
    }
    config
}

/// One small model of each kind of wiring and family.
pub(crate) fn families() -> [ModelConfig; 3] {
    [gpt2(), llama(), post_norm()]
}

/// Built from a seed, with every gain and bias moved off 1 and 0, and weights large enough that tokens matter.
pub(crate) fn lively(config: &ModelConfig, dtype: DType) -> Transformer {
    let model = config.build(&Seed::new(7).dtype(dtype)).unwrap();
    enliven(&model);
    model
}

pub(crate) fn enliven(model: &dyn Module) {
    for (i, (_, param)) in params(model).into_iter().enumerate() {
        let value = param.value().unwrap();
        let spec = Spec { shape: *value.shape(), init: Init::Normal { std: 0.2 } };
        let source = Seed::new(i as u64 + 100).dtype(value.dtype());
        let noise = source.param(param.path(), &spec).unwrap().value.unwrap();
        param.set(&value.add(&noise).unwrap()).unwrap();
    }
}

/// Numbers as f64, whatever they are.
pub(crate) fn numbers(x: &Tensor) -> ArrayD<f64> {
    dispatch!(x.dtype(), T => x.to_array::<T>().unwrap().mapv(Element::f64))
}

pub(crate) fn logits(
    model: &dyn TokenModel,
    tokens: ArrayView2<'_, u32>,
    pass: &mut Pass<'_>,
) -> ArrayD<f64> {
    numbers(&model.logits(tokens, Positions::All, pass).unwrap())
}

pub(crate) fn largest(x: &ArrayD<f64>) -> f64 {
    x.iter().fold(0.0, |largest, x| x.abs().max(largest))
}

/// Largest difference over `scale`; NaN anywhere is infinitely far.
pub(crate) fn distance(found: &ArrayD<f64>, expected: &ArrayD<f64>, scale: f64) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let apart = |(a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    found.iter().zip(expected).map(apart).fold(0.0, f64::max) / scale
}

#[track_caller]
pub(crate) fn close(
    found: &ArrayD<f64>,
    expected: &ArrayD<f64>,
    tolerance: f64,
    what: impl std::fmt::Display,
) {
    let off = distance(found, expected, largest(expected).max(f64::MIN_POSITIVE));
    assert!(off <= tolerance, "{what}: off by {off:.2e} of the largest, at most {tolerance:.0e} allowed");
}

/// Every gradient by name, after the loss of one batch.
pub(crate) fn gradients(
    model: &dyn TokenModel,
    tokens: ArrayView2<'_, u32>,
    targets: ArrayView2<'_, u32>,
    pass: &mut Pass<'_>,
) -> Result<Vec<(String, Option<ArrayD<f64>>)>> {
    for (_, param) in params(model) {
        param.clear_grad();
    }
    model.loss(tokens, targets, pass)?.mean.backward()?;
    Ok(params(model)
        .into_iter()
        .map(|(name, param)| (name, param.grad().map(|grad| numbers(&grad))))
        .collect())
}

/// AdamW as the goldens were made with: clipped by the global norm, matrices decayed.
pub(crate) struct AdamW<T> {
    params: Vec<Param>,
    flat: std::sync::Arc<Flat>,
    m: Vec<T>,
    v: Vec<T>,
    step: u64,
    lr: f64,
}

impl<T: Scalar> AdamW<T> {
    pub(crate) fn new(model: &dyn Module, lr: f64) -> Self {
        let params: Vec<_> = params(model).into_iter().map(|(_, param)| param).collect();
        let flat = Flat::gather(&params, None).unwrap();
        let zeros = vec![T::zero(); flat.len()];
        Self { params, flat, m: zeros.clone(), v: zeros, step: 0, lr }
    }

    /// One step on one batch: the loss before it and the gradient's norm.
    pub(crate) fn step(
        &mut self,
        model: &dyn TokenModel,
        tokens: ArrayView2<'_, u32>,
        targets: ArrayView2<'_, u32>,
    ) -> [f64; 2] {
        let loss = {
            let loss = model.loss(tokens, targets, &mut Pass::train(1, self.step)).unwrap();
            loss.mean.backward().unwrap();
            loss.mean.item().unwrap()
        };
        self.step += 1;
        let Self { params, flat, m, v, step, lr } = self;
        let norm = flat
            .update::<T, _>(|values, grads| {
                let norm = adamw::sum_of_squares(grads).sqrt();
                let mut start = 0;
                for param in params {
                    let range = start..start + param.shape().len();
                    start = range.end;
                    let rule = adamw::AdamW {
                        lr: *lr,
                        beta1: 0.9,
                        beta2: 0.95,
                        eps: 1e-8,
                        weight_decay: if param.shape().rank() == 2 { 0.1 } else { 0.0 },
                        step: *step,
                        grad_scale: (1.0 / (norm + 1e-6)).min(1.0),
                    };
                    let moments = adamw::Moments { m: &mut m[range.clone()], v: &mut v[range.clone()] };
                    adamw::adamw(&rule, &mut values[range.clone()], &grads[range], moments);
                }
                norm
            })
            .unwrap();
        flat.clear_grads();
        [loss, norm]
    }
}

/// Bits, for comparisons that allow nothing.
pub(crate) fn bits(x: &Tensor) -> Vec<u64> {
    dispatch!(x.dtype(), T => x.to_vec::<T>().unwrap().iter().map(|x| Element::f64(*x).to_bits()).collect())
}
