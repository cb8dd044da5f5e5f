//! What a session promises of any model: batches, second prompts, roll-backs, forks, chunks, cancellation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use common::{Bigram, Recall, VOCAB, recomputed};
use formwork_generate::{Choice, RepetitionPenalty, Sampler, Session, Temperature};
use formwork_module::{CacheType, Kind, KvCache, Pass, Result, TokenModel};

/// Rounding of sums in another order: a few units in the last place of logits up to about 10.
const TOLERANCE: f32 = 2e-5;

const PROMPTS: [&[u32]; 3] = [&[3, 1, 4, 1, 5], &[9], &[2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2]];

fn samplers() -> [Sampler; 2] {
    let sampled = Sampler::new(Choice::Sample { seed: 42 })
        .with(RepetitionPenalty::new(1.3).unwrap())
        .with(Temperature::new(1.5).unwrap());
    [Sampler::greedy(), sampled]
}

fn steps(session: &mut Session<'_>, sampler: &Sampler, count: usize) {
    for _ in 0..count {
        session.step(sampler).unwrap();
    }
}

fn tokens<'s>(session: &'s Session<'_>, row: usize) -> &'s [u32] {
    session.history(row).unwrap().tokens()
}

#[track_caller]
fn check_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "{worst:e} between {found:?} and {expected:?}");
}

#[test]
fn greedy_follows_the_table_of_a_bigram() {
    let model = Bigram::chain(|i| (3 * i + 1) % VOCAB);
    let mut session = Session::new(&model, 2, 20).unwrap();
    session.prompt(&[&[0], &[7, 2]]).unwrap();
    steps(&mut session, &Sampler::greedy(), 4);
    assert_eq!(tokens(&session, 0), [0, 1, 4, 2, 7]);
    assert_eq!(tokens(&session, 1), [7, 2, 7, 0, 1, 4]);
}

#[test]
fn every_step_has_the_logits_of_a_full_recompute() {
    for model in [Recall::seeded(None), Recall::in_f64()] {
        let mut session = Session::new(&model, 3, 40).unwrap();
        session.prompt(&PROMPTS).unwrap();
        for _ in 0..9 {
            for row in 0..3 {
                check_close(session.logits(row).unwrap(), &recomputed(&model, tokens(&session, row)));
            }
            session.step(&samplers()[1]).unwrap();
            assert!(session.logits(0).is_none(), "the new token has not been through the model");
            session.advance().unwrap();
        }
    }
}

#[test]
fn a_batch_of_unequal_prompts_writes_what_each_writes_alone() {
    let model = Recall::seeded(None);
    for sampler in samplers() {
        let mut batch = Session::new(&model, 3, 40).unwrap();
        batch.prompt(&PROMPTS).unwrap();
        steps(&mut batch, &sampler, 13);
        for (row, prompt) in PROMPTS.iter().enumerate() {
            let mut alone = Session::new(&model, 1, 40).unwrap().streams(&[row as u64]).unwrap();
            alone.prompt(&[prompt]).unwrap();
            steps(&mut alone, &sampler, 13);
            assert_eq!(tokens(&batch, row), tokens(&alone, 0), "row {row} of {sampler:?}");
        }
    }
}

#[test]
fn rows_with_one_prompt_draw_different_texts_from_one_seed() {
    let model = Recall::seeded(None);
    let mut session = Session::new(&model, 2, 40).unwrap();
    session.prompt(&[PROMPTS[0]; 2]).unwrap();
    steps(&mut session, &samplers()[1], 13);
    assert_ne!(tokens(&session, 0), tokens(&session, 1));
}

#[test]
fn a_second_prompt_is_one_concatenated_prompt() {
    let model = Recall::seeded(None);
    for sampler in samplers() {
        for first_steps in [0, 1, 5] {
            let mut twice = Session::new(&model, 2, 60).unwrap();
            twice.prompt(&[PROMPTS[0], PROMPTS[1]]).unwrap();
            steps(&mut twice, &sampler, first_steps);
            let second: [&[u32]; 2] = [&[8, 8], PROMPTS[2]];
            let whole: Vec<Vec<u32>> =
                (0..2).map(|row| [tokens(&twice, row), second[row]].concat()).collect();
            twice.prompt(&second).unwrap();
            let mut once = Session::new(&model, 2, 60).unwrap();
            once.prompt(&[&whole[0], &whole[1]]).unwrap();
            (0..2).for_each(|row| check_close(twice.logits(row).unwrap(), once.logits(row).unwrap()));
            steps(&mut twice, &sampler, 7);
            steps(&mut once, &sampler, 7);
            (0..2).for_each(|row| assert_eq!(tokens(&twice, row), tokens(&once, row), "after {first_steps}"));
        }
    }
}

