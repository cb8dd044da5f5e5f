//! The persistent workers behind [`parallel`](super::parallel).
//!
//! One word, [`Shared::state`], holds the whole protocol: the number of the current job, whether it is still open,
//! and how many workers are in it. The caller publishes a job by opening it; a worker enters by counting itself in
//! while it is open; the caller closes it when no task is left to begin, and returns when the count is back at
//! zero. A worker that wakes too late finds the job closed and never touches it, so the job can live on the
//! caller's stack.

use super::{ALONE, Setting};
use crate::isa::{self, Isa};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The most threads of one team; more are asked for in vain.
const MOST: usize = 256;

/// How long one looks again and again before it sleeps: longer than the serial gaps between the ops of a layer, shorter
/// than a scheduler's tick.
const SPIN: Duration = Duration::from_micros(40);

/// For how much of that time one looks without letting go of the core: longer than most gaps. After that it offers the
/// core at every look, since where there are more threads than cores, what it waits for may be waiting for this very
/// core: a worker that is woken on the core of its caller would otherwise spin on the caller's time.
const HOLD: Duration = Duration::from_micros(5);

// The parts of `Shared::state`, from the low end.
const WORKER: u64 = 1;
const WORKERS: u64 = 0xffff;
const OPEN: u64 = 1 << 16;
const CALLER_SLEEPS: u64 = 1 << 17;
const PARTS_SHIFT: u32 = 20;
const PARTS: u64 = 0xfff;
const JOB_SHIFT: u32 = 32;

/// One call of `parallel`, on its caller's stack.
struct Job<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    tasks: usize,
    parts: usize,
    isa: Isa,
    caller: Thread,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A word with a cache line (and its prefetched neighbour) to itself.
#[repr(align(128))]
struct Line<T>(T);

struct Shared {
    state: Line<AtomicU64>,
    job: AtomicPtr<Job<'static>>,
    /// The next task to begin of each part.
    next: [Line<AtomicUsize>; MOST],
    asleep: [AtomicBool; MOST],
}

static SHARED: Shared = Shared {
    state: Line(AtomicU64::new(0)),
    job: AtomicPtr::new(std::ptr::null_mut()),
    next: [const { Line(AtomicUsize::new(0)) }; MOST],
    asleep: [const { AtomicBool::new(false) }; MOST],
};

/// The workers started so far: the thread at `i` is worker `i + 1`. Whoever holds the lock has the team.
static TEAM: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

/// Runs the tasks on up to `threads` threads; false, and nothing done, if the team is taken.
pub(super) fn run(threads: usize, tasks: usize, f: &(dyn Fn(usize) + Sync)) -> bool {
    let mut team = match TEAM.try_lock() {
        Ok(team) => team,
        Err(TryLockError::Poisoned(team)) => team.into_inner(),
        Err(TryLockError::WouldBlock) => return false,
    };
    let parts = threads.min(grow(&mut team, threads.min(MOST)));
    if parts < 2 {
        return false;
    }
    let job =
        Job { f, tasks, parts, isa: isa::current(), caller: std::thread::current(), panic: Mutex::new(None) };
    open(&team, &job);
    job.work(0);
    close();
    drop(team);
    if let Some(panic) = job.panic.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        resume_unwind(panic);
    }
    true
}

/// Starts workers until there are `threads` with the caller, or the system refuses; returns how many there are.
fn grow(team: &mut MutexGuard<'_, Vec<Thread>>, threads: usize) -> usize {
    while team.len() + 1 < threads {
        let id = team.len() + 1;
        match std::thread::Builder::new().name(format!("formwork-{id}")).spawn(move || serve(id)) {
            Ok(handle) => team.push(handle.thread().clone()),
            Err(_) => break,
        }
    }
    team.len() + 1
}

/// Publishes a job to the workers `1..job.parts`. The caller must [`close`] before the job goes away.
fn open(team: &[Thread], job: &Job<'_>) {
    for part in 0..job.parts {
        SHARED.next[part].0.store(job.block(part).start, Relaxed);
    }
    // The lifetime ends here; `Job::work`'s callers hold the count that keeps `close` from returning.
    SHARED.job.store(std::ptr::from_ref(job).cast_mut().cast(), Relaxed);
    let last = SHARED.state.0.load(Relaxed) >> JOB_SHIFT;
    let number = u64::from((last as u32).wrapping_add(1));
    // Sequentially consistent, against `sleep`: either the worker sees the job or we see it asleep.
    SHARED.state.0.store(number << JOB_SHIFT | (job.parts as u64) << PARTS_SHIFT | OPEN, SeqCst);
    for id in 1..job.parts {
        if SHARED.asleep[id].load(SeqCst) {
            team[id - 1].unpark();
        }
    }
}

