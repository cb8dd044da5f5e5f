//! Decoding with a cache gives what a pass over the whole text gives, wherever the text is cut.

use std::sync::Arc;

use super::common::{D, Distances, LearnedDistances, Stretch, Waves, build, grouped, infer, input};
use formwork_attention::{Attention, Settings};
use formwork_module::{
    CacheType, DType, DenseCache, KvCache, Module, Pass, Position, Rows, Scope, Seed, Tensor,
};
use formwork_testkit::{Numbers, assert_close};
use ndarray::{ArrayD, Axis, Slice};

/// Sums are taken in another order: tiles of queries against one query at a time.
const F32: f64 = 1e-5;
const F64: f64 = 1e-11;

const B: usize = 2;
const T: usize = 11;

fn position(i: usize, dtype: DType) -> Arc<dyn Position> {
    match i {
        0 => Arc::new(Waves),
        1 => Arc::new(Distances),
        _ => Arc::new(LearnedDistances::new(&Scope::root(&Seed::new(4).dtype(dtype)), 6)),
    }
}

fn slice(y: &ArrayD<f64>, row: usize, from: usize, len: usize) -> ArrayD<f64> {
    y.index_axis(Axis(0), row).slice_axis(Axis(0), Slice::from(from..from + len)).to_owned()
}

/// One pass over the next tokens of each row.
fn feed(attention: &Attention, cache: &mut dyn KvCache, x: &Tensor, rows: &Rows) -> ArrayD<f64> {
    let [b, t, _] = x.dims().unwrap();
    let mut pass = Pass::infer().rows(rows.clone()).cached(cache);
    let y = attention.forward(x, &mut pass).unwrap();
    let spans = pass.spans(b, t).unwrap();
    drop(pass);
    cache.advance(&spans).unwrap();
    y.numbers()
}

fn every_split(dtype: DType, tolerance: f64) {
    for i in 0..3 {
        let attention = build(&grouped(), position(i, dtype), dtype);
        let x = input(B, T, dtype);
        let whole = infer(&attention, &x).numbers();
        for cut in 0..=T {
            let mut cache = DenseCache::new(B, T);
            let parts = [(0, cut), (cut, T - cut)];
            for (from, len) in parts.into_iter().filter(|(_, len)| *len > 0) {
                let y = feed(&attention, &mut cache, &x.narrow(1, from, len).unwrap(), &Rows::default());
                for row in 0..B {
                    let what = format!("position {i}, cut at {cut}, row {row} from {from}");
                    assert_close(&slice(&y, row, 0, len), &slice(&whole, row, from, len), tolerance, &what);
                }
            }
        }
    }
}

#[test]
fn a_text_may_be_cut_anywhere() {
    every_split(DType::F32, F32);
    every_split(DType::F64, F64);
}

/// Prompts of unequal lengths, padded, then tokens one at a time: each row is what it is alone.
fn padded(dtype: DType, tolerance: f64) {
    let lengths = [7, 3];
    for i in 0..3 {
        let attention = build(&grouped(), position(i, dtype), dtype);
        let x = input(B, T, dtype);
        let alone: Vec<_> =
            (0..B).map(|row| infer(&attention, &x.narrow(0, row, 1).unwrap()).numbers()).collect();
        for (rows, start) in
            [(Rows::right_padded(&lengths), [0, 0]), (Rows::left_padded(&lengths, 7).unwrap(), [0, 4])]
        {
            let mut cache = DenseCache::new(B, T + 2);
            // The prompts stand in the batch where the padding leaves them.
            let prompt = |row: usize| {
                let text = x.narrow(0, row, 1).unwrap().narrow(1, 0, lengths[row]).unwrap();
                let noise = x.narrow(0, row, 1).unwrap().scale(50.0).unwrap();
                let (before, after) = (start[row], 7 - lengths[row] - start[row]);
                let [a, b] = [before, after].map(|len| noise.narrow(1, 0, len).unwrap());
                Tensor::cat(&[&a, &text, &b], 1).unwrap()
            };
            let y = feed(&attention, &mut cache, &Tensor::cat(&[&prompt(0), &prompt(1)], 0).unwrap(), &rows);
            for row in 0..B {
                let found = slice(&y, row, start[row], lengths[row]);
                assert_close(&found, &slice(&alone[row], 0, 0, lengths[row]), tolerance, "prompt");
            }
            for step in 0..T - 7 {
                let next =
                    |row: usize| x.narrow(0, row, 1).unwrap().narrow(1, lengths[row] + step, 1).unwrap();
                let y = feed(
                    &attention,
                    &mut cache,
                    &Tensor::cat(&[&next(0), &next(1)], 0).unwrap(),
                    &Rows::default(),
                );
                for row in 0..B {
                    let expected = slice(&alone[row], 0, lengths[row] + step, 1);
                    assert_close(
                        &slice(&y, row, 0, 1),
                        &expected,
                        tolerance,
                        &format!("step {step}, row {row}"),
                    );
                }
            }
        }
    }
}

