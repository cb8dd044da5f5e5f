//! Values against the reference: types, instruction sets, sizes, and numbers that are not finite.

use formwork_kernels::isa::{self, Isa};
use formwork_tensor::Tensor;
use ndarray::ArrayD;

use super::{Report, TYPES};
use crate::{NonFinite, Numbers, OpCase, case::tensors, difference, sizes::Setting};

pub(super) fn check(case: &OpCase, report: &mut Report<'_>) {
    for setting in Setting::all(&case.sizes()) {
        let numbers = case.numbers(&setting);
        let expected = (case.reference)(&numbers);
        for (dtype, tolerance, _) in TYPES {
            for isa in Isa::available() {
                report.run(format_args!("value: {setting}: {dtype}, {isa:?}"), || {
                    let found = isa::with(isa, || case.call(&tensors(&numbers, dtype, None)))?;
                    compare(&found, &expected, tolerance)?;
                    match found.iter().all(|y| y.dtype() == dtype && !y.is_tracked()) {
                        true => Ok(()),
                        false => Err(format!("expected {dtype} outputs without a history, found {found:?}")),
                    }
                });
            }
        }
    }
}

pub(super) fn compare(found: &[Tensor], expected: &[ArrayD<f64>], tolerance: f64) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("expected {} outputs, found {}", expected.len(), found.len()));
    }
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        difference(found, expected, tolerance).map_err(|words| format!("output {i} {words}"))?;
    }
    Ok(())
}

pub(super) fn check_non_finite(case: &OpCase, report: &mut Report<'_>) {
    let setting = Setting::usual(&case.sizes());
    for special in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for i in 0..case.inputs.len() {
            let mut numbers = case.numbers(&setting);
            let middle = numbers[i].len() / 2;
            let Some(place) = numbers[i].iter_mut().nth(middle) else { continue };
            *place = special;
            let expected = (case.reference)(&numbers);
            for (dtype, tolerance, _) in TYPES {
                report.run(format_args!("non-finite: {special} in input {i}: {setting}: {dtype}"), || {
                    let found = case.call(&tensors(&numbers, dtype, None))?;
                    match case.non_finite {
                        NonFinite::AsReference => compare(&found, &expected, tolerance),
                        NonFinite::NanIsSeen if special.is_nan() => {
                            match found.iter().any(|y| y.numbers().iter().any(|v| v.is_nan())) {
                                true => Ok(()),
                                false => Err("expected a NaN among the outputs, found none".into()),
                            }
                        }
                        NonFinite::NanIsSeen => Ok(()),
                    }
                });
            }
        }
    }
}
