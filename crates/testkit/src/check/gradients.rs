//! Gradients against central finite differences in f64, and against each other.

use formwork_kernels::{
    isa::{self, Isa},
    rng,
};
use formwork_tensor::{DType, Tensor};
use ndarray::ArrayD;

use super::{Report, TYPES};
use crate::{
    F64, Numbers, OpCase, SLOPE, case::tensors, close::FLOOR, difference, gradients, normals, sizes::Setting,
};

/// Half the distance of the two points of a central difference.
const STEP: f64 = 1e-6;
/// An input of at most this many elements is checked at each, a larger one at [`SAMPLES`] and along one direction.
const EACH: usize = 128;
const SAMPLES: usize = 32;

pub(super) type Cotangents = Vec<Option<ArrayD<f64>>>;

pub(super) fn check(case: &OpCase, report: &mut Report<'_>) {
    if !case.learns.contains(&true) {
        return;
    }
    for (n, setting) in Setting::all(&case.sizes()).iter().enumerate() {
        let point = Point { case, numbers: case.numbers(setting) };
        let shapes = (case.reference)(&point.numbers);
        let all: Cotangents =
            shapes.iter().zip(70..).map(|(y, seed)| Some(normals(seed, y.shape()))).collect();
        report.run(format_args!("gradient: {setting}"), || point.differences(&all));
        report.run(format_args!("gradient: {setting}: on other paths"), || point.other_paths(&all));
        if n > 0 {
            continue;
        }
        report.run(format_args!("gradient: {setting}: used twice"), || point.twice(&all));
        report.run(format_args!("gradient: {setting}: one input tracked"), || point.one_tracked(&all));
        for used in 0..all.len() * usize::from(all.len() > 1) {
            let one: Cotangents = (0..all.len()).map(|o| all[o].clone().filter(|_| o == used)).collect();
            report.run(format_args!("gradient: {setting}: output {used} alone is used"), || {
                point.differences(&one)
            });
        }
    }
}

/// An op at one set of inputs.
pub(super) struct Point<'a> {
    pub(super) case: &'a OpCase,
    pub(super) numbers: Vec<ArrayD<f64>>,
}

