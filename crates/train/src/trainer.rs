//! One optimiser step after another: gradients of one or more batches, checks, clipping, update.
//!
//! A step over several batches is the step over all their targets at once: `∇ = Σᵢ cᵢ ∇meanᵢ / Σᵢ cᵢ`, where `cᵢ` counts
//! the targets of batch `i`. Clipping multiplies by `min(1, clip / (‖∇‖ + 10⁻⁶))`, as PyTorch does (Pascanu et al. 2013,
//! <https://arxiv.org/abs/1211.5063>). Dropout depends on seed, step and the number of the batch within the step.
//!
//! Before anything changes, a step is refused if a parameter that learns got no gradient, and a loss or gradient that is
//! not finite stops or skips it. The same inputs give the same bits, for any number of threads and after a resume.
//! The [crate](crate) has an example.

use std::collections::BTreeMap;

use formwork_kernels::rng;
use formwork_module::{At, Error, Kind, Param, Pass, Pool, Result, TokenModel, config, params};
use serde::{Deserialize, Serialize};

use crate::{
    AdamW, Batch, Group, NonFinite, Schedule, State, TrainConfig, Update, group_by_rank, schedule::rate,
};

/// What PyTorch adds to the norm before it divides by it.
const CLIP_EPS: f64 = 1e-6;

/// Trains a model of which it holds the parameters, not the structure.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    schedule: Box<dyn Schedule>,
    optimizer: AdamW,
    /// Parameters that did not learn when the trainer was made, and so have no moments.
    frozen: Vec<(String, Param)>,
    steps: u64,
    skipped: u64,
    skipped_in_a_row: u64,
}

/// Whether a step changed the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Applied,
    /// It did not.
    Skipped {
        /// What was not finite.
        what: String,
    },
}

/// What a step found.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean loss before the step, in nats per target.
    pub loss: f64,
    /// Length of the gradient before clipping; NaN in a step that was skipped.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Targets that counted.
    pub tokens: usize,
    /// Whether the model changed.
    pub outcome: Outcome,
}

/// Gradients are in place: their sum over all targets, and of how many.
struct Gradient {
    loss: f64,
    tokens: usize,
    /// Makes the mean of what was summed.
    scale: f64,
}

/// The counters of a state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    format: u64,
    seed: u64,
    steps: u64,
    skipped: u64,
    skipped_in_a_row: u64,
    updates: BTreeMap<String, u64>,
}

/// The only format of the counters so far.
const FORMAT: u64 = 1;

impl Trainer {
    /// A trainer for the parameters of `model` that learn now; matrices decay, gains and biases do not.
    ///
    /// # Errors
    /// A setting out of range (it is named), nothing that learns, or two types of numbers.
    pub fn new<M: TokenModel + ?Sized>(model: &M, config: TrainConfig) -> Result<Self> {
        Self::grouped(model, config, &group_by_rank)
    }

    /// As [`new`](Self::new), with a rule of your own for decay and learning rates.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and a group with a factor that is negative or not finite.
    pub fn grouped<M: TokenModel + ?Sized>(
        model: &M,
        config: TrainConfig,
        rule: &dyn Fn(&str, &Param) -> Group,
    ) -> Result<Self> {
        let schedule = config.schedule.build()?;
        Self::with_schedule(model, config, rule, schedule)
    }

    /// As [`grouped`](Self::grouped), with a schedule of your own; `config.schedule` is kept as data and not built.
    ///
    /// # Errors
    /// Those of [`grouped`](Self::grouped).
    pub fn with_schedule<M: TokenModel + ?Sized>(
        model: &M,
        config: TrainConfig,
        rule: &dyn Fn(&str, &Param) -> Group,
        schedule: Box<dyn Schedule>,
    ) -> Result<Self> {
        config.check()?;
        let (learning, frozen): (Vec<_>, Vec<_>) =
            params(model).into_iter().partition(|(_, p)| p.is_trainable());
        if learning.is_empty() {
            return Err(
                Error::missing("a parameter that learns").hint("every parameter of the model is frozen")
            );
        }
        let optimizer = AdamW::new(&learning, config.adamw, rule)?;
        Ok(Self { config, schedule, optimizer, frozen, steps: 0, skipped: 0, skipped_in_a_row: 0 })
    }

    /// The settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How many of them were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The optimiser with its memory.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// The pool that the run's memory comes from.
    pub fn pool(&self) -> &Pool {
        self.optimizer.pool()
    }

