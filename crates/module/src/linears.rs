//! Several linear layers over one input: queries, keys and values, or a gate and what it lets through.
//!
//! `yᵢ = x·Wᵢᵀ + bᵢ`; `x`: `[.., in]`, `yᵢ`: `[.., outᵢ]`. The same numbers as one layer after the other. Dense weights
//! become one op, whose backward adds up `dx` in one place; packed weights are multiplied in one parallel region, with the
//! activations rounded once. Whatever cannot be joined is applied one by one.
//!
//! ```
//! use formwork_module::{Init, Linear, Module, Pass, Scope, Seed, Tensor, linears};
//! let source = Seed::new(7);
//! let root = Scope::root(&source);
//! let gate = Linear::with_init(&root.child("gate"), 3, 2, Init::Constant(1.0))?;
//! let up = Linear::with_init(&root.child("up"), 3, 2, Init::Constant(0.5))?;
//! let x = Tensor::from_vec(vec![1.0f32, 3.0], &[1, 2])?;
//! let [g, u] = linears([("gate", &gate), ("up", &up)], &x, &mut Pass::infer())?;
//! assert_eq!((g.to_vec::<f32>()?[0], u.to_vec::<f32>()?[2]), (4.0, 2.0));
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::{
    Dest,
    packed::{self, Panels, Product},
    scratch::List,
};
use formwork_tensor::ops;

use crate::{At, Buffer, DType, Error, Linear, Module, Pass, Precision, Record, Result, Tensor};

/// The most layers that are joined; more are applied one by one.
const MOST: usize = 4;

/// Applies several layers to one input; the names stand in errors. Packed weights are multiplied in one parallel region.
///
/// # Errors
/// Those of each layer, with its name.
pub fn linears<const N: usize>(
    layers: [(&str, &Linear); N],
    x: &Tensor,
    pass: &mut Pass<'_>,
) -> Result<[Tensor; N]> {
    // Where something does not fit, one layer after the other finds out which.
    let fits = layers.iter().all(|(_, layer)| {
        let [out, inp] = layer.weight.shape();
        x.shape().last() == Some(&inp) && layer.bias.as_ref().is_none_or(|bias| **bias.shape() == [out])
    });
    if fits && (2..=MOST).contains(&N) {
        if let Some(outputs) = in_panels(&layers, x, pass)? {
            return Ok(outputs);
        }
        if let Some(outputs) = dense(&layers, x, pass)? {
            return Ok(outputs);
        }
    }
    let mut outputs = [const { None }; N];
    for (output, (name, layer)) in outputs.iter_mut().zip(&layers) {
        *output = Some(layer.forward(x, pass).at(name)?);
    }
    Ok(outputs.map(|output| output.expect("each layer gave one")))
}

/// One call over the packed weights of all layers, where each has one and no gradient will be asked for.
fn in_panels<const N: usize>(
    layers: &[(&str, &Linear); N],
    x: &Tensor,
    pass: &mut Pass<'_>,
) -> Result<Option<[Tensor; N]>> {
    if !may_pack(x, pass) {
        return Ok(None);
    }
    let (rows, _) = x.shape().rows();
    let mut weights = [None; N];
    let mut biases = [const { None }; N];
    for ((weight, bias), (name, layer)) in weights.iter_mut().zip(&mut biases).zip(layers) {
        let Some(packed) = layer.weight.packed(rows) else { return Ok(None) };
        *weight = Some(packed);
        *bias =
            layer.bias.as_ref().map(|bias| pass.take(bias).and_then(|b| b.compact())).transpose().at(name)?;
    }
    if biases.iter().flatten().any(|bias| bias.dtype() != x.dtype() || bias.is_tracked()) {
        return Ok(None);
    }
    packed_products(x, weights.map(|weight| weight.expect("filled above")), &biases, pass).map(Some)
}

/// Whether products of `x` may use packed weights: in inference, on `f32`, unless full precision is asked for.
///
/// A pass with a tape multiplies from the stored numbers, which its backward reads as well: held packed too, a matrix
/// would be in memory twice.
pub fn may_pack(x: &Tensor, pass: &Pass<'_>) -> bool {
    pass.precision() != Precision::Full
        && x.dtype() == DType::F32
        && !x.is_tracked()
        && pass.record() == Record::Nothing
}

/// `x·Wᵢᵀ + bᵢ` for packed weights as wide as `x`, in one parallel region and the precision of the pass; nothing is
/// recorded.
///
/// # Errors
/// Numbers that are not `f32`, and widths that do not fit.
pub fn packed_products<const N: usize>(
    x: &Tensor,
    weights: [Panels<'_>; N],
    biases: &[Option<Tensor>; N],
    pass: &Pass<'_>,
) -> Result<[Tensor; N]> {
    for (weight, bias) in weights.iter().zip(biases) {
        let (out, inp) = (weight.rows(), weight.cols());
        if x.shape().last() != Some(&inp) {
            let expected = format!("x [.., {inp}] for weight [{out}, {inp}]");
            return Err(Error::shape("linear", expected, x.shape()));
        }
        if let Some(bias) = bias.as_ref().filter(|bias| **bias.shape() != [out]) {
            return Err(Error::shape("linear", format_args!("bias [{out}]"), bias.shape()));
        }
    }
    let x = x.compact()?;
    let pool = x.pool().or_else(|| biases.iter().flatten().find_map(Tensor::pool));
    let (rows, _) = x.shape().rows();
    let mut outputs = weights.map(|w| Buffer::<f32>::new(rows * w.rows(), pool));
    let mut products = [const { None }; N];
    for (((slot, y), weight), bias) in products.iter_mut().zip(&mut outputs).zip(weights).zip(biases) {
        let bias = bias.as_ref().map(|bias| bias.slice::<f32>()).transpose()?;
        *slot = Some(Product { weight, bias, y: Dest::store(y) });
    }
    let mut products = products.map(|product| product.expect("filled above"));
    match pass.precision() {
        Precision::Split => packed::linear_split(x.slice()?, &mut products),
        _ => packed::linear(x.slice()?, &mut products),
    }
    let mut tensors = [const { None }; N];
    for ((tensor, y), weight) in tensors.iter_mut().zip(outputs).zip(weights) {
        *tensor = Some(Tensor::from_buffer(y, &x.shape().with_last(weight.rows()))?); // [.., out]
    }
    Ok(tensors.map(|tensor| tensor.expect("filled above")))
}

/// One op over the parameters of all layers, where each has one.
fn dense<const N: usize>(
    layers: &[(&str, &Linear); N],
    x: &Tensor,
    pass: &mut Pass<'_>,
) -> Result<Option<[Tensor; N]>> {
    let alike = |(_, layer): &(&str, &Linear)| layer.bias.is_some() == layers[0].1.bias.is_some();
    if !layers.iter().all(alike) {
        return Ok(None);
    }
    let mut taken: List<Tensor> = List::new();
    for (name, layer) in layers {
        let Some(param) = layer.weight.dense() else { return Ok(None) };
        taken.push(pass.take(param).at(name)?);
    }
    for (name, layer) in layers {
        taken.extend(layer.bias.as_ref().map(|bias| pass.take(bias).at(name)).transpose()?);
    }
    if taken.iter().any(|t| t.dtype() != x.dtype()) {
        return Ok(None);
    }
    let mut inputs = [x; 1 + 2 * MOST];
    inputs[1..].iter_mut().zip(&taken).for_each(|(input, tensor)| *input = tensor);
    Tensor::apply(ops::Linears { products: N, operands: pass.operands() }, &inputs[..1 + taken.len()])?
        .exactly()
        .map(Some)
}
