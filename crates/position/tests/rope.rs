//! Rotary positions against the formula, and with padding and caches.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_module::{
    Acts, DType, DenseCache, Init, KvCache, Pass, Position, Rows, Scope, Seed, Tensor, config::read,
};
use formwork_position::{Pairs, Place, PositionConfig, Rope, RopeConfig};
use formwork_testkit::{F64, OpCase, assert_close, check, normals, tensor};
use ndarray::{ArrayD, Axis};
use serde_json::json;

const THETA: f64 = 100.0;

fn rope(e: usize, pairs: Pairs, rotary_dim: Option<usize>) -> Rope {
    let place = Place { dim: e, context: 3, heads: None, init: Init::Constant(0.0) }; // shorter than the texts: tables must grow
    let config = RopeConfig { rotary_dim, ..RopeConfig::new(THETA, pairs) };
    Rope::new(&Scope::root(&Seed::new(1)), &place, &config).unwrap()
}

/// The formula for `x [b, t, h, e]`, token `i` standing at position `i`.
fn formula(x: &ArrayD<f64>, pairs: Pairs, width: usize) -> ArrayD<f64> {
    let mut y = x.clone();
    for (p, mut token) in y.axis_iter_mut(Axis(1)).enumerate() {
        for mut head in token.lanes_mut(Axis(2)) {
            for i in 0..width / 2 {
                let (sin, cos) = (p as f64 * THETA.powf(-2.0 * i as f64 / width as f64)).sin_cos();
                let [j, k] = match pairs {
                    Pairs::Halves => [i, i + width / 2],
                    Pairs::Interleaved => [2 * i, 2 * i + 1],
                };
                (head[j], head[k]) = (head[j] * cos - head[k] * sin, head[j] * sin + head[k] * cos);
            }
        }
    }
    y
}

#[test]
fn rotations_are_their_formula() {
    for pairs in [Pairs::Halves, Pairs::Interleaved] {
        for (e, rotary_dim) in [(6, None), (2, None), (7, Some(4)), (10, Some(10)), (38, None)] {
            let name = format!("rope {pairs:?} {e} {rotary_dim:?}");
            let rope = rope(e, pairs, rotary_dim);
            let turn = move |x: &[Tensor]| Ok(vec![rope.rotate(&x[0], &mut Pass::infer())?]);
            let width = rotary_dim.unwrap_or(e);
            let reference = move |x: &[ArrayD<f64>]| vec![formula(&x[0], pairs, width)];
            let words = format!("rope: expected x [b, t, heads, {e}]");
            let case = OpCase::new(&name, &["b t h e"], turn, reference).dim("e", &[e]);
            check(&[case.refuses("another head width", &[&[2, 3, 5, 3]], &words).refuses(
                "no heads",
                &[&[2, 3, e]],
                &words,
            )]);
        }
    }
}

#[test]
fn padding_and_cache_move_positions() {
    let (b, t, e) = (2, 5, 6);
    let rope = rope(e, Pairs::Interleaved, None);
    let turn = |x: &Tensor, pass: &mut Pass<'_>| rope.rotate(x, pass).unwrap().to_array::<f64>().unwrap();
    let x = tensor(&normals(1, &[b, t, 1, e]), DType::F64, None);
    let alone = |row: usize, from: usize| {
        let text = x.narrow(0, row, 1).unwrap().narrow(1, from, t - from).unwrap();
        turn(&text, &mut Pass::infer())
    };
    // A text of three tokens, padded on the left, starts at position 0.
    let padded = turn(&x, &mut Pass::infer().rows(Rows::left_padded(&[5, 3], t).unwrap()));
    let second = padded.index_axis(Axis(0), 1).to_owned();
    let tokens = second.slice_axis(Axis(0), (2..).into()).insert_axis(Axis(0));
    assert_close(&tokens, &alone(1, 2), F64, "left padding");
    // A cache that holds two tokens of row 0 and one of row 1: the new token is the third and the second.
    let mut cache = DenseCache::new(b, 7);
    let filled = Rows::right_padded(&[2, 1]);
    let spans = Pass::infer().rows(filled).spans(b, t).unwrap();
    cache.append(0, &x, &x, &spans).unwrap();
    cache.advance(&spans).unwrap();
    let mut found = vec![];
    for (row, position) in [(0, 2), (1, 1)] {
        let next = x.narrow(1, position, 1).unwrap();
        found.push((row, position, turn(&next, &mut Pass::infer().cached(&mut cache))));
    }
    for (row, position, found) in found {
        let whole = alone(row, 0);
        let expected = whole.index_axis(Axis(1), position);
        let found = found.index_axis(Axis(0), row);
        assert_close(&found.index_axis(Axis(0), 0), &expected.index_axis(Axis(0), 0), F64, "cache");
    }
}