#[test]
fn prompts_may_be_padded_on_either_side() {
    padded(DType::F32, F32);
    padded(DType::F64, F64);
}

#[test]
fn a_long_text_is_decoded_over_several_ranges_of_keys() {
    let t = 523; // past two ranges of keys of the decoding kernel
    let attention =
        build(&Settings { kv_heads: Some(1), ..Settings::new(D, 5) }, Arc::new(Waves), DType::F64);
    let x = input(1, t, DType::F64);
    let whole = infer(&attention, &x).numbers();
    let mut cache = DenseCache::new(1, t);
    feed(&attention, &mut cache, &x.narrow(1, 0, t - 1).unwrap(), &Rows::default());
    let y = feed(&attention, &mut cache, &x.narrow(1, t - 1, 1).unwrap(), &Rows::default());
    assert_close(&slice(&y, 0, 0, 1), &slice(&whole, 0, t - 1, 1), F64, "last token");
}

#[test]
fn a_row_that_adds_nothing_stays_as_it_is() {
    let attention = build(&grouped(), Arc::new(Waves), DType::F64);
    let x = input(B, T, DType::F64);
    let mut cache = DenseCache::new(B, T);
    feed(&attention, &mut cache, &x.narrow(1, 0, 4).unwrap(), &Rows::default());
    feed(&attention, &mut cache, &x.narrow(1, 4, 1).unwrap(), &Rows::right_padded(&[1, 0]));
    assert_eq!([cache.len(0), cache.len(1)], [5, 4]);
    let y = feed(&attention, &mut cache, &x.narrow(1, 4, 1).unwrap(), &Rows::right_padded(&[0, 1]));
    let whole = infer(&attention, &x).numbers();
    assert_close(&slice(&y, 1, 0, 1), &slice(&whole, 1, 4, 1), F64, "the row that waited");
}

/// Where turned keys change as the text grows, each part of a text attends as in one pass over all up to its end.
fn grown(dtype: DType, tolerance: f64) {
    let attention = build(&grouped(), Arc::new(Stretch), dtype);
    let x = input(B, T, dtype);
    for cut in 1..T {
        let mut cache = DenseCache::new(B, T + 3); // longer than the text: what it has room for is no key
        for (from, to) in [(0, cut), (cut, T)] {
            let text = x.narrow(1, 0, to).unwrap();
            let whole = infer(&attention, &text).numbers();
            let part = text.narrow(1, from, to - from).unwrap();
            let y = feed(&attention, &mut cache, &part, &Rows::default());
            for row in 0..B {
                let what = format!("cut at {cut}, row {row} from {from}");
                assert_close(
                    &slice(&y, row, 0, to - from),
                    &slice(&whole, row, from, to - from),
                    tolerance,
                    &what,
                );
            }
        }
    }
}

#[test]
fn a_text_whose_keys_change_as_it_grows_may_be_cut_anywhere() {
    grown(DType::F32, F32);
    grown(DType::F64, F64);
}

