//! Everything that must hold for any op.

mod gradients;
mod layouts;
mod refusals;
mod resources;
mod values;

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
};

use formwork_tensor::DType;

use crate::OpCase;

/// Both types of numbers, with the tolerance of a value and of a gradient.
const TYPES: [(DType, f64, f64); 2] =
    [(DType::F32, crate::F32, crate::F32_GRADIENT), (DType::F64, crate::F64, crate::F64)];

/// Runs every check on every op of a table.
///
/// # Panics
/// With each op and check that failed, if any did.
#[track_caller]
pub fn check(cases: &[OpCase]) {
    const SHOWN: usize = 12;
    let all: Vec<_> = cases.iter().flat_map(failures).collect();
    let more = all.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    assert!(
        all.is_empty(),
        "{} checks failed:\n  {}{more}",
        all.len(),
        all[..all.len().min(SHOWN)].join("\n  ")
    );
}

/// What [`check`] would panic with: one sentence per failed check, as `op: check: sizes: what happened`.
pub fn failures(case: &OpCase) -> Vec<String> {
    let mut report = Report { op: &case.name, found: Vec::new() };
    values::check(case, &mut report);
    values::check_non_finite(case, &mut report);
    gradients::check(case, &mut report);
    layouts::check(case, &mut report);
    resources::check_threads(case, &mut report);
    resources::check_pool(case, &mut report);
    refusals::check(case, &mut report);
    report.found
}

struct Report<'a> {
    op: &'a str,
    found: Vec<String>,
}

impl Report<'_> {
    /// Notes what `f` complains of; a panic is a complaint too.
    fn run(&mut self, what: impl Display, f: impl FnOnce() -> Result<(), String>) {
        let outcome = catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("panicked with \"{words}\""))
        });
        if let Err(words) = outcome {
            self.found.push(format!("{}: {what}: {words}", self.op));
        }
    }
}
