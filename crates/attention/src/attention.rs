//! Scaled dot-product attention over heads.
//!
//! `q = W_q·x`, `k = W_k·x`, `v = W_v·x`; per head `P = softmax(q·kᵀ/√e + bias)` over the keys that the mask allows, and
//! `y = W_o·(P·v)`. `x`, `y`: `[b, t, d]`; `q`: `[b, t, h, e]`; `k`, `v`: `[b, s, g, e]`, where `h/g` query heads share a
//! key head.
//!
//! Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>; one key head (MQA): Shazeer 2019,
//! <https://arxiv.org/abs/1911.02150>; groups (GQA): Ainslie et al. 2023, <https://arxiv.org/abs/2305.13245>. Here the
//! head width is free, and padding and caches are ranges of a row, not entries of a mask.
//!
//! ```
//! use formwork_attention::{Attention, Settings};
//! use formwork_module::{Acts, Init, Module, Pass, Position, Scope, Seed, Tensor};
//!
//! #[derive(Debug)]
//! struct Unordered;
//! impl Position for Unordered {
//!     fn acts(&self) -> Acts {
//!         Acts::Nowhere
//!     }
//! }
//!
//! // With every weight 1, each token's query, key and value are its own number.
//! let settings = Settings { init: Init::Constant(1.0), residual_init: Init::Constant(1.0), ..Settings::new(1, 1) };
//! let attention = Attention::new(&Scope::root(&Seed::new(1)), &settings, std::sync::Arc::new(Unordered))?;
//! let x = Tensor::from_vec(vec![1.0f32, 1.0 + 3.0f32.ln()], &[1, 2, 1])?;
//! let y = attention.forward(&x, &mut Pass::infer())?.to_vec::<f32>()?;
//! let weight = 1.0 / (1.0 + (-3.0f32.ln() * (1.0 + 3.0f32.ln())).exp()); // of the second token, in its own eyes
//! assert_eq!(y[0], 1.0);
//! assert!((y[1] - (1.0 + weight * 3.0f32.ln())).abs() < 1e-5);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::sync::Arc;

use formwork_kernels::scratch::List;
use formwork_module::{
    At, CacheTensor, DType, Dropout, Error, GrowingKeys, Keys, Linear, Mask, Module, Pass, Position, Result,
    RowSpan, Scope, Site, Tensor, Visit, VisitMut, linears,
};

use crate::{Attend, Biases, ProbabilityDropout, Row, Settings, Sizes};

/// Multi-head, grouped-query or multi-query attention; see the [module](self).
#[derive(Debug)]
pub struct Attention {
    /// What is done to queries and keys, or added to scores.
    pub position: Arc<dyn Position>,
    /// `[h·e, d]`.
    pub q: Linear,
    /// `[g·e, d]`.
    pub k: Linear,
    /// `[g·e, d]`.
    pub v: Linear,
    /// `[d, h·e]`.
    pub o: Linear,
    /// Which keys a query sees.
    pub mask: Mask,
    /// On the probabilities, after the softmax.
    pub dropout: Dropout,
    /// What scores are multiplied with: `1/√e` unless changed.
    pub scale: f64,
    sizes: Sizes,
    site: Site,
}

impl Attention {
    /// An attention with parameters `q`, `k`, `v` and `o`, in this order, after those of its position encoding, which
    /// was built before it and is visited under `position`.
    ///
    /// # Errors
    /// Sizes that do not fit ([`Settings::sizes`]), or what the source refuses.
    pub fn new(scope: &Scope<'_>, settings: &Settings, position: Arc<dyn Position>) -> Result<Self> {
        let sizes = settings.sizes().map_err(|error| scope.locate(error))?;
        let Sizes { heads, kv_heads, head_dim } = sizes;
        let project = |name: &str, out: usize| {
            let scope = scope.child(name);
            let linear = Linear::with_init(&scope, out, settings.dim, settings.init)?;
            if settings.bias == Biases::None { Ok(linear) } else { linear.biased(&scope) }
        };
        let q = project("q", heads * head_dim)?;
        let k = project("k", kv_heads * head_dim)?;
        let v = project("v", kv_heads * head_dim)?;
        let back = scope.child("o");
        let o = Linear::with_init(&back, settings.dim, heads * head_dim, settings.residual_init)?;
        let o = if settings.bias == Biases::All { o.biased(&back)? } else { o };
        let (mask, dropout, scale) = (settings.mask, settings.dropout, 1.0 / (head_dim as f64).sqrt());
        Ok(Self { position, q, k, v, o, mask, dropout, scale, sizes, site: scope.site() })
    }

