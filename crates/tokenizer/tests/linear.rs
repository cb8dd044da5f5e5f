//! A megabyte of one character takes time in proportion to its length: no text may stop a server.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;
#[path = "common/vocabularies.rs"]
mod vocabularies;

use std::time::{Duration, Instant};

use common::{bert, gpt2, llama2, llama3, read, unigram};
use formwork_tokenizer::Tokenizer;

const MEGABYTE: usize = 1 << 20;
/// Four times the text may take at most this many times as long: linear is 4, quadratic 16.
const MOST: f64 = 8.0;
/// Nothing quadratic is done with a megabyte in this time (it takes minutes), and shorter times are mostly noise.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Other programs may disturb a measurement; they do not disturb every one.
const TRIES: usize = 5;

/// Asserts that `run(MEGABYTE)` takes in proportion as long as `run(MEGABYTE / 4)`.
fn grows_linearly(what: &str, mut run: impl FnMut(usize)) {
    let mut time = |bytes| {
        let start = Instant::now();
        run(bytes);
        start.elapsed()
    };
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let (quarter, whole) = (time(MEGABYTE / 4), time(MEGABYTE));
        if whole < AT_ONCE || whole.as_secs_f64() < MOST * quarter.as_secs_f64() {
            return;
        }
        seen.push((quarter, whole));
    }
    panic!("{what}: four times the text took more than {MOST} times as long, each time: {seen:?}");
}

fn check(name: &str, tokenizer: &Tokenizer, patterns: &[&str]) {
    for pattern in patterns {
        // A quarter of a megabyte is a multiple of the length of every pattern.
        let long = pattern.repeat(MEGABYTE / pattern.len());
        let mut ids = Vec::new();
        grows_linearly(&format!("{name}: encoding {pattern:?}"), |bytes| {
            ids = tokenizer.encode(&long[..bytes]).unwrap();
        });
        grows_linearly(&format!("{name}: decoding {pattern:?}"), |bytes| {
            tokenizer.decode(&ids[..ids.len() / (MEGABYTE / bytes)]).unwrap();
        });
    }
}

#[test]
fn one_character_a_million_times_takes_linear_time() {
    check("bytes", &Tokenizer::bytes(), &["a"]);
    check("characters", &Tokenizer::characters("a").unwrap(), &["a"]);
    check("gpt2", &read(&gpt2()), &["a", " "]);
    check("llama3", &read(&llama3()), &["a", " "]);
    check("llama2", &read(&llama2()), &["a", "👍"]);
    check("bert", &read(&bert()), &["a"]);
    check("unigram", &read(&unigram()), &["a"]);
    let [bytes, sentences] = vocabularies::tokenizers();
    check("gguf bytes", &bytes, &["a", " ", "7"]);
    check("gguf sentences", &sentences, &["a", " ", "👍"]);
}
