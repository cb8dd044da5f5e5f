//! The table of this crate's ops: every check of the harness on every one of them.

use formwork_tensor::{
    DType, Result, Tensor, Variable,
    ops::{Linears, Operands},
};
use formwork_testkit::{Domain, OpCase, check, normals, tensor};
use ndarray::{ArrayD, Axis, Dimension, IxDyn, Slice};

type Array = ArrayD<f64>;

/// A case whose op gives one output.
fn one(
    name: &str,
    inputs: &[&str],
    op: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    reference: impl Fn(&[Array]) -> Array + 'static,
) -> OpCase {
    OpCase::new(name, inputs, move |x| Ok(vec![op(x)?]), move |x| vec![reference(x)])
}

/// The usual shapes that broadcast, in both orders.
fn binary(name: &str, op: fn(&Tensor, &Tensor) -> Result<Tensor>, naive: fn(f64, f64) -> f64) -> Vec<OpCase> {
    let shapes =
        [["b t d", "b t d"], ["b t d", "d"], ["d", "b t d"], ["b 1 d", "t 1"], ["", "t d"], ["t 1", "t d"]];
    let case = |[a, b]: [&str; 2]| {
        let name = format!("{name} [{a}] [{b}]");
        let reference = move |x: &[Array]| {
            let shape = broadcast(x[0].shape(), x[1].shape());
            let spread = |x: &Array| x.broadcast(IxDyn(&shape)).expect("a shape that broadcasts").to_owned();
            let (a, b) = (spread(&x[0]), spread(&x[1]));
            Array::from_shape_fn(IxDyn(&shape), |i| naive(a[&i], b[&i]))
        };
        one(&name, &[a, b], move |x| op(&x[0], &x[1]), reference).domain(1, Domain::AwayFromZero).refuses(
            "lengths that differ",
            &[&[2, 3], &[2, 5]],
            "broadcasts with [2, 3], found [2, 5]",
        )
    };
    shapes.into_iter().map(case).collect()
}

fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank).map(|i| if at(a, i) == 1 { at(b, i) } else { at(a, i) }).collect()
}

#[test]
fn sums_differences_products_and_quotients() {
    check(&binary("add", Tensor::add, |a, b| a + b));
    check(&binary("sub", Tensor::sub, |a, b| a - b));
    check(&binary("mul", Tensor::mul, |a, b| a * b));
    check(&binary("div", Tensor::div, |a, b| a / b));
}

#[test]
fn a_tensor_combined_with_itself() {
    check(&[
        one("x + x", &["t d"], |x| x[0].add(&x[0]), |x| &x[0] + &x[0]),
        one("x · x", &["t d"], |x| x[0].mul(&x[0]), |x| &x[0] * &x[0]),
        one("x / x", &["t d"], |x| x[0].div(&x[0]), |x| &x[0] / &x[0]).domain(0, Domain::AwayFromZero),
    ]);
}

#[test]
fn the_residual_connection() {
    check(&[one(
        "add_scaled",
        &["b t d", "b t d"],
        |x| x[0].add_scaled(&x[1], -0.7),
        |x| &x[0] + &x[1] * -0.7,
    )
    .refuses("shapes that would broadcast", &[&[2, 3], &[3]], "two of [2, 3], found [3]")]);
}

