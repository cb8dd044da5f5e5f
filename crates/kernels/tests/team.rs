//! The team in company: several models at once, a pool of the user's own, more busy threads than cores, and nothing
//! to do. Times are compared with those of the same work on one thread under the same load.
#![cfg(feature = "threads")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use formwork_kernels::Write;
use formwork_kernels::matmul::{Mat, MatMut, matmul, matmul_bf16};
use formwork_kernels::team::with_threads;

/// There is one team in a process, and these tests measure it: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The weight of a layer and what goes through it.
struct Model {
    w: Vec<f32>,
    x: Vec<f32>,
}

/// Enough for several tasks a row, and few enough rows for one task to be some microseconds.
const DIM: usize = 384;
const ROWS: usize = 67;

impl Model {
    fn new(seed: u32) -> Self {
        Model { w: numbers(DIM * DIM, seed), x: numbers(ROWS * DIM, seed + 1) }
    }

    /// A prompt in both precisions, and then its first rows one by one: products of every kind of plan.
    fn run(&self) -> Vec<f32> {
        let w = Mat::row_major(&self.w, DIM, DIM).transposed();
        let mut y = vec![f32::NAN; (2 * ROWS + 3) * DIM];
        let (full, rest) = y.split_at_mut(ROWS * DIM);
        let (rounded, rows) = rest.split_at_mut(ROWS * DIM);
        let x = Mat::row_major(&self.x, ROWS, DIM);
        matmul(MatMut::row_major(full, ROWS, DIM), x, w, 1.0, Write::Store);
        matmul_bf16(MatMut::row_major(rounded, ROWS, DIM), x, w, 1.0, Write::Store);
        for (x, y) in self.x.chunks_exact(DIM).zip(rows.chunks_exact_mut(DIM)) {
            matmul(MatMut::row_major(y, 1, DIM), Mat::row_major(x, 1, DIM), w, 1.0, Write::Store);
        }
        y
    }

    /// Rows one after another, as a model writes them: short regions with little between them.
    fn decode(&self, rows: usize) {
        let w = Mat::row_major(&self.w, DIM, DIM).transposed();
        let mut y = [0.0; DIM];
        for x in self.x.chunks_exact(DIM).cycle().take(rows) {
            matmul(MatMut::row_major(&mut y, 1, DIM), Mat::row_major(x, 1, DIM), w, 1.0, Write::Store);
        }
    }
}

#[test]
fn models_on_several_threads_compute_what_each_computes_alone() {
    let _turn = alone();
    std::thread::scope(|s| {
        for seed in 0..4 {
            s.spawn(move || {
                let model = Model::new(10 * seed);
                let expected = with_threads(1, || model.run());
                for round in 0..20 {
                    let found = with_threads(1 + round % 4, || model.run());
                    assert!(found == expected, "model {seed}, round {round}");
                }
            });
        }
    });
}

/// Runs all jobs on `workers` threads that take them from one queue.
fn pool<J: Send>(workers: usize, jobs: impl IntoIterator<Item = J>, work: impl Fn(J) + Sync) {
    let jobs: Mutex<VecDeque<J>> = Mutex::new(jobs.into_iter().collect());
    let next = || jobs.lock().expect("no worker panics while it holds the queue").pop_front();
    std::thread::scope(|s| {
        for _ in 0..workers {
            s.spawn(|| {
                while let Some(job) = next() {
                    work(job);
                }
            });
        }
    });
}

/// Whether `work` takes at most `times` as long on `threads` threads as on one, in any of some attempts: what else
/// runs on the machine may spoil some of them, but a collapse spoils all.
fn keeps_within(times: u32, threads: usize, work: impl Fn(usize)) -> Result<(), String> {
    let mut seen = Vec::new();
    for _ in 0..8 {
        let [one, many] = [1, threads].map(|threads| {
            let start = Instant::now();
            work(threads);
            start.elapsed()
        });
        if many <= one * times {
            return Ok(());
        }
        seen.push((one, many));
    }
    Err(format!("on 1 and on {threads} threads: {seen:?}"))
}

#[test]
fn a_pool_of_the_users_own_neither_changes_a_bit_nor_collapses() {
    let _turn = alone();
    let model = Model::new(3);
    let expected = with_threads(1, || model.run());
    for workers in [cores(), 2 * cores()] {
        let work = |threads| {
            pool(workers, 0..24, |job| {
                let found = with_threads(threads, || model.run());
                assert!(found == expected, "{workers} workers, job {job}");
            });
        };
        let found = keeps_within(3, cores().max(2), work);
        assert!(found.is_ok(), "{workers} workers, {found:?}");
    }
}

/// Runs `f` while so many other threads are busy.
fn while_busy(threads: usize, f: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while !done.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // Also if an assertion fails, or the scope would wait for ever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _stop = Stop(&done);
        f();
    });
}

#[test]
fn short_regions_go_on_while_every_core_is_busy_twice_over() {
    let _turn = alone();
    let model = Model::new(5);
    while_busy(2 * cores(), || {
        for threads in [cores().max(2), 2 * cores() + 1] {
            let found = keeps_within(6, threads, |threads| with_threads(threads, || model.decode(1500)));
            assert!(found.is_ok(), "{found:?}");
        }
    });
}

/// What this process has computed so far, in ticks of 10 ms.
#[cfg(target_os = "linux")]
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process can read its own state");
    let (_, after_name) = stat.rsplit_once(')').expect("the name is in parentheses");
    after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("a number of ticks")).sum()
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_team_takes_no_time() {
    let _turn = alone();
    let model = Model::new(7);
    let busy = ticks();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        with_threads(cores() + 2, || model.decode(100));
    }
    assert!(ticks() > busy, "the clock of the process stands still");
    std::thread::sleep(Duration::from_millis(20));
    let idle = ticks();
    std::thread::sleep(Duration::from_millis(300));
    // One for what the runner of the tests itself may do.
    assert!(ticks() - idle <= 1, "{} ticks of 30", ticks() - idle);
}
