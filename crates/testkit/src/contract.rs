//! Gradients of an op for chosen cotangents, without any op of the crate under test.
//!
//! `L = Σ_o Σ_i c_o[i] · y_o[i]`, so that `dL/dy_o = c_o` exactly.
//!
//! ```
//! use formwork_tensor::{DType, Tensor};
//! use formwork_testkit::{gradients, normals, tensor};
//! let (x, c) = (normals(1, &[3]), normals(2, &[3]));
//! let double = |x: &[Tensor]| Ok(vec![x[0].scale(2.0)?]);
//! let grads = gradients(&double, &[tensor(&x, DType::F64, None)], &[true], &[Some(c.clone())], 1)?;
//! assert_eq!(grads[0].as_ref().expect("wanted").to_array::<f64>()?, c * 2.0);
//! # Ok::<(), formwork_tensor::Error>(())
//! ```

use formwork_kernels::Element;
use formwork_tensor::{Error, GradSink, Op, Outputs, Result, Saved, Tensor, Variable, dispatch};
use ndarray::ArrayD;

/// The inner product of any number of tensors with fixed arrays, a scalar.
#[derive(Clone, Debug)]
pub struct Contract {
    /// One array for each input, of its shape.
    pub cotangents: Vec<ArrayD<f64>>,
}

impl Op for Contract {
    fn name(&self) -> &'static str {
        "contract"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let first =
            *inputs.first().ok_or_else(|| Error::invalid("contract", "at least one tensor", "none"))?;
        let sum = dispatch!(first.dtype(), T => {
            let mut sum = 0.0;
            for (y, c) in inputs.iter().zip(&self.cotangents) {
                if **y.shape() != *c.shape() {
                    return Err(Error::shape("contract", format_args!("{:?}", c.shape()), y.shape()));
                }
                sum += y.view::<T>()?.iter().zip(c).map(|(y, c)| Element::f64(*y) * c).sum::<f64>();
            }
            Tensor::full(sum, &[], first.dtype(), first.pool())?
        });
        Ok(sum.into())
    }

    /// dyₒ = cₒ · dL.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let outer = into.grad(grads, 0)?;
        let scale = outer.item()?;
        dispatch!(outer.dtype(), T => {
            for (i, c) in self.cotangents.iter().enumerate() {
                into.give::<T>(i, |dy, write| {
                    for (dy, c) in dy.iter_mut().zip(c) {
                        *dy = write.combine(*dy, <T as Element>::of(scale * c));
                    }
                })?;
            }
            Ok(())
        })
    }
}

/// Runs `op` `times` times on the same inputs, those `tracked` as leaves, and sends each output's cotangent back.
///
/// Outputs without a cotangent stay unused. One gradient per input, `None` where nothing arrived.
///
/// # Errors
/// Those of the op, and a pass whose outputs depend on nothing tracked.
pub fn gradients(
    op: &dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    inputs: &[Tensor],
    tracked: &[bool],
    cotangents: &[Option<ArrayD<f64>>],
    times: usize,
) -> Result<Vec<Option<Tensor>>> {
    let leaves: Vec<_> = inputs.iter().map(|x| Variable::new(x.clone())).collect();
    let given = leaves.iter().zip(inputs).zip(tracked);
    let given: Vec<_> =
        given.map(|((leaf, x), &tracked)| if tracked { leaf.tensor() } else { x.clone() }).collect();
    let (mut used, mut with) = (Vec::new(), Vec::new());
    for _ in 0..times {
        for (y, c) in op(&given)?.into_iter().zip(cotangents) {
            if let Some(c) = c {
                used.push(y);
                with.push(c.clone());
            }
        }
    }
    let used: Vec<_> = used.iter().collect();
    Tensor::apply1(Contract { cotangents: with }, &used)?.backward()?;
    Ok(leaves.iter().map(Variable::grad).collect())
}
