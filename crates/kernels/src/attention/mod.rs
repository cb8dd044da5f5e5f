//! Attention in tiles, forward and backward, with memory linear in the context.
//!
//! `S = scale · Q·Kᵀ + bias`, masked by a [`Rule`]; `P = softmax(S)`; `O = P·V`.
//! `q, O`: `[b, h, t, e]`; `k, v`: `[b, g, s, e]` with `h` a multiple of `g`, so that multi-head, grouped-query and
//! multi-query attention are one code and keys are never copied. All are strided [`View`]s.
//!
//! Scores exist one tile of 32 queries × 64 keys at a time; of a row only the output and the logarithm of the sum of
//! exponentials (`lse`) are kept, from which the backward pass recomputes the tile. Milakov & Gimelshein 2018,
//! <https://arxiv.org/abs/1805.02867> (running softmax); Dao et al. 2022, <https://arxiv.org/abs/2205.14135> (tiles and
//! the recomputing backward). Unlike there, queries lie along vector lanes and tiles are computed transposed.
//!
//! Each batch row says with a [`Row`] which of its queries and keys count, so padding on either side and caches of
//! unequal length need no mask tensor. A query that counts not, or may see no key, gives output 0, `lse` −∞ and no
//! gradient. A key outside its row's range is never read; one inside it that the rule hides must still be finite.
//!
//! Work is divided by shape alone and sums are joined in a fixed order: any number of threads gives the same bits.
//!
//! ```
//! use formwork_kernels::attention::{attention, Causal, Inputs, Row, Shape, Strides, View, ViewMut};
//!
//! let shape = Shape { batch: 1, heads: 1, kv_heads: 1, queries: 2, keys: 2, head_dim: 1 };
//! let view = |data| View::new(data, Strides::heads_first(1, 2, 1));
//! let keys = [0.0, 3.0_f64.ln()];
//! let (q, k, v) = (view(&[1.0, 1.0]), view(&keys), view(&[4.0, 8.0]));
//! let rows = [Row::whole(2, 2)];
//! let inputs = Inputs::new(shape, [q, k, v], &rows, &Causal);
//! let (mut out, mut lse) = ([0.0; 2], [0.0; 2]);
//! attention(&inputs, &mut ViewMut::new(&mut out, Strides::heads_first(1, 2, 1)), &mut lse);
//! assert!((out[0] - 4.0).abs() < 1e-12); // the first query sees the first key alone
//! assert!((out[1] - 7.0).abs() < 1e-12); // the second weighs them 1 : 3
//! ```

mod backward;
mod backward_tile;
mod decode;
mod dropout;
#[cfg(target_arch = "x86_64")]
mod few;
mod forward;
mod plan;
pub mod reference;
mod rows;
mod rule;
mod stored;
#[cfg(test)]
mod tests;
mod tile;
mod transform;
#[cfg(target_arch = "x86_64")]
mod vector;
mod view;

use crate::{Element, Write};
use std::ops::Range;

pub use dropout::Dropout;
pub use rule::{Bias, BiasAdjoint, Causal, Everything, Rule, Tile};
pub use stored::{Blocks, Stored};
pub use transform::{SoftCap, Transform};
pub use view::{Strides, View, ViewMut};

/// The sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Batch rows `b`.
    pub batch: usize,
    /// Query heads `h`: a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads `g`.
    pub kv_heads: usize,
    /// Queries `t` of each row.
    pub queries: usize,
    /// Keys `s` of each row.
    pub keys: usize,
    /// Head width `e`, of keys and values alike.
    pub head_dim: usize,
}

/// Which queries and keys of a batch row count, and where in the text the queries stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The valid queries: a range in `0..t`.
    pub q: Range<usize>,
    /// The valid keys: a range in `0..s`; key `k.start` has position 0.
    pub k: Range<usize>,
    /// The position of query `q.start`.
    pub first: usize,
}

