//! Saving and loading modules by the names of their parameters.
//!
//! - [`load`] builds a module from an archive of tensors. Before it reads one number it compares all names and shapes
//!   ([`Report`]), so that a wrong file is refused at once and as a whole.
//! - [`save`] writes a module's parameters in building order, atomically.
//! - [`Snapshot`] is a folder with the state of a run beside the parameters, so that training goes on bit for bit.
//!
//! Any [`Module`](formwork_module::Module) will do, also one from another crate.
//!
//! ```
//! use formwork_checkpoint::{Keep, load, to_bytes};
//! use formwork_formats::Archive;
//! use formwork_module::{Linear, Scope, Seed, params};
//!
//! let build = |source: &dyn formwork_module::Source| Linear::new(&Scope::root(source), 3, 5);
//! let saved = to_bytes(&params(&build(&Seed::new(1))?), Keep::Exact)?;
//! let loaded = load(&Archive::from_bytes(saved).expect("just written"), build)?;
//! let numbers = |linear: &Linear| params(linear)[0].1.value()?.to_vec::<f32>();
//! assert_eq!(numbers(&loaded)?, numbers(&build(&Seed::new(1))?)?);
//! # Ok::<(), formwork_module::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod names;
mod plan;
mod read;
mod report;
mod save;
mod snapshot;
mod source;
mod types;
mod write;

pub use formwork_module::State;
pub use plan::{Part, Plan, Whole};
pub use report::{Found, Missing, Report, Reshaped};
pub use save::{Keep, Saving, save, save_as, to_bytes};
pub use snapshot::Snapshot;
pub use source::{Checkpoint, Hold, load, load_as};
pub use types::{dtype_of, format_of};
pub use write::{Numbers, Sink};
