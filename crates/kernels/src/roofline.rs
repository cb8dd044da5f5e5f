//! What this machine can do at most: the ceilings that every measured speed is compared with.
//!
//! A product of matrices cannot be faster than the multiply-adds that the instruction set does in a second, and a pass
//! over memory not faster than the memory delivers; the lower of the two ceilings bounds a kernel (Williams, Waterman
//! & Patterson 2009, <https://doi.org/10.1145/1498765.1498785>). Both drift, with the clock and with the neighbours of
//! a shared machine, so they are measured beside what is compared with them and not read from a data sheet.
//!
//! - **Arithmetic**: chains of multiply-adds that live in registers, more of them than the latency hides.
//! - **Reading**: a sum over memory that no cache holds.
//! - **Triad**: `a = b + s·c` (McCalpin 1995), counted as **four** streams of memory: a line that is written is read
//!   first, unless a program says otherwise, which the usual count of three leaves out.
//!
//! What is measured is the set that [`isa::dispatch`] would use, so `isa::with(Isa::Avx2, ..)` gives the ceilings of
//! AVX2. A set without an instruction for a kind of number has the ceiling of what stands in for it.
//!
//! ```
//! use formwork_kernels::roofline::Roofline;
//!
//! let machine = Roofline::measure(1); // about half a second
//! assert!(machine.f32_ops > 0.0 && machine.read_bytes > 0.0);
//! println!("{machine}");
//! ```

mod chains;
mod streams;

use std::{
    fmt,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use crate::isa::{self, Isa};
use chains::{chains, clock};
use streams::memory;

/// The ceilings of a machine at a number of threads; see the [module](self). All are per second and for all threads
/// together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// How many threads worked at once.
    pub threads: usize,
    /// The instruction set.
    pub isa: Isa,
    /// Cycles of one core, by a chain of additions that each take one; `None` where that is not known to be so.
    pub clock: Option<f64>,
    /// Operations on `f32`, a multiply-add counted as two.
    pub f32_ops: f64,
    /// Operations on bf16 summed in `f32`; where the set has none, those on `f32`, to which bf16 would be widened.
    pub bf16_ops: f64,
    /// Operations on 8-bit integers summed in 32 bits; where the set has no dot product, through 16-bit products.
    pub int8_ops: f64,
    /// Bytes read from memory.
    pub read_bytes: f64,
    /// Bytes moved by a triad, the lines that are read because they are written included.
    pub triad_bytes: f64,
}

/// How much work a measurement is.
struct Effort {
    /// Seconds of one round of arithmetic.
    seconds: f64,
    /// Rounds, of which the fastest counts.
    rounds: usize,
    /// Passes over memory, each in rounds.
    sweeps: usize,
    /// Numbers in memory, at least.
    numbers: usize,
    /// And at least so many for each thread.
    numbers_a_thread: usize,
}

/// More memory than third-level caches hold. Many short rounds, since a neighbour may take a core away for some
/// milliseconds, and one that was not disturbed is enough.
const USUAL: Effort =
    Effort { seconds: 0.003, rounds: 20, sweeps: 6, numbers: 72 << 20, numbers_a_thread: 8 << 20 };

impl Roofline {
    /// Measures for [`isa::current`] with so many threads at once, in about half a second and 288 MiB (32 MiB for
    /// each thread of many), which are given back. Nothing else should run meanwhile.
    ///
    /// # Panics
    /// If `threads` is 0, or the system refuses a thread or the memory.
    pub fn measure(threads: usize) -> Self {
        Self::with(threads, &USUAL)
    }

    fn with(threads: usize, effort: &Effort) -> Self {
        assert!(threads >= 1, "roofline: expected at least 1 thread, found 0");
        let isa = isa::current();
        let [f32_ops, bf16_ops, int8_ops] = chains(isa).map(|chain| chain.rate(threads, effort));
        let (read_bytes, triad_bytes) = memory(threads, effort);
        Self { threads, isa, clock: clock(effort), f32_ops, bf16_ops, int8_ops, read_bytes, triad_bytes }
    }
}