#[test]
fn functions_of_one_tensor() {
    let case = |name: &str, op: fn(&Tensor) -> Result<Tensor>, naive: fn(f64) -> f64| {
        one(name, &["t d"], move |x| op(&x[0]), move |x| x[0].mapv(naive))
    };
    check(&[
        case("neg", Tensor::neg, |x| -x),
        case("scale", |x| x.scale(0.3), |x| 0.3 * x),
        case("offset", |x| x.offset(-1.5), |x| x - 1.5),
        case("exp", Tensor::exp, f64::exp),
        case("ln", Tensor::ln, f64::ln).domain(0, Domain::Positive),
        case("sqrt", Tensor::sqrt, f64::sqrt).domain(0, Domain::Positive),
        case("tanh", Tensor::tanh, f64::tanh),
        case("sigmoid", Tensor::sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
    ]);
}

#[test]
fn other_views_of_the_same_memory() {
    let permuted = |axes: &'static [usize]| {
        move |x: &[Array]| x[0].view().permuted_axes(IxDyn(axes)).as_standard_layout().into_owned()
    };
    check(&[
        one(
            "reshape",
            &["b t d"],
            |x| {
                let [b, t, d] = x[0].dims()?;
                x[0].reshape(&[t * d, b])
            },
            |x| {
                let (b, rest) = (x[0].shape()[0], x[0].shape()[1..].iter().product());
                Array::from_shape_vec(IxDyn(&[rest, b]), x[0].iter().copied().collect()).expect("as many")
            },
        )
        .refuses_call(
            "another count",
            || Ok(vec![numbers(&[2, 3])?.reshape(&[5])?]),
            "5 elements for [5], found [2, 3]",
        ),
        one("permute", &["b t d"], |x| x[0].permute(&[2, 0, 1]), permuted(&[2, 0, 1]))
            .refuses(
                "another rank",
                &[&[2, 3]],
                "permute: expected each axis of [2, 3] once, found [2, 0, 1]",
            )
            .refuses_call("an axis twice", || Ok(vec![numbers(&[2, 3])?.permute(&[1, 1])?]), "found [1, 1]"),
        one("permute back", &["b t d"], |x| x[0].permute(&[2, 0, 1])?.permute(&[1, 2, 0]), |x| x[0].clone()),
        one("transpose", &["b t d"], |x| x[0].transpose(0, 2), permuted(&[2, 1, 0])).refuses(
            "another rank",
            &[&[2, 3]],
            "two axes of [2, 3], found 0 and 2",
        ),
        one(
            "narrow",
            &["b t d"],
            |x| x[0].narrow(1, 1, 3),
            |x| x[0].slice_axis(Axis(1), Slice::from(1..4)).to_owned(),
        )
        .dim("t", &[5, 4, 37])
        .refuses(
            "too short an axis",
            &[&[2, 3, 5]],
            "a range inside [2, 3, 5], found axis 1 from 1, 3 long",
        ),
        one(
            "narrow to nothing",
            &["t d"],
            |x| x[0].narrow(0, 5, 0),
            |x| x[0].slice_axis(Axis(0), Slice::from(5..5)).to_owned(),
        )
        .dim("t", &[5, 7]),
        one(
            "expand",
            &["t 1 d"],
            |x| {
                let [t, _, d] = x[0].dims()?;
                x[0].expand(&[3, t, 7, d])
            },
            |x| {
                let shape = [3, x[0].shape()[0], 7, x[0].shape()[2]];
                x[0].broadcast(IxDyn(&shape)).expect("length 1 where it is repeated").to_owned()
            },
        )
        .refuses_call("a longer axis", || Ok(vec![numbers(&[2, 3])?.expand(&[4, 3])?]), "expand")
        .refuses_call(
            "fewer axes",
            || Ok(vec![numbers(&[1, 3])?.expand(&[3])?]),
            "[1, 3] broadcasts to, found [3]",
        ),
    ]);
}

