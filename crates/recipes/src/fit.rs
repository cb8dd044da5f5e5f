//! The training loop: draw, step, log, evaluate, save.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use formwork_module::{Result, TokenModel, params};
use formwork_train::{
    Draw, Evaluation, Outcome, Split, StepReport, Trainer, Window, evaluate,
    run::{Curve, Record, Summary},
};

use crate::Run;

/// What a run does beside taking steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Steps in all, those before a resume included.
    pub steps: u64,
    /// Windows of each batch.
    pub window: Window,
    /// Batches per step, accumulated.
    pub batches: u64,
    /// Windows at once when held-out text is read.
    pub held_out: Window,
    /// Held-out text is read each time so many steps are done, and at the end; 0 means at the end only.
    pub evaluate_every: u64,
    /// A checkpoint is written each time so many steps are done, and at the end; 0 means at the end only.
    pub save_every: u64,
    /// Checkpoints that are kept.
    pub keep: usize,
}

impl Plan {
    /// `steps` steps of one batch each, judged and saved at the end.
    pub fn new(steps: u64, window: Window) -> Self {
        Self { steps, window, batches: 1, held_out: window, evaluate_every: 0, save_every: 0, keep: 2 }
    }
}

/// What is known after a step.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The step.
    pub report: StepReport,
    /// The held-out loss, if it was just read.
    pub held_out: Option<Evaluation>,
    /// Targets learned from in this part of the run.
    pub tokens: u64,
    /// Time spent in steps in this part of the run; evaluation and checkpoints are left out.
    pub training: Duration,
}

impl Progress {
    /// Targets per second of training.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.training.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Trains a model on a text until the plan is done or `observe` breaks off; gives what was known last.
///
/// With a run, every step is logged, and checkpoints, the loss curve, a summary and the latest state are in its folder, also
/// when it is broken off or a step fails: it can be resumed. The windows of a step depend on the trainer's seed and the step alone.
///
/// # Errors
/// Those of the steps, of reading the held-out text, and of writing.
pub fn fit<M: TokenModel + ?Sized>(
    model: &M,
    trainer: &mut Trainer,
    text: &Split,
    plan: &Plan,
    mut run: Option<&mut Run>,
    observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<Progress>> {
    let outcome = steps(model, trainer, text, plan, run.as_deref_mut(), observe);
    if let Some(run) = run {
        // A step that failed has changed nothing: what came before it is kept, and can be looked at.
        run.save(model, trainer)?;
        run.prune(plan.keep)?;
        run.folder().write_curve(&Curve { title: "Loss".to_owned(), ..Curve::default() })?;
        let parameters: usize = params(model).iter().map(|(_, p)| p.shape().len()).sum();
        let facts = vec![("parameters".to_owned(), parameters.to_string())];
        run.folder().write_summary(&Summary { title: "Training".to_owned(), facts })?;
    }
    outcome
}

/// The steps themselves.
fn steps<M: TokenModel + ?Sized>(
    model: &M,
    trainer: &mut Trainer,
    text: &Split,
    plan: &Plan,
    mut run: Option<&mut Run>,
    observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<Progress>> {
    let seed = trainer.config().seed;
    let (mut tokens, mut training) = earlier(run.as_deref_mut())?;
    let (before, spent) = (tokens, training);
    let mut last = None;
    while trainer.steps() < plan.steps {
        let start = Instant::now();
        let step = trainer.steps();
        let draws = (0..plan.batches).map(|micro| text.train.draw(plan.window, Draw { seed, step, micro }));
        let report = trainer.step(model, &draws.collect::<Result<Vec<_>>>()?)?;
        training += start.elapsed();
        if report.outcome == Outcome::Applied {
            tokens += report.tokens as u64;
        }
        let done = trainer.steps();
        let due = |every: u64| done == plan.steps || (every > 0 && done.is_multiple_of(every));
        let held_out =
            due(plan.evaluate_every).then(|| evaluate(model, &text.held_out, plan.held_out)).transpose()?;
        if let Some(run) = run.as_deref_mut() {
            let held_out = held_out.map(|e| e.nats);
            let seconds = Some(training.as_secs_f64());
            run.folder().log(&Record { tokens: Some(tokens), seconds, held_out, ..Record::from(&report) })?;
            if due(plan.save_every) {
                run.save(model, trainer)?;
                run.prune(plan.keep)?;
            }
        }
        let progress = Progress { report, held_out, tokens: tokens - before, training: training - spent };
        let go_on = observe(&progress);
        last = Some(progress);
        if go_on.is_break() {
            break;
        }
    }
    Ok(last)
}

/// Tokens and time of the parts of a run before this one.
fn earlier(run: Option<&mut Run>) -> Result<(u64, Duration)> {
    let Some(run) = run else { return Ok((0, Duration::ZERO)) };
    let records = run.folder().records()?;
    let last = records.last();
    let seconds = last.and_then(|r| r.seconds).unwrap_or(0.0);
    Ok((last.and_then(|r| r.tokens).unwrap_or(0), Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}
