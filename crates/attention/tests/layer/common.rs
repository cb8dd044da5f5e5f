//! What the test files share: settings, numbers, and position encodings of their own.

use std::sync::Arc;

use formwork_attention::{Attention, Biases, Settings};
use formwork_module::{
    Acts, DType, GrowingKeys, Keys, Module, Param, Pass, Position, Result, RowSpan, Scope, ScoreBias, Seed,
    Tensor, Visit, VisitMut, params,
};
use formwork_testkit::{normals, tensor};

pub(crate) const D: usize = 5;

/// No encoding.
#[derive(Debug)]
pub(crate) struct Unordered;
impl Position for Unordered {
    fn acts(&self) -> Acts {
        Acts::Nowhere
    }
}

/// Queries and keys times `1 + sin(position)/2`: enough to notice a wrong position.
#[derive(Debug)]
pub(crate) struct Waves;
impl Position for Waves {
    fn acts(&self) -> Acts {
        Acts::Heads
    }
    fn rotate(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [b, t, _, _] = x.dims()?;
        let mut factors = vec![1.0; b * t];
        for (row, span) in pass.spans(b, t)?.iter().enumerate() {
            for (i, token) in span.tokens.clone().enumerate() {
                factors[row * t + token] = 1.0 + ((span.position + i) as f64).sin() / 2.0;
            }
        }
        let factors = ndarray::ArrayD::from_shape_vec(vec![b, t, 1, 1], factors).unwrap();
        x.mul(&tensor(&factors, x.dtype(), None))
    }
}

/// Queries and keys times `1 + sin(9 · position / length)/2`: what every token is turned by changes as the text grows.
#[derive(Debug)]
pub(crate) struct Stretch;
impl Stretch {
    fn stretched(x: &Tensor, rows: &[RowSpan], padding: f64) -> Result<Tensor> {
        let [b, t, _, _] = x.dims()?;
        let mut factors = vec![padding; b * t];
        for (row, span) in rows.iter().enumerate() {
            let length = (span.position + span.tokens.len()) as f64;
            for (i, token) in span.tokens.clone().enumerate() {
                factors[row * t + token] = 1.0 + (9.0 * (span.position + i) as f64 / length).sin() / 2.0;
            }
        }
        let factors = ndarray::ArrayD::from_shape_vec(vec![b, t, 1, 1], factors).unwrap();
        x.mul(&tensor(&factors, x.dtype(), None))
    }
}
impl GrowingKeys for Stretch {
    fn rotate_all(&self, k: &Tensor, rows: &[RowSpan]) -> Result<Tensor> {
        Self::stretched(k, rows, f64::NAN) // what is no token of a row must not be looked at
    }
}
impl Position for Stretch {
    fn acts(&self) -> Acts {
        Acts::Heads
    }
    fn rotate(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [b, t, _, _] = x.dims()?;
        Self::stretched(x, &pass.spans(b, t)?, 1.0)
    }
    fn keys(&self) -> Keys<'_> {
        Keys::Growing(self)
    }
}

/// Linear distances, as ALiBi.
#[derive(Debug)]
pub(crate) struct Distances;
impl Position for Distances {
    fn acts(&self) -> Acts {
        Acts::Scores
    }
    fn bias(&self, _: &mut Pass<'_>) -> Result<Option<ScoreBias>> {
        let slope = |head, query: usize, key| -(query.abs_diff(key) as f64) * 0.5f64.powi(head as i32 + 1);
        Ok(Some(ScoreBias::Fixed(Arc::new(slope))))
    }
}

/// A learned number per head and distance, as T5 without its buckets.
#[derive(Debug)]
pub(crate) struct LearnedDistances {
    pub(crate) table: Param,
}

/// Distances that the table tells apart.
const KNOWN: usize = 4;

impl LearnedDistances {
    pub(crate) fn new(scope: &Scope<'_>, heads: usize) -> Self {
        let init = formwork_module::Init::Normal { std: 1.0 };
        Self { table: scope.param("weight", &[heads, KNOWN], init).unwrap() }
    }
}

impl Position for LearnedDistances {
    fn acts(&self) -> Acts {
        Acts::Scores
    }
    fn bias(&self, pass: &mut Pass<'_>) -> Result<Option<ScoreBias>> {
        let index = |head, query: usize, key| head * KNOWN + query.abs_diff(key).min(KNOWN - 1);
        Ok(Some(ScoreBias::Table { table: pass.take(&self.table)?, index: Arc::new(index) }))
    }
    fn visit(&self, v: &mut dyn Visit) {
        v.param("weight", &self.table);
    }
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.param("weight", &mut self.table)
    }
}

/// Heads of width 7, three to a key head, biases everywhere.
pub(crate) fn grouped() -> Settings {
    Settings { kv_heads: Some(2), head_dim: Some(7), bias: Biases::All, ..Settings::new(D, 6) }
}

/// An attention whose biases are not zero.
pub(crate) fn build(settings: &Settings, position: Arc<dyn Position>, dtype: DType) -> Attention {
    let source = Seed::new(3).dtype(dtype);
    let attention = Attention::new(&Scope::root(&source).child("attn"), settings, position).unwrap();
    for (seed, (name, param)) in params(&attention).into_iter().enumerate() {
        if name.ends_with("bias") {
            param.set(&tensor(&normals(seed as u64, param.shape()), dtype, None)).unwrap();
        }
    }
    attention
}

pub(crate) fn input(b: usize, t: usize, dtype: DType) -> Tensor {
    tensor(&normals(1, &[b, t, D]), dtype, None)
}

pub(crate) fn infer(attention: &Attention, x: &Tensor) -> Tensor {
    attention.forward(x, &mut Pass::infer()).unwrap()
}
