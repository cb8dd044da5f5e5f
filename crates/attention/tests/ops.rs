//! Attention between the projections against its formula, through the op table.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::sync::Arc;

use formwork_attention::{Attend, ProbabilityDropout, Row, Scores};
use formwork_module::{Mask, Result, ScoreBias, Tensor};
use formwork_testkit::{NonFinite, OpCase, check};
use ndarray::{ArrayD, IxDyn};

/// How the tokens of a batch row are placed, by its number, `t` and `s`.
type Place = fn(usize, usize, usize) -> Row;

fn whole(_: usize, t: usize, s: usize) -> Row {
    Row::whole(t, s)
}

/// Every row has another padding: left, right, none; queries are the last of the keys.
fn padded(row: usize, t: usize, s: usize) -> Row {
    let cut = |len: usize| (len / 3).min(len.saturating_sub(1));
    let (q, k) = match row % 3 {
        0 => (cut(t)..t, cut(s)..s),
        1 => (0..t - cut(t), 0..s - cut(s)),
        _ => (0..t, 0..s),
    };
    let first = k.len().saturating_sub(q.len());
    Row { q, k, first }
}

/// Rows whose tokens are all padding, every other one.
fn sometimes_empty(row: usize, t: usize, s: usize) -> Row {
    if row.is_multiple_of(2) { Row { q: 0..0, k: 0..0, first: 0 } } else { whole(row, t, s) }
}

#[derive(Clone, Copy)]
enum Added {
    Nothing,
    Alibi,
    Table,
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// `h` and `g`.
    heads: [usize; 2],
    queries: &'static [usize],
    mask: Mask,
    place: Place,
    added: Added,
    soft_cap: Option<f64>,
    sinks: bool,
    dropout: Option<ProbabilityDropout>,
}

const PLAIN: Case = Case {
    name: "multi-head",
    heads: [3, 3],
    queries: &[5, 1, 0, 37],
    mask: Mask::Causal,
    place: whole,
    added: Added::Nothing,
    soft_cap: None,
    sinks: false,
    dropout: None,
};

fn alibi(head: usize, query: usize, key: usize) -> f64 {
    -(query.abs_diff(key) as f64) * 0.5f64.powi(head as i32 + 1)
}

/// Distances share an entry from 4 on.
const DISTANCES: usize = 5;
fn entry(head: usize, query: usize, key: usize) -> usize {
    head * DISTANCES + query.abs_diff(key).min(DISTANCES - 1)
}

impl Case {
    fn rows(&self, b: usize, t: usize, s: usize) -> Vec<Row> {
        (0..b).map(|row| (self.place)(row, t, s)).collect()
    }

    fn run(&self, x: &[Tensor]) -> Result<Tensor> {
        let ([b, t, _, e], [_, s, _, _]) = (x[0].dims()?, x[1].dims()?);
        let scale = 1.0 / (e.max(1) as f64).sqrt();
        let attend =
            Attend { rows: self.rows(b, t, s).into(), mask: self.mask, scale, dropout: self.dropout };
        let bias = match self.added {
            Added::Nothing => None,
            Added::Alibi => Some(ScoreBias::Fixed(Arc::new(alibi))),
            Added::Table => Some(ScoreBias::Table { table: x[3].clone(), index: Arc::new(entry) }),
        };
        let sinks = self.sinks.then(|| x[x.len() - 1].clone());
        attend.run_with([&x[0], &x[1], &x[2]], Scores { soft_cap: self.soft_cap, bias, sinks })
    }

