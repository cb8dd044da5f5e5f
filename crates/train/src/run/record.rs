//! One line of the metrics of a run.

use serde::{Deserialize, Serialize};

use crate::StepReport;

/// What was known after a step; what was not measured is left out of the line.
///
/// ```
/// use formwork_train::run::Record;
/// let record = Record { loss: Some(2.5), ..Record::at(7) };
/// assert_eq!(serde_json::to_string(&record).expect("plain numbers"), r#"{"step":7,"loss":2.5}"#);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps done.
    pub step: u64,
    /// Training loss, in nats per token.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub loss: Option<f64>,
    /// Held-out loss, in nats per token.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub held_out: Option<f64>,
    /// Length of the gradient before clipping.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub grad_norm: Option<f64>,
    /// Learning rate.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub lr: Option<f64>,
    /// Targets learned from since the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Seconds spent on training since the run began, earlier parts of a resumed run included.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub seconds: Option<f64>,
}

impl Record {
    /// A step of which nothing is known yet.
    pub fn at(step: u64) -> Self {
        Self { step, ..Self::default() }
    }
}

impl From<&StepReport> for Record {
    /// Step, loss, gradient and rate; tokens and seconds are for the caller to add up.
    fn from(report: &StepReport) -> Self {
        Self {
            loss: Some(report.loss),
            grad_norm: Some(report.grad_norm),
            lr: Some(report.lr),
            ..Self::at(report.step)
        }
    }
}

/// JSON has no NaN: what is not finite is left out like what is not known.
fn is_nothing(value: &Option<f64>) -> bool {
    !value.is_some_and(f64::is_finite)
}
