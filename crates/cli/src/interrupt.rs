//! Ctrl-C as a flag that work looks at, so that a stream ends between two tokens and not in the middle of a line.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// The exit code of a process that Ctrl-C ended, by the shells' convention.
const ENDED: i32 = 130;

/// A flag that is true once Ctrl-C was pressed. The second time ends the process at once.
///
/// Where the system has no such signal, the flag stays false.
pub(crate) fn flag() -> Arc<AtomicBool> {
    between(Arc::new(AtomicBool::new(true)))
}

/// As [`flag`], for work that comes and goes: while `busy` is false, Ctrl-C ends the process at once.
pub(crate) fn between(busy: Arc<AtomicBool>) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let pressed = flag.clone();
    let handler = move || {
        if !busy.load(Relaxed) || pressed.swap(true, Relaxed) {
            process::exit(ENDED);
        }
    };
    // Without a handler Ctrl-C still ends the process, only less gracefully.
    let _ = ctrlc::set_handler(handler);
    flag
}
