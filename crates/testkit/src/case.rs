//! One row of the op table.

use formwork_tensor::{DType, Pool, Result, Tensor};
use ndarray::ArrayD;

use crate::{
    Domain, sample,
    sizes::{Axis, Setting, Sizes, parse},
    tensor,
};

pub(crate) type Call = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>;
pub(crate) type Reference = dyn Fn(&[ArrayD<f64>]) -> Vec<ArrayD<f64>>;

/// What an op does with a NaN or an infinity among its inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// The reference says: the same elements are NaN or infinite, and the others agree.
    #[default]
    AsReference,
    /// A NaN makes at least one output element NaN; for infinities it is enough not to panic. For ops whose
    /// reference meets `∞ − ∞` elsewhere than the op does.
    NanIsSeen,
}

/// An op with everything that [`check`](crate::check) needs to know of it.
///
/// See the [crate](crate) for an example.
pub struct OpCase {
    pub(crate) name: String,
    pub(crate) inputs: Vec<Vec<Axis>>,
    pub(crate) axes: Vec<Sizes>,
    pub(crate) domains: Vec<Domain>,
    pub(crate) learns: Vec<bool>,
    pub(crate) non_finite: NonFinite,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) op: Box<Call>,
    pub(crate) reference: Box<Reference>,
}

/// A wrong call and what the error must say.
pub(crate) struct Refusal {
    pub(crate) what: String,
    pub(crate) call: Wrong,
    pub(crate) words: String,
}

pub(crate) enum Wrong {
    Shapes(Vec<Vec<usize>>),
    Call(Box<dyn Fn() -> Result<Vec<Tensor>>>),
}

impl OpCase {
    /// An op, how it is called, and a naive reference on f64 arrays.
    ///
    /// `inputs` gives the axes of each input by name, such as `"b t d"`; a number is an axis of that length, and an
    /// empty string a scalar. `op` must not depend on anything but its inputs.
    pub fn new(
        name: &str,
        inputs: &[&str],
        op: impl Fn(&[Tensor]) -> Result<Vec<Tensor>> + 'static,
        reference: impl Fn(&[ArrayD<f64>]) -> Vec<ArrayD<f64>> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            inputs: inputs.iter().map(|pattern| parse(pattern)).collect(),
            axes: Vec::new(),
            domains: vec![Domain::Normal; inputs.len()],
            learns: vec![true; inputs.len()],
            non_finite: NonFinite::default(),
            refusals: Vec::new(),
            op: Box::new(op),
            reference: Box::new(reference),
        }
    }

    /// The only sizes that an axis may have, the usual one first; without this it takes a prime, 1, 0 and 37.
    ///
    /// # Panics
    /// If there is no size.
    #[must_use]
    pub fn dim(mut self, name: &str, sizes: &[usize]) -> Self {
        assert!(!sizes.is_empty(), "{}: expected at least one size for axis {name}", self.name);
        self.axes.push(Sizes { name: name.into(), all: sizes.to_vec(), is_fixed: true });
        self
    }

    /// Where input `i` is drawn from, if not from normal numbers.
    #[must_use]
    pub fn domain(mut self, i: usize, domain: Domain) -> Self {
        self.domains[i] = domain;
        self
    }

    /// Input `i` never needs a gradient: a table of angles, a mask.
    #[must_use]
    pub fn constant(mut self, i: usize) -> Self {
        self.learns[i] = false;
        self
    }

    /// What happens to NaN and infinities, if not what the reference does.
    #[must_use]
    pub fn non_finite(mut self, rule: NonFinite) -> Self {
        self.non_finite = rule;
        self
    }

    /// Inputs of these shapes must be refused with an error that contains `words`.
    #[must_use]
    pub fn refuses(mut self, what: &str, shapes: &[&[usize]], words: &str) -> Self {
        let shapes = shapes.iter().map(|shape| shape.to_vec()).collect();
        self.refusals.push(Refusal { what: what.into(), call: Wrong::Shapes(shapes), words: words.into() });
        self
    }

    /// This call must be refused with an error that contains `words`.
    #[must_use]
    pub fn refuses_call(
        mut self,
        what: &str,
        call: impl Fn() -> Result<Vec<Tensor>> + 'static,
        words: &str,
    ) -> Self {
        self.refusals.push(Refusal {
            what: what.into(),
            call: Wrong::Call(Box::new(call)),
            words: words.into(),
        });
        self
    }

    /// Every named axis with its sizes, in the order in which the inputs name them.
    pub(crate) fn sizes(&self) -> Vec<Sizes> {
        let mut sizes: Vec<Sizes> = Vec::new();
        for axis in self.inputs.iter().flatten() {
            let Axis::Named(name) = axis else { continue };
            if !sizes.iter().any(|s| s.name == *name) {
                let given = self.axes.iter().find(|s| s.name == *name);
                sizes.push(given.cloned().unwrap_or_else(|| Sizes::usual(name)));
            }
        }
        sizes
    }

    /// The inputs' numbers in a setting.
    pub(crate) fn numbers(&self, setting: &Setting) -> Vec<ArrayD<f64>> {
        let each = self.inputs.iter().zip(&self.domains).enumerate();
        each.map(|(i, (axes, domain))| sample(*domain, 0x5EED + i as u64, &setting.shape(axes))).collect()
    }

    pub(crate) fn call(&self, inputs: &[Tensor]) -> std::result::Result<Vec<Tensor>, String> {
        (self.op)(inputs).map_err(|error| format!("refused with \"{error}\""))
    }
}

/// Row-major tensors with the numbers of arrays.
pub(crate) fn tensors(numbers: &[ArrayD<f64>], dtype: DType, pool: Option<&Pool>) -> Vec<Tensor> {
    numbers.iter().map(|x| tensor(x, dtype, pool)).collect()
}
