//! Replacing the weights of a module by quantised ones, in place.

use std::{collections::HashMap, sync::Arc};

use formwork_kernels::{Element, blocks::Format, packed::Panels};
use formwork_module::{Blocks, Module, Param, Pass, Tensor, Visit, Weight, weights_mut};
use formwork_tensor::{Result, dispatch};

use crate::{
    Encoded, Quantised, Report, TensorReport, encode,
    encode::{finite, fitting},
};

/// Replaces every weight for which `choose` gives a format by one that holds blocks of it and nothing else.
///
/// `choose` sees the full name, such as `blocks.3.attn.q.weight`, and the shape `[out, in]`; a
/// [`Recipe`](crate::Recipe) answers most of it. A parameter that several weights share is encoded once, and
/// [`Tied`](formwork_module::Tied) heads follow their table, so that a model whose head is its token table still holds
/// it once. What is no parameter by itself stays as it is, and is named in the report: an adapter (quantise the model
/// first, then put adapters around its weights), or a matrix that is in blocks already.
///
/// Numbers in f64 are rounded to f32 first, and rows looked up in such a table stay f64.
///
/// # Errors
/// A width that is no whole number of the chosen blocks, numbers that are not finite, and parameters without numbers,
/// each with the full name and before anything is replaced. A number beyond the range of a format's scales is found
/// when its matrix is encoded: matrices before it are in blocks by then.
pub fn quantise<M: Module + ?Sized>(
    module: &mut M,
    choose: &dyn Fn(&str, [usize; 2]) -> Option<Format>,
) -> Result<Report> {
    let mut report = Report::default();
    let mut plan = Vec::new();
    weights_mut(module, &mut |name, weight| {
        let decision = decide(&**weight, name, choose)?;
        if matches!(decision, Decision::Keep) {
            report.kept.push(name.to_owned());
        }
        plan.push(decision);
        Ok(())
    })?;
    let mut done = HashMap::new();
    let mut steps = plan.iter_mut();
    weights_mut(module, &mut |name, weight| {
        let Some(Decision::Encode(format)) = steps.next() else { return Ok(()) };
        let Some(param) = plain(&**weight)? else { return Ok(()) };
        let value = param.value()?;
        let at = Place::of(&value)?;
        if let Some(same) = done.get(&at) {
            *weight = Arc::<Quantised>::clone(same);
            return Ok(());
        }
        let (quantised, tensor) = convert(name, &param, &value, *format)?;
        *weight = quantised.clone();
        done.insert(at, quantised);
        report.tensors.push(tensor);
        Ok(())
    })?;
    // Only now, since a head may be built before its table. What it shares is still alive, so places still differ.
    let mut steps = plan.into_iter();
    weights_mut(module, &mut |_, weight| {
        if let Some(Decision::Follow(at)) = steps.next()
            && let Some(table) = done.get(&at)
        {
            *weight = Arc::new(ShownElsewhere(table.clone()));
        }
        Ok(())
    })?;
    Ok(report)
}

/// What becomes of a weight.
enum Decision {
    Keep,
    Encode(Format),
    /// It shows nothing of its own: a second use of the numbers at this place, should they be encoded.
    Follow(Place),
}

fn decide(
    weight: &dyn Weight,
    name: &str,
    choose: &dyn Fn(&str, [usize; 2]) -> Option<Format>,
) -> Result<Decision> {
    let shown = Shown::by(weight);
    if shown.is_empty() {
        let place = weight.to_dense(&mut Pass::infer()).and_then(|dense| Place::of(&dense));
        return Ok(place.map_or(Decision::Keep, Decision::Follow));
    }
    let (Some(param), [_, inp]) = (plain(weight)?, weight.shape()) else { return Ok(Decision::Keep) };
    let Some(format) = choose(name, weight.shape()) else { return Ok(Decision::Keep) };
    fitting(format, inp)?;
    finite(&narrow(&param.value()?)?, inp)?;
    Ok(Decision::Encode(format))
}

/// The parameter that a weight is, if it is one and nothing else: what it computes with is the parameter's own memory.
fn plain(weight: &dyn Weight) -> Result<Option<Param>> {
    let mut shown = Shown::by(weight);
    let (Some(param), true) = (shown.params.pop(), shown.params.is_empty() && shown.others == 0) else {
        return Ok(None);
    };
    let value = param.value()?;
    let dense = weight.to_dense(&mut Pass::infer());
    let is_same = **value.shape() == weight.shape()
        && dense.and_then(|dense| Place::of(&dense)).is_ok_and(|at| Place::of(&value).is_ok_and(|v| v == at));
    Ok(is_same.then_some(param))
}

fn convert(
    name: &str,
    param: &Param,
    value: &Tensor,
    format: Format,
) -> Result<(Arc<Quantised>, TensorReport)> {
    let (out, inp) = value.shape().rows();
    let Encoded { bytes, error } = encode(format, &narrow(value)?, inp)?;
    let report = TensorReport { path: name.to_owned(), shape: [out, inp], format, bytes: bytes.len(), error };
    let mut quantised =
        Quantised::new(Blocks::new(param.path(), [out, inp], format, bytes)?).dtype(value.dtype());
    if let Some(pool) = value.pool() {
        quantised = quantised.pool(pool.clone());
    }
    Ok((Arc::new(quantised), report))
}

/// The numbers as f32, copied only where they are not.
fn narrow(value: &Tensor) -> Result<std::borrow::Cow<'_, [f32]>> {
    if let Ok(numbers) = value.slice::<f32>() {
        return Ok(numbers.into());
    }
    dispatch!(value.dtype(), T => Ok(value.to_vec::<T>()?.into_iter().map(|v| Element::f64(v) as f32).collect()))
}

/// Where the numbers of a tensor lie in memory, and under which shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    address: usize,
    shape: (usize, usize),
}

impl Place {
    fn of(tensor: &Tensor) -> Result<Self> {
        let address = dispatch!(tensor.dtype(), T => tensor.reach::<T>()?.as_ptr() as usize);
        Ok(Self { address, shape: tensor.shape().rows() })
    }
}

/// What a weight shows of itself.
#[derive(Default)]
struct Shown {
    params: Vec<Param>,
    others: usize,
}

impl Shown {
    fn by(weight: &dyn Weight) -> Self {
        let mut shown = Self::default();
        weight.visit("weight", &mut shown);
        shown
    }

    fn is_empty(&self) -> bool {
        self.params.is_empty() && self.others == 0
    }
}

impl Visit for Shown {
    fn enter(&mut self, _: &str) {}
    fn leave(&mut self) {}
    fn param(&mut self, _: &str, param: &Param) {
        self.params.push(param.clone());
    }
    fn blocks(&mut self, _: &str, _: &Blocks) {
        self.others += 1;
    }
}

/// A second use of a matrix in blocks that is shown where it was built.
#[derive(Debug)]
struct ShownElsewhere(Arc<Quantised>);

impl Weight for ShownElsewhere {
    fn shape(&self) -> [usize; 2] {
        Weight::shape(&*self.0)
    }
    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.apply(x, bias, pass)
    }
    fn gather(&self, ids: &[u32], dims: &[usize], pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.gather(ids, dims, pass)
    }
    fn to_dense(&self, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.to_dense(pass)
    }
    fn packed(&self, rows: usize) -> Option<Panels<'_>> {
        self.0.packed(rows)
    }
    fn visit(&self, _: &str, _: &mut dyn Visit) {}
}
