//! Models that do something of their own where the usual ones keep to the defaults.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use common::{Recall, recomputed};
use formwork_generate::{Sampler, Session};
use formwork_module::{Kind, Module, Pass, Positions, Result, Tensor, TokenModel, Visit, VisitMut, Weight};
use ndarray::ArrayView2;

/// The methods that a model around another one hands on.
macro_rules! hand_on {
    (module) => {
        fn visit(&self, v: &mut dyn Visit) {
            self.inner.visit(v);
        }
        fn visit_mut(&mut self, _: &mut dyn VisitMut) -> Result<()> {
            Ok(())
        }
    };
    (model) => {
        fn vocab(&self) -> usize {
            self.inner.vocab()
        }
        fn context(&self) -> Option<usize> {
            None
        }
        fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
            self.inner.embed(tokens, pass)
        }
        fn head(&self) -> &dyn Weight {
            self.inner.head()
        }
    };
}

const PROMPT: &[u32] = &[2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2];

#[track_caller]
fn check_close(found: &[f32], expected: &[f32]) {
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.len() == expected.len() && worst <= 2e-5, "{worst:e} between {found:?} and {expected:?}");
}

/// Raises a flag in the middle of its `n`-th pass.
#[derive(Debug)]
struct Interrupted<'m> {
    inner: &'m Recall,
    flag: Arc<AtomicBool>,
    passes_left: AtomicUsize,
}

impl Module for Interrupted<'_> {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let y = self.inner.forward(x, pass)?;
        if self.passes_left.fetch_sub(1, Relaxed) == 1 {
            self.flag.store(true, Relaxed);
        }
        pass.check_cancelled()?;
        Ok(y)
    }
    hand_on!(module);
}

impl TokenModel for Interrupted<'_> {
    hand_on!(model);
}

#[test]
fn a_prompt_stopped_between_two_chunks_inside_a_pass_is_taken_back_whole() {
    let inner = Recall::seeded(None);
    for stopped_at in 2..=5 {
        let flag = Arc::new(AtomicBool::new(false));
        let model = Interrupted { inner: &inner, flag: flag.clone(), passes_left: stopped_at.into() };
        let mut session = Session::new(&model, 1, 60).unwrap().cancelled_by(flag.clone()).chunked(3);
        session.prompt(&[&[1]]).unwrap();
        let before = session.logits(0).unwrap().to_vec();
        let error = session.prompt(&[PROMPT]).unwrap_err();
        assert!(matches!(error.kind(), Kind::Cancelled), "{error}");
        assert_eq!(
            (session.history(0).unwrap().tokens(), session.logits(0).unwrap()),
            (&[1][..], &before[..])
        );
        flag.store(false, Relaxed);
        session.prompt(&[PROMPT]).unwrap();
        check_close(session.logits(0).unwrap(), &recomputed(&inner, &[&[1], PROMPT].concat()));
    }
}

/// Has logits of its own: they are capped, `c · tanh(logit / c)`.
#[derive(Debug)]
struct Capped<'m> {
    inner: &'m Recall,
}

const CAP: f64 = 0.5;

impl Module for Capped<'_> {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.inner.forward(x, pass)
    }
    hand_on!(module);
}

impl TokenModel for Capped<'_> {
    hand_on!(model);
    fn logits(&self, tokens: ArrayView2<'_, u32>, which: Positions, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.inner.logits(tokens, which, pass)?.scale(1.0 / CAP)?.tanh()?.scale(CAP)
    }
}

#[test]
fn logits_are_always_those_that_the_model_itself_gives() {
    let inner = Recall::seeded(None);
    let model = Capped { inner: &inner };
    let mut session = Session::new(&model, 2, 40).unwrap();
    session.prompt(&[PROMPT, &[1, 2]]).unwrap();
    let check = |session: &Session<'_>, row: usize| {
        check_close(
            session.logits(row).unwrap(),
            &recomputed(&model, session.history(row).unwrap().tokens()),
        );
    };
    (0..2).for_each(|row| check(&session, row));
    // With a row at rest the pass is made in another way.
    session.prompt(&[&[3, 4], &[]]).unwrap();
    check(&session, 0);
    session.step(&Sampler::greedy()).unwrap();
    session.advance().unwrap();
    check(&session, 0);
}

/// Does not take its tokens into the cache.
#[derive(Debug)]
struct Forgetful<'m> {
    inner: &'m Recall,
}

impl Module for Forgetful<'_> {
    fn forward(&self, x: &Tensor, _: &mut Pass<'_>) -> Result<Tensor> {
        Ok(x.clone())
    }
    hand_on!(module);
}

impl TokenModel for Forgetful<'_> {
    hand_on!(model);
    fn hidden(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.forward(&self.embed(tokens, pass)?, pass)
    }
}

#[test]
fn a_model_that_does_not_commit_its_cache_is_told_so() {
    let model = Forgetful { inner: &Recall::seeded(None) };
    let error = Session::new(&model, 1, 8).unwrap().prompt(&[&[1, 2]]).unwrap_err().to_string();
    assert!(error.starts_with("generate: expected 2 tokens in row 0 of the cache, found 0;"), "{error}");
}

/// Gives logits for another vocabulary than it claims.
#[derive(Debug)]
struct Miscounted<'m> {
    inner: &'m Recall,
}

impl Module for Miscounted<'_> {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.inner.forward(x, pass)
    }
    hand_on!(module);
}

impl TokenModel for Miscounted<'_> {
    hand_on!(model);
    fn logits(&self, tokens: ArrayView2<'_, u32>, which: Positions, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.inner.logits(tokens, which, pass)?.narrow(1, 0, 10)
    }
}

#[test]
fn logits_of_another_shape_are_refused() {
    let model = Miscounted { inner: &Recall::seeded(None) };
    let mut session = Session::new(&model, 1, 8).unwrap();
    let error = session.prompt(&[&[1, 2]]).unwrap_err().to_string();
    assert_eq!(error, "generate: expected logits [1, 11], found [1, 10]");
    assert!(session.history(0).unwrap().is_empty());
}