#[test]
fn sums_and_means() {
    let along = |axis| {
        let op = move |x: &[Tensor]| x[0].sum_axis(axis);
        one(&format!("sum over axis {axis}"), &["b t d"], op, move |x| {
            x[0].sum_axis(Axis(axis)).insert_axis(Axis(axis))
        })
    };
    let mean = |axis| {
        let op = move |x: &[Tensor]| x[0].mean_axis(axis);
        let reference = move |x: &[Array]| {
            let count = x[0].shape()[axis] as f64;
            x[0].sum_axis(Axis(axis)).insert_axis(Axis(axis)).mapv(|s| s / count)
        };
        one(&format!("mean over axis {axis}"), &["b t d"], op, reference)
    };
    check(&[
        one("sum", &["b t d"], |x| x[0].sum(), |x| ndarray::arr0(x[0].sum()).into_dyn()),
        one("sum of a scalar", &[""], |x| x[0].sum(), |x| x[0].clone()),
        // Longer than a row of the summation, and no multiple of one.
        one("sum of many", &["n"], |x| x[0].sum(), |x| ndarray::arr0(x[0].sum()).into_dyn())
            .dim("n", &[2500, 1024, 1025]),
        one(
            "mean",
            &["b t d"],
            |x| x[0].mean(),
            |x| ndarray::arr0(x[0].sum() / x[0].len() as f64).into_dyn(),
        ),
        along(0),
        along(1),
        along(2),
        mean(0),
        mean(1),
        mean(2).refuses("an axis that is not there", &[&[2, 3]], "sum: expected an axis of [2, 3], found 2"),
    ]);
}

fn product(a: &Array, b: &Array) -> Array {
    let (ra, rb) = (a.ndim(), b.ndim());
    let (m, k, n) = (a.shape()[ra - 2], a.shape()[ra - 1], b.shape()[rb - 1]);
    let batch = broadcast(&a.shape()[..ra - 2], &b.shape()[..rb - 2]);
    let spread = |x: &Array, rows: usize, cols: usize| {
        let shape = [&batch[..], &[rows, cols]].concat();
        x.broadcast(IxDyn(&shape)).expect("a batch that broadcasts").to_owned()
    };
    let (a, b) = (spread(a, m, k), spread(b, k, n));
    Array::from_shape_fn(IxDyn(&[&batch[..], &[m, n]].concat()), |i| {
        let (batch, row, col) = (&i.slice()[..batch.len()], i[batch.len()], i[batch.len() + 1]);
        let at = |x: &Array, r: usize, c: usize| x[IxDyn(&[batch, &[r, c][..]].concat())];
        (0..k).map(|j| at(&a, row, j) * at(&b, j, col)).sum()
    })
}

#[test]
fn matrix_products() {
    let case = |a: &'static str, b: &'static str| {
        let op = |x: &[Tensor]| x[0].matmul(&x[1]);
        one(&format!("matmul [{a}] [{b}]"), &[a, b], op, |x| product(&x[0], &x[1]))
            .refuses(
                "depths that differ",
                &[&[2, 3], &[5, 7]],
                "[.., m, k] and [.., k, n], found [2, 3] and [5, 7]",
            )
            .refuses("a vector", &[&[3], &[3, 7]], "found [3] and [3, 7]")
            .refuses("batches that differ", &[&[2, 5, 3], &[3, 3, 7]], "broadcasts with [2], found [3]")
    };
    check(&[
        case("t d", "d f"),
        case("b t d", "b d f"),
        case("b h t e", "b h e s"),
        case("b t d", "d f"),
        case("t d", "b d f"),
        case("b 1 t e", "h e s"),
    ]);
    let transposed = |x: &[Tensor]| x[0].matmul(&x[1].transpose(1, 2)?);
    check(&[one("matmul with a transposed view", &["b t e", "b s e"], transposed, |x| {
        product(&x[0], &x[1].view().permuted_axes(IxDyn(&[0, 2, 1])).to_owned())
    })]);
}

