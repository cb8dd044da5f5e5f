//! What the two benches share: the machine beside the figures, medians, and random tokens.

use clap::{Arg, ArgMatches, value_parser};
use formwork::kernels::{roofline::Roofline, team};
use serde::Serialize;

use crate::table::{Side, Table};

/// The measured ceilings for a program.
#[derive(Serialize)]
pub(super) struct Machine {
    /// Null where it cannot be told.
    clock_ghz: Option<f64>,
    f32_gflops: f64,
    bf16_gflops: f64,
    int8_gops: f64,
    pub(super) read_gb_s: f64,
    triad_gb_s: f64,
}

impl From<&Roofline> for Machine {
    fn from(found: &Roofline) -> Self {
        Self {
            clock_ghz: found.clock.map(|clock| clock / 1e9),
            f32_gflops: found.f32_ops / 1e9,
            bf16_gflops: found.bf16_ops / 1e9,
            int8_gops: found.int8_ops / 1e9,
            read_gb_s: found.read_bytes / 1e9,
            triad_gb_s: found.triad_bytes / 1e9,
        }
    }
}

impl Machine {
    /// The same for people.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new([Side::Left, Side::Right, Side::Left]);
        let mut row = |what: &str, number: f64, unit: &str| {
            table.row([what.to_owned(), format!("{number:.1}"), unit.to_owned()]);
        };
        if let Some(clock) = self.clock_ghz {
            row("clock", clock, "GHz");
        }
        row("f32", self.f32_gflops, "Gflop/s");
        row("bf16", self.bf16_gflops, "Gflop/s");
        row("int8", self.int8_gops, "Gop/s");
        row("memory, read", self.read_gb_s, "GB/s");
        row("memory, triad", self.triad_gb_s, "GB/s");
        table
    }
}

/// The option `--threads`.
pub(super) fn threads_arg() -> Arg {
    // More threads than any machine has would only be refused by the system, less politely.
    let range = value_parser!(u16).range(1..=1024);
    Arg::new("threads")
        .long("threads")
        .value_name("T")
        .value_parser(range)
        .help("Threads [default: one per core]")
}

/// What `--threads` says.
pub(super) fn threads(matches: &ArgMatches) -> usize {
    matches.get_one::<u16>("threads").map_or_else(team::threads, |&threads| threads.into())
}

/// The middle of some numbers, the mean of the two middle ones where there are two; `None` of nothing.
pub(super) fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// Ids that do not repeat in a pattern a cache could profit from.
pub(super) fn tokens(count: usize, vocab: usize) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize % vocab.max(1)) as u32
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let check = |numbers: &[f64], expected| assert_eq!(median(numbers), expected, "{numbers:?}");
        check(&[], None);
        check(&[7.0], Some(7.0));
        check(&[5.0, 1.0], Some(3.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0, 100.0, 2.0], Some(3.0));
    }

    #[test]
    fn tokens_are_of_the_vocabulary_and_differ() {
        let found = tokens(300, 17);
        assert!((0..17).all(|id| found.contains(&id)));
        assert!(found.iter().all(|&id| id < 17));
        assert_ne!(found[..100], found[100..200]);
    }
}
