//! RoPE scaling against the reference implementation, against the formula, and while a text grows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_module::{
    DType, DenseCache, Init, Keys, KvCache, Pass, Position, RowSpan, Rows, Scope, Seed, Tensor, config::read,
};
use formwork_position::{
    DynamicScaling, FactorsScaling, Llama3Scaling, Pairs, Place, PositionConfig, Rope, RopeConfig,
    RopeScaling, YarnScaling,
};
use formwork_testkit::{F64, OpCase, assert_close, check, normals, tensor};
use ndarray::{ArrayD, Axis, Slice};
use serde_json::{Value, json};

/// The reference in single precision: a power with an error of some units in the last place of 6e-8.
const THEIRS: f64 = 1e-6;
/// The same formula in double precision, perhaps in another order.
const EXACT: f64 = 1e-13;
/// A cosine of the reference: the angle, up to 41, is rounded to single precision before.
const ANGLE: f64 = 5e-6;

const E: usize = 6;

fn rope(config: &RopeConfig, e: usize) -> Rope {
    let place = Place { dim: e, context: 7, heads: None, init: Init::Constant(0.0) };
    Rope::new(&Scope::root(&Seed::new(1)), &place, config).unwrap()
}

fn dynamic(pairs: Pairs) -> RopeConfig {
    let scaling = Some(RopeScaling::Dynamic(DynamicScaling { factor: 3.0, original_context: 4 }));
    RopeConfig { scaling, ..RopeConfig::new(100.0, pairs) }
}

fn yarn() -> RopeConfig {
    let scaling = Some(RopeScaling::Yarn(YarnScaling { mscale: Some(2.0), ..YarnScaling::new(4.0, 64) }));
    RopeConfig { scaling, ..RopeConfig::new(100.0, Pairs::Halves) }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_relative(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / expected.abs();
        assert!(error <= tolerance, "{what}[{i}]: expected {expected}, found {found}, {error:e} off");
    }
}

