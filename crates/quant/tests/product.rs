//! The product with a matrix in blocks, through everything that must hold for any op.

use formwork_kernels::blocks::{Format, decode};
use formwork_module::{Blocks, Pass, Precision, Weight};
use formwork_quant::{Quantised, encode};
use formwork_tensor::Tensor;
use formwork_testkit::{F64, OpCase, assert_close, check, normals};
use ndarray::{Array2, ArrayD, Ix1, Ix2, IxDyn};

/// A matrix `[out, inp]` of normal numbers in blocks.
fn quantised(format: Format, out: usize, inp: usize) -> Quantised {
    let numbers: Vec<f32> = normals(3, &[out, inp]).iter().map(|&v| v as f32).collect();
    let bytes = encode(format, &numbers, inp).expect("numbers that fit").bytes;
    Quantised::new(Blocks::new("up.weight", [out, inp], format, bytes).expect("as many bytes"))
}

fn decoded(weight: &Quantised) -> Array2<f64> {
    let mut numbers = vec![0.0; weight.shape().iter().product()];
    decode(weight.blocks().format(), weight.blocks().bytes(), &mut numbers);
    let numbers = numbers.into_iter().map(f64::from).collect();
    Array2::from_shape_vec(weight.shape(), numbers).expect("as many numbers as the shape holds")
}

const OUT: usize = 19;

/// A pass whose products meet the decoded numbers: what the reference computes.
fn full() -> Pass<'static> {
    Pass::infer().in_precision(Precision::Full)
}

/// `x·Wᵀ + bias` for a weight as wide as `x`, the rows of `x` taken together.
fn expected(weight: &Quantised, inputs: &[ArrayD<f64>]) -> Vec<ArrayD<f64>> {
    let x = &inputs[0];
    let [out, inp] = weight.shape();
    let rows: usize = x.shape()[..x.ndim() - 1].iter().product();
    let flat = x.to_shape((rows, inp)).expect("rows of one width").to_owned();
    let mut y = flat.dot(&decoded(weight).t());
    if let Some(bias) = inputs.get(1) {
        y += &bias.view().into_dimensionality::<Ix1>().expect("a bias [out]");
    }
    let mut shape = x.shape().to_vec();
    shape[x.ndim() - 1] = out;
    vec![y.to_shape(IxDyn(&shape)).expect("the same rows").to_owned()]
}

/// The product with a weight as wide as `x`, for each of the widths.
fn case(format: Format, inputs: &[&str], widths: &[usize]) -> OpCase {
    let weights: Vec<_> = widths.iter().map(|&inp| quantised(format, OUT, inp)).collect();
    let same = weights.clone();
    let op = move |x: &[Tensor]| {
        let weight = of_width(&weights, x[0].shape());
        Ok(vec![weight.apply(&x[0], x.get(1), &mut full())?])
    };
    OpCase::new(&format!("linear in {format}"), inputs, op, move |x| {
        expected(of_width(&same, x[0].shape()), x)
    })
    .dim("d", widths)
    .dim("n", &[OUT])
}

fn of_width<'w>(weights: &'w [Quantised], shape: &[usize]) -> &'w Quantised {
    weights.iter().find(|w| Some(&w.shape()[1]) == shape.last()).expect("a weight for each width")
}

#[test]
fn every_format_is_an_op_like_any_other() {
    let cases: Vec<_> = Format::ALL
        .into_iter()
        .map(|format| match format.block() {
            256 => case(format, &["b t d", "n"], &[256, 512]),
            32 => case(format, &["b t d", "n"], &[32, 96]),
            _ => case(format, &["b t d", "n"], &[13, 1, 37]),
        })
        .collect();
    check(&cases);
}

#[test]
fn a_product_without_a_bias_takes_any_number_of_axes_and_says_what_it_expects() {
    let weight = quantised(Format::Q4_0, OUT, 32);
    let same = weight.clone();
    let fixed = move |x: &[Tensor]| Ok(vec![weight.apply(&x[0], x.get(1), &mut full())?]);
    let plain = OpCase::new("linear", &["t 32", "n"], fixed, move |x| expected(&same, x))
        .dim("n", &[OUT])
        .refuses(
            "a width that differs",
            &[&[2, 7, 33], &[OUT]],
            "expected x [.., 32] for weight [19, 32], found [2, 7, 33]",
        )
        .refuses("a scalar", &[&[], &[OUT]], "expected x [.., 32] for weight [19, 32], found []")
        .refuses("a bias that differs", &[&[2, 32], &[7]], "expected bias [19], found [7]");
    check(&[case(Format::Q5_1, &["d"], &[64]), case(Format::Q8_0, &["b h t d"], &[64, 32]), plain]);
}

#[test]
fn rows_by_id_and_the_dense_matrix_are_the_decoded_numbers() {
    for format in [Format::Q4_1, Format::Q6_K, Format::Bf16] {
        let weight = quantised(format, 11, 256);
        let table = decoded(&weight);
        let mut pass = Pass::train(0, 0);
        let dense = weight.to_dense(&mut pass).unwrap();
        assert_close(&dense, &table, F64, "dense");
        let rows = weight.gather(&[10, 0, 3, 3, 7, 1], &[2, 3], &mut pass).unwrap();
        assert_eq!(**rows.shape(), [2, 3, 256]);
        for (row, id) in [10, 0, 3, 3, 7, 1].into_iter().enumerate() {
            let found = rows.reshape(&[6, 256]).unwrap().narrow(0, row, 1).unwrap().reshape(&[256]).unwrap();
            assert_close(&found, &table.row(id).to_owned(), F64, "a row");
        }
        assert!(!rows.is_tracked() && !dense.is_tracked());
        assert_eq!(**weight.gather(&[], &[0, 2], &mut pass).unwrap().shape(), [0, 2, 256]);
    }
}

#[test]
fn ids_and_shapes_that_do_not_fit_are_refused_in_words() {
    let weight = quantised(Format::Q8_0, 11, 32);
    let refuse = |ids: &[u32], dims: &[usize], words: &str| {
        let error = weight.gather(ids, dims, &mut Pass::infer()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refuse(&[3, 11], &[2], "gather: expected ids below 11, the rows of the table, found 11");
    refuse(&[3], &[2], "gather: expected 2 ids for [2], found 1");
    refuse(&[3], &[1; 6], "at most 6 axes");
    refuse(&[3], &[1; 7], "at most 6 axes");
}

#[test]
fn the_type_and_the_pool_of_rows_are_those_asked_for() {
    let pool = formwork_tensor::Pool::new();
    let weight = quantised(Format::Q4_0, 5, 64).dtype(formwork_tensor::DType::F64).pool(pool.clone());
    let rows = weight.gather(&[2], &[1], &mut Pass::infer()).unwrap();
    assert_eq!(rows.dtype(), formwork_tensor::DType::F64);
    assert_eq!(pool.stats().taken, 1);
    let table = decoded(&weight).into_dimensionality::<Ix2>().unwrap();
    assert_eq!(rows.to_vec::<f64>().unwrap(), table.row(2).to_vec());
}