#[test]
fn chunks_of_any_size_give_the_same_logits() {
    let model = Recall::seeded(None);
    for chunk in [0, 1, 2, 3, 5, 10, 11, 12] {
        let mut session = Session::new(&model, 3, 40).unwrap().chunked(chunk);
        session.prompt(&PROMPTS).unwrap();
        // The middle row rests while the others get a second prompt.
        session.prompt(&[&[1, 2, 3], &[], PROMPTS[0]]).unwrap();
        check_close(session.logits(0).unwrap(), &recomputed(&model, &[PROMPTS[0], &[1, 2, 3]].concat()));
        check_close(session.logits(1).unwrap(), &recomputed(&model, PROMPTS[1]));
        check_close(session.logits(2).unwrap(), &recomputed(&model, &[PROMPTS[2], PROMPTS[0]].concat()));
        assert_eq!([0, 1, 2].map(|row| session.is_awake(row)), [true, false, true]);
    }
}

#[test]
fn a_resting_row_grows_by_nothing_and_goes_on_where_it_was() {
    let model = Recall::seeded(None);
    let mut session = Session::new(&model, 2, 40).unwrap();
    session.prompt(&[PROMPTS[0], PROMPTS[2]]).unwrap();
    steps(&mut session, &Sampler::greedy(), 2);
    session.rest(0).unwrap();
    let held = tokens(&session, 0).to_vec();
    for _ in 0..5 {
        let picked = session.step(&Sampler::greedy()).unwrap();
        assert!(picked[0].is_none() && picked[1].is_some());
    }
    assert_eq!(tokens(&session, 0), held);
    session.wake(0).unwrap();
    steps(&mut session, &Sampler::greedy(), 3);
    let mut alone = Session::new(&model, 1, 40).unwrap();
    alone.prompt(&[PROMPTS[0]]).unwrap();
    steps(&mut alone, &Sampler::greedy(), 5);
    assert_eq!(tokens(&session, 0), tokens(&alone, 0));
}

#[test]
fn a_truncated_row_goes_on_as_if_the_rest_had_never_been() {
    let model = Recall::seeded(None);
    let sampler = &samplers()[1];
    for len in 1..=11 {
        let mut session = Session::new(&model, 2, 40).unwrap();
        session.prompt(&[PROMPTS[0], PROMPTS[2]]).unwrap();
        steps(&mut session, sampler, 6);
        let (first, whole) = (tokens(&session, 0).to_vec(), tokens(&session, 1).to_vec());
        session.truncate(0, len).unwrap();
        session.advance().unwrap();
        check_close(session.logits(0).unwrap(), &recomputed(&model, &first[..len]));
        assert_eq!(tokens(&session, 1), whole);
    }
    let mut session = Session::new(&model, 1, 40).unwrap();
    session.prompt(&[PROMPTS[0]]).unwrap();
    session.truncate(0, 0).unwrap();
    assert!(!session.is_awake(0) && session.prompt(&[&[]]).is_err());
    session.prompt(&[PROMPTS[1]]).unwrap();
    check_close(session.logits(0).unwrap(), &recomputed(&model, PROMPTS[1]));
    assert!(session.truncate(0, 2).is_err() && session.truncate(1, 0).is_err());
}

#[test]
fn a_truncation_and_the_same_draws_give_the_same_text() {
    let model = Recall::seeded(None);
    let mut session = Session::new(&model, 1, 40).unwrap();
    session.prompt(&[PROMPTS[0]]).unwrap();
    steps(&mut session, &samplers()[1], 9);
    let text = tokens(&session, 0).to_vec();
    session.truncate(0, 7).unwrap();
    steps(&mut session, &samplers()[1], 7);
    assert_eq!(tokens(&session, 0), text);
}

#[test]
fn a_fork_and_its_origin_do_not_see_each_other() {
    let model = Recall::seeded(None);
    let mut origin = Session::new(&model, 1, 40).unwrap();
    origin.prompt(&[PROMPTS[2]]).unwrap();
    steps(&mut origin, &Sampler::greedy(), 2);
    let shared = tokens(&origin, 0).to_vec();
    let mut fork = origin.fork();
    fork.prompt(&[&[7, 7, 7]]).unwrap();
    steps(&mut origin, &Sampler::greedy(), 1);
    origin.advance().unwrap();
    check_close(origin.logits(0).unwrap(), &recomputed(&model, tokens(&origin, 0)));
    check_close(fork.logits(0).unwrap(), &recomputed(&model, &[&shared[..], &[7, 7, 7]].concat()));
}