/// The golden cases, each with its config.
fn cases() -> Vec<(String, RopeConfig, Value)> {
    let golden: Value = serde_json::from_str(include_str!("golden/rope_scaling.json")).unwrap();
    let case = |case: &Value| {
        let config = read::<RopeConfig>(case["config"].clone()).unwrap();
        (case["name"].as_str().unwrap().to_owned(), config, case.clone())
    };
    golden["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn spectra_are_those_of_the_reference() {
    let mut kinds = std::collections::BTreeSet::new();
    for (name, config, case) in cases() {
        kinds.insert(case["config"]["scaling"]["kind"].to_string());
        let size = |field: &str| case[field].as_u64().unwrap() as usize;
        let found = config.spectrum(size("head_dim"), size("length")).unwrap();
        for (precision, tolerance) in [("f32", THEIRS), ("f64", EXACT)] {
            let expected = &case[precision];
            let frequencies = numbers(&expected["frequencies"]);
            assert_relative(&found.frequencies, &frequencies, tolerance, &format!("{name}, {precision}"));
            assert_relative(&[found.scale], &[expected["scale"].as_f64().unwrap()], tolerance, &name);
        }
    }
    assert_eq!(kinds.len(), 4, "every published kind is among the cases: {kinds:?}");
}

#[test]
fn a_token_is_turned_as_the_reference_turns_it() {
    for (name, config, case) in cases() {
        let size = |field: &str| case[field].as_u64().unwrap() as usize;
        let (e, t) = (size("head_dim"), size("length"));
        // First halves of 1 and second halves of 0 become the cosines and the sines.
        let x = ArrayD::from_shape_fn(vec![1, t, 1, e], |at| if at[3] < e / 2 { 1.0 } else { 0.0 });
        let y = rope(&config, e).rotate(&tensor(&x, DType::F64, None), &mut Pass::infer()).unwrap();
        let y = y.to_vec::<f64>().unwrap();
        for row in case["rows"].as_array().unwrap() {
            let position = row["position"].as_u64().unwrap() as usize;
            let expected = [numbers(&row["cos"]), numbers(&row["sin"])].concat();
            for (i, (found, expected)) in y[position * e..][..e].iter().zip(&expected).enumerate() {
                let error = (found - expected).abs();
                assert!(error <= ANGLE, "{name}: position {position}, {i}: {found} for {expected}");
            }
        }
    }
}

/// The formula for `x [b, t, h, e]`, token `i` standing at position `i` of a text of `t` tokens.
fn formula(x: &ArrayD<f64>, config: &RopeConfig) -> ArrayD<f64> {
    let mut y = x.clone();
    let e = x.shape()[3];
    let spectrum = config.spectrum(e, x.shape()[1]).unwrap();
    for (p, mut token) in y.axis_iter_mut(Axis(1)).enumerate() {
        for mut head in token.lanes_mut(Axis(2)) {
            for (i, f) in spectrum.frequencies.iter().enumerate() {
                let (sin, cos) = (p as f64 * f).sin_cos();
                let [j, k] = match config.pairs {
                    Pairs::Halves => [i, i + e / 2],
                    Pairs::Interleaved => [2 * i, 2 * i + 1],
                };
                let (a, b) = (head[j] * spectrum.scale, head[k] * spectrum.scale);
                (head[j], head[k]) = (a * cos - b * sin, a * sin + b * cos);
            }
        }
    }
    y
}

/// Values, gradients, layouts and bits: a scale makes the rotation's adjoint other than its inverse, and a dynamic base
/// is another for every length.
#[test]
fn scaled_rotations_are_their_formula_with_its_gradient() {
    for config in [yarn(), dynamic(Pairs::Halves), dynamic(Pairs::Interleaved)] {
        let turning = rope(&config, E);
        let turn = move |x: &[Tensor]| Ok(vec![turning.rotate(&x[0], &mut Pass::infer())?]);
        let name = format!("{:?}", config.scaling);
        let reference = move |x: &[ArrayD<f64>]| vec![formula(&x[0], &config)];
        check(&[OpCase::new(&name, &["b t h e"], turn, reference).dim("e", &[E])]);
    }
}

fn tokens(y: &Tensor, row: usize, from: usize, len: usize) -> ArrayD<f64> {
    let y = y.to_array::<f64>().unwrap();
    y.index_axis(Axis(0), row).slice_axis(Axis(0), Slice::from(from..from + len)).to_owned()
}

#[test]
fn a_dynamic_base_follows_each_row_of_a_padded_batch() {
    let (t, lengths) = (11, [11, 3, 7, 0]);
    let rope = rope(&dynamic(Pairs::Halves), E);
    let x = tensor(&normals(1, &[lengths.len(), t, 2, E]), DType::F64, None);
    for (rows, start) in [
        (Rows::right_padded(&lengths), lengths.map(|_| 0)),
        (Rows::left_padded(&lengths, t).unwrap(), lengths.map(|len| t - len)),
    ] {
        let y = rope.rotate(&x, &mut Pass::infer().rows(rows)).unwrap();
        for (row, &len) in lengths.iter().enumerate().filter(|(_, len)| **len > 0) {
            let alone = x.narrow(0, row, 1).unwrap().narrow(1, start[row], len).unwrap();
            let alone = rope.rotate(&alone, &mut Pass::infer()).unwrap();
            assert_close(&tokens(&y, row, start[row], len), &tokens(&alone, 0, 0, len), F64, "a row");
        }
    }
}

#[test]
fn all_keys_are_turned_anew_as_their_texts_grow() {
    let (b, t) = (2, 11);
    let rope = rope(&dynamic(Pairs::Halves), E);
    let Keys::Growing(keys) = rope.keys() else { panic!("dynamic NTK changes keys") };
    let k = tensor(&normals(1, &[b, t, 2, E]), DType::F64, None);
    for lengths in [[1, 2], [4, 4], [4, 5], [11, 7], [0, 11]] {
        let rows = lengths.map(|len| RowSpan::new(0..len, 0));
        let y = keys.rotate_all(&k, &rows).unwrap();
        for (row, &len) in lengths.iter().enumerate().filter(|(_, len)| **len > 0) {
            let text = k.narrow(0, row, 1).unwrap().narrow(1, 0, len).unwrap();
            let whole = rope.rotate(&text, &mut Pass::infer()).unwrap();
            assert_close(&tokens(&y, row, 0, len), &tokens(&whole, 0, 0, len), F64, "keys of a row");
        }
        // A new query in front of a cache of the others is turned with the same base.
        let mut cache = DenseCache::new(b, t);
        let held = lengths.map(|len| RowSpan::new(0..len.max(1) - 1, 0));
        cache.append(0, &k, &k, &held).unwrap();
        cache.advance(&held).unwrap();
        for (row, &len) in lengths.iter().enumerate().filter(|(_, len)| **len > 0) {
            let next = k.narrow(1, len - 1, 1).unwrap();
            let q = rope.rotate(&next, &mut Pass::infer().cached(&mut cache)).unwrap();
            assert_close(&tokens(&q, row, 0, 1), &tokens(&y, row, len - 1, 1), F64, "a query");
        }
    }
    let error = keys.rotate_all(&k, &[RowSpan::new(0..1, 0)]).unwrap_err().to_string();
    assert!(error.starts_with("rope: expected tokens within 11 for each of 2 rows"), "{error}");
    let past = [0..12, 0..1].map(|tokens| RowSpan::new(tokens, 0));
    assert!(keys.rotate_all(&k, &past).is_err());
}

#[test]
fn only_a_dynamic_base_wants_its_keys_again() {
    for (config, growing) in
        [(RopeConfig::new(100.0, Pairs::Halves), false), (yarn(), false), (dynamic(Pairs::Interleaved), true)]
    {
        assert_eq!(matches!(rope(&config, E).keys(), Keys::Growing(_)), growing, "{config:?}");
    }
}

#[test]
fn within_the_original_context_a_dynamic_base_changes_no_bit() {
    let x = tensor(&normals(1, &[2, 4, 3, E]), DType::F32, None);
    let turn = |config: &RopeConfig| {
        rope(config, E).rotate(&x, &mut Pass::infer()).unwrap().to_vec::<f32>().unwrap()
    };
    assert_eq!(turn(&dynamic(Pairs::Halves)), turn(&RopeConfig::new(100.0, Pairs::Halves)));
}

#[test]
fn divisors_for_each_pair_are_the_formula_they_came_from() {
    let llama =
        Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    let plain = RopeConfig::new(5e5, Pairs::Interleaved);
    let by_formula = RopeConfig { scaling: Some(RopeScaling::Llama3(llama)), ..plain.clone() };
    let (a, b) = (plain.spectrum(64, 1).unwrap(), by_formula.spectrum(64, 1).unwrap());
    let factors: Vec<_> = a.frequencies.iter().zip(&b.frequencies).map(|(a, b)| a / b).collect();
    assert!(factors.iter().any(|&factor| factor > 1.0 && factor < 8.0), "the case has no ramp: {factors:?}");
    let scaling = Some(RopeScaling::Factors(FactorsScaling { factors }));
    let by_list = RopeConfig { scaling, ..plain }.spectrum(64, 1).unwrap();
    assert_relative(&by_list.frequencies, &b.frequencies, 1e-15, "factors");
}

#[test]
fn a_rotary_width_below_the_head_is_what_is_scaled() {
    let config = RopeConfig { rotary_dim: Some(4), ..yarn() };
    let x = tensor(&normals(1, &[1, 3, 1, E]), DType::F64, None);
    let y = rope(&config, E).rotate(&x, &mut Pass::infer()).unwrap();
    let whole = formula(&x.narrow(3, 0, 4).unwrap().to_array::<f64>().unwrap(), &yarn());
    assert_close(&y.narrow(3, 0, 4).unwrap().to_array::<f64>().unwrap(), &whole, F64, "turned");
    let rest = |x: &Tensor| x.narrow(3, 4, 2).unwrap().to_vec::<f64>().unwrap();
    assert_eq!(rest(&y), rest(&x), "what is not turned is not stretched either");
}

#[test]
fn configs_are_read_with_defaults_and_written_alike() {
    let check = |scaling: Value, full: Value| {
        let json =
            |scaling: &Value| json!({"kind": "rope", "theta": 1e4, "pairs": "halves", "scaling": scaling});
        let config = read::<PositionConfig>(json(&scaling)).unwrap();
        assert_eq!(serde_json::to_value(&config).unwrap(), json(&full));
        assert_eq!(read::<PositionConfig>(json(&full)).unwrap(), config);
    };
    let same = |scaling: Value| check(scaling.clone(), scaling);
    same(json!({"kind": "linear", "factor": 2.0}));
    same(json!({"kind": "dynamic", "factor": 2.0, "original_context": 4096}));
    same(
        json!({"kind": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 8192}),
    );
    same(json!({"kind": "factors", "factors": [1.0, 2.5]}));
    check(
        json!({"kind": "yarn", "factor": 4.0, "original_context": 4096}),
        json!({"kind": "yarn", "factor": 4.0, "original_context": 4096, "beta_fast": 32.0, "beta_slow": 1.0, "ramp": "whole"}),
    );
}

#[test]
fn wrong_settings_are_named() {
    let check = |scaling: Value, words: &str| {
        let json = json!({"kind": "rope", "theta": 1e4, "pairs": "halves", "scaling": scaling});
        let source = Seed::new(1);
        let scope = Scope::root(&source).child("attn").child("position");
        let place = Place { dim: 4, context: 8, heads: None, init: Init::Constant(0.0) };
        let error = match read::<PositionConfig>(json) {
            Ok(config) => config.build(&scope, &place).unwrap_err(),
            Err(error) => error.at("read"),
        };
        assert_eq!(error.to_string(), words);
    };
    let at = "attn.position.scaling";
    let hint = "it is the new context over the old one; leave scaling out for none";
    let factor = |kind: &str| format!("{at}: {kind}: expected a factor of 1 or more, found 0.5; {hint}");
    check(json!({"kind": "linear", "factor": 0.5}), &factor("linear"));
    let dynamic = json!({"kind": "dynamic", "factor": 0.5, "original_context": 8});
    check(dynamic, &factor("dynamic"));
    let hint = "give the context that the model was trained on before it was scaled";
    check(
        json!({"kind": "yarn", "factor": 2.0, "original_context": 0}),
        &format!("{at}: yarn: expected an original_context of 1 or more, found 0; {hint}"),
    );
    check(
        json!({"kind": "yarn", "factor": 2.0, "original_context": 8, "beta_fast": 0.5}),
        &format!(
            "{at}: yarn: expected a beta_fast of at least beta_slow 1, found 0.5; the paper uses 32 and 1"
        ),
    );
    check(
        json!({"kind": "yarn", "factor": 2.0, "original_context": 8, "attention_factor": 0.0}),
        &format!("{at}: yarn: expected attention_factor above 0, found 0"),
    );
    check(
        json!({"kind": "yarn", "factor": 2.0, "original_context": 8, "mscale": -1.0}),
        &format!("{at}: yarn: expected mscale of 0 or more, found -1"),
    );
    check(
        json!({"kind": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0, "original_context": 8}),
        &format!(
            "{at}: llama3: expected a high_freq_factor above low_freq_factor 4, found 4; the published models have 1 and 4"
        ),
    );
    check(
        json!({"kind": "factors", "factors": [1.0]}),
        &format!("{at}: factors: expected 2 factors, one for each pair of width 4, found 1"),
    );
    check(
        json!({"kind": "factors", "factors": [1.0, 0.0]}),
        &format!("{at}: factors: expected divisors above 0, found 0"),
    );
    check(
        json!({"kind": "linear", "factor": 2.0, "original_context": 8}),
        "read: scaling.original_context: expected one of the fields factor, found an unknown one",
    );
    check(
        json!({"kind": "yern", "factor": 2.0}),
        "read: scaling.kind: expected one of linear, dynamic, yarn, llama3, factors, found `yern`; did you mean `yarn`?",
    );
}

#[test]
fn one_pair_cannot_grow_its_base() {
    let error = dynamic(Pairs::Halves).spectrum(2, 9).unwrap_err().to_string();
    assert!(error.starts_with("scaling: dynamic: expected a rotary width of 4 or more, found 2;"), "{error}");
}