#[test]
fn the_linear_layer() {
    let reference = |x: &[Array]| {
        let (width, out) = (x[1].shape()[1], x[1].shape()[0]);
        let rows = x[0].shape()[..x[0].ndim() - 1].iter().product::<usize>();
        let flat = x[0].to_shape(IxDyn(&[rows, width])).expect("whole rows").into_owned();
        let y = product(&flat, &x[1].t().to_owned().into_dyn());
        let y = if let Some(bias) = x.get(2) { y + bias } else { y };
        y.into_shape_with_order(IxDyn(&[&x[0].shape()[..x[0].ndim() - 1], &[out]].concat())).expect("as many")
    };
    check(&[
        one("linear", &["b t d", "f d"], |x| x[0].linear(&x[1], None), reference)
            .refuses(
                "widths that differ",
                &[&[2, 7, 5], &[4, 3]],
                "x [.., 3] for weight [4, 3], found [2, 7, 5]",
            )
            .refuses("a weight of three axes", &[&[2, 3], &[1, 4, 3]], "a weight [out, in], found [1, 4, 3]")
            .refuses("a scalar", &[&[], &[4, 3]], "x [.., 3] for weight [4, 3], found []"),
        one("linear of one row", &["d", "f d"], |x| x[0].linear(&x[1], None), reference),
        one("linear with bias", &["b t d", "f d", "f"], |x| x[0].linear(&x[1], Some(&x[2])), reference)
            .refuses("a bias of another width", &[&[2, 3], &[4, 3], &[3]], "bias [4], found [3]"),
    ]);
}

#[test]
fn several_linear_layers_over_one_input() {
    // The outputs side by side, so that each is used.
    let all = |products: usize| {
        move |x: &[Tensor]| {
            let op = Linears { products, operands: Operands::Own };
            let outputs = Tensor::apply(op, &x.iter().collect::<Vec<_>>())?;
            Tensor::cat(&outputs.iter().collect::<Vec<_>>(), 1)
        }
    };
    let reference = |products: usize| {
        move |x: &[Array]| {
            let one = |i: usize| {
                let y = product(&x[0], &x[1 + i].t().to_owned().into_dyn());
                if let Some(bias) = x.get(1 + products + i) { y + bias } else { y }
            };
            let outputs: Vec<_> = (0..products).map(one).collect();
            ndarray::concatenate(Axis(1), &outputs.iter().map(|y| y.view()).collect::<Vec<_>>())
                .expect("one height")
        }
    };
    check(&[
        one("one of one", &["t d", "f d"], all(1), reference(1)),
        one("gate and up", &["t d", "f d", "f d"], all(2), reference(2)).refuses(
            "a weight of another width",
            &[&[2, 3], &[5, 3], &[4, 7]],
            "x [.., 7] for weight [4, 7], found [2, 3]",
        ),
        one("queries, keys, values", &["t d", "f d", "h d", "h d", "f", "h", "h"], all(3), reference(3))
            .refuses(
                "one bias for three",
                &[&[2, 3], &[5, 3], &[5, 3], &[5, 3], &[5]],
                "a bias for each or for none",
            ),
        one("four", &["t d", "f d", "h d", "e d", "s d"], all(4), reference(4)),
    ]);
}

#[test]
fn products_together_have_the_bits_of_one_after_another() {
    let bits = |x: &Tensor| x.to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let run = |products: &dyn Fn(&[Tensor; 3]) -> [Tensor; 2]| {
        let of = |seed, dims: &[usize]| Variable::new(tensor(&normals(seed, dims), DType::F32, None));
        let leaves = [of(1, &[5, 13]), of(2, &[7, 13]), of(3, &[7, 13])];
        let [a, b] = products(&[0, 1, 2].map(|i| leaves[i].tensor()));
        let y = a.mul(&b).unwrap();
        y.sum().unwrap().backward().unwrap();
        (bits(&y), leaves.map(|leaf| bits(&leaf.grad().unwrap())))
    };
    let together = run(&|[x, v, w]| {
        let op = Linears { products: 2, operands: Operands::Own };
        Tensor::apply(op, &[x, v, w]).unwrap().exactly().unwrap()
    });
    let apart = run(&|[x, v, w]| [x.linear(v, None).unwrap(), x.linear(w, None).unwrap()]);
    assert_eq!(together, apart);
}