#[test]
fn a_prompt_fed_once_becomes_the_beginning_of_many_texts() {
    let model = Recall::seeded(None);
    let sampler = &samplers()[1];
    let mut one = Session::new(&model, 1, 40).unwrap();
    one.prompt(&[PROMPTS[2]]).unwrap();
    one.reorder(&[0, 0, 0]).unwrap();
    let mut three = Session::new(&model, 3, 40).unwrap();
    three.prompt(&[PROMPTS[2]; 3]).unwrap();
    steps(&mut one, sampler, 8);
    steps(&mut three, sampler, 8);
    assert_eq!(one.rows(), 3);
    (0..3).for_each(|row| assert_eq!(tokens(&one, row), tokens(&three, row)));
    one.reorder(&[2]).unwrap();
    assert_eq!(tokens(&one, 0), tokens(&three, 2));
    assert!(one.reorder(&[]).is_err() && one.reorder(&[1]).is_err());
}

#[test]
fn a_pushed_token_is_part_of_the_text() {
    let model = Recall::seeded(None);
    let mut session = Session::new(&model, 1, 6).unwrap();
    session.prompt(&[PROMPTS[0]]).unwrap();
    session.push(0, 10).unwrap();
    session.advance().unwrap();
    check_close(session.logits(0).unwrap(), &recomputed(&model, &[PROMPTS[0], &[10]].concat()));
    let error = session.push(0, 1).unwrap_err().to_string();
    assert_eq!(error, "push: expected a row of less than 6 tokens, found row 0, which is full");
    assert!(
        session.push(0, VOCAB as u32).unwrap_err().to_string().contains("an id below the vocabulary of 11")
    );
}

#[test]
fn a_full_row_rests() {
    let model = Recall::seeded(Some(7));
    let mut session = Session::new(&model, 2, 100).unwrap();
    assert_eq!(session.capacity(), 7);
    session.prompt(&[PROMPTS[0], PROMPTS[1]]).unwrap();
    let grown: Vec<bool> = (0..4).map(|_| session.step(&Sampler::greedy()).unwrap()[0].is_some()).collect();
    assert_eq!(grown, [true, true, false, false]);
    assert_eq!((tokens(&session, 0).len(), tokens(&session, 1).len()), (7, 5));
    assert!(!session.is_awake(0));
}

#[test]
fn a_cancelled_pass_leaves_the_session_as_it_was() {
    let model = Recall::seeded(None);
    let flag = Arc::new(AtomicBool::new(false));
    let cancelled = |result: Result<()>| matches!(result.unwrap_err().kind(), Kind::Cancelled);
    let mut session = Session::new(&model, 2, 40).unwrap().cancelled_by(flag.clone()).chunked(2);
    let mut calm = Session::new(&model, 2, 40).unwrap();
    for session in [&mut session, &mut calm] {
        session.prompt(&[PROMPTS[0], PROMPTS[1]]).unwrap();
        steps(session, &Sampler::greedy(), 3);
    }
    flag.store(true, Relaxed);
    assert!(cancelled(session.step(&Sampler::greedy()).map(|_| ())));
    assert!(cancelled(session.prompt(&[PROMPTS[2], PROMPTS[2]])));
    assert_eq!(tokens(&session, 0), tokens(&calm, 0));
    flag.store(false, Relaxed);
    for session in [&mut session, &mut calm] {
        steps(session, &Sampler::greedy(), 3);
        session.prompt(&[PROMPTS[2], &[1]]).unwrap();
    }
    for row in 0..2 {
        assert_eq!(tokens(&session, row), tokens(&calm, row));
        check_close(session.logits(row).unwrap(), calm.logits(row).unwrap());
    }
}

