//! Every activation against its formula, plain and gated, through the op table.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use formwork_activation::{ActivationConfig, Gelu, GeluTanh, Relu, Silu};
use formwork_module::config::{Custom, read};
use formwork_testkit::{Domain, OpCase, check};
use serde_json::json;

struct Case {
    name: &'static str,
    config: ActivationConfig,
    formula: fn(f64) -> f64,
    /// ReLU has a kink at 0, where a finite difference means nothing.
    domain: Domain,
}

fn all() -> Vec<Case> {
    let relu = |x: f64| if x <= 0.0 { 0.0 } else { x };
    let gelu = |x: f64| x * (1.0 + libm::erf(x * FRAC_1_SQRT_2)) / 2.0;
    let gelu_tanh = |x: f64| x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh()) / 2.0;
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let case = |name, config, formula, domain| Case { name, config, formula, domain };
    vec![
        case("relu", Relu {}.into(), relu, Domain::AwayFromZero),
        case("gelu", Gelu {}.into(), gelu, Domain::Normal),
        case("gelu_tanh", GeluTanh {}.into(), gelu_tanh, Domain::Normal),
        case("silu", Silu {}.into(), silu, Domain::Normal),
    ]
}

#[test]
fn activations_are_their_formulas() {
    for Case { name, config, formula, domain } in all() {
        let plain = config.build().unwrap();
        let gated = config.build().unwrap();
        check(&[
            OpCase::new(
                name,
                &["b t f"],
                move |x| Ok(vec![plain.apply(&x[0])?]),
                move |x| vec![x[0].mapv(formula)],
            )
            .domain(0, domain),
            OpCase::new(
                &format!("gated {name}"),
                &["b t f", "b t f"],
                move |x| Ok(vec![gated.gated(&x[0], &x[1])?]),
                move |x| vec![x[0].mapv(formula) * &x[1]],
            )
            .domain(0, domain)
            .refuses(
                "widths that differ",
                &[&[2, 3], &[2, 5]],
                "expected up [2, 3] as the gate, found [2, 5]",
            ),
        ]);
    }
}

#[test]
fn large_inputs_reach_the_asymptotes() {
    for Case { name, config, .. } in all() {
        let x = vec![-1e4f32, -60.0, 60.0, 1e4];
        let x = formwork_module::Tensor::from_vec(x, &[4]).unwrap();
        let y = config.build().unwrap().apply(&x).unwrap().to_vec::<f32>().unwrap();
        assert!(y[0].abs() < 1e-20 && y[1].abs() < 1e-20, "{name}: {y:?}");
        assert_eq!(y[2..], [60.0, 1e4], "{name}");
    }
}

#[test]
fn configs_are_read_and_written_alike() {
    for Case { name, config, .. } in all() {
        let json = json!({"kind": name});
        assert_eq!(read::<ActivationConfig>(json.clone()).unwrap(), config);
        assert_eq!(serde_json::to_value(config).unwrap(), json);
        let error = read::<ActivationConfig>(json!({"kind": name, "slope": 1})).unwrap_err().to_string();
        assert!(error.starts_with("slope: expected"), "{error}");
    }
    let error = read::<ActivationConfig>(json!({"kind": "gelu_tan"})).unwrap_err().to_string();
    assert!(error.ends_with("did you mean `gelu_tanh`?"), "{error}");
    let mine = ActivationConfig::Custom(Custom { name: "mine".into(), params: json!(null) });
    let error = mine.build().unwrap_err().to_string();
    assert!(error.starts_with("custom activation: expected a hook of the builder named `mine`"), "{error}");
}
