//! Training as a stranger's model meets it.

// Helpers outside `#[test]` functions unwrap too; what fails there fails the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod evaluation;
mod optimizer;
mod refusals;
mod resume;
mod run_folder;
mod tiny;

use formwork_train::{AdamWConfig, NonFinite, ScheduleConfig, TrainConfig, TrainPrecision, WarmupCosine};

/// Decay, clipping and a rate that changes from step to step.
fn config() -> TrainConfig {
    let schedule = WarmupCosine { peak: 0.02, floor: 0.001, warmup: 3, steps: 30 };
    TrainConfig {
        seed: 5,
        schedule: ScheduleConfig::WarmupCosine(schedule),
        adamw: AdamWConfig { beta2: 0.99, weight_decay: 0.1, ..AdamWConfig::default() },
        clip: Some(0.5),
        non_finite: NonFinite::default(),
        precision: TrainPrecision::F32,
    }
}
