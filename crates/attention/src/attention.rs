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

use formwork_module::{
    At, Dropout, Error, Keys, Linear, Mask, Module, Pass, Position, Result, RowSpan, Scope, Site, Tensor,
    Visit, VisitMut,
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

    /// Keys and values of all tokens that the rows may see, `[b, s, g, e]`, with the ranges of each row.
    fn remember(&self, k: Tensor, v: Tensor, spans: &[RowSpan], pass: &mut Pass<'_>) -> Result<Seen> {
        let Some(cache) = pass.cache() else {
            let rows = spans.iter().map(|s| Row { q: s.tokens.clone(), k: s.tokens.clone(), first: s.first });
            return Ok(Seen { k, v, rows: rows.collect() });
        };
        if self.mask == Mask::Bidirectional {
            let error =
                Error::invalid("attention", "a causal mask, since there is a cache", "a bidirectional one");
            return Err(
                error.hint("tokens that came earlier would have to see later ones; run without a cache")
            );
        }
        let (k, v) = cache.append(self.site.slot, &k, &v, spans)?; // [b, g, s, e]
        let (k, v) = (k.transpose(1, 2)?, v.transpose(1, 2)?); // [b, s, g, e]
        let row = |s: &RowSpan| Row { q: s.tokens.clone(), k: 0..s.first + s.tokens.len(), first: s.first };
        let rows: Vec<_> = spans.iter().map(row).collect();
        let Keys::Growing(keys) = self.position.keys() else { return Ok(Seen { k, v, rows }) };
        // A row without a query looks at no key, so its keys need no turning.
        let held = |s: &RowSpan| match s.tokens.len() {
            0 => RowSpan::new(0..0, 0),
            new => {
                RowSpan { tokens: 0..s.first + new, first: 0, position: s.position.saturating_sub(s.first) }
            }
        };
        let held: Vec<_> = spans.iter().map(held).collect();
        let longest = rows.iter().map(|row| row.k.end).max().unwrap_or(0);
        let (k, v) = (k.narrow(1, 0, longest)?, v.narrow(1, 0, longest)?); // [b, longest, g, e]
        Ok(Seen { k: keys.rotate_all(&k, &held).at("position")?, v, rows })
    }

    /// Keys `[b, t, g, e]` as they are looked at, or as a cache holds them if that differs.
    fn turn_keys(&self, k: Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match self.position.keys() {
            Keys::Growing(_) if pass.cache().is_some() => Ok(k),
            _ => self.position.rotate(&k, pass).at("position"),
        }
    }
}

/// What the queries of a pass may look at.
struct Seen {
    k: Tensor,
    v: Tensor,
    rows: Vec<Row>,
}

impl Module for Attention {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let Ok([b, t, _]) = x.dims() else {
            return Err(Error::shape("attention", "x [b, t, d]", x.shape()));
        };
        let Sizes { heads: h, kv_heads: g, head_dim: e } = self.sizes;
        let spans = pass.spans(b, t)?;
        let q = self.q.forward(x, pass).at("q")?.reshape(&[b, t, h, e])?;
        let k = self.k.forward(x, pass).at("k")?.reshape(&[b, t, g, e])?;
        let v = self.v.forward(x, pass).at("v")?.reshape(&[b, t, g, e])?;
        let q = self.position.rotate(&q, pass).at("position")?;
        let k = self.turn_keys(k, pass)?;
        for (what, tensor) in [("q", &q), ("k", &k), ("v", &v)] {
            pass.show(&self.site, what, tensor);
        }
        let bias = self.position.bias(pass).at("position")?;
        let dropout = self
            .dropout
            .key(&self.site, 0, pass)
            .map(|key| ProbabilityDropout { key, probability: self.dropout.rate() });
        let Seen { k, v, rows } = self.remember(k, v, &spans, pass)?;
        let attend = Attend { rows, mask: self.mask, scale: self.scale, dropout };
        let y = attend.run([&q, &k, &v], bias)?; // [b, t, h, e]
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
