//! Attention and its adjoint as the formulas say, one pair at a time: the oracle that the tiled code is tested with.
//!
//! It computes every score in the type of the inputs with no tiles, no vectors and no threads. Use it in tests only.
//!
//! ```
//! use formwork_kernels::attention::{reference, Everything, Inputs, Row, Shape, Strides, View, ViewMut};
//!
//! let shape = Shape { batch: 1, heads: 1, kv_heads: 1, queries: 1, keys: 2, head_dim: 1 };
//! let view = |data| View::new(data, Strides::heads_first(1, 2, 1));
//! let keys = [0.0, 3.0_f64.ln()];
//! let (q, k, v) = (view(&[1.0]), view(&keys), view(&[0.0, 8.0]));
//! let rows = [Row::whole(1, 2)];
//! let inputs = Inputs::new(shape, [q, k, v], &rows, &Everything);
//! let (mut out, mut lse) = ([0.0], [0.0]);
//! reference::attention(&inputs, &mut ViewMut::new(&mut out, Strides::heads_first(1, 1, 1)), &mut lse);
//! assert!((out[0] - 6.0).abs() < 1e-12 && (lse[0] - 4.0_f64.ln()).abs() < 1e-12);
//! ```

use super::{Adjoint, BiasAdjoint, Gradients, Inputs, ViewMut};
use crate::{Element, Write};

/// The scores of one query against every key of its row, −∞ where the rule forbids, and the transform's slopes.
fn scores<T: Element>(x: &Inputs<'_, T>, b: usize, h: usize, t: usize) -> Vec<(T, T)> {
    let (e, row, group) = (x.shape.head_dim, &x.rows[b], x.shape.heads / x.shape.kv_heads);
    let query = row.first + t - row.q.start;
    row.k
        .clone()
        .map(|s| {
            let key = s - row.k.start;
            if !x.rule.allows(query, key) {
                return (T::neg_infinity(), T::one());
            }
            let (q, k) = (x.q.row([b, h, t], e), x.k.row([b, h / group, s], e));
            let dot: T = q.iter().zip(&k).map(|(&q, &k)| q * k).sum();
            let (mut score, mut slope) = ([dot * x.scale], [T::one()]);
            if let Some(transform) = x.transform {
                transform.apply_with_slopes(&mut score, &mut slope);
            }
            (score[0] + x.bias.map_or(T::zero(), |bias| bias.score(h, query, key)), slope[0])
        })
        .collect()
}

/// The factor of dropout for query `t` and key `s`, by index.
fn kept<T: Element>(x: &Inputs<'_, T>, b: usize, h: usize, t: usize, s: usize) -> T {
    let row = &x.rows[b];
    let place = [b, h, row.first + t - row.q.start, s - row.k.start];
    x.dropout.map_or(T::one(), |dropout| dropout.factor(place))
}

/// [`attention`](super::attention) by its definition.
pub fn attention<T: Element>(x: &Inputs<'_, T>, out: &mut ViewMut<'_, T>, lse: &mut [T]) {
    x.check();
    let s = &x.shape;
    let group = s.heads.checked_div(s.kv_heads).unwrap_or(1);
    out.check("out", [s.batch, s.heads, s.queries, s.head_dim]);
    for (b, h, t) in indices(s.batch, s.heads, s.queries) {
        // SAFETY: checked above, and this code is serial.
        let out = unsafe { out.row([b, h, t], s.head_dim) };
        out.fill(T::zero());
        let lse = &mut lse[(b * s.heads + h) * s.queries + t];
        *lse = T::neg_infinity();
        if !x.rows[b].q.contains(&t) {
            continue;
        }
        let scores = scores(x, b, h, t);
        let sink = x.sinks.map_or(T::neg_infinity(), |sinks| sinks[h]);
        let top = scores.iter().fold(sink, |a, &(b, _)| a.max(b));
        if top == T::neg_infinity() {
            continue;
        }
        let sum: T = scores.iter().map(|&(s, _)| (s - top).exp()).sum();
        *lse = top + (sum + (sink - top).exp()).ln();
        for (key, &(score, _)) in x.rows[b].k.clone().zip(&scores) {
            let p = (score - *lse).exp() * kept(x, b, h, t, key);
            for (out, &v) in out.iter_mut().zip(&x.v.row([b, h / group, key], s.head_dim)) {
                *out += p * v;
            }
        }
    }
}

/// [`attention_adjoint`](super::attention_adjoint) by the chain rule; `biases` is empty or one for each head.
pub fn attention_adjoint<T: Element>(
    x: &Inputs<'_, T>,
    a: &Adjoint<'_, T>,
    into: &mut Gradients<'_, T>,
    biases: &mut [&mut dyn BiasAdjoint<T>],
) {
    x.check();
    let s = &x.shape;
    let (e, group) = (s.head_dim, s.heads.checked_div(s.kv_heads).unwrap_or(1));
    into.check(s);
    if into.write == Write::Store {
        for (view, heads, tokens) in
            [(&into.dq, s.heads, s.queries), (&into.dk, s.kv_heads, s.keys), (&into.dv, s.kv_heads, s.keys)]
        {
            // SAFETY: checked above, and this code is serial.
            indices(s.batch, heads, tokens)
                .for_each(|(b, h, t)| unsafe { view.row([b, h, t], e) }.fill(T::zero()));
        }
        if let Some(dsinks) = &mut into.dsinks {
            dsinks.fill(T::zero());
        }
    }
    for (b, h, t) in indices(s.batch, s.heads, s.queries) {
        let (row, lse) = (&x.rows[b], a.lse[(b * s.heads + h) * s.queries + t]);
        if !row.q.contains(&t) || lse == T::neg_infinity() {
            continue;
        }
        let (q, dout, out) = (x.q.row([b, h, t], e), a.dout.row([b, h, t], e), a.out.row([b, h, t], e));
        let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(&a, &b)| a * b).sum::<T>();
        let along = dot(dout, out);
        if let (Some(sinks), Some(dsinks)) = (x.sinks, &mut into.dsinks) {
            dsinks[h] -= (sinks[h] - lse).exp() * along;
        }
        for (key, &(score, slope)) in row.k.clone().zip(&scores(x, b, h, t)) {
            let at = [b, h / group, key];
            let (k, v, p) = (x.k.row(at, e), x.v.row(at, e), (score - lse).exp());
            let kept = kept(x, b, h, t, key);
            let dscore = p * (kept * dot(dout, &v) - along);
            // SAFETY: checked above, serial, and the three rows lie in disjoint views.
            let (dq, dk, dv) = unsafe { (into.dq.row([b, h, t], e), into.dk.row(at, e), into.dv.row(at, e)) };
            for i in 0..e {
                dq[i] += x.scale * slope * dscore * k[i];
                dk[i] += x.scale * slope * dscore * q[i];
                dv[i] += p * kept * dout[i];
            }
            if let Some(bias) = biases.get_mut(h) {
                bias.add(row.first + t - row.q.start, key - row.k.start, dscore);
            }
        }
    }
}

fn indices(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}