impl Row {
    /// All of `t` queries and `s` keys, the queries being the last `t` of the `s` positions (with `t = s`: the same).
    ///
    /// ```
    /// use formwork_kernels::attention::Row;
    /// assert_eq!(Row::whole(2, 7), Row { q: 0..2, k: 0..7, first: 5 });
    /// ```
    pub fn whole(queries: usize, keys: usize) -> Row {
        Row { q: 0..queries, k: 0..keys, first: keys.saturating_sub(queries) }
    }
}

/// What attention reads.
#[derive(Clone, Copy)]
pub struct Inputs<'a, T> {
    /// The sizes.
    pub shape: Shape,
    /// Queries: `[b, h, t, e]`.
    pub q: View<'a, T>,
    /// Keys: `[b, g, s, e]`.
    pub k: Stored<'a, T>,
    /// Values: `[b, g, s, e]`.
    pub v: Stored<'a, T>,
    /// What counts in each batch row: `[b]`.
    pub rows: &'a [Row],
    /// Which keys a query may see.
    pub rule: &'a dyn Rule,
    /// Factor of the products: usually `1/√e`.
    pub scale: T,
    /// A function of each scaled score, before biases.
    pub transform: Option<&'a dyn Transform<T>>,
    /// What is added to the scores.
    pub bias: Option<&'a dyn Bias<T>>,
    /// A further logit of each head, `[h]`, that takes its part of the softmax and adds nothing: attention sinks, as in
    /// gpt-oss, <https://arxiv.org/abs/2309.17453>.
    pub sinks: Option<&'a [T]>,
    /// Dropout on the probabilities, after the softmax; the row statistics are those without it.
    pub dropout: Option<Dropout>,
}

impl<'a, T: Element> Inputs<'a, T> {
    /// `scale = 1/√e` and nothing else; further fields are set by name.
    pub fn new(shape: Shape, [q, k, v]: [View<'a, T>; 3], rows: &'a [Row], rule: &'a dyn Rule) -> Self {
        let scale = T::of(1.0 / (shape.head_dim.max(1) as f64).sqrt());
        let (k, v) = (k.into(), v.into());
        Inputs { shape, q, k, v, rows, rule, scale, transform: None, bias: None, sinks: None, dropout: None }
    }
}

impl<T> std::fmt::Debug for Inputs<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("shape", &self.shape).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<T: Element> Inputs<'_, T> {
    fn check(&self) {
        let s = &self.shape;
        assert!(
            s.heads == 0 || (s.kv_heads > 0 && s.heads.is_multiple_of(s.kv_heads)),
            "attention: {} heads are no multiple of {} key heads",
            s.heads,
            s.kv_heads
        );
        assert_eq!(self.rows.len(), s.batch, "attention: one row range for each batch row");
        for Row { q, k, .. } in self.rows {
            let fits = q.start <= q.end && q.end <= s.queries && k.start <= k.end && k.end <= s.keys;
            assert!(fits, "attention: ranges {q:?} of {} queries, {k:?} of {} keys", s.queries, s.keys);
        }
        if let Some(Dropout { probability, .. }) = self.dropout {
            let fits = (0.0..=1.0).contains(&probability);
            assert!(fits, "attention: dropout probability {probability} is not in [0, 1]");
        }
        if let Some(sinks) = self.sinks {
            assert_eq!(sinks.len(), s.heads, "attention: one sink for each head");
        }
        self.q.check("q", [s.batch, s.heads, s.queries, s.head_dim]);
        self.k.check("k", [s.batch, s.kv_heads, s.keys, s.head_dim]);
        self.v.check("v", [s.batch, s.kv_heads, s.keys, s.head_dim]);
    }
}

/// Writes the output `[b, h, t, e]` and the row statistics `lse: [b, h, t]`; both may hold junk before.
///
/// One query a row, or a few (decoding), run code of their own, whose work is divided over heads and ranges of keys.
///
/// # Panics
/// If sizes do not fit, or rows of `out` overlap.
pub fn attention<T: Element>(inputs: &Inputs<'_, T>, out: &mut ViewMut<'_, T>, lse: &mut [T]) {
    inputs.check();
    let s = &inputs.shape;
    assert_eq!(lse.len(), s.batch * s.heads * s.queries, "attention: lse must be [b, h, t]");
    out.check("out", [s.batch, s.heads, s.queries, s.head_dim]);
    if decode::suits(s) {
        decode::attention(inputs, out, lse);
    } else {
        forward::attention(inputs, out, lse);
    }
}

