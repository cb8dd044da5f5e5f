//! One call of the kernel: what of it is not numbers, the checks, and how tensors become its views.

use std::ops::Range;

use formwork_kernels::attention::{
    Bias, Blocks, Dropout, Inputs, Row, Shape, SoftCap, Stored, Strides, Transform, View,
};
use formwork_module::{CacheTensor, Error, Kind, Mask, Result, Tensor};
use formwork_tensor::Scalar;

use crate::bias::Term;

/// An attention apart from its numbers.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) rows: &'a [Row],
    pub(crate) mask: Mask,
    pub(crate) scale: f64,
    pub(crate) dropout: Option<Dropout>,
    pub(crate) soft_cap: Option<f64>,
    pub(crate) term: Option<&'a Term>,
}

/// Its numbers.
pub(crate) struct Numbers<'a, T> {
    pub(crate) q: View<'a, T>,
    pub(crate) k: Stored<'a, T>,
    pub(crate) v: Stored<'a, T>,
    /// Of the bias, row-major; empty where there is none.
    pub(crate) table: &'a [T],
    /// `[h]`
    pub(crate) sinks: Option<&'a [T]>,
}

impl Call<'_> {
    /// Calls `f` with what the kernel reads, and reports an index past the table.
    pub(crate) fn with<T: Scalar, R>(
        &self,
        shape: Shape,
        numbers: &Numbers<'_, T>,
        f: impl FnOnce(&Inputs<'_, T>) -> R,
    ) -> Result<R> {
        let added = self.term.map(|term| term.over(numbers.table));
        let cap = self.soft_cap.map(|cap| SoftCap(T::of(cap)));
        let inputs = Inputs {
            shape,
            q: numbers.q,
            k: numbers.k,
            v: numbers.v,
            rows: self.rows,
            rule: &self.mask,
            scale: T::of(self.scale),
            transform: cap.as_ref().map(|cap| cap as &dyn Transform<T>),
            bias: added.as_ref().map(|added| added as &dyn Bias<T>),
            sinks: numbers.sinks,
            dropout: self.dropout,
        };
        let result = f(&inputs);
        added.map_or(Ok(()), |added| added.check())?;
        Ok(result)
    }

    /// The sizes of `q [b, t, h, e]` over `k, v [b, s, g, e]`, if they and the rows fit.
    pub(crate) fn shape(&self, q: &Tensor, [k, v]: [[usize; 4]; 2]) -> Result<Shape> {
        let [batch, queries, heads, head_dim] = q.dims()?;
        let [_, keys, kv_heads, _] = k;
        let fits = kv_heads > 0
            && heads.is_multiple_of(kv_heads)
            && k == [batch, keys, kv_heads, head_dim]
            && k == v;
        if !fits {
            let expected =
                format!("k and v [{batch}, s, a divisor of {heads}, {head_dim}] for q {}", q.shape());
            return Err(Error::shape("attention", expected, format_args!("{k:?} and {v:?}")));
        }
        if head_dim == 0 {
            return Err(Error::shape("attention", "heads of width 1 or more", q.shape()));
        }
        if self.rows.len() != batch {
            let expected = format!("one row range for each of {batch} batch rows");
            return Err(Error::shape("attention", expected, self.rows.len()));
        }
        if let Some(Dropout { probability, .. }) = self.dropout
            && !(0.0..=1.0).contains(&probability)
        {
            return Err(Error::invalid("attention", "a dropout probability in [0, 1]", probability));
        }
        if let Some(cap) = self.soft_cap
            && !(cap > 0.0 && cap.is_finite())
        {
            return Err(Error::invalid("attention", "a soft cap above 0", cap));
        }
        let inside = |range: &Range<usize>, len| range.start <= range.end && range.end <= len;
        if !self.rows.iter().all(|row| inside(&row.q, queries) && inside(&row.k, keys)) {
            let expected = format!("ranges inside {queries} queries and {keys} keys");
            return Err(Error::shape("attention", expected, format_args!("{:?}", self.rows)));
        }
        Ok(Shape { batch, heads, kv_heads, queries, keys, head_dim })
    }
}

/// Whether all have the type of the first.
pub(crate) fn alike<'t>(q: &Tensor, others: impl IntoIterator<Item = &'t Tensor>) -> Result<()> {
    match others.into_iter().find(|t| t.dtype() != q.dtype()) {
        Some(t) => Err(Kind::DType { op: "attention", expected: q.dtype(), found: t.dtype() }.into()),
        None => Ok(()),
    }
}

/// Whether there is a sink for each head.
pub(crate) fn one_for_each_head(sinks: &Tensor, heads: usize) -> Result<()> {
    match **sinks.shape() == [heads] {
        true => Ok(()),
        false => Err(Error::shape("attention", format_args!("sinks [{heads}]"), sinks.shape())),
    }
}

/// The tensor with its last axis contiguous, which is all that the kernel asks for.
pub(crate) fn rowwise(x: &Tensor) -> Result<Tensor> {
    let [.., width] = x.dims::<4>()?;
    if x.strides()[3] == 1 || width == 1 { Ok(x.detached()) } else { x.compact() }
}

/// `[b, tokens, heads, e]` as the kernel sees it.
pub(crate) fn view<T: Scalar>(x: &Tensor) -> Result<View<'_, T>> {
    let &[batch, token, head, _] = x.strides() else {
        return Err(Error::shape("attention", "[b, tokens, heads, e]", x.shape()));
    };
    Ok(View::new(x.reach::<T>()?, Strides { batch, head, token }))
}

/// What a cache holds, `[b, heads, tokens, e]`, as the kernel sees it.
pub(crate) fn stored<T: Scalar>(x: &CacheTensor) -> Result<Stored<'_, T>> {
    match x {
        CacheTensor::Plain(x) => match x.strides() {
            // A width of 1 has no step, so its stride may be any.
            &[batch, head, token, step] if step == 1 || x.dims::<4>()?[3] == 1 => {
                Ok(View::new(x.reach::<T>()?, Strides { batch, head, token }).into())
            }
            _ => Err(Error::shape(
                "attention",
                "a cache [b, heads, tokens, e] with contiguous rows",
                x.shape(),
            )),
        },
        CacheTensor::Blocks(x) => {
            let strides = Strides::heads_first(x.dims()[1], x.capacity(), x.row_bytes());
            Ok(Stored::Blocks(Blocks::new(x.bytes(), x.format(), strides)))
        }
    }
}