/// Lets no more workers in and waits for those inside.
fn close() {
    let state = &SHARED.state.0;
    let idle = |s: u64| s & WORKERS == 0;
    if idle(state.fetch_and(!OPEN, SeqCst)) || spin_until(|| idle(state.load(Acquire))) {
        return;
    }
    if !idle(state.fetch_or(CALLER_SLEEPS, SeqCst)) {
        while !idle(state.load(Acquire)) {
            std::thread::park();
        }
    }
}

/// Spins until `done` or until the time is up; says whether it is done.
fn spin_until(done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        let waited = start.elapsed();
        if waited > SPIN {
            return done();
        }
        if waited > HOLD {
            std::thread::yield_now();
        }
    }
}

/// The life of worker `id`.
fn serve(id: usize) {
    // Calls from inside a task run alone.
    let _alone = Setting::replace(ALONE);
    let mut seen = 0;
    loop {
        if !(enter(id, &mut seen) || spin_until_entered(id, &mut seen)) {
            sleep(id, seen);
            continue;
        }
        // SAFETY: `enter` counted this worker in while the job was open, and `close` keeps the caller, on whose
        // stack the job lies, until it is counted out again.
        let job = unsafe { &*SHARED.job.load(Relaxed) };
        isa::with(job.isa, || job.work(id));
        leave(job);
    }
}

/// Counts worker `id` into the current job if that is new to it, open, and wide enough.
fn enter(id: usize, seen: &mut u64) -> bool {
    let state = &SHARED.state.0;
    let mut s = state.load(Acquire);
    loop {
        if s >> JOB_SHIFT == *seen {
            return false;
        }
        if s & OPEN == 0 || id >= (s >> PARTS_SHIFT & PARTS) as usize {
            *seen = s >> JOB_SHIFT;
            return false;
        }
        match state.compare_exchange_weak(s, s + WORKER, Acquire, Acquire) {
            Ok(_) => {
                *seen = s >> JOB_SHIFT;
                return true;
            }
            Err(now) => s = now,
        }
    }
}

fn spin_until_entered(id: usize, seen: &mut u64) -> bool {
    let seen = std::cell::Cell::from_mut(seen);
    spin_until(|| {
        let mut last = seen.get();
        let entered = enter(id, &mut last);
        seen.set(last);
        entered
    })
}

/// Sleeps until there is a job that the worker has not seen; may wake for nothing.
fn sleep(id: usize, seen: u64) {
    SHARED.asleep[id].store(true, SeqCst);
    if SHARED.state.0.load(SeqCst) >> JOB_SHIFT == seen {
        std::thread::park();
    }
    SHARED.asleep[id].store(false, SeqCst);
}

/// Counts a worker out; the last one wakes a caller that sleeps. The job may be gone when this returns.
fn leave(job: &Job<'_>) {
    let state = &SHARED.state.0;
    let mut s = state.load(Relaxed);
    loop {
        // Taken while the count still keeps the job alive.
        let caller = (s & CALLER_SLEEPS != 0 && s & WORKERS == WORKER).then(|| job.caller.clone());
        match state.compare_exchange_weak(s, s - WORKER, Release, Relaxed) {
            Ok(_) => {
                if let Some(caller) = caller {
                    caller.unpark();
                }
                return;
            }
            Err(now) => s = now,
        }
    }
}

