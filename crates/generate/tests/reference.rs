//! Greedy texts and processed logits against the reference implementation's own generation; the program that made the
//! expected values stands beside them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::ops::ControlFlow;

use common::{Bigram, VOCAB};
use formwork_generate::{Choice, History, Session, Settings};
use formwork_module::config;
use serde_json::Value;

/// Probabilities of up to eleven tokens through some single-precision exponentials and one division.
const PROBABILITY: f64 = 1e-6;

struct Golden {
    table: Vec<Vec<f32>>,
    prompts: Vec<Vec<u32>>,
    cases: Vec<(Settings, Value)>,
}

fn golden() -> Golden {
    let all: Value = serde_json::from_str(include_str!("golden/generation.json")).unwrap();
    let read = |name: &str| all[name].clone();
    let settings = |case: &Value| config::read::<Settings>(case["settings"].clone()).unwrap();
    Golden {
        table: serde_json::from_value(read("table")).unwrap(),
        prompts: serde_json::from_value(read("prompts")).unwrap(),
        cases: all["cases"].as_array().unwrap().iter().map(|case| (settings(case), case.clone())).collect(),
    }
}

#[test]
fn greedy_texts_are_the_reference_s_token_by_token() {
    let Golden { table, prompts, cases } = golden();
    let model = Bigram::new(|i, j| table[i][j]);
    let prompts: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt[..]).collect();
    let mut different = std::collections::BTreeSet::new();
    for (settings, case) in cases.iter().filter(|(settings, _)| settings.temperature == 0.0) {
        let mut session = Session::new(&model, prompts.len(), 64).unwrap();
        session.prompt(&prompts).unwrap();
        let outputs =
            session.write(&settings.request().unwrap(), &mut [], |_| ControlFlow::Continue(())).unwrap();
        let found: Vec<_> = outputs.into_iter().map(|output| output.ids).collect();
        let expected: Vec<Vec<u32>> = serde_json::from_value(case["texts"].clone()).unwrap();
        assert_eq!(found, expected, "{settings:?}");
        different.insert(found);
    }
    assert!(different.len() >= 12, "settings that change nothing test nothing");
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().fold(f32::NEG_INFINITY, |top, &x| top.max(x));
    let weights: Vec<_> = logits.iter().map(|&x| f64::from(x - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

#[test]
fn processed_logits_are_the_reference_s() {
    let Golden { table, prompts, cases } = golden();
    for (settings, case) in &cases {
        let sampler = settings.sampler().unwrap();
        for (row, prompt) in prompts.iter().enumerate() {
            let history = History::new(prompt);
            let mut found = table[*prompt.last().unwrap() as usize].clone();
            for processor in &sampler.processors {
                processor.process(&mut found, &history).unwrap();
            }
            let score = |x: &Value| x.as_f64().map_or(f32::NEG_INFINITY, |x| x as f32);
            let expected: Vec<_> = case["scores"][row].as_array().unwrap().iter().map(score).collect();
            assert_eq!(expected.len(), VOCAB);
            if sampler.choice == Choice::Greedy {
                assert_eq!(found, expected, "row {row} of {settings:?}");
                continue;
            }
            // A temperature may shift all logits by one number, so the probabilities are what must agree.
            for (id, (a, b)) in softmax(&found).into_iter().zip(softmax(&expected)).enumerate() {
                assert_eq!(a == 0.0, b == 0.0, "token {id}, row {row} of {settings:?}");
                assert!((a - b).abs() <= PROBABILITY, "token {id}, row {row} of {settings:?}: {a} for {b}");
            }
        }
    }
}
