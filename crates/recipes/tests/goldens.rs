//! Published checkpoints as transformers writes them, against what transformers makes of them.
//!
//! `golden/published.py` makes the folders, the logits and the texts, and says what is in them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod tiny;

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use formwork_formats::{Archive, Entry, SafeTensors};
use formwork_generate::{Session, Settings};
use formwork_model::Transformer;
use formwork_module::{DType, Pass, Positions, Precision, Rows, TokenModel};
use formwork_recipes::{Convert, LoadOptions, convert, load, load_as};
use ndarray::{Array2, Array3, Axis};
use serde::Deserialize;
use serde_json::Value;
use tiny::{same_files, same_tensors};

/// Of the largest logit, in f32: sums of other orders differ by a twentieth of it.
const TOLERANCE: f64 = 2e-5;
/// Of the largest logit, in f64.
const EXACT: f64 = 1e-9;

/// Cases that GGUF has no words for, and what the refusal names.
const NOT_IN_GGUF: [(&str, &str); 3] =
    [("gpt2-untied", "activation"), ("llama-dynamic", "dynamic"), ("llama-wide-heads", "activation")];

/// A line of `cases.json`.
#[derive(Deserialize)]
struct Case {
    name: String,
    folder: String,
    pads: usize,
    penalty: f64,
    /// The `config.json` of transformers 5.
    config: Value,
    /// The one of the versions before.
    before: Value,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    penalised: Vec<u32>,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/published")
}

/// Every case with the answers to all of them.
fn each(check: impl Fn(&Case, &Answers)) {
    let text = fs::read_to_string(golden().join("cases.json")).unwrap();
    let Cases { cases } = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 12);
    let file = SafeTensors::open(golden().join("expected.safetensors")).unwrap();
    for case in &cases {
        check(case, &Answers { file: &file, case: &case.name });
    }
}

/// The tensors of a case.
struct Answers<'a> {
    file: &'a SafeTensors,
    case: &'a str,
}

impl Answers<'_> {
    fn entry(&self, what: &str) -> Option<&Entry> {
        self.file.entry(&format!("{}.{what}", self.case))
    }

    /// `[b, t]`
    fn tokens(&self) -> Array2<u32> {
        let entry = self.entry("tokens").unwrap();
        let ids = entry.to_i64().unwrap().into_iter().map(|id| u32::try_from(id).unwrap()).collect();
        Array2::from_shape_vec((entry.shape()[0], entry.shape()[1]), ids).unwrap()
    }

    /// `[b, t, n]`
    fn logits(&self, what: &str) -> Option<Array3<f64>> {
        let entry = self.entry(what)?;
        let shape: [usize; 3] = entry.shape().try_into().unwrap();
        Some(Array3::from_shape_vec(shape, entry.to_f64().unwrap()).unwrap())
    }
}

/// A pass that multiplies weights with activations as they are, as the reference does.
fn unrounded<'a>() -> Pass<'a> {
    Pass::infer().in_precision(Precision::Full)
}

/// `[b, t, n]`
fn logits(model: &Transformer, tokens: &Array2<u32>, pass: &mut Pass<'_>) -> Array3<f64> {
    let found = model.logits(tokens.view(), Positions::All, pass).unwrap();
    let shape = (tokens.nrows(), tokens.ncols(), model.vocab());
    let numbers = match found.dtype() {
        DType::F64 => found.to_vec::<f64>().unwrap(),
        _ => found.to_vec::<f32>().unwrap().into_iter().map(f64::from).collect(),
    };
    Array3::from_shape_vec(shape, numbers).unwrap()
}

/// The largest distance of the tokens from `pads` on in row 0, and of all in the others, of the largest logit.
fn off(found: &Array3<f64>, expected: &Array3<f64>, pads: usize) -> f64 {
    assert_eq!(found.dim(), expected.dim());
    let largest = expected.iter().fold(0f64, |most, x| most.max(x.abs()));
    let (mut most, mut seen) = (0f64, 0);
    for (row, (found, expected)) in found.outer_iter().zip(expected.outer_iter()).enumerate() {
        let from = if row == 0 { pads } else { 0 };
        for (found, expected) in found.outer_iter().zip(expected.outer_iter()).skip(from) {
            seen += found.len();
            for (a, b) in found.iter().zip(expected) {
                assert!(a.is_finite());
                most = most.max((a - b).abs());
            }
        }
    }
    assert_eq!(seen, found.len() - pads * found.len_of(Axis(2)));
    most / largest
}