    /// Heads and head width.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// `q` over what its rows may see by now: these tokens, or all that a cache holds with them.
    fn attend(&self, [q, k, v]: [&Tensor; 3], spans: &[RowSpan], pass: &mut Pass<'_>) -> Result<Tensor> {
        let bias = self.position.bias(pass).at("position")?;
        let dropout = self
            .dropout
            .key(&self.site, 0, pass)
            .map(|key| ProbabilityDropout { key, probability: self.dropout.rate() });
        let over = |rows| Attend { rows, mask: self.mask, scale: self.scale, dropout };
        let Some(cache) = pass.cache() else {
            let row = |s: &RowSpan| Row { q: s.tokens.clone(), k: s.tokens.clone(), first: s.first };
            return over(spans.iter().map(row).collect()).run([q, k, v], bias);
        };
        if self.mask == Mask::Bidirectional {
            let error =
                Error::invalid("attention", "a causal mask, since there is a cache", "a bidirectional one");
            return Err(
                error.hint("tokens that came earlier would have to see later ones; run without a cache")
            );
        }
        let [k, v] = cache.store(self.site.slot, k, v, spans)?; // [b, g, s, e]
        let [k, v] = match self.position.keys() {
            Keys::Fixed => [k, v],
            Keys::Growing(keys) => turned([k, v], keys, spans, q.dtype())?,
        };
        let row = |s: &RowSpan| Row { q: s.tokens.clone(), k: 0..s.first + s.tokens.len(), first: s.first };
        over(spans.iter().map(row).collect()).over(q, [&k, &v], bias.into())
    }

    /// Keys `[b, t, g, e]` as they are looked at, or as a cache holds them if that differs.
    fn turn_keys(&self, k: Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match self.position.keys() {
            Keys::Growing(_) if pass.cache().is_some() => Ok(k),
            _ => self.position.rotate(&k, pass).at("position"),
        }
    }
}

/// Keys of texts under way, turned to how long the texts are by now, and their values; `[b, g, longest, e]`.
fn turned(
    [k, v]: [CacheTensor; 2],
    keys: &dyn GrowingKeys,
    spans: &[RowSpan],
    dtype: DType,
) -> Result<[CacheTensor; 2]> {
    // A row without a query looks at no key, so its keys need no turning.
    let held = |s: &RowSpan| match s.tokens.len() {
        0 => RowSpan::new(0..0, 0),
        new => RowSpan { tokens: 0..s.first + new, first: 0, position: s.position.saturating_sub(s.first) },
    };
    let held: List<_> = spans.iter().map(held).collect();
    let longest = spans.iter().map(|s| s.first + s.tokens.len()).max().unwrap_or(0);
    let [k, v] = [k.narrow(longest)?, v.narrow(longest)?];
    let k = k.numbers(dtype)?.transpose(1, 2)?; // [b, longest, g, e]
    let k = keys.rotate_all(&k, &held).at("position")?.transpose(1, 2)?; // [b, g, longest, e]
    Ok([CacheTensor::Plain(k), v])
}

impl Module for Attention {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let Ok([b, t, _]) = x.dims() else {
            return Err(Error::shape("attention", "x [b, t, d]", x.shape()));
        };
        let Sizes { heads: h, kv_heads: g, head_dim: e } = self.sizes;
        let spans = pass.spans(b, t)?;
        let [q, k, v] = linears([("q", &self.q), ("k", &self.k), ("v", &self.v)], x, pass)?;
        let (q, k, v) = (q.reshape(&[b, t, h, e])?, k.reshape(&[b, t, g, e])?, v.reshape(&[b, t, g, e])?);
        let q = self.position.rotate(&q, pass).at("position")?;
        let k = self.turn_keys(k, pass)?;
        for (what, tensor) in [("q", &q), ("k", &k), ("v", &v)] {
            pass.show(&self.site, what, tensor);
        }
        let y = self.attend([&q, &k, &v], &spans, pass)?; // [b, t, h, e]
        pass.show(&self.site, "heads", &y);
        self.o.forward(&y.reshape(&[b, t, h * e])?, pass).at("o") // [b, t, d]
    }

    fn visit(&self, v: &mut dyn Visit) {
        v.enter("position");
        self.position.visit(v);
        v.leave();
        for (name, linear) in [("q", &self.q), ("k", &self.k), ("v", &self.v), ("o", &self.o)] {
            v.enter(name);
            linear.visit(v);
            v.leave();
        }
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.enter("position");
        <dyn Position>::visit_shared(&mut self.position, v).at("position")?;
        v.leave();
        let linears = [("q", &mut self.q), ("k", &mut self.k), ("v", &mut self.v), ("o", &mut self.o)];
        for (name, linear) in linears {
            v.enter(name);
            linear.visit_mut(v).at(name)?;
            v.leave();
        }
        Ok(())
    }
}
