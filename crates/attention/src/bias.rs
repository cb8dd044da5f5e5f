//! Terms added to the scores: how a [`ScoreBias`] meets the kernel, and how the gradient of a table is gathered.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use formwork_kernels::{
    Element, Write,
    attention::{Bias, BiasAdjoint},
};
use formwork_module::{Error, Result, ScoreBias, Tensor};

/// Index into a table for `(head, query position, key position)`.
pub(crate) type Index = Arc<dyn Fn(usize, usize, usize) -> usize + Send + Sync>;
type Function = Arc<dyn Fn(usize, usize, usize) -> f64 + Send + Sync>;

/// A bias without its numbers: those of a table are an input of the op, so that they can learn.
#[derive(Clone)]
pub(crate) enum Term {
    Fixed(Function),
    Table(Index),
}

impl std::fmt::Debug for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Term::Fixed(_) => "Fixed",
            Term::Table(_) => "Table",
        })
    }
}

impl Term {
    /// The term, and the table that goes with it.
    pub(crate) fn split(bias: ScoreBias) -> Result<(Self, Option<Tensor>)> {
        match bias {
            ScoreBias::Fixed(function) => Ok((Term::Fixed(function), None)),
            ScoreBias::Table { table, index } => Ok((Term::Table(index), Some(table))),
            other => Err(Error::invalid(
                "attention",
                "a score bias that is fixed or a table",
                format_args!("{other:?}"),
            )),
        }
    }

    /// The term with its numbers; `table` is empty where there is none.
    pub(crate) fn over<'a, T>(&'a self, table: &'a [T]) -> Added<'a, T> {
        Added { term: self, table, misfit: AtomicUsize::new(usize::MAX) }
    }
}

/// What the kernel asks for scores.
pub(crate) struct Added<'a, T> {
    term: &'a Term,
    table: &'a [T],
    /// The smallest index past the table that was asked for: a callback cannot fail, so it is reported afterwards.
    misfit: AtomicUsize,
}

impl<T> Added<'_, T> {
    pub(crate) fn check(&self) -> Result<()> {
        match self.misfit.load(Relaxed) {
            usize::MAX => Ok(()),
            index => {
                let expected = format!("indices below {}, the size of the table", self.table.len());
                Err(Error::invalid("score bias", expected, index)
                    .hint("make the table larger, or clamp the distance"))
            }
        }
    }
}

impl<T: Element> Bias<T> for Added<'_, T> {
    fn score(&self, head: usize, query: usize, key: usize) -> T {
        match self.term {
            Term::Fixed(function) => T::of(function(head, query, key)),
            Term::Table(index) => {
                let index = index(head, query, key);
                self.table.get(index).copied().unwrap_or_else(|| {
                    self.misfit.fetch_min(index, Relaxed);
                    T::zero()
                })
            }
        }
    }
}

/// Gathers one head's part of a table's gradient.
pub(crate) struct Gather<'a, T> {
    pub(crate) head: usize,
    pub(crate) index: &'a Index,
    pub(crate) sums: &'a mut [T],
}

impl<T: Element> BiasAdjoint<T> for Gather<'_, T> {
    fn add(&mut self, query: usize, key: usize, dscore: T) {
        // The forward pass has refused indices past the table.
        if let Some(sum) = self.sums.get_mut((self.index)(self.head, query, key)) {
            *sum += dscore;
        }
    }
}

/// Adds up the heads' parts `[h, n]`, in their order.
pub(crate) fn join<T: Element>(parts: &[T], to: &mut [T], write: Write) {
    let n = to.len();
    for (i, to) in to.iter_mut().enumerate() {
        let sum = parts.iter().skip(i).step_by(n).copied().sum();
        *to = write.combine(*to, sum);
    }
}