impl Job<'_> {
    /// The tasks that belong to `part`.
    fn block(&self, part: usize) -> std::ops::Range<usize> {
        let (each, extra) = (self.tasks / self.parts, self.tasks % self.parts);
        let start = part * each + part.min(extra);
        start..start + each + usize::from(part < extra)
    }

    /// Runs the tasks of part `id`, then what the other parts have left; a panic is caught, and nobody begins another task.
    fn work(&self, id: usize) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for part in (0..self.parts).map(|i| (id + i) % self.parts) {
                let end = self.block(part).end;
                loop {
                    // Only adding, so an index is handed out once; past the end it means that all have begun.
                    let task = SHARED.next[part].0.fetch_add(1, Relaxed);
                    if task >= end {
                        break;
                    }
                    (self.f)(task);
                }
            }
        }));
        if let Err(panic) = outcome {
            for part in 0..self.parts {
                SHARED.next[part].0.fetch_max(self.block(part).end, Relaxed);
            }
            self.panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::isa::{self, Isa};
    use crate::team::{parallel, threads, with_threads};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    /// `1 + … + tasks`, one task a term; another test may hold the team, so it may run alone.
    fn sum_with(threads: usize, tasks: usize) -> usize {
        let sum = AtomicUsize::new(0);
        with_threads(threads, || {
            parallel(tasks, |i| {
                sum.fetch_add(i + 1, Relaxed);
            });
        });
        sum.into_inner()
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_team_usable() {
        for bad in [0, 6, 12] {
            let caught = std::panic::catch_unwind(|| {
                with_threads(3, || parallel(13, |i| assert!(i != bad, "task {i} on purpose")));
            });
            let message = caught.expect_err("the panic must propagate");
            assert_eq!(message.downcast_ref::<String>(), Some(&format!("task {bad} on purpose")));
            assert_eq!(sum_with(3, 100), 5050);
        }
    }

    #[test]
    fn after_a_panic_no_task_begins() {
        const TASKS: usize = 2000;
        let (panicking, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
        let caught = std::panic::catch_unwind(|| {
            with_threads(2, || {
                parallel(TASKS, |i| {
                    if i == 0 {
                        panicking.store(true, Relaxed);
                        panic!("on purpose");
                    }
                    begun.fetch_add(1, Relaxed);
                    while !panicking.load(Relaxed) {
                        std::thread::yield_now();
                    }
                    // The other thread has to come through within some seconds.
                    std::thread::sleep(std::time::Duration::from_millis(2));
                });
            });
        });
        assert!(caught.is_err());
        assert!(begun.into_inner() < TASKS / 2, "all tasks of the other thread have run");
    }

    #[test]
    fn calls_from_inside_a_task_run_alone_and_finish() {
        let sum = AtomicUsize::new(0);
        with_threads(3, || {
            parallel(7, |i| {
                assert_eq!(threads(), 1);
                let here = std::thread::current().id();
                with_threads(2, || {
                    parallel(11, |j| {
                        sum.fetch_add(i * 11 + j, Relaxed);
                        assert_eq!(std::thread::current().id(), here);
                    });
                });
            });
        });
        assert_eq!(sum.into_inner(), 77 * 76 / 2);
    }

    #[test]
    fn several_user_threads_call_at_once() {
        std::thread::scope(|s| {
            for n in 2..6 {
                s.spawn(move || {
                    for tasks in 0..300 {
                        assert_eq!(sum_with(n, tasks), tasks * (tasks + 1) / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn workers_that_fell_asleep_or_slept_too_long_harm_nothing() {
        for round in 0..40 {
            assert_eq!(sum_with(4, 50), 1275);
            std::thread::sleep(std::time::Duration::from_micros(20 * (round % 8)));
        }
    }

    #[test]
    fn a_caller_that_waits_long_is_woken() {
        // The first task to run on another thread outlasts the spinning. Whether there is such a task is up to the
        // system's scheduler, and to other tests that hold the team: one of some attempts will have it.
        let outlasted = (0..200).any(|_| {
            let slept = AtomicBool::new(false);
            with_threads(2, || {
                let caller = std::thread::current().id();
                parallel(2, |_| {
                    if std::thread::current().id() != caller {
                        std::thread::sleep(10 * super::SPIN);
                        slept.store(true, Relaxed);
                    } else {
                        // So that the worker has time to take a task.
                        std::thread::sleep(super::SPIN);
                    }
                });
            });
            slept.into_inner()
        });
        assert!(outlasted, "no worker took a task");
    }

    #[test]
    fn calls_end_while_more_threads_than_cores_are_busy() {
        // A worker and its caller may wait for one core here; whoever spins has to let go of it.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            for _ in 0..2 * cores {
                s.spawn(|| {
                    while !done.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let sums: Vec<_> = (0..50).map(|tasks| sum_with(2 * cores + 1, tasks)).collect();
            done.store(true, Relaxed);
            assert_eq!(sums, (0..50).map(|n| n * (n + 1) / 2).collect::<Vec<_>>());
        });
    }

    #[test]
    fn workers_follow_the_instruction_set_of_their_caller() {
        isa::with(Isa::Scalar, || {
            with_threads(3, || parallel(30, |_| assert_eq!(isa::current(), Isa::Scalar)));
        });
    }
}