/// One line: `avx512dot, 2 threads at 3.60 GHz: f32 231, bf16 462, int8 924 Gop/s; memory 38.2 read, 41.0 triad GB/s`.
impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} thread{}",
            self.isa.name(),
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )?;
        if let Some(clock) = self.clock {
            write!(f, " at {:.2} GHz", clock / 1e9)?;
        }
        let [f32_ops, bf16, int8] = [self.f32_ops, self.bf16_ops, self.int8_ops].map(|rate| rate / 1e9);
        let [read, triad] = [self.read_bytes, self.triad_bytes].map(|rate| rate / 1e9);
        write!(f, ": f32 {f32_ops:.0}, bf16 {bf16:.0}, int8 {int8:.0} Gop/s")?;
        write!(f, "; memory {read:.1} read, {triad:.1} triad GB/s")
    }
}

/// The seconds of the fastest round, in which all tasks, a thread each, begin together. A round lasts from the first
/// beginning to the last end, so that threads which the system let run one after the other do not count as a team. Every
/// task runs once before the clock starts.
fn fastest(rounds: usize, tasks: Vec<impl FnMut() + Send>) -> f64 {
    let (isa, barrier, start) = (isa::current(), Barrier::new(tasks.len()), Instant::now());
    let of_task = |mut task: Box<dyn FnMut() + Send + '_>| {
        task();
        let round = |_| {
            barrier.wait();
            let begin = start.elapsed();
            task();
            (begin, start.elapsed())
        };
        (0..rounds).map(round).collect::<Vec<_>>()
    };
    let times: Vec<Vec<(Duration, Duration)>> = thread::scope(|scope| {
        let run = |task| {
            let task: Box<dyn FnMut() + Send> = Box::new(task);
            let of_task = &of_task;
            scope.spawn(move || isa::with(isa, || of_task(task)))
        };
        let handles: Vec<_> = tasks.into_iter().map(run).collect();
        handles.into_iter().map(|handle| handle.join().expect("a measurement does not panic")).collect()
    });
    let round = |round: usize| {
        let (begins, ends): (Vec<_>, Vec<_>) = times.iter().map(|task| task[round]).unzip();
        let whole = ends.into_iter().max().zip(begins.into_iter().min()).map(|(end, begin)| end - begin);
        whole.map_or(f64::INFINITY, |whole| whole.as_secs_f64())
    };
    (0..rounds).map(round).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousandth of the usual work, in a cache: enough to see that something was measured. As many rounds as usual,
    /// since the other tests have the cores meanwhile.
    const TINY: Effort =
        Effort { seconds: 1e-5, rounds: 20, sweeps: 2, numbers: 1 << 16, numbers_a_thread: 1 };

    #[test]
    fn every_ceiling_is_a_speed_on_every_instruction_set() {
        for isa in Isa::available() {
            for threads in [1, 3] {
                let found = isa::with(isa, || Roofline::with(threads, &TINY));
                assert_eq!((found.threads, found.isa), (threads, isa));
                let Roofline { f32_ops, bf16_ops, int8_ops, read_bytes, triad_bytes, .. } = found;
                // A loop that was optimised away would do more than any core; one that does not run, less.
                for rate in [f32_ops, bf16_ops, int8_ops, read_bytes, triad_bytes] {
                    assert!((1e6..1e14).contains(&rate), "{found:?}");
                }
                let clock = found.clock.into_iter().all(|clock| (1e8..1e10).contains(&clock));
                assert!(clock, "{found:?}");
            }
        }
    }

    #[test]
    fn it_is_told_in_a_line() {
        let found = Roofline {
            threads: 2,
            isa: Isa::Scalar,
            clock: Some(3.6e9),
            f32_ops: 231e9,
            bf16_ops: 462e9,
            int8_ops: 924e9,
            read_bytes: 38.2e9,
            triad_bytes: 41e9,
        };
        let line = "scalar, 2 threads at 3.60 GHz: f32 231, bf16 462, int8 924 Gop/s; memory 38.2 read, 41.0 triad GB/s";
        assert_eq!(found.to_string(), line);
        let line = Roofline { threads: 1, clock: None, ..found }.to_string();
        assert!(line.starts_with("scalar, 1 thread: f32"), "{line}");
    }
}
