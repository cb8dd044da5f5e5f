//! Strided inputs give what row-major ones give.

use std::ops::Range;

use formwork_tensor::{DType, Tensor};
use ndarray::{ArrayD, Axis, IxDyn, Slice};

use super::{
    Report, TYPES,
    gradients::{Cotangents, Point},
    values::compare,
};
use crate::{F64, OpCase, case::tensors, normals, sizes::Setting, tensor};

/// How an input's memory differs from row-major.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// The axes lie in memory in reverse order.
    Reversed,
    /// Cut out of a larger tensor that is NaN elsewhere.
    Cut,
    /// One axis has stride 0.
    Repeated(usize),
}

pub(super) fn check(case: &OpCase, report: &mut Report<'_>) {
    let setting = Setting::usual(&case.sizes());
    let numbers = case.numbers(&setting);
    let all = 0..numbers.len();
    for (i, x) in numbers.iter().enumerate() {
        let repeated = (0..x.ndim()).filter(|&axis| x.shape()[axis] > 1).map(Layout::Repeated);
        for layout in [Layout::Reversed, Layout::Cut].into_iter().chain(repeated) {
            report.run(format_args!("layout: input {i} {layout:?}: {setting}"), || {
                run(case, &numbers, layout, i..i + 1)
            });
        }
    }
    for layout in [Layout::Reversed, Layout::Cut] {
        report.run(format_args!("layout: every input {layout:?}: {setting}"), || {
            run(case, &numbers, layout, all.clone())
        });
    }
}

fn run(case: &OpCase, numbers: &[ArrayD<f64>], layout: Layout, which: Range<usize>) -> Result<(), String> {
    let mut numbers = numbers.to_vec();
    if let Layout::Repeated(axis) = layout {
        for x in &mut numbers[which.clone()] {
            *x = first(x, axis).broadcast(x.raw_dim()).expect("length 1 along the axis").to_owned();
        }
    }
    let expected = (case.reference)(&numbers);
    for (dtype, tolerance, _) in TYPES {
        let found = case.call(&strided(&numbers, dtype, layout, which.clone())?)?;
        compare(&found, &expected, tolerance).map_err(|words| format!("{dtype}: {words}"))?;
    }
    if !case.learns.contains(&true) {
        return Ok(());
    }
    let cotangents: Cotangents =
        expected.iter().zip(70..).map(|(y, seed)| Some(normals(seed, y.shape()))).collect();
    let row_major = tensors(&numbers, DType::F64, None);
    let strided = strided(&numbers, DType::F64, layout, which)?;
    let point = Point { case, numbers };
    let expected = point.gradients(&row_major, &cotangents, 1)?;
    point.same(&point.gradients(&strided, &cotangents, 1)?, &expected, F64)
}

/// The inputs, some of them under a layout and the others row-major.
fn strided(
    numbers: &[ArrayD<f64>],
    dtype: DType,
    layout: Layout,
    which: Range<usize>,
) -> Result<Vec<Tensor>, String> {
    let mut inputs = tensors(numbers, dtype, None);
    for i in which {
        inputs[i] = laid_out(&numbers[i], dtype, layout).map_err(|e| e.to_string())?;
    }
    Ok(inputs)
}

fn first(x: &ArrayD<f64>, axis: usize) -> ArrayD<f64> {
    x.slice_axis(Axis(axis), Slice::from(0..1)).to_owned()
}

/// The numbers of `x` under a layout.
fn laid_out(x: &ArrayD<f64>, dtype: DType, layout: Layout) -> formwork_tensor::Result<Tensor> {
    let axes: Vec<_> = (0..x.ndim()).rev().collect();
    match layout {
        Layout::Reversed => {
            tensor(&x.view().permuted_axes(IxDyn(&axes)).to_owned(), dtype, None).permute(&axes)
        }
        Layout::Cut => {
            let wide: Vec<_> = x.shape().iter().map(|d| d + 3).collect();
            let mut wide = ArrayD::from_elem(IxDyn(&wide), f64::NAN);
            wide.slice_each_axis_mut(|axis| Slice::from(1..axis.len as isize - 2)).assign(x);
            let mut y = tensor(&wide, dtype, None);
            for (axis, &len) in x.shape().iter().enumerate() {
                y = y.narrow(axis, 1, len)?;
            }
            Ok(y)
        }
        Layout::Repeated(axis) => tensor(&first(x, axis), dtype, None).expand(x.shape()),
    }
}
