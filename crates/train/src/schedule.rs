//! The learning rate of each step.
//!
//! `constant`: the same at every step.
//!
//! `warmup_cosine`, with `w` steps of warm-up out of `n`, for step `s = 0, 1, …`:
//!
//! - `peak · (s + 1) / (w + 1)` while `s < w`
//! - `floor + ½ (1 + cos(π (s − w) / (n − w))) · (peak − floor)` until `s = n`, and `floor` from there on
//!
//! The cosine is that of Loshchilov & Hutter 2016, <https://arxiv.org/abs/1608.03983>, without restarts.
//!
//! ```
//! use formwork_train::{Schedule, WarmupCosine};
//! let schedule = WarmupCosine { peak: 1e-3, floor: 1e-4, warmup: 100, steps: 2000 };
//! assert_eq!(schedule.lr(0), 1e-3 / 101.0);
//! assert_eq!(schedule.lr(100), 1e-3);
//! assert_eq!(schedule.lr(1050), 5.5e-4); // half way between peak and floor
//! assert_eq!(schedule.lr(2000), 1e-4);
//! ```

use std::fmt::Debug;

use formwork_module::{Error, Result, choice};
use serde::{Deserialize, Serialize};

/// A learning rate per step; a function of the step alone, so that a resumed run goes on as it was.
pub trait Schedule: Debug + Send + Sync {
    /// The rate of the step before which `step` were done.
    fn lr(&self, step: u64) -> f64;
}

/// The same rate at every step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// The rate.
    pub lr: f64,
}

/// A linear rise, `peak · (s + 1) / (warmup + 1)` at step `s`, then half a cosine down,
/// `floor + ½ (1 + cos(π (s − warmup) / (steps − warmup))) · (peak − floor)`, then the floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmupCosine {
    /// The highest rate, first reached at step `warmup`.
    pub peak: f64,
    /// The rate at the end.
    pub floor: f64,
    /// Steps of the rise; 0 starts at the peak.
    pub warmup: u64,
    /// Steps until the floor, the rise included.
    pub steps: u64,
}

choice! {
    /// Which schedule.
    pub enum ScheduleConfig {
        Constant(Constant) = "constant",
        WarmupCosine(WarmupCosine) = "warmup_cosine",
    }
}

impl Schedule for Constant {
    fn lr(&self, _: u64) -> f64 {
        self.lr
    }
}

impl Schedule for WarmupCosine {
    fn lr(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        if step >= self.steps {
            return self.floor;
        }
        let share = (step - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        self.floor + 0.5 * (1.0 + (std::f64::consts::PI * share).cos()) * (self.peak - self.floor)
    }
}

impl ScheduleConfig {
    /// The schedule itself.
    ///
    /// # Errors
    /// A rate that is negative or not finite, a floor above the peak, a warm-up as long as the run, or a custom kind,
    /// which [`Trainer::with_schedule`](crate::Trainer::with_schedule) takes.
    pub fn build(&self) -> Result<Box<dyn Schedule>> {
        match self {
            ScheduleConfig::Constant(constant) => {
                rate("schedule.lr", constant.lr)?;
                Ok(Box::new(*constant))
            }
            ScheduleConfig::WarmupCosine(cosine) => {
                rate("schedule.peak", cosine.peak)?;
                rate("schedule.floor", cosine.floor)?;
                if cosine.floor > cosine.peak {
                    let expected = format!("at most schedule.peak, {}", cosine.peak);
                    return Err(Error::invalid("schedule.floor", expected, cosine.floor));
                }
                if cosine.warmup >= cosine.steps {
                    let expected = format!("fewer than schedule.steps, {}", cosine.steps);
                    return Err(Error::invalid("schedule.warmup", expected, cosine.warmup)
                        .hint("train for more steps or warm up for fewer"));
                }
                Ok(Box::new(*cosine))
            }
            ScheduleConfig::Custom(custom) => Err(Error::invalid(
                "schedule",
                "constant or warmup_cosine",
                format_args!("custom `{}`", custom.name),
            )
            .hint("give the schedule itself to Trainer::with_schedule")),
        }
    }
}

pub(crate) fn rate(what: &str, lr: f64) -> Result<()> {
    match lr.is_finite() && lr >= 0.0 {
        true => Ok(()),
        false => Err(Error::invalid(what, "a finite learning rate of at least 0", lr)),
    }
}

#[cfg(test)]
mod tests {
    use formwork_module::config;
    use serde_json::json;

    use super::*;

    /// The expression of the torch recipe that runs are compared with.
    fn recipe(step: u64) -> f64 {
        let s = step as f64;
        match step < 100 {
            true => 1e-3 * (s + 1.0) / 101.0,
            false => 1e-4 + 0.5 * (1.0 + (std::f64::consts::PI * (s - 100.0) / 1900.0).cos()) * 9e-4,
        }
    }

    #[test]
    fn warm_up_and_cosine_are_those_of_the_recipe() {
        let schedule = WarmupCosine { peak: 1e-3, floor: 1e-4, warmup: 100, steps: 2000 };
        for step in 0..2000 {
            assert!((schedule.lr(step) - recipe(step)).abs() < 1e-18, "{step}");
        }
        assert_eq!(schedule.lr(u64::MAX), 1e-4);
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_peak() {
        assert_eq!(WarmupCosine { peak: 3.0, floor: 0.0, warmup: 0, steps: 7 }.lr(0), 3.0);
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let check = |config: serde_json::Value, words: &[&str]| {
            let error =
                config::read::<ScheduleConfig>(config).and_then(|c| c.build()).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        check(json!({"kind": "constant", "lr": -1.0}), &["schedule.lr", "found -1"]);
        check(json!({"kind": "constant", "rate": 1.0}), &["rate", "lr"]);
        let cosine = |peak: f64, floor: f64, warmup: u64| json!({"kind": "warmup_cosine", "peak": peak, "floor": floor, "warmup": warmup, "steps": 5});
        check(cosine(1.0, 2.0, 0), &["schedule.floor", "schedule.peak, 1", "found 2"]);
        check(cosine(1.0, 0.0, 5), &["schedule.warmup", "schedule.steps, 5", "found 5"]);
        check(json!({"kind": "custom", "name": "mine"}), &["custom `mine`", "with_schedule"]);
    }

    #[test]
    fn a_schedule_is_written_as_it_is_read() {
        let json = json!({"kind": "warmup_cosine", "peak": 1e-3, "floor": 1e-4, "warmup": 7, "steps": 31});
        let read: ScheduleConfig = config::read(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), json);
    }
}