    /// The formula, one query at a time.
    fn formula(&self, x: &[ArrayD<f64>]) -> ArrayD<f64> {
        let (q, k, v) = (&x[0], &x[1], &x[2]);
        let &[b, t, h, e] = q.shape() else { panic!("q has four axes") };
        let (s, g) = (k.shape()[1], k.shape()[2]);
        let mut y = ArrayD::zeros(IxDyn(&[b, t, h, e]));
        for (row, place) in self.rows(b, t, s).into_iter().enumerate() {
            for (i, head) in place.q.clone().flat_map(|i| (0..h).map(move |head| (i, head))) {
                let (query, group) = (place.first + i - place.q.start, head * g / h);
                let seen: Vec<usize> =
                    place.k.clone().filter(|&j| self.allows(query, j - place.k.start)).collect();
                let score = |j: usize| {
                    let dot: f64 = (0..e).map(|c| q[[row, i, head, c]] * k[[row, j, group, c]]).sum();
                    let key = j - place.k.start;
                    let scaled = dot / (e as f64).sqrt();
                    self.soft_cap.map_or(scaled, |cap| cap * (scaled / cap).tanh())
                        + match self.added {
                            Added::Nothing => 0.0,
                            Added::Alibi => alibi(head, query, key),
                            Added::Table => x[3].as_slice().unwrap()[entry(head, query, key)],
                        }
                };
                let scores: Vec<f64> = seen.iter().map(|&j| score(j)).collect();
                let sink =
                    if self.sinks { x[x.len() - 1].as_slice().unwrap()[head] } else { f64::NEG_INFINITY };
                let top = scores.iter().copied().fold(sink, f64::max);
                let total: f64 = scores.iter().chain(&[sink]).map(|s| (s - top).exp()).sum();
                for (&j, score) in seen.iter().zip(&scores) {
                    let kept: f64 =
                        self.dropout.map_or(1.0, |d| d.factor([row, head, query, j - place.k.start]));
                    for c in 0..e {
                        y[[row, i, head, c]] += (score - top).exp() / total * kept * v[[row, j, group, c]];
                    }
                }
            }
        }
        y
    }

    fn allows(&self, query: usize, key: usize) -> bool {
        self.mask == Mask::Bidirectional || key <= query
    }

    fn check(self) {
        let [h, g] = self.heads.map(|n| n.to_string());
        let table = format!("{h} {DISTANCES}");
        let (q, kv) = (format!("b t {h} e"), format!("b s {g} e"));
        let mut inputs = vec![q.as_str(), &kv, &kv];
        inputs.extend(matches!(self.added, Added::Table).then_some(table.as_str()));
        inputs.extend(self.sinks.then_some(h.as_str()));
        check(&[OpCase::new(
            self.name,
            &inputs,
            move |x| Ok(vec![self.run(x)?]),
            move |x| vec![self.formula(x)],
        )
        .dim("t", self.queries)
        .dim("e", &[7, 1, 37])
        // A score that is not finite spoils its tile, where the formula spoils less.
        .non_finite(NonFinite::NanIsSeen)]);
    }
}

#[test]
fn heads_may_share_keys() {
    PLAIN.check();
    Case { name: "grouped", heads: [6, 2], ..PLAIN }.check();
    Case { name: "multi-query", heads: [3, 1], ..PLAIN }.check();
}

#[test]
fn queries_may_see_everything() {
    Case { name: "bidirectional", mask: Mask::Bidirectional, ..PLAIN }.check();
}

#[test]
fn rows_may_be_padded() {
    Case { name: "padded", place: padded, ..PLAIN }.check();
    Case {
        name: "padded, grouped, bidirectional",
        heads: [4, 2],
        mask: Mask::Bidirectional,
        place: padded,
        ..PLAIN
    }
    .check();
    Case { name: "some rows empty", place: sometimes_empty, ..PLAIN }.check();
}

#[test]
fn one_query_may_be_decoded_at_a_time() {
    Case { name: "decoding", heads: [6, 2], queries: &[1], ..PLAIN }.check();
    Case { name: "decoding padded rows", queries: &[1], place: padded, ..PLAIN }.check();
}

#[test]
fn scores_may_have_terms_added() {
    Case { name: "fixed bias", added: Added::Alibi, place: padded, ..PLAIN }.check();
    Case { name: "learned bias", added: Added::Table, place: padded, ..PLAIN }.check();
    Case {
        name: "learned bias, grouped, decoding",
        heads: [4, 2],
        queries: &[1],
        added: Added::Table,
        ..PLAIN
    }
    .check();
}

#[test]
fn scores_may_be_capped_and_share_probability_with_sinks() {
    Case { name: "soft cap", soft_cap: Some(0.8), place: padded, ..PLAIN }.check();
    Case { name: "sinks", sinks: true, heads: [4, 2], place: padded, ..PLAIN }.check();
    Case { name: "all", soft_cap: Some(1.5), sinks: true, added: Added::Table, heads: [4, 2], ..PLAIN }
        .check();
}