/// The case's folder with a config of its own, and nothing else changed.
fn folder(case: &Case, config: &Value) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for file in fs::read_dir(golden().join(&case.folder)).unwrap() {
        let from = file.unwrap().path();
        fs::copy(&from, place.path().join(from.file_name().unwrap())).unwrap();
    }
    fs::write(place.path().join("config.json"), config.to_string()).unwrap();
    place
}

/// What the model writes after a prompt.
fn written(model: &Transformer, prompt: &[u32], new: usize, penalty: f64) -> Vec<u32> {
    let mut session = Session::new(model, 1, prompt.len() + new).unwrap();
    session.prompt(&[prompt]).unwrap();
    let settings = Settings {
        temperature: 0.0,
        repetition_penalty: penalty,
        max_tokens: new,
        end: Vec::new(),
        ..Settings::default()
    };
    let outputs =
        session.write(&settings.request().unwrap(), &mut [], |_| ControlFlow::Continue(())).unwrap();
    outputs[0].ids.clone()
}

/// Asserts that a model answers as the reference does.
fn answers(model: &Transformer, case: &Case, answers: &Answers<'_>, what: &str) {
    let tokens = answers.tokens();
    let name = &case.name;
    let far = off(&logits(model, &tokens, &mut unrounded()), &answers.logits("plain").unwrap(), 0);
    assert!(far <= TOLERANCE, "{name}, {what}: logits off by {far:.1e} of the largest");
    let width = tokens.ncols();
    let rows = Rows::left_padded(&[width - case.pads, width], width).unwrap();
    let padded = logits(model, &tokens, &mut unrounded().rows(rows));
    let far = off(&padded, &answers.logits("padded").unwrap(), case.pads);
    assert!(far <= TOLERANCE, "{name}, {what}: padded logits off by {far:.1e} of the largest");
    for (expected, penalty) in [(&case.greedy, 1.0), (&case.penalised, case.penalty)] {
        let ids = written(model, &case.prompt, expected.len(), penalty);
        assert_eq!(ids, *expected, "{name}, {what}, penalty {penalty}");
    }
}

#[test]
fn logits_and_texts_are_those_of_the_reference_in_both_spellings() {
    each(|case, expected| {
        for (spelling, config) in [("now", &case.config), ("before", &case.before)] {
            let place = folder(case, config);
            let loaded = load(place.path()).unwrap();
            assert_eq!(loaded.notes, Vec::<String>::new(), "{} {spelling}", case.name);
            answers(&loaded.model, case, expected, spelling);
        }
    });
}

#[test]
fn what_was_loaded_is_saved_byte_for_byte() {
    each(|case, _| {
        for config in [&case.config, &case.before] {
            let (from, to) = (folder(case, config), tempfile::tempdir().unwrap());
            load(from.path()).unwrap().save(to.path()).unwrap();
            same_tensors(from.path(), to.path(), &|_| false);
            same_files(from.path(), to.path());
        }
    });
}

#[test]
fn gguf_answers_the_same_and_goes_back_byte_for_byte() {
    each(|case, expected| {
        let from = folder(case, &case.config);
        let place = tempfile::tempdir().unwrap();
        let (file, back) = (place.path().join("m.gguf"), place.path().join("back"));
        let there = convert(from.path(), &file, &Convert { dtype: None });
        if let Some((_, word)) = NOT_IN_GGUF.iter().find(|(name, _)| *name == case.name) {
            let message = there.unwrap_err().to_string();
            assert!(message.contains(word) && message.contains("GGUF"), "{}: {message}", case.name);
            assert!(!file.exists(), "{}", case.name);
            return;
        }
        there.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let loaded = load(&file).unwrap();
        answers(&loaded.model, case, expected, "GGUF");
        convert(&file, &back, &Convert { dtype: None }).unwrap();
        same_tensors(from.path(), &back, &|_| false);
        same_files(from.path(), &back);
        let (a, b) = (Archive::open(from.path()).unwrap(), Archive::open(&back).unwrap());
        assert_eq!(a.len(), b.len());
    });
}

#[test]
fn in_double_precision_nothing_but_the_last_digits_differs() {
    let seen = std::cell::Cell::new(0);
    each(|case, expected| {
        let Some(exact) = expected.logits("exact") else { return };
        seen.set(seen.get() + 1);
        let place = folder(case, &case.config);
        let options = LoadOptions { dtype: DType::F64, ..LoadOptions::default() };
        let model = load_as(place.path(), &options).unwrap().model;
        let far = off(&logits(&model, &expected.tokens(), &mut Pass::infer()), &exact, 0);
        assert!(far <= EXACT, "{}: off by {far:.1e} of the largest", case.name);
    });
    assert_eq!(seen.get(), 3);
}
