//! Both norms against their formulas, through the op table.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_module::{DType, Tensor};
use formwork_norm::{Normalise, Statistic};
use formwork_testkit::{F64, OpCase, assert_close, check, gradients, normals, tensor};
use ndarray::{ArrayD, Axis};

/// Large, so that a constant row (the table has some) does not blow rounding errors up by `1 / sqrt(eps)`.
const EPS: f64 = 0.1;
const LAYER: Normalise = Normalise { statistic: Statistic::MeanAndVariance, eps: EPS };
const RMS: Normalise = Normalise { statistic: Statistic::MeanSquare, eps: EPS };

/// The formula, a row at a time.
fn formula(
    statistic: Statistic,
    u: &ArrayD<f64>,
    gain: &ArrayD<f64>,
    bias: Option<&ArrayD<f64>>,
) -> ArrayD<f64> {
    let mut y = u.clone();
    for mut row in y.lanes_mut(Axis(u.ndim() - 1)) {
        let d = row.len() as f64;
        if statistic == Statistic::MeanAndVariance {
            let mean = row.sum() / d;
            row.mapv_inplace(|v| v - mean);
        }
        let deviation = (row.mapv(|v| v * v).sum() / d + EPS).sqrt();
        row.mapv_inplace(|v| v / deviation);
    }
    y *= gain;
    match bias {
        Some(bias) => y + bias,
        None => y,
    }
}

#[test]
fn norms_are_their_formulas() {
    const LAYER_FORMULA: Statistic = Statistic::MeanAndVariance;
    const RMS_FORMULA: Statistic = Statistic::MeanSquare;
    check(&[
        OpCase::new(
            "layer_norm",
            &["b t d", "d", "d"],
            |x| Ok(vec![LAYER.apply(&x[0], &x[1], Some(&x[2]))?]),
            |x| vec![formula(LAYER_FORMULA, &x[0], &x[1], Some(&x[2]))],
        )
        .refuses(
            "another width",
            &[&[2, 3], &[5], &[5]],
            "layer_norm: expected x [.., 5] for gain [5], found [2, 3]",
        )
        .refuses("a scalar", &[&[], &[5], &[5]], "expected x [.., 5]")
        .refuses("another bias", &[&[2, 3], &[3], &[2]], "expected bias [3], found [2]")
        .refuses(
            "a gain of two axes",
            &[&[2, 3], &[1, 3], &[3]],
            "expected a gain [d], found [1, 3]",
        ),
        OpCase::new(
            "layer_norm without bias",
            &["t d", "d"],
            |x| Ok(vec![LAYER.apply(&x[0], &x[1], None)?]),
            |x| vec![formula(LAYER_FORMULA, &x[0], &x[1], None)],
        ),
        OpCase::new(
            "rms_norm",
            &["b t d", "d"],
            |x| Ok(vec![RMS.apply(&x[0], &x[1], None)?]),
            |x| vec![formula(RMS_FORMULA, &x[0], &x[1], None)],
        )
        .refuses(
            "another width",
            &[&[2, 3], &[5]],
            "rms_norm: expected x [.., 5] for gain [5], found [2, 3]",
        ),
    ]);
}

#[test]
fn the_residual_sum_and_its_norm_come_together() {
    // Both outputs go on, as in a block: the gradient that comes past the norm joins that through it.
    let block = |(sum, y): (Tensor, Tensor)| Ok(vec![y.clone(), sum.add_scaled(&y, 0.5)?]);
    let reference = |sum: ArrayD<f64>, y: ArrayD<f64>| vec![y.clone(), sum + y * 0.5];
    check(&[
        OpCase::new(
            "add and layer_norm",
            &["b t d", "b t d", "d", "d"],
            move |x| block(LAYER.add_apply(&x[0], &x[1], &x[2], Some(&x[3]))?),
            move |x| {
                let sum = &x[0] + &x[1];
                let y = formula(Statistic::MeanAndVariance, &sum, &x[2], Some(&x[3]));
                reference(sum, y)
            },
        )
        .refuses(
            "another delta",
            &[&[2, 3], &[3, 3], &[3], &[3]],
            "layer_norm: expected delta [2, 3] as x, found [3, 3]",
        ),
        OpCase::new(
            "add and rms_norm",
            &["b t d", "b t d", "d"],
            move |x| block(RMS.add_apply(&x[0], &x[1], &x[2], None)?),
            move |x| {
                let sum = &x[0] + &x[1];
                let y = formula(Statistic::MeanSquare, &sum, &x[2], None);
                reference(sum, y)
            },
        ),
    ]);
}

#[test]
fn a_sum_used_alone_passes_its_gradient_on_and_leaves_the_gain_without_one() {
    let [x, delta, gain, dsum] = [&[2, 5, 3][..], &[2, 5, 3], &[3], &[2, 5, 3]];
    let inputs = [x, delta, gain].map(|dims| tensor(&normals(1, dims), DType::F64, None));
    let dsum = normals(2, dsum);
    let op = |x: &[Tensor]| RMS.add_apply(&x[0], &x[1], &x[2], None).map(|(sum, y)| vec![sum, y]);
    let grads = gradients(&op, &inputs, &[true; 3], &[Some(dsum.clone()), None], 1).unwrap();
    for grad in &grads[..2] {
        assert_close(grad.as_ref().unwrap(), &dsum, F64, "gradient of a term");
    }
    assert!(grads[2].is_none(), "a gain that nothing depends on must show as forgotten");
}

#[test]
fn a_small_eps_is_added_under_the_root() {
    for (norm, statistic) in [(LAYER, Statistic::MeanAndVariance), (RMS, Statistic::MeanSquare)] {
        let x = normals(5, &[3, 7]) * 1e-3; // variance near 1e-6
        let one = ArrayD::ones(vec![7]);
        let found = |eps: f64| {
            let [x, one] = [&x, &one].map(|array| tensor(array, DType::F64, None));
            Normalise { eps, ..norm }.apply(&x, &one, None).unwrap()
        };
        // Scaling rows and root of eps alike changes nothing.
        let scale = (EPS / 1e-6).sqrt();
        assert_close(&found(1e-6), &formula(statistic, &(&x * scale), &one, None), 1e-11, "scaled");
    }
}