#[test]
fn a_far_position_keeps_its_angle_in_f32() {
    let far = 4_000_000; // 2²² angles of the one pair
    let mut cache = Far(far);
    let rope = rope(2, Pairs::Halves, None);
    let x = Tensor::from_vec(vec![1.0f32, 0.0], &[1, 1, 1, 2]).unwrap();
    let y = rope.rotate(&x, &mut Pass::infer().cached(&mut cache)).unwrap().to_vec::<f32>().unwrap();
    assert!((f64::from(y[0]) - (far as f64).cos()).abs() < 1e-7);
    assert!((f64::from(y[1]) - (far as f64).sin()).abs() < 1e-7);
}

/// A cache that says it is long.
#[derive(Debug)]
struct Far(usize);

impl KvCache for Far {
    fn rows(&self) -> usize {
        1
    }
    fn len(&self, _: usize) -> usize {
        self.0
    }
    fn capacity(&self) -> usize {
        usize::MAX
    }
    fn append(
        &mut self,
        _: usize,
        k: &Tensor,
        v: &Tensor,
        _: &[formwork_module::RowSpan],
    ) -> formwork_module::Result<(Tensor, Tensor)> {
        Ok((k.clone(), v.clone()))
    }
    fn advance(&mut self, _: &[formwork_module::RowSpan]) -> formwork_module::Result<()> {
        Ok(())
    }
    fn truncate(&mut self, _: usize, _: usize) -> formwork_module::Result<()> {
        Ok(())
    }
    fn reorder(&mut self, _: &[usize]) -> formwork_module::Result<()> {
        Ok(())
    }
    fn fork(&self) -> Box<dyn KvCache> {
        Box::new(Far(self.0))
    }
}

#[test]
fn a_score_depends_on_the_distance_alone() {
    let e = 6;
    let rope = rope(e, Pairs::Halves, None);
    let [q, k] = [1, 2].map(|seed| tensor(&normals(seed, &[1, 1, 1, e]), DType::F64, None));
    let score = |p: usize, s: usize| {
        let at = |x: &Tensor, p| rope.rotate(x, &mut Pass::infer().cached(&mut Far(p))).unwrap();
        at(&q, p).mul(&at(&k, s)).unwrap().sum().unwrap().item().unwrap()
    };
    assert!((score(2, 5) - score(12, 15)).abs() < 1e-12);
    assert!((score(2, 5) - score(2, 6)).abs() > 1e-3);
}

#[test]
fn an_outline_makes_no_table_and_clones_share_theirs() {
    let rope = rope(6, Pairs::Halves, None);
    assert!(format!("{rope:?}").contains("Table(0 numbers)"), "{rope:?}");
    let shared = rope.clone();
    rope.rotate(&Tensor::from_vec(vec![1.0f32; 12], &[1, 2, 1, 6]).unwrap(), &mut Pass::infer()).unwrap();
    assert!(format!("{shared:?}").contains("Table(9 numbers)"), "{shared:?}");
    assert_eq!((rope.acts(), rope.limit()), (Acts::Heads, None));
}

#[test]
fn wrong_settings_are_named() {
    let source = Seed::new(1);
    let scope = Scope::root(&source).child("attn").child("position");
    let check = |dim, theta, rotary_dim, words: &str| {
        let config = PositionConfig::Rope(RopeConfig { rotary_dim, ..RopeConfig::new(theta, Pairs::Halves) });
        let place = Place { dim, context: 8, heads: None, init: Init::Constant(0.0) };
        let error = config.build(&scope, &place).unwrap_err().to_string();
        assert_eq!(error, format!("attn.position: rope: expected {words}"));
    };
    check(63, 1e4, None, "even head width, found 63; set head_dim to an even number");
    check(64, 1e4, Some(3), "even rotary width, found 3; set rotary_dim to an even number");
    let hint = "set rotary_dim to an even number in that range, or leave it out";
    check(64, 1e4, Some(66), &format!("a rotary width from 2 to head_dim 64, found 66; {hint}"));
    check(64, 1e4, Some(0), &format!("a rotary width from 2 to head_dim 64, found 0; {hint}"));
    check(64, 1.0, None, "a theta above 1, found 1; the paper uses 10000");
    check(64, f64::NAN, None, "a theta above 1, found NaN; the paper uses 10000");
}

#[test]
fn configs_are_read_and_written_alike() {
    let json = json!({"kind": "rope", "theta": 5e5, "pairs": "interleaved"});
    let config = PositionConfig::Rope(RopeConfig::new(5e5, Pairs::Interleaved));
    assert_eq!(read::<PositionConfig>(json.clone()).unwrap(), config);
    assert_eq!(serde_json::to_value(config).unwrap(), json);
    let error = read::<PositionConfig>(json!({"kind": "rope", "theta": 1e4})).unwrap_err().to_string();
    assert!(error.starts_with("pairs: expected"), "{error}");
}
