//! The learned table with padding and caches, its gradient, and what it refuses; and no encoding at all.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_module::{
    Acts, DType, DenseCache, Init, KvCache, Pass, Position, Rows, Scope, Seed, Tensor, config::read,
};
use formwork_position::{Learned, LearnedConfig, NoPosition, Place, PositionConfig};
use formwork_testkit::{F64, assert_close, normals, tensor};
use ndarray::{ArrayD, Axis, Slice};
use serde_json::json;

const D: usize = 3;
const CONTEXT: usize = 7;

fn place() -> Place {
    Place { dim: D, context: CONTEXT, heads: None, init: Init::Normal { std: 1.0 } }
}

fn learned() -> Learned {
    let source = Seed::new(1).dtype(DType::F64);
    Learned::new(&Scope::root(&source), &place(), &LearnedConfig::default()).unwrap()
}

fn table(learned: &Learned) -> ArrayD<f64> {
    learned.table.weight.to_dense(&mut Pass::infer()).unwrap().to_array().unwrap()
}

fn zeros(b: usize, t: usize) -> Tensor {
    Tensor::zeros(&[b, t, D], DType::F64, None).unwrap()
}

/// What is added to row `row`, tokens from `from` on, is the table from `first` on.
fn assert_rows(y: &Tensor, row: usize, from: usize, expected: &ArrayD<f64>, first: usize) {
    let y = y.to_array::<f64>().unwrap();
    let found = y.index_axis(Axis(0), row).slice_axis(Axis(0), Slice::from(from..)).to_owned();
    let rows = expected.slice_axis(Axis(0), Slice::from(first..first + found.shape()[0])).to_owned();
    assert_close(&found, &rows, F64, "rows of the table");
}

#[test]
fn every_token_gets_the_row_of_its_position() {
    let learned = learned();
    let table = table(&learned);
    let plain = learned.embed(&zeros(2, 5), &mut Pass::infer()).unwrap();
    assert_rows(&plain, 0, 0, &table, 0);
    assert_rows(&plain, 1, 0, &table, 0);
    let rows = Rows::left_padded(&[5, 3], 5).unwrap();
    let padded = learned.embed(&zeros(2, 5), &mut Pass::infer().rows(rows)).unwrap();
    assert_rows(&padded, 0, 0, &table, 0);
    assert_rows(&padded, 1, 2, &table, 0);
    let mut cache = DenseCache::new(2, CONTEXT);
    let kv = Tensor::zeros(&[2, 4, 1, 1], DType::F64, None).unwrap();
    let spans = Pass::infer().rows(Rows::right_padded(&[4, 2])).spans(2, 4).unwrap();
    cache.append(0, &kv, &kv, &spans).unwrap();
    cache.advance(&spans).unwrap();
    let next = learned.embed(&zeros(2, 3), &mut Pass::infer().cached(&mut cache)).unwrap();
    assert_rows(&next, 0, 0, &table, 4);
    assert_rows(&next, 1, 0, &table, 2);
}

#[test]
fn the_input_is_kept_and_both_learn() {
    let learned = learned();
    let x = tensor(&normals(3, &[2, 5, D]), DType::F64, None);
    let variable = formwork_tensor::Variable::new(x.clone());
    let y = learned.embed(&variable.tensor(), &mut Pass::train(1, 1)).unwrap();
    let added = y.detached().sub(&x).unwrap();
    assert_rows(&added, 1, 0, &table(&learned), 0);
    y.sum().unwrap().backward().unwrap();
    assert_close(&variable.grad().unwrap(), &ArrayD::from_elem(vec![2, 5, D], 1.0), F64, "dx");
    // Two rows of five tokens: positions 0 to 4 were used twice, 5 and 6 not at all.
    let mut grads = vec![];
    struct Grad<'a>(&'a mut Vec<Tensor>);
    impl formwork_module::Visit for Grad<'_> {
        fn enter(&mut self, _: &str) {}
        fn leave(&mut self) {}
        fn param(&mut self, name: &str, param: &formwork_module::Param) {
            assert_eq!(name, "weight");
            self.0.extend(param.grad());
        }
        fn blocks(&mut self, name: &str, _: &formwork_module::Blocks) {
            panic!("{name} is no matrix in blocks");
        }
    }
    learned.visit(&mut Grad(&mut grads));
    let expected = ArrayD::from_shape_fn(vec![CONTEXT, D], |at| if at[0] < 5 { 2.0 } else { 0.0 });
    assert_close(&grads[0], &expected, F64, "dtable");
}

#[test]
fn a_position_past_the_table_is_named() {
    let learned = learned();
    let check = |t: usize, rows: Option<Rows>, message: &str| {
        let mut pass = rows.map_or(Pass::infer(), |rows| Pass::infer().rows(rows));
        let error = learned.embed(&zeros(2, t), &mut pass).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("learned position: expected positions below 7, the rows of the table, found {message}")
        );
    };
    let hint = "shorten the text, or build the model with a longer context";
    check(9, None, &format!("position 8 in row 1 of the batch; {hint}"));
    check(9, Some(Rows::right_padded(&[8, 3])), &format!("position 7 in row 0 of the batch; {hint}"));
    // Padding may go past the table: only real tokens have a position.
    assert!(learned.embed(&zeros(2, 9), &mut Pass::infer().rows(Rows::right_padded(&[7, 3]))).is_ok());
    assert_eq!((learned.acts(), learned.limit()), (Acts::Embeddings, Some(CONTEXT)));
}

#[test]
fn the_table_is_as_long_as_the_config_says() {
    let source = Seed::new(1);
    let scope = Scope::root(&source);
    let config = read::<PositionConfig>(json!({"kind": "learned", "context": 5})).unwrap();
    assert_eq!(serde_json::to_value(&config).unwrap(), json!({"kind": "learned", "context": 5}));
    let built = config.build(&scope.child("position"), &place()).unwrap();
    assert_eq!((built.limit(), scope.built()), (Some(5), vec!["position.weight".to_owned()]));
    let empty = PositionConfig::Learned(LearnedConfig { context: Some(0) });
    let error = empty.build(&scope.child("other"), &place()).unwrap_err().to_string();
    assert_eq!(
        error,
        "other: learned position: expected a context and a dim of at least 1, found context 0, dim 3"
    );
}

#[test]
fn no_position_leaves_everything_as_it_is() {
    let config = read::<PositionConfig>(json!({"kind": "none"})).unwrap();
    let built = config.build(&Scope::root(&Seed::new(1)), &place()).unwrap();
    let x = tensor(&normals(3, &[2, 5, 1, D]), DType::F64, None);
    let y = built.rotate(&x, &mut Pass::infer()).unwrap();
    assert_eq!(y.to_vec::<f64>().unwrap(), x.to_vec::<f64>().unwrap());
    assert_eq!((built.acts(), NoPosition.limit()), (Acts::Nowhere, None));
    let error = read::<PositionConfig>(json!({"kind": "none", "theta": 1})).unwrap_err().to_string();
    assert!(error.starts_with("theta: expected"), "{error}");
}