#[test]
fn keys_that_change_are_those_of_each_row_whatever_the_padding() {
    let attention = build(&grouped(), Arc::new(Stretch), DType::F64);
    let x = input(B, T, DType::F64);
    let alone = |row: usize, len: usize| {
        let text = x.narrow(0, row, 1).unwrap().narrow(1, 0, len).unwrap();
        slice(&infer(&attention, &text).numbers(), 0, len - 1, 1)
    };
    // The rows of a padded prompt have 5 and 2 tokens; then both get one, then the first rests, then both get two.
    let mut cache = DenseCache::new(B, T);
    for (given, start) in [([5, 2], [0, 3]), ([1, 1], [0, 0]), ([0, 1], [0, 0]), ([2, 2], [0, 0])] {
        let held = [cache.len(0), cache.len(1)];
        let width = given[0].max(given[1]);
        let piece = |row: usize| {
            let from = (held[row] + given[row]).saturating_sub(width);
            x.narrow(0, row, 1).unwrap().narrow(1, from, width).unwrap()
        };
        // In the left-padded prompt the shorter row's tokens stand at the end, behind noise.
        let (left, right) = (
            piece(0),
            match start[1] {
                0 => piece(1),
                pads => {
                    let noise = x.narrow(0, 1, 1).unwrap().scale(50.0).unwrap().narrow(1, 0, pads).unwrap();
                    Tensor::cat(&[&noise, &x.narrow(0, 1, 1).unwrap().narrow(1, 0, given[1]).unwrap()], 1)
                        .unwrap()
                }
            },
        );
        let rows = Rows::left_padded(&given, width).unwrap();
        let y = feed(&attention, &mut cache, &Tensor::cat(&[&left, &right], 0).unwrap(), &rows);
        for row in (0..B).filter(|&row| given[row] > 0) {
            let expected = alone(row, held[row] + given[row]);
            assert_close(&slice(&y, row, width - 1, 1), &expected, F64, &format!("row {row} after {held:?}"));
        }
    }
    // A row that is rolled back goes on as if the rest had never been.
    cache.truncate(0, 3).unwrap();
    let next = x.narrow(1, 3, 1).unwrap();
    let y = feed(&attention, &mut cache, &next, &Rows::right_padded(&[1, 0]));
    assert_close(&slice(&y, 0, 0, 1), &alone(0, 4), F64, "rolled back");
}

/// Attention over a cache in blocks against the same over the numbers that the blocks stand for, and the distance from
/// exact numbers: how far bf16 and 8 bits round.
fn compressed(kind: CacheType, rounding: f64, position: Arc<dyn Position>) {
    let attention = build(&grouped(), position, DType::F32);
    let x = input(B, T, DType::F32);
    // As in one pass over all up to the end of a part: turned keys may change as the text grows.
    let whole = |to: usize| infer(&attention, &x.narrow(1, 0, to).unwrap()).numbers();
    let mut cache = DenseCache::new(B, T + 3).stored(kind);
    for (from, len) in [(0, 4), (4, 1), (5, 5), (10, 1)] {
        let part = x.narrow(1, from, len).unwrap();
        let y = feed(&attention, &mut cache, &part, &Rows::default());
        for row in 0..B {
            let what = format!("{kind}, row {row} from {from}");
            assert_close(
                &slice(&y, row, 0, len),
                &slice(&whole(from + len), row, from, len),
                rounding,
                &what,
            );
        }
    }
    // A fork goes its own way, and a row rolled back goes on as if the rest had never been.
    let mut fork = cache.fork();
    for row in 0..B {
        fork.truncate(row, 4).unwrap();
    }
    let y = feed(&attention, fork.as_mut(), &x.narrow(1, 4, 1).unwrap(), &Rows::default());
    assert_close(&slice(&y, 0, 0, 1), &slice(&whole(5), 0, 4, 1), rounding, "fork");
    assert_eq!(cache.len(0), T);
}

#[test]
fn a_cache_may_hold_fewer_bits() {
    for (kind, rounding) in [(CacheType::F32, 1e-5), (CacheType::Bf16, 2e-2), (CacheType::Q8_0, 3e-2)] {
        compressed(kind, rounding, Arc::new(Waves));
        compressed(kind, rounding, Arc::new(Distances));
        compressed(kind, rounding, Arc::new(Stretch));
    }
}
