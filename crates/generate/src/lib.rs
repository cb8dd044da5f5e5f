//! Text generation for any [`TokenModel`](formwork_module::TokenModel).
//!
//! - A [`Processor`] changes the logits of the next token; a [`Sampler`] is a chain of them with a [`Choice`] at its end.
//! - A [`Session`] holds texts and their cache: give it prompts, take tokens, roll back, fork, give it a second prompt, go on
//!   with a text whose beginning it holds ([`Session::resume`]).
//! - [`Session::write`] goes on until a [`Request`]'s end: end ids, stop strings, a number of tokens, the context,
//!   cancellation; it streams [`Event`]s and returns an [`Output`] per row.
//! - [`Settings`] are plain data for all of it, what a command line or a file says.
//!
//! The crate knows no tokenizer: whoever has one gives a [`Text`] per row. It knows no clock: whoever wants seconds
//! measures around [`Session::prompt`] and [`Session::write`]. Randomness is a seed; a row's text depends on the seed,
//! the row's stream and the row's own tokens, not on the rows beside it (a matrix product may round one row otherwise
//! than many, so two tokens that are equally likely to the last bits may still change places).
//!
//! A model that counts, and a session that lets it:
//!
//! ```
//! use formwork_generate::{Finish, Request, Sampler, Session};
//! use formwork_module::{Embedding, Init, Module, Pass, Result, Scope, Seed, Tensor, TokenModel, Visit, VisitMut, Weight};
//!
//! /// Its head is its table turned by one: after token `i` comes `i + 1`.
//! #[derive(Debug)]
//! struct Counter { table: Embedding, next: Next }
//!
//! #[derive(Debug)]
//! struct Next;
//! /// It is a rule, so there are no numbers to hand out.
//! fn no_table() -> formwork_module::Error { formwork_module::Error::missing("a table of numbers") }
//! impl Weight for Next {
//!     fn shape(&self) -> [usize; 2] { [7, 1] }
//!     fn apply(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Pass<'_>) -> Result<Tensor> {
//!         let best = |x: f32| (0..7).map(move |id| -(id as f32 - x - 1.0).abs());
//!         Tensor::from_vec(x.to_vec::<f32>()?.into_iter().flat_map(best).collect(), &[x.len(), 7])
//!     }
//!     fn gather(&self, _: &[u32], _: &[usize], _: &mut Pass<'_>) -> Result<Tensor> { Err(no_table()) }
//!     fn to_dense(&self, _: &mut Pass<'_>) -> Result<Tensor> { Err(no_table()) }
//!     fn visit(&self, _: &str, _: &mut dyn Visit) {}
//! }
//!
//! impl Module for Counter {
//!     fn forward(&self, x: &Tensor, _: &mut Pass<'_>) -> Result<Tensor> { Ok(x.clone()) }
//!     fn visit(&self, v: &mut dyn Visit) { self.table.visit(v) }
//!     fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> { self.table.visit_mut(v) }
//! }
//!
//! impl TokenModel for Counter {
//!     fn vocab(&self) -> usize { 7 }
//!     fn context(&self) -> Option<usize> { None }
//!     fn embed(&self, tokens: ndarray::ArrayView2<'_, u32>, _: &mut Pass<'_>) -> Result<Tensor> {
//!         Tensor::from_array(tokens.mapv(|id| id as f32).insert_axis(ndarray::Axis(2))) // [b, t, 1]
//!     }
//!     fn head(&self) -> &dyn Weight { &self.next }
//! }
//!
//! let source = Seed::new(1);
//! let table = Embedding::new(&Scope::root(&source), 7, 1, Init::Constant(0.0))?;
//! let model = Counter { table, next: Next };
//!
//! let mut session = Session::new(&model, 2, 16)?;
//! session.prompt(&[&[0, 1], &[3]])?;
//! let request = Request { max_tokens: 3, end: vec![5], ..Request::new(Sampler::greedy()) };
//! let outputs = session.write(&request, &mut [], |_| std::ops::ControlFlow::Continue(()))?;
//! assert_eq!((&outputs[0].ids[..], outputs[0].finish), (&[2, 3, 4][..], Finish::Length));
//! assert_eq!((&outputs[1].ids[..], outputs[1].finish), (&[4, 5][..], Finish::End));
//! # Ok::<(), formwork_module::Error>(())
//! ```
#![forbid(unsafe_code)]

mod allow;
mod ban;
mod ban_first;
mod ban_phrases;
mod feed;
mod frequency;
mod history;
mod likeliest;
mod min_p;
mod min_tokens;
mod no_repeat;
mod presence;
mod processor;
mod repetition;
mod request;
mod resume;
mod sampler;
mod session;
mod settings;
mod stop;
mod temperature;
mod text;
mod top_k;
mod top_p;
mod write;

pub use allow::Allow;
pub use ban::Ban;
pub use ban_first::BanFirst;
pub use ban_phrases::BanPhrases;
pub use frequency::FrequencyPenalty;
pub use history::{History, Seen};
pub use min_p::MinP;
pub use min_tokens::MinTokens;
pub use no_repeat::NoRepeat;
pub use presence::PresencePenalty;
pub use processor::Processor;
pub use repetition::RepetitionPenalty;
pub use request::{Event, Finish, Output, Request};
pub use sampler::{Choice, Sampler};
pub use session::Session;
pub use settings::Settings;
pub use temperature::Temperature;
pub use text::Text;
pub use top_k::TopK;
pub use top_p::TopP;
