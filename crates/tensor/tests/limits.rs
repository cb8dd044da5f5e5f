//! What an op does at the edge of what it can take.

use formwork_tensor::{
    Axes, DType, Error, Result, Tensor, dispatch,
    ops::{AddScaled, Binary, Cat, Gather, Linear, MatMul, Softmax, Sum, Unary, View},
};

fn numbers(dims: &[usize]) -> Result<Tensor> {
    Tensor::zeros(dims, DType::F32, None)
}

#[test]
fn a_wrong_number_of_inputs_is_an_error_and_not_a_panic() {
    let x = numbers(&[2, 2]).unwrap();
    let (none, four): (&[&Tensor], &[&Tensor]) = (&[], &[&x, &x, &x, &x]);
    let check = |name: &str, found: Result<Tensor>| {
        let words = found.expect_err("refused").to_string();
        assert!(words.starts_with(name) && words.contains("expected"), "{words}");
    };
    for inputs in [none, four] {
        check("mul", Tensor::apply1(Binary::Mul, inputs));
        check("add_scaled", Tensor::apply1(AddScaled { scale: 1.0 }, inputs));
        check("gather", Gather::new(&[0], &[1]).and_then(|op| Tensor::apply1(op, inputs)));
        check("linear", Tensor::apply1(Linear::default(), inputs));
        check("matmul", Tensor::apply1(MatMul, inputs));
        check("softmax", Tensor::apply1(Softmax, inputs));
        check("sum", Tensor::apply1(Sum { axis: None, scale: 1.0 }, inputs));
        check("tanh", Tensor::apply1(Unary::Tanh, inputs));
        check("permute", Tensor::apply1(View::Permute(Axes::new(&[1, 0]).unwrap()), inputs));
    }
    check("cat", Tensor::apply1(Cat { axis: 0 }, none));
}

#[test]
fn a_result_with_too_many_axes_or_elements_is_refused() {
    let deep = numbers(&[1; 6]).unwrap();
    let flat = deep.reshape(&[1, 1]).unwrap();
    let refused =
        |found: Result<Tensor>| found.map(|_| ()).map_err(|e: Error| e.to_string()).expect_err("refused");
    assert!(refused(flat.gather(&[0], &[1; 6])).contains("at most 6 axes"));
    assert!(refused(Tensor::zeros(&[usize::MAX / 2, 3], DType::F32, None)).contains("a count of elements"));
    assert!(refused(Tensor::zeros(&[usize::MAX], DType::F32, None)).contains("a count of elements"));
    assert!(refused(Tensor::zeros(&[0, usize::MAX, 2], DType::F32, None)).contains("a count of elements"));
}

#[test]
fn a_sum_of_a_million_f32_keeps_six_digits() {
    let x = Tensor::full(0.1, &[1_000_000], DType::F32, None).unwrap();
    let found = x.sum().unwrap().item().unwrap();
    let expected = f64::from(0.1f32) * 1e6;
    assert!((found - expected).abs() < expected * 1e-6, "{found}");
}

#[test]
fn dispatch_names_the_type() {
    let bytes = |dtype: DType| dispatch!(dtype, T => size_of::<T>());
    assert_eq!([bytes(DType::F32), bytes(DType::F64)], [4, 8]);
}

#[test]
fn a_row_of_nothing_but_minus_infinity_has_softmax_0() {
    let x = Tensor::from_vec(vec![f32::NEG_INFINITY; 3], &[1, 3]).unwrap();
    assert_eq!(x.softmax().unwrap().to_vec::<f32>().unwrap(), [0.0; 3]);
}