impl Point<'_> {
    fn tensors(&self, dtype: DType) -> Vec<Tensor> {
        tensors(&self.numbers, dtype, None)
    }

    fn differences(&self, cotangents: &Cotangents) -> Result<(), String> {
        let found = self.gradients(&self.tensors(DType::F64), cotangents, 1)?;
        for (i, found) in found.iter().enumerate().filter(|(i, _)| self.case.learns[*i]) {
            if found.shape() != self.numbers[i].shape() {
                return Err(format!(
                    "input {i} expected shape {:?}, found {:?}",
                    self.numbers[i].shape(),
                    found.shape()
                ));
            }
            if found.is_empty() {
                continue;
            }
            let flat: Vec<f64> = found.iter().copied().collect();
            for e in places(flat.len()) {
                let mut toward = ArrayD::zeros(self.numbers[i].shape());
                *toward.iter_mut().nth(e).expect("a place inside the input") = 1.0;
                let (slope, found) = (self.slope(i, &toward, cotangents)?, flat[e]);
                let scale = slope.abs().max(found.abs()).max(FLOOR);
                let is_close = (slope - found).abs() <= SLOPE * scale;
                if !is_close {
                    return Err(format!(
                        "input {i} at element {e}: finite differences {slope}, gradient {found}"
                    ));
                }
            }
            let toward = normals(99, self.numbers[i].shape());
            let (slope, along) = (self.slope(i, &toward, cotangents)?, (&toward * found).sum());
            let scale = slope.abs().max(flat.iter().map(|g| g * g).sum::<f64>().sqrt()).max(FLOOR);
            let is_close = (slope - along).abs() <= SLOPE * scale;
            if !is_close {
                return Err(format!(
                    "input {i} in a random direction: finite differences {slope}, gradient {along}"
                ));
            }
        }
        Ok(())
    }

    /// `d/dh Σ c·y(x + h·toward)` at 0. Outputs are subtracted before they are summed, which loses least.
    fn slope(&self, i: usize, toward: &ArrayD<f64>, cotangents: &Cotangents) -> Result<f64, String> {
        let at = |step: f64| {
            let mut numbers = self.numbers.clone();
            numbers[i].scaled_add(step, toward);
            self.case.call(&tensors(&numbers, DType::F64, None))
        };
        let (up, down) = (at(STEP)?, at(-STEP)?);
        let outputs = up.iter().zip(&down).zip(cotangents);
        let change =
            outputs.filter_map(|((up, down), c)| Some((c.as_ref()? * (up.numbers() - down.numbers())).sum()));
        Ok(change.sum::<f64>() / (2.0 * STEP))
    }

    /// The f32 gradient, and that of every instruction set, agree with the one that was compared with differences.
    fn other_paths(&self, cotangents: &Cotangents) -> Result<(), String> {
        let expected = self.gradients(&self.tensors(DType::F64), cotangents, 1)?;
        for (dtype, _, tolerance) in TYPES {
            for isa in Isa::available() {
                let found = isa::with(isa, || self.gradients(&self.tensors(dtype), cotangents, 1))?;
                self.same(&found, &expected, tolerance)
                    .map_err(|words| format!("{dtype}, {isa:?}: {words}"))?;
            }
        }
        Ok(())
    }

    /// The second contribution to a gradient adds to the first.
    fn twice(&self, cotangents: &Cotangents) -> Result<(), String> {
        let expected = self.gradients(&self.tensors(DType::F64), cotangents, 1)?;
        let expected: Vec<_> = expected.into_iter().map(|g| g * 2.0).collect();
        self.same(&self.gradients(&self.tensors(DType::F64), cotangents, 2)?, &expected, F64)
    }

    /// With all other inputs frozen, an input's gradient is what it was, and no other gets one.
    fn one_tracked(&self, cotangents: &Cotangents) -> Result<(), String> {
        let inputs = self.tensors(DType::F64);
        let expected = self.gradients(&inputs, cotangents, 1)?;
        for i in (0..inputs.len()).filter(|&i| self.case.learns[i]) {
            let tracked: Vec<_> = (0..inputs.len()).map(|j| j == i).collect();
            let found =
                gradients(&*self.case.op, &inputs, &tracked, cotangents, 1).map_err(|e| e.to_string())?;
            for (j, found) in found.iter().enumerate() {
                match found {
                    Some(found) if j == i => {
                        difference(found, &expected[i], F64).map_err(|w| format!("input {i} {w}"))?;
                    }
                    None if j != i => {}
                    _ => return Err(format!("input {i} is tracked alone, and input {j} got {found:?}")),
                }
            }
        }
        Ok(())
    }

    /// The gradient of every input; zeros stand for inputs that do not learn.
    pub(super) fn gradients(
        &self,
        inputs: &[Tensor],
        cotangents: &Cotangents,
        times: usize,
    ) -> Result<Vec<ArrayD<f64>>, String> {
        let op = &*self.case.op;
        let grads = gradients(op, inputs, &self.case.learns, cotangents, times).map_err(|e| e.to_string())?;
        let each = grads.iter().zip(inputs).enumerate();
        each.map(|(i, (grad, x))| match grad {
            Some(grad) => Ok(grad.numbers()),
            None if self.case.learns[i] => Err(format!("input {i} got no gradient")),
            None => Ok(ArrayD::zeros(&x.shape()[..])),
        })
        .collect()
    }

    pub(super) fn same(
        &self,
        found: &[ArrayD<f64>],
        expected: &[ArrayD<f64>],
        tolerance: f64,
    ) -> Result<(), String> {
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            difference(found, expected, tolerance)
                .map_err(|words| format!("gradient of input {i} {words}"))?;
        }
        Ok(())
    }
}

/// Which elements of an input are moved alone.
fn places(len: usize) -> Vec<usize> {
    match len {
        0..=EACH => (0..len).collect(),
        _ => (0..SAMPLES as u64).map(|i| (rng::unit(41, i) * len as f64) as usize).collect(),
    }
}