#[test]
fn a_wrong_use_says_what_to_do() {
    let model = Recall::seeded(Some(8));
    let check = |rows: usize, capacity: usize, prompts: &[&[u32]], message: &str| {
        let mut session = Session::new(&model, rows, capacity).unwrap();
        let error = session.prompt(prompts).unwrap_err().to_string();
        assert_eq!(error, message);
        assert!(session.history(0).unwrap().is_empty() && !session.is_awake(0));
    };
    check(
        1,
        20,
        &[PROMPTS[2]],
        "prompt: expected a text of at most 8 tokens, the context of the model, found 11 in row 0; shorten the prompt",
    );
    check(
        2,
        5,
        &[&[1], &[1, 2, 3, 4, 5, 6]],
        "prompt: expected a text of at most 5 tokens, the capacity of the session, found 6 in row 1; \
         shorten the prompt, or make a session with a larger capacity",
    );
    check(
        2,
        8,
        &[&[1], &[]],
        "prompt: expected at least one token, found none in row 1; begin with the model's begin token where the text is empty",
    );
    check(
        2,
        8,
        &[&[1]],
        "prompt: expected one for each of 2 rows, found 1; make a session with as many rows as there are prompts",
    );
    check(
        1,
        8,
        &[&[1, 11]],
        "tokens: expected ids below the vocabulary of 11, found 11 at row 0, token 1; the tokenizer may belong to another model",
    );
    assert!(Session::new(&model, 0, 8).is_err() && Session::new(&model, 1, 0).is_err());
    let mut session = Session::new(&model, 1, 8).unwrap();
    let error = session.step(&Sampler::greedy()).unwrap_err().to_string();
    assert_eq!(error, "step: expected a prompt to go on from, found an empty session; call prompt first");
    session.prompt(&[PROMPTS[0]]).unwrap();
    let error = session.prompt(&[PROMPTS[0]]).unwrap_err().to_string();
    assert!(error.contains("found 5 after 5 in row 0"), "{error}");
    assert!(session.prompt(&[&[]]).is_err() && session.wake(1).is_err() && session.rest(1).is_err());
    assert!(session.streams(&[1, 2]).is_err());
}

#[test]
fn a_cache_that_holds_something_is_refused() {
    let model = Recall::seeded(None);
    let mut cache = model.cache(1, 8);
    model.hidden(ndarray::array![[1, 2]].view(), &mut Pass::infer().cached(&mut cache)).unwrap();
    assert_eq!(cache.len(0), 2);
    let error = Session::with_cache(&model, Box::new(cache)).unwrap_err().to_string();
    assert!(
        error.starts_with("session: expected an empty cache, found DenseCache(lengths [2] of 8)"),
        "{error}"
    );
}

#[test]
fn a_cache_of_fewer_bits_gives_nearly_the_same_logits() {
    // Rounding to 8 bits, and to a 127th of a block's largest number; both leave logits that are not the same bits.
    for (kind, rounding) in [(CacheType::Bf16, 0.01), (CacheType::Q8_0, 0.02)] {
        let model = Recall::seeded(None);
        let mut exact = Session::new(&model, 3, 40).unwrap();
        let mut fewer = Session::new(&model, 3, 40).unwrap().cached_in(kind).unwrap();
        exact.prompt(&PROMPTS).unwrap();
        fewer.prompt(&PROMPTS).unwrap();
        for step in 0..11 {
            let mut apart = false;
            for row in 0..3 {
                let (a, b) = (exact.logits(row).unwrap(), fewer.logits(row).unwrap());
                let size = a.iter().fold(0f32, |most, x| most.max(x.abs()));
                let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size;
                assert!(worst <= rounding, "{kind}, step {step}, row {row}: {worst}");
                apart |= worst > 1e-4;
            }
            assert!(apart, "{kind}, step {step}: nothing was rounded");
            exact.step(&Sampler::greedy()).unwrap();
            for row in 0..3 {
                let id = *tokens(&exact, row).last().unwrap();
                fewer.push(row, id).unwrap();
            }
            exact.advance().unwrap();
            fewer.advance().unwrap();
        }
        let error = fewer.cached_in(CacheType::F32).unwrap_err().to_string();
        assert!(error.starts_with("session: expected empty texts, found one that is not, row 0;"), "{error}");
    }
}

#[test]
fn diverged_weights_are_named_with_their_row() {
    let model = Bigram::new(|i, _| if i == 4 { f32::NAN } else { 0.0 });
    let mut session = Session::new(&model, 2, 8).unwrap();
    session.prompt(&[&[1], &[4]]).unwrap();
    let error = session.step(&Sampler::greedy()).unwrap_err().to_string();
    assert!(error.starts_with("row 1: the logit NaN of token 0 is not finite;"), "{error}");
    assert_eq!((tokens(&session, 0), tokens(&session, 1)), (&[1][..], &[4][..]));
}
