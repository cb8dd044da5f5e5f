//! Going on with a text whose beginning a row holds: what is computed, what comes of it, and what a failure leaves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use common::Recall;
use formwork_generate::{Choice, PresencePenalty, Sampler, Session, Temperature};
use formwork_module::{Kind, Module, Pass, Result, Tensor, TokenModel, Visit, VisitMut, Weight};
use ndarray::ArrayView2;

/// Rounding of sums in another order: a few units in the last place of logits up to about 10.
const TOLERANCE: f32 = 2e-5;

/// A model that counts the tokens it is given.
#[derive(Debug)]
struct Counted {
    inner: Recall,
    tokens: AtomicUsize,
}

impl Counted {
    fn new() -> Self {
        Self { inner: Recall::seeded(None), tokens: AtomicUsize::new(0) }
    }

    /// How many since the last time.
    fn taken(&self) -> usize {
        self.tokens.swap(0, Relaxed)
    }
}

impl Module for Counted {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.inner.forward(x, pass)
    }
    fn visit(&self, v: &mut dyn Visit) {
        self.inner.visit(v);
    }
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        self.inner.visit_mut(v)
    }
}

impl TokenModel for Counted {
    fn vocab(&self) -> usize {
        self.inner.vocab()
    }
    fn context(&self) -> Option<usize> {
        self.inner.context()
    }
    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.tokens.fetch_add(tokens.len(), Relaxed);
        self.inner.embed(tokens, pass)
    }
    fn head(&self) -> &dyn Weight {
        self.inner.head()
    }
}

fn sampler() -> Sampler {
    // The penalty tells prompt from answer, so a history with the wrong border draws another text.
    Sampler::new(Choice::Sample { seed: 42 })
        .with(PresencePenalty::new(0.7).unwrap())
        .with(Temperature::new(1.5).unwrap())
}

fn steps(session: &mut Session<'_>, count: usize) {
    for _ in 0..count {
        session.step(&sampler()).unwrap();
    }
}

fn tokens<'s>(session: &'s Session<'_>, row: usize) -> &'s [u32] {
    session.history(row).unwrap().tokens()
}

/// The session's row is what a fresh one makes of the same text, now and in what follows.
#[track_caller]
fn check_fresh(model: &Counted, mut session: Session<'_>, ids: &[u32]) {
    let mut fresh = Session::new(model, 1, 40).unwrap();
    fresh.prompt(&[ids]).unwrap();
    assert_eq!(tokens(&session, 0), ids);
    let logits = [&session, &fresh].map(|session| session.logits(0).unwrap().to_vec());
    let worst = logits[0].iter().zip(&logits[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "{worst:e}");
    steps(&mut session, 7);
    steps(&mut fresh, 7);
    assert_eq!(tokens(&session, 0), tokens(&fresh, 0));
}

#[test]
fn only_what_is_new_goes_through_the_model() {
    let model = Counted::new();
    for chunk in [1, 2, 512] {
        let mut held = Session::new(&model, 1, 40).unwrap().chunked(chunk);
        held.prompt(&[&[3, 1, 4, 1, 5]]).unwrap();
        steps(&mut held, 4);
        let text = tokens(&held, 0).to_vec(); // 9 tokens, of which the last has not been through the model
        model.taken();
        let check = |ids: &[u32], new: usize| {
            let mut session = held.fork();
            let kept = session.resume(0, ids).unwrap();
            assert_eq!((kept, model.taken()), (ids.len() - new, new), "{ids:?} after {text:?}");
            assert!(session.is_awake(0) && session.history(0).unwrap().generated().is_empty());
            check_fresh(&model, session, ids);
            model.taken();
        };
        check(&[&text[..], &[7, 8]].concat(), 3); // the next turn of a chat
        check(&text, 1);
        check(&[&text[..7], &[text[7] ^ 1, 2]].concat(), 2); // another end
        check(&text[..6], 1); // a shorter text: its last token for the logits
        check(&text[..1], 1);
        check(&[10, 9], 2); // nothing in common
        // A longer text of which only the beginning is the same.
        check(&[&text[..2], &[0; 11]].concat(), 11);
    }
}

#[test]
fn logits_that_are_known_are_not_computed_again() {
    let model = Counted::new();
    let mut session = Session::new(&model, 1, 40).unwrap();
    session.prompt(&[&[3, 1, 4]]).unwrap();
    model.taken();
    assert_eq!(session.resume(0, &[3, 1, 4]).unwrap(), 3);
    assert_eq!(model.taken(), 0);
    check_fresh(&model, session, &[3, 1, 4]);
    // An empty row holds nothing, and a row at rest wakes.
    let mut session = Session::new(&model, 1, 40).unwrap();
    assert_eq!(session.resume(0, &[3, 1]).unwrap(), 0);
    session.rest(0).unwrap();
    assert_eq!(session.resume(0, &[3, 1, 4]).unwrap(), 2);
    check_fresh(&model, session, &[3, 1, 4]);
}

#[test]
fn other_rows_stay_as_they_are() {
    let model = Counted::new();
    let mut session = Session::new(&model, 3, 40).unwrap();
    session.prompt(&[&[3, 1, 4, 1, 5], &[9], &[2, 6, 5]]).unwrap();
    steps(&mut session, 3);
    session.rest(2).unwrap();
    let held = [0, 1, 2].map(|row| tokens(&session, row).to_vec());
    let mut calm = session.fork();
    session.resume(0, &[3, 1, 4, 7]).unwrap();
    assert_eq!([1, 2].map(|row| tokens(&session, row).to_vec()), [held[1].clone(), held[2].clone()]);
    assert_eq!([0, 1, 2].map(|row| session.is_awake(row)), [true, true, false]);
    steps(&mut session, 5);
    steps(&mut calm, 5);
    assert_eq!(tokens(&session, 1), tokens(&calm, 1));
}

#[test]
fn a_failure_leaves_the_text_as_it_was() {
    let model = Counted::new();
    let flag = Arc::new(AtomicBool::new(false));
    let mut session = Session::new(&model, 1, 12).unwrap().cancelled_by(flag.clone()).chunked(2);
    session.prompt(&[&[3, 1, 4, 1, 5]]).unwrap();
    steps(&mut session, 3);
    let text = tokens(&session, 0).to_vec();
    let mut calm = session.fork().cancelled_by(Arc::default());
    steps(&mut calm, 4);
    let unchanged = |session: &Session<'_>| {
        assert_eq!((tokens(session, 0), session.is_awake(0)), (&text[..], true));
        let mut session = session.fork().cancelled_by(Arc::default());
        steps(&mut session, 4);
        assert_eq!(tokens(&session, 0), tokens(&calm, 0), "what is in the cache is of the text");
    };
    let check = |session: &mut Session<'_>, row: usize, ids: &[u32], message: &str| {
        let error = session.resume(row, ids).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
        unchanged(session);
    };
    check(&mut session, 0, &[], "resume: expected at least one token, found none for row 0;");
    check(&mut session, 1, &[1], "session: expected a row below 1, found 1");
    check(
        &mut session,
        0,
        &[1; 13],
        "prompt: expected a text of at most 12 tokens, the capacity of the session",
    );
    // The chunks before the unknown id are in the cache by then.
    let unknown = "tokens: expected ids below the vocabulary of 11, found 99";
    check(&mut session, 0, &[3, 1, 4, 9, 9, 9, 9, 99], unknown);
    flag.store(true, Relaxed);
    assert!(matches!(session.resume(0, &[3, 1, 7]).unwrap_err().kind(), Kind::Cancelled));
    unchanged(&session);
}