#[test]
fn probabilities_may_be_dropped() {
    let dropout = Some(ProbabilityDropout { key: 5, probability: 0.3 });
    Case { name: "dropout", dropout, ..PLAIN }.check();
    Case {
        name: "dropout, grouped, padded, biased",
        heads: [4, 2],
        place: padded,
        added: Added::Table,
        dropout,
        ..PLAIN
    }
    .check();
    Case { name: "dropout, one query", queries: &[1], heads: [6, 2], place: padded, dropout, ..PLAIN }
        .check();
    Case { name: "dropout, bidirectional", mask: Mask::Bidirectional, place: padded, dropout, ..PLAIN }
        .check();
}

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, formwork_module::DType::F64, None).unwrap()
}

fn refused(rows: Vec<Row>, shapes: [&[usize]; 3], bias: Option<ScoreBias>, words: &str) {
    let [q, k, v] = shapes.map(zeros);
    let error = Attend { rows: rows.into(), mask: Mask::Causal, scale: 1.0, dropout: None }
        .run([&q, &k, &v], bias)
        .unwrap_err()
        .to_string();
    assert!(error.contains(words), "expected \"{words}\", found \"{error}\"");
}

#[test]
fn wrong_inputs_are_named() {
    let row = || vec![Row::whole(5, 7)];
    let words = "attention: expected k and v [1, s, a divisor of 4, 3] for q [1, 5, 4, 3], found";
    refused(row(), [&[1, 5, 4, 3], &[1, 7, 3, 3], &[1, 7, 3, 3]], None, words);
    refused(row(), [&[1, 5, 4, 3], &[1, 7, 2, 2], &[1, 7, 2, 2]], None, words);
    refused(row(), [&[1, 5, 4, 3], &[1, 7, 2, 3], &[1, 6, 2, 3]], None, words);
    refused(row(), [&[1, 5, 4, 3], &[2, 7, 2, 3], &[2, 7, 2, 3]], None, words);
    refused(row(), [&[1, 5, 4, 3], &[1, 7, 0, 3], &[1, 7, 0, 3]], None, words);
    refused(
        row(),
        [&[1, 5, 4, 0], &[1, 7, 2, 0], &[1, 7, 2, 0]],
        None,
        "attention: expected heads of width 1 or more, found [1, 5, 4, 0]",
    );
    refused(row(), [&[5, 4, 3], &[1, 7, 2, 3], &[1, 7, 2, 3]], None, "expected 4 axes, found [5, 4, 3]");
    let good: [&[usize]; 3] = [&[1, 5, 4, 3], &[1, 7, 2, 3], &[1, 7, 2, 3]];
    refused(vec![], good, None, "attention: expected one row range for each of 1 batch rows, found 0");
    let past = vec![Row { q: 0..6, k: 0..7, first: 0 }];
    refused(past, good, None, "expected ranges inside 5 queries and 7 keys, found");
    let [q, k] = [zeros(good[0]), zeros(good[1])];
    let v = Tensor::zeros(good[2], formwork_module::DType::F32, None).unwrap();
    let attend = Attend { rows: row().into(), mask: Mask::Causal, scale: 1.0, dropout: None };
    let error = attend.clone().run([&q, &k, &v], None).unwrap_err();
    assert_eq!(error.to_string(), "attention: expected f64, found f32");
    let dropout = Some(ProbabilityDropout { key: 1, probability: 1.5 });
    let error = Attend { dropout, ..attend }.run([&q, &k, &k], None).unwrap_err();
    assert_eq!(error.to_string(), "attention: expected a dropout probability in [0, 1], found 1.5");
    let attend = Attend { rows: row().into(), mask: Mask::Causal, scale: 1.0, dropout: None };
    for (scores, words) in [
        (
            Scores { soft_cap: Some(0.0), ..Scores::default() },
            "attention: expected a soft cap above 0, found 0",
        ),
        (
            Scores { sinks: Some(zeros(&[3])), ..Scores::default() },
            "attention: expected sinks [4], found [3]",
        ),
    ] {
        assert_eq!(attend.clone().run_with([&q, &k, &k], scores).unwrap_err().to_string(), words);
    }
}

#[test]
fn an_index_past_the_table_of_a_bias_is_named() {
    for queries in [1, 5] {
        let index = Arc::new(|_: usize, query: usize, key: usize| query - key);
        let bias = ScoreBias::Table { table: zeros(&[4]), index };
        let words =
            "score bias: expected indices below 4, the size of the table, found 4; make the table larger";
        let rows = vec![Row { q: 0..queries, k: 0..7, first: 6 }];
        refused(rows, [&[1, queries, 4, 3], &[1, 7, 2, 3], &[1, 7, 2, 3]], Some(bias), words);
    }
}
