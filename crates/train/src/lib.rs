//! Training of any [`TokenModel`](formwork_module::TokenModel): data, AdamW, schedules, evaluation, resume.
//!
//! - [`Tokens`] is a text as ids: random windows to learn from, windows in order to judge by.
//! - [`Trainer`] takes one optimiser step after another, and refuses what would go wrong in silence.
//! - [`AdamW`] changes all parameters in one pass over flat memory; [`Schedule`] says how far.
//! - [`evaluate`] reads held-out text.
//! - [`State`] is what a run must remember to go on bit for bit.
//! - [`run`] is the folder of a run: metrics, a loss curve, a summary.
//!
//! A model that knows only which token follows which learns a text that repeats itself:
//!
//! ```
//! use formwork_module::{Embedding, Init, Module, Pass, Result, Scope, Seed, Tensor, TokenModel, Visit, VisitMut, Weight};
//! use formwork_train::{Constant, Draw, ScheduleConfig, Tokens, TrainConfig, Trainer, Window, evaluate};
//! use ndarray::ArrayView2;
//!
//! #[derive(Debug)]
//! struct Bigram { table: Embedding, head: Embedding } // [n, d] each
//!
//! impl Module for Bigram {
//!     fn forward(&self, x: &Tensor, _: &mut Pass<'_>) -> Result<Tensor> { Ok(x.clone()) }
//!     formwork_module::children!(table, head);
//! }
//!
//! impl TokenModel for Bigram {
//!     fn vocab(&self) -> usize { self.head.weight.shape()[0] }
//!     fn context(&self) -> Option<usize> { None }
//!     fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
//!         let ids: Vec<u32> = tokens.iter().copied().collect();
//!         self.table.lookup(&ids, tokens.shape(), pass) // [b, t, d]
//!     }
//!     fn head(&self) -> &dyn Weight { &*self.head.weight }
//! }
//!
//! let source = Seed::new(1);
//! let scope = Scope::root(&source);
//! let init = Init::Normal { std: 0.1 };
//! let model = Bigram {
//!     table: Embedding::new(&scope.child("table"), 5, 8, init)?,
//!     head: Embedding::new(&scope.child("head"), 5, 8, init)?,
//! };
//!
//! let text = Tokens::new([0, 3, 1, 4, 2].repeat(40)).split(0.8)?;
//! let config = TrainConfig {
//!     seed: 1,
//!     schedule: ScheduleConfig::Constant(Constant { lr: 0.05 }),
//!     adamw: Default::default(),
//!     clip: Some(1.0),
//!     non_finite: Default::default(),
//!     precision: Default::default(),
//! };
//! let window = Window { rows: 4, length: 7 };
//! let before = evaluate(&model, &text.held_out, window)?.nats;
//! let mut trainer = Trainer::new(&model, config)?;
//! for step in 0..40 {
//!     trainer.step(&model, &[text.train.draw(window, Draw { seed: 1, step, micro: 0 })?])?;
//! }
//! let after = evaluate(&model, &text.held_out, window)?.nats;
//! assert!((before - 5f64.ln()).abs() < 0.1, "knows nothing: {before}");
//! assert!(after < 0.1, "knows what follows: {after}");
//! # Ok::<(), formwork_module::Error>(())
//! ```
#![forbid(unsafe_code)]

mod adamw;
mod config;
mod data;
mod evaluate;
mod moments;
pub mod run;
mod schedule;
mod trainer;

pub use adamw::{AdamW, AdamWConfig, Group, Update, group_by_rank};
pub use config::{NonFinite, TrainConfig, TrainPrecision};
pub use data::{Batch, Draw, Split, Tokens, Window};
pub use evaluate::{Evaluation, evaluate, evaluate_batches};
pub use formwork_module::State;
pub use schedule::{Constant, Schedule, ScheduleConfig, WarmupCosine};
pub use trainer::{Outcome, StepReport, Trainer};
