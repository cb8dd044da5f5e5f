//! Passes over memory that no cache holds, on huge pages where the system has them, as the weights of a model are.

use std::hint::black_box;

use super::{Effort, fastest};
use crate::{isa, memory::huge::Part, team};

/// What a thread reads in a round: long enough for the prefetchers, short enough to come between two turns of a
/// neighbour on the same core. It is cold again when its turn comes after all others.
const WINDOW: usize = 4 << 20;

/// Bytes per second of reading, and of a triad.
pub(super) fn memory(threads: usize, effort: &Effort) -> (f64, f64) {
    const PIECE: usize = 1 << 20;
    let numbers = effort.numbers.max(threads * effort.numbers_a_thread);
    let bytes = Part::zeroed(numbers * size_of::<f32>());
    let mut bytes = bytes.expect("a system with memory for a model has as much");
    // SAFETY: every pattern of bits is an `f32`. The bytes begin on a boundary, so no number is left over before them.
    let (_, all, _) = unsafe { bytes.bytes_mut().align_to_mut::<f32>() };
    // Memory that was never written is one page of zeros, which the first cache holds.
    team::for_each_chunk(all, PIECE, |_, piece| piece.fill(1.0));

    let part = all.len() / threads;
    let window = part.min(WINDOW) / LINE * LINE;
    let parts = all.chunks_exact(part).take(threads);
    let reading = parts.map(|part| {
        let mut windows = part.chunks_exact(window).cycle();
        move || windows.next().into_iter().for_each(read)
    });
    let seconds = fastest(effort.sweeps * (part / window), reading.collect());
    let read_bytes = (threads * window * size_of::<f32>()) as f64 / seconds;

    let part = part / 3;
    let window = part.min(WINDOW) / LINE * LINE;
    let parts = all.chunks_exact_mut(3 * part).take(threads);
    let adding = parts.map(|all| {
        let (a, rest) = all.split_at_mut(part);
        let (b, c) = rest.split_at(part);
        let mut starts = (0..part / window).map(move |i| i * window).cycle();
        move || {
            let at = starts.next().unwrap_or(0);
            let at = at..at + window;
            add_scaled(&mut a[at.clone()], &b[at.clone()], &c[at]);
        }
    });
    let seconds = fastest(effort.sweeps * (part / window), adding.collect());
    (read_bytes, (4 * threads * window * size_of::<f32>()) as f64 / seconds)
}

/// Numbers that are summed side by side: four of the widest registers.
const LINE: usize = 4 * isa::LANES;

fn read(x: &[f32]) {
    isa::dispatch(
        #[inline(always)]
        |_| sum(x),
    );
}

fn add_scaled(a: &mut [f32], b: &[f32], c: &[f32]) {
    isa::dispatch(
        #[inline(always)]
        |_| triad(a, b, c),
    );
}

#[inline(always)]
fn sum(x: &[f32]) {
    let mut sums = [0.0_f32; LINE];
    for line in x.chunks_exact(LINE) {
        for (sum, x) in sums.iter_mut().zip(line) {
            *sum += x;
        }
    }
    black_box(sums);
}

#[inline(always)]
fn triad(a: &mut [f32], b: &[f32], c: &[f32]) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = b + 3.0 * c;
    }
    black_box(a);
}
