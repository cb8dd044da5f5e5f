//! Perplexity by both conventions, against a computation that reads one window at a time and keeps all logits.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::ops::ControlFlow;

use formwork_model::{ModelConfig, Transformer};
use formwork_module::{Pass, Positions, Seed, TokenModel};
use formwork_recipes::{Perplexity, Windows, perplexity};
use serde_json::json;

const VOCAB: usize = 53;
const CONTEXT: usize = 24;

/// Means over a hundred tokens of f32 losses; batches of windows round otherwise than one window.
const TOLERANCE: f64 = 2e-6;

fn model() -> Transformer {
    let config = json!({
        "schema": 1, "name": "tiny", "vocab": VOCAB, "context": CONTEXT, "dim": 12,
        "blocks": {"layers": 2, "each": {
            "kind": "pre_norm",
            "attn_norm": {"kind": "rms", "eps": 1e-5},
            "attn": {"kind": "multi_head", "heads": 3, "head_dim": 4,
                     "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
            "ffn_norm": {"kind": "rms", "eps": 1e-5},
            "ffn": {"kind": "gated", "hidden": 20, "activation": {"kind": "silu"}}
        }},
        "norm": {"kind": "rms", "eps": 1e-5}, "head": {"kind": "untied"}, "init": {"std": 0.4}
    });
    ModelConfig::from_value(config).unwrap().build(&Seed::new(5)).unwrap()
}

fn text(len: usize) -> Vec<u32> {
    (0..len as u64).map(|i| ((i * i * 7 + i * 13 + i / 5) % VOCAB as u64) as u32).collect()
}

/// `−ln p` of every token of a window but its first.
fn naive(model: &Transformer, window: &[u32]) -> Vec<f64> {
    let tokens = ndarray::ArrayView2::from_shape((1, window.len()), window).unwrap();
    let logits = model.logits(tokens, Positions::All, &mut Pass::infer()).unwrap().to_vec::<f32>().unwrap();
    let rows = logits.chunks_exact(VOCAB).zip(&window[1..]);
    rows.map(|(row, &target)| {
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        sum.ln() - f64::from(row[target as usize])
    })
    .collect()
}

fn read(ids: &[u32], windows: Windows) -> formwork_module::Result<Perplexity> {
    perplexity(&model(), ids, &windows, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn without_a_stride_the_second_half_of_each_window_is_scored() {
    let model = model();
    let check = |len: usize, context: usize, begin: Option<u32>| {
        let ids = text(len);
        let (mut sum, mut count) = (0.0, 0);
        for window in ids.chunks_exact(context) {
            let mut window = window.to_vec();
            window[0] = begin.unwrap_or(window[0]);
            // The token after position p is at p + 1 in the window, and its loss at p.
            for nats in &naive(&model, &window)[context / 2..] {
                sum += nats;
                count += 1;
            }
        }
        assert_eq!(count, len / context * (context - 1 - context / 2));
        let found = read(&ids, Windows { context, stride: None, begin }).unwrap();
        assert_eq!((found.tokens, found.text_tokens), (count, len));
        assert!((found.nats_per_token - sum / count as f64).abs() < TOLERANCE, "{len} {context} {begin:?}");
    };
    check(241, 24, None);
    check(241, 24, Some(3));
    check(100, 7, Some(0));
    check(3, 3, None);
    check(5000, 11, Some(1)); // more windows than go through the model at once
}

#[test]
fn with_a_stride_each_token_but_the_first_is_scored_once() {
    let model = model();
    let check = |len: usize, context: usize, stride: usize, expected: usize| {
        let ids = text(len);
        let (mut sum, mut count, mut scored, mut from) = (0.0, 0, 0, 0);
        while scored < len {
            let end = (from + context).min(len);
            let new = end - scored;
            let losses = naive(&model, &ids[from..end]);
            // A window cannot score its own first token.
            for nats in &losses[losses.len() - new.min(losses.len())..] {
                sum += nats;
                count += 1;
            }
            (scored, from) = (end, from + stride);
        }
        assert_eq!(count, expected);
        let found = read(&ids, Windows { context, stride: Some(stride), begin: Some(9) }).unwrap();
        assert_eq!(found.tokens, count, "{len} {context} {stride}");
        assert!((found.nats_per_token - sum / count as f64).abs() < TOLERANCE, "{len} {context} {stride}");
    };
    check(241, 24, 5, 240);
    check(241, 24, 23, 240);
    check(241, 24, 24, 230); // eleven windows, the last of a single token
    check(13, 24, 7, 12);
    check(2, 24, 24, 1);
    check(3000, 13, 6, 2999);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let check = |len: usize, context: usize, stride: Option<usize>, expected: &str| {
        let error = read(&text(len), Windows { context, stride, begin: None }).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(100, 25, None, "context: expected 3 to 24 tokens, the model's context, found 25");
    check(100, 2, None, "context: expected 3 to 24 tokens");
    check(100, 1, Some(1), "context: expected 2 to 24 tokens");
    check(100, 10, Some(0), "stride: expected 1 to 10, the context, found 0");
    check(100, 10, Some(11), "stride: expected 1 to 10, the context, found 11");
    check(9, 10, None, "perplexity: expected a text of at least 10 tokens, one window, found 9");
    check(1, 10, Some(5), "perplexity: expected a text of at least 2 tokens, found 1");
    let mut ids = text(40);
    ids[39] = VOCAB as u32;
    let error = read(&ids, Windows { context: 10, stride: None, begin: None }).unwrap_err().to_string();
    assert!(error.starts_with("tokens: expected ids below the vocabulary of 53, found 53"), "{error}");
}

#[test]
fn progress_is_reported_and_can_stop_it() {
    let (model, ids) = (model(), text(7000));
    let windows = Windows { context: 20, stride: None, begin: None };
    let mut seen = Vec::new();
    let result = perplexity(&model, &ids, &windows, &mut |reading| {
        seen.push(*reading);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(seen.len() > 2 && seen.windows(2).all(|pair| pair[0].done < pair[1].done));
    let last = seen.last().unwrap();
    assert_eq!((last.done, last.windows, last.so_far), (350, 350, result));
    let stopped = perplexity(&model, &ids, &windows, &mut |_| ControlFlow::Break(()));
    assert!(stopped.is_err());
}
