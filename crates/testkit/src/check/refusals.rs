//! Wrong input gives an error with the expected words, and never a panic.

use formwork_tensor::{DType, Result, Tensor};

use super::Report;
use crate::{
    OpCase,
    case::{Wrong, tensors},
    sample,
    sizes::Setting,
};

pub(super) fn check(case: &OpCase, report: &mut Report<'_>) {
    for refusal in &case.refusals {
        report.run(format_args!("refusal: {}", refusal.what), || {
            let outcome = match &refusal.call {
                Wrong::Call(call) => call(),
                Wrong::Shapes(shapes) => {
                    let each = shapes.iter().zip(&case.domains).enumerate();
                    let numbers: Vec<_> =
                        each.map(|(i, (shape, domain))| sample(*domain, i as u64, shape)).collect();
                    (case.op)(&tensors(&numbers, DType::F32, None))
                }
            };
            expect(&outcome, &refusal.words)
        });
    }
    let numbers = case.numbers(&Setting::usual(&case.sizes()));
    for odd in 0..numbers.len() * usize::from(numbers.len() > 1) {
        report.run(format_args!("refusal: input {odd} alone is f64"), || {
            let mut inputs = tensors(&numbers, DType::F32, None);
            inputs[odd] = tensors(&numbers[odd..=odd], DType::F64, None).remove(0);
            expect(&(case.op)(&inputs), "expected f")
        });
    }
}

fn expect(outcome: &Result<Vec<Tensor>>, words: &str) -> std::result::Result<(), String> {
    match outcome {
        Err(error) if error.to_string().contains(words) => Ok(()),
        Err(error) => Err(format!("expected an error with \"{words}\", found \"{error}\"")),
        Ok(outputs) => Err(format!("expected an error with \"{words}\", found {outputs:?}")),
    }
}
