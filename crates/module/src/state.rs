//! What a run must remember beside its parameters: plain data that any file format can hold.
//!
//! A trainer gives one, a checkpoint keeps it, a trainer takes it back.

use serde_json::Value;

use crate::{DType, Error, Result, Shape, Tensor};

/// Counters and settings, and named numbers such as an optimiser's moments.
///
/// The tensors keep what they held when they were taken, whatever their owner does next.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Counters and settings.
    pub meta: Value,
    /// Numbers by name, in the order of the model; to be stored exactly.
    pub tensors: Vec<(String, Tensor)>,
}

impl State {
    /// The tensor called `name`, if it is there and fits.
    ///
    /// # Errors
    /// No such tensor, or one of another shape or type of numbers.
    pub fn tensor(&self, name: &str, shape: &Shape, dtype: DType) -> Result<&Tensor> {
        let Some((_, tensor)) = self.tensors.iter().find(|(found, _)| found == name) else {
            return Err(Error::missing(format_args!("{name} in the training state"))
                .hint("the state belongs to another model, or to a run that trained other parameters"));
        };
        if tensor.shape() != shape || tensor.dtype() != dtype {
            let (expected, found) =
                (format!("{shape} {dtype}"), format!("{} {}", tensor.shape(), tensor.dtype()));
            return Err(Error::shape("training state", expected, found).at(name));
        }
        Ok(tensor)
    }
}