#[test]
fn a_product_that_nothing_uses_leaves_its_weight_without_a_gradient() {
    let [x, v, w] = [[2, 3], [5, 3], [5, 3]].map(|dims| Variable::new(numbers(&dims).unwrap()));
    let op = Linears { products: 2, operands: Operands::Own };
    let outputs = Tensor::apply(op, &[&x.tensor(), &v.tensor(), &w.tensor()]).unwrap();
    outputs[1].sum().unwrap().backward().unwrap();
    assert!(x.grad().is_some() && v.grad().is_none() && w.grad().is_some());
}

#[test]
fn softmax_over_the_last_axis() {
    let row = |row: ndarray::ArrayView1<'_, f64>| {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exp: Vec<_> = row.iter().map(|x| (x - top).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.into_iter().map(move |e| e / sum)
    };
    let reference = move |x: &[Array]| {
        let numbers = x[0].rows().into_iter().flat_map(row).collect();
        Array::from_shape_vec(x[0].raw_dim(), numbers).expect("as many")
    };
    check(&[
        one("softmax", &["b t s"], |x| x[0].softmax(), reference),
        one("softmax of a row", &["s"], |x| x[0].softmax(), reference),
        one(
            "softmax of a scalar",
            &[""],
            |x| x[0].softmax(),
            |x| x[0].mapv(|v| if v.is_finite() { 1.0 } else { v / v }),
        )
        .non_finite(formwork_testkit::NonFinite::NanIsSeen),
    ]);
}

#[test]
fn rows_of_a_table() {
    const IDS: [u32; 6] = [3, 0, 3, 1, 4, 3];
    let reference = |x: &[Array]| {
        let width = x[0].shape()[1];
        Array::from_shape_fn(IxDyn(&[2, 3, width]), |i| x[0][[IDS[i[0] * 3 + i[1]] as usize, i[2]]])
    };
    check(&[
        one("gather", &["n d"], |x| x[0].gather(&IDS, &[2, 3]), reference)
            .dim("n", &[5, 19])
            .refuses(
                "an id past the table",
                &[&[4, 3]],
                "gather: expected ids below 4, the rows of the table, found 4",
            )
            .refuses("an empty table", &[&[0, 3]], "ids below 0")
            .refuses("a table of one axis", &[&[5]], "a table [n, d], found [5]")
            .refuses_call(
                "a shape that is not the ids'",
                || Ok(vec![numbers(&[5, 3])?.gather(&IDS, &[4])?]),
                "4 ids for [4], found 6",
            ),
        one(
            "gather of nothing",
            &["n d"],
            |x| x[0].gather(&[], &[0]),
            |x| Array::zeros(IxDyn(&[0, x[0].shape()[1]])),
        ),
    ]);
}

#[test]
fn tensors_joined_along_an_axis() {
    let case = |name: &str, inputs: &[&str], axis: usize| {
        let op = move |x: &[Tensor]| Tensor::cat(&x.iter().collect::<Vec<_>>(), axis);
        one(name, inputs, op, move |x| {
            let views: Vec<_> = x.iter().map(|x| x.view()).collect();
            ndarray::concatenate(Axis(axis), &views).expect("shapes that fit")
        })
    };
    check(&[
        case("cat over axis 0", &["b d", "t d", "s d"], 0).refuses(
            "widths that differ",
            &[&[2, 3], &[2, 5], &[1, 3]],
            "[2, 3] but for axis 0, found [2, 5]",
        ),
        case("cat over axis 1", &["b t d", "b s d"], 1)
            .refuses("another rank", &[&[2, 3, 5], &[2, 3]], "[2, 3, 5] but for axis 1, found [2, 3]")
            .refuses("an axis that is not there", &[&[2], &[2]], "cat: expected an axis of [2], found 1"),
        case("cat of one", &["t d"], 1).refuses_call(
            "cat of none",
            || Ok(vec![Tensor::cat(&[], 0)?]),
            "at least one tensor",
        ),
    ]);
}

fn numbers(dims: &[usize]) -> Result<Tensor> {
    Tensor::zeros(dims, DType::F32, None)
}
