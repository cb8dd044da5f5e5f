//! A line that says how training goes.

use formwork::recipes::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error: loss, tokens per second, time left. Without a terminal it stays silent.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar of `steps` steps.
    pub fn new(steps: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} steps, {msg}, {eta} left");
        let bar = ProgressBar::new(steps);
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Shows a step; held-out losses stay on a line of their own.
    pub fn show(&self, progress: &Progress) {
        let report = &progress.report;
        self.0.set_position(report.step);
        self.0.set_message(format!("loss {:.3}, {:.0} tokens/s", report.loss, progress.tokens_per_second()));
        if let Some(held_out) = progress.held_out {
            let line = format!(
                "step {:5}  loss {:.3}  held-out {:.3} nats per token",
                report.step, report.loss, held_out.nats
            );
            self.0.suspend(|| println!("{line}"));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