    /// One optimiser step over the targets of all `batches`.
    ///
    /// # Errors
    /// No batch, those of the model, a parameter that learns and got no gradient (all are listed), a loss or gradient
    /// that is not finite and may not be skipped, parameters that a tensor still reads. Nothing has changed then.
    pub fn step<M: TokenModel + ?Sized>(&mut self, model: &M, batches: &[Batch]) -> Result<StepReport> {
        if let Some((name, _)) = self.frozen.iter().find(|(_, p)| p.is_trainable()) {
            return Err(Error::invalid(
                "trainer",
                "the parameters that learned when it was made",
                format_args!("{name} too"),
            )
            .hint("unfreeze first, then make the trainer"));
        }
        let lr = self.schedule.lr(self.steps);
        rate("schedule", lr)?;
        self.optimizer.clear_grads();
        let gradient = match self.gradient(model, batches)? {
            Ok(gradient) => gradient,
            Err(what) => return self.skip(what, f64::NAN, lr),
        };
        self.check_coverage()?;
        let grad_norm = self.optimizer.grad_norm()? * gradient.scale;
        if !grad_norm.is_finite() {
            let place = self.optimizer.first_non_finite()?.unwrap_or("all parameters together");
            return self.skip(format!("the gradient of {place}"), gradient.loss, lr);
        }
        let clip = self.config.clip.map_or(1.0, |clip| (clip / (grad_norm + CLIP_EPS)).min(1.0));
        self.optimizer.update(Update { lr, grad_scale: gradient.scale * clip })?;
        self.steps += 1;
        self.skipped_in_a_row = 0;
        let (loss, tokens) = (gradient.loss, gradient.tokens);
        Ok(StepReport { step: self.steps, loss, grad_norm, lr, tokens, outcome: Outcome::Applied })
    }

    /// Sums the gradients of all targets; the inner error says which loss is not finite.
    fn gradient<M: TokenModel + ?Sized>(
        &self,
        model: &M,
        batches: &[Batch],
    ) -> Result<Result<Gradient, String>> {
        let (mut sum, mut tokens) = (0.0, 0);
        for (micro, batch) in batches.iter().enumerate() {
            let seed = rng::mix(self.config.seed, micro as u64);
            let pass = Pass::train(seed, self.steps).in_precision(self.config.precision.into());
            let mut pass = pass.rows(batch.rows.clone());
            let loss = model.loss(batch.tokens.view(), batch.targets.view(), &mut pass)?;
            let mean = loss.mean.item()?;
            if !mean.is_finite() {
                return Ok(Err(format!("the loss of batch {micro}")));
            }
            sum += mean * loss.count as f64;
            tokens += loss.count;
            match batches.len() {
                1 => loss.mean.backward()?,
                // The mean's division by the count cancels, so that batches of any sizes add up target by target.
                _ => loss.mean.scale(loss.count as f64)?.backward()?,
            }
        }
        if tokens == 0 {
            let found = format!("none in {} batches", batches.len());
            return Err(Error::invalid("step", "at least one target that counts", found));
        }
        let scale = if batches.len() == 1 { 1.0 } else { 1.0 / tokens as f64 };
        Ok(Ok(Gradient { loss: sum / tokens as f64, tokens, scale }))
    }

    fn check_coverage(&self) -> Result<()> {
        const SHOWN: usize = 20;
        let lacking: Vec<&str> = self.optimizer.without_grad().collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let more = match lacking.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = lacking[..lacking.len().min(SHOWN)].join(", ");
        Err(Error::missing(format_args!("the gradient of {names}{more}")).hint(
            "freeze what must not learn, or let the module call Pass::skip for what it rightly left out",
        ))
    }

    fn skip(&mut self, what: String, loss: f64, lr: f64) -> Result<StepReport> {
        let at = format!("step {}", self.steps + 1);
        let stop = |hint: String| Err(Error::from(Kind::NonFinite { what: what.clone() }).hint(hint).at(&at));
        match self.config.non_finite {
            NonFinite::Stop {} => stop("lower the learning rate or clip the gradient".to_owned()),
            NonFinite::Skip { limit } if self.skipped_in_a_row >= limit => stop(format!(
                "{} steps in a row were skipped before; lower the learning rate",
                self.skipped_in_a_row
            )),
            NonFinite::Skip { .. } => {
                self.steps += 1;
                self.skipped += 1;
                self.skipped_in_a_row += 1;
                let outcome = Outcome::Skipped { what };
                Ok(StepReport { step: self.steps, loss, grad_norm: f64::NAN, lr, tokens: 0, outcome })
            }
        }
    }

    /// What must be stored beside the model's parameters for [`restore`](Self::restore).
    ///
    /// # Errors
    /// None for moments in host memory.
    pub fn state(&self) -> Result<State> {
        let meta = Meta {
            format: FORMAT,
            seed: self.config.seed,
            steps: self.steps,
            skipped: self.skipped,
            skipped_in_a_row: self.skipped_in_a_row,
            updates: self.optimizer.updates(),
        };
        let meta = serde_json::to_value(meta).map_err(Error::external)?;
        Ok(State { meta, tensors: self.optimizer.tensors()? })
    }

    /// Goes on where `state` was taken, the model's parameters being those of that moment; or changes nothing.
    ///
    /// # Errors
    /// A state of a newer format, of another seed, or of another model.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let format = state.meta.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(FORMAT) {
            let found = format.map_or("none".to_owned(), |f| f.to_string());
            return Err(Error::invalid("training state", format_args!("format {FORMAT}"), found)
                .hint("it may have been written by a newer version"));
        }
        let meta: Meta = config::read(state.meta.clone()).at("training state")?;
        if meta.seed != self.config.seed {
            return Err(Error::invalid(
                "seed",
                format_args!("{}, that of the state", meta.seed),
                self.config.seed,
            )
            .hint("a resumed run keeps its seed; to use another, start a new run from the weights"));
        }
        self.optimizer.restore(state, &meta.updates)?;
        (self.steps, self.skipped, self.skipped_in_a_row) = (meta.steps, meta.skipped, meta.skipped_in_a_row);
        Ok(())
    }
}
