//! Attention without queries and keys: how much a token takes from another depends on their distance alone.
//!
//! `yᵢ = W_o · Σ_{j ≤ i} softmaxⱼ(w[h, i − j]) · (W_v·x)ⱼ`, head by head; `x`, `y`: `[b, t, d]`, `w`: `[h, context]`.
//!
//! Close to the random synthesizer of Tay et al. 2020, <https://arxiv.org/abs/2005.00743>, which learns a number for each
//! pair of positions instead. The tiled kernel of Formwork's own attention does the arithmetic: queries are zeros, and `w`
//! is a table of biases that learns. So padding and the cache of earlier tokens are right here as well.
//!
//! ```
//! use formwork::{Module, Pass, Scope, Seed, Tensor, module::Init};
//! use outside_crate::Distances;
//!
//! let source = Seed::new(1);
//! let distances = Distances::build(&Scope::root(&source), [1, 1, 8], [Init::Constant(1.0); 2])?; // d, h, context
//! let x = Tensor::from_vec(vec![1.0f32, 3.0, 8.0], &[1, 3, 1])?;
//! // Before it has learned, each token takes the mean of what it sees.
//! assert_eq!(distances.forward(&x, &mut Pass::infer())?.to_vec::<f32>()?, [1.0, 2.0, 4.0]);
//! # Ok::<(), formwork::Error>(())
//! ```

use std::sync::Arc;

use formwork::{
    At, Error, Linear, Mask, Module, Param, Pass, Result, Scope, Tensor, Visit, VisitMut,
    attention::{Attend, Row},
    model::Place,
    module::{Init, ScoreBias, Site},
};
use serde::Deserialize;

/// What stands under `params` in the config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DistancesConfig {
    heads: usize,
}

/// Attention by distance; see the file's head.
#[derive(Debug)]
pub struct Distances {
    /// `[h, context]`; named `distances`, drawn as zeros.
    pub scores: Param,
    /// `[d, d]`.
    pub v: Linear,
    /// `[d, d]`.
    pub o: Linear,
    /// The slot in the cache.
    site: Site,
}

impl Distances {
    /// For a hook.
    ///
    /// # Errors
    /// Params other than a number of `heads` that divides the width, or what the source refuses.
    pub fn new(place: &Place<'_>) -> Result<Self> {
        let DistancesConfig { heads } = place.read()?;
        Self::build(place.scope, [place.dim, heads, place.context], [place.init, place.residual_init])
    }

    /// For a width, a number of heads and a longest text; `v` and `o` are drawn as told.
    ///
    /// # Errors
    /// Heads that do not divide the width, or what the source refuses.
    pub fn build(scope: &Scope<'_>, [dim, heads, context]: [usize; 3], [v, o]: [Init; 2]) -> Result<Self> {
        if heads == 0 || !dim.is_multiple_of(heads) {
            let error = Error::invalid("distances", format_args!("heads that divide {dim}"), heads);
            return Err(scope.locate(error));
        }
        Ok(Self {
            scores: scope.param("distances", &[heads, context], Init::Constant(0.0))?,
            v: Linear::with_init(&scope.child("v"), dim, dim, v)?,
            o: Linear::with_init(&scope.child("o"), dim, dim, o)?,
            site: scope.site(),
        })
    }
}

impl Module for Distances {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [b, t, d] = x.dims()?;
        let [heads, context] = [self.scores.shape()[0], self.scores.shape()[1]];
        let spans = pass.spans(b, t)?;
        let v = self.v.forward(x, pass).at("v")?.reshape(&[b, t, heads, d / heads])?; // [b, t, h, e]
        let q = Tensor::zeros(v.shape(), v.dtype(), v.pool())?; // [b, t, h, e]
        let mut rows: Vec<_> =
            spans.iter().map(|s| Row { q: s.tokens.clone(), k: s.tokens.clone(), first: s.first }).collect();
        let mut seen = v;
        if let Some(cache) = pass.cache() {
            seen = cache.append(self.site.slot, &seen, &seen, &spans)?.1.transpose(1, 2)?; // [b, s, h, e]
            rows.iter_mut().for_each(|row| row.k = 0..row.first + row.q.len());
        }
        let bias = ScoreBias::Table {
            table: pass.take(&self.scores)?,
            index: Arc::new(move |head, query, key| head * context + query.saturating_sub(key)),
        };
        let attend = Attend { rows: rows.into(), mask: Mask::Causal, scale: 1.0, dropout: None };
        let y = attend.run([&q, &seen, &seen], Some(bias))?; // [b, t, h, e]
        self.o.forward(&y.reshape(&[b, t, d])?, pass).at("o") // [b, t, d]
    }

    fn visit(&self, v: &mut dyn Visit) {
        v.param("distances", &self.scores);
        for (name, linear) in [("v", &self.v), ("o", &self.o)] {
            v.enter(name);
            linear.visit(v);
            v.leave();
        }
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.param("distances", &mut self.scores).at("distances")?;
        for (name, linear) in [("v", &mut self.v), ("o", &mut self.o)] {
            v.enter(name);
            linear.visit_mut(v).at(name)?;
            v.leave();
        }
        Ok(())
    }
}