/// What the adjoint of attention reads beside the inputs.
#[derive(Clone, Copy, Debug)]
pub struct Adjoint<'a, T> {
    /// The saved output: `[b, h, t, e]`.
    pub out: View<'a, T>,
    /// The saved row statistics: `[b, h, t]`.
    pub lse: &'a [T],
    /// The gradient of the output: `[b, h, t, e]`.
    pub dout: View<'a, T>,
}

/// Where the gradients go.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// Gradient of the queries: `[b, h, t, e]`.
    pub dq: ViewMut<'a, T>,
    /// Gradient of the keys: `[b, g, s, e]`.
    pub dk: ViewMut<'a, T>,
    /// Gradient of the values: `[b, g, s, e]`.
    pub dv: ViewMut<'a, T>,
    /// Gradient of the sinks: `[h]`, or not wanted.
    pub dsinks: Option<&'a mut [T]>,
    /// How all meet their destination; storing covers padding, which gets 0.
    pub write: Write,
}

impl<T> Gradients<'_, T> {
    fn check(&self, s: &Shape) {
        self.dq.check("dq", [s.batch, s.heads, s.queries, s.head_dim]);
        self.dk.check("dk", [s.batch, s.kv_heads, s.keys, s.head_dim]);
        self.dv.check("dv", [s.batch, s.kv_heads, s.keys, s.head_dim]);
        if let Some(dsinks) = &self.dsinks {
            assert_eq!(dsinks.len(), s.heads, "attention: one gradient of a sink for each head");
        }
    }
}

/// Adjoint of [`attention`], with `P` recomputed from `lse` and `D = Σ_e dO · O` per row:
///
/// - `dV = (P ⊙ M)ᵀ·dO`, with `M` the factors of dropout, or 1
/// - `dS = P · (M ⊙ dO·Vᵀ − D)`: through the product with the values, less the normaliser's term; the bias's gradient
/// - `dS ⊙ f′` below a transform `f`
/// - `dQ = scale · dS·K`, `dK = scale · dSᵀ·Q`
/// - `dsink = −Σ exp(sink − lse) · D` over the queries: no value stands behind a sink
///
/// Keys in blocks get the gradient of the numbers that they stand for.
///
/// # Panics
/// As [`attention`].
pub fn attention_adjoint<T: Element>(
    inputs: &Inputs<'_, T>,
    adjoint: &Adjoint<'_, T>,
    into: &mut Gradients<'_, T>,
) {
    attention_adjoint_with_bias(inputs, adjoint, into, &mut []);
}

/// [`attention_adjoint`] that also hands `dS` to `biases`, one for each query head, for a bias that learns.
///
/// Every head is then worked on by one thread at a time, so it is slower with few heads.
///
/// # Panics
/// As [`attention`], and if there are neither none nor `heads` of `biases`.
pub fn attention_adjoint_with_bias<T: Element>(
    inputs: &Inputs<'_, T>,
    adjoint: &Adjoint<'_, T>,
    into: &mut Gradients<'_, T>,
    biases: &mut [&mut dyn BiasAdjoint<T>],
) {
    inputs.check();
    let s = &inputs.shape;
    assert_eq!(adjoint.lse.len(), s.batch * s.heads * s.queries, "attention: lse must be [b, h, t]");
    adjoint.out.check("out", [s.batch, s.heads, s.queries, s.head_dim]);
    adjoint.dout.check("dout", [s.batch, s.heads, s.queries, s.head_dim]);
    assert!(
        biases.is_empty() || biases.len() == s.heads,
        "attention: {} gradients of biases for {} heads",
        biases.len(),
        s.heads
    );
    into.check(s);
    backward::attention_adjoint(inputs, adjoint, into, biases);
}
