//! Arithmetic that needs no memory: chains of steps of which each waits for the one before, side by side.

use std::{hint::black_box, time::Instant};

use super::{Effort, fastest};
use crate::isa::Isa;

/// One kind of arithmetic.
pub(super) struct Chain {
    /// Runs so many turns.
    run: fn(usize),
    /// Operations of a turn.
    ops: usize,
}

impl Chain {
    /// Operations per second.
    pub(super) fn rate(&self, threads: usize, effort: &Effort) -> f64 {
        const TURNS: usize = 5_000;
        let begin = Instant::now();
        (self.run)(TURNS);
        let once = begin.elapsed().as_secs_f64();
        let turns = ((effort.seconds / once.max(1e-9)).ceil() as usize).clamp(1, 100_000) * TURNS;
        let seconds = fastest(effort.rounds, vec![|| (self.run)(turns); threads]);
        (threads * turns * self.ops) as f64 / seconds
    }
}

/// Chains side by side: more than four or five cycles of latency times two units, fewer than sixteen registers.
const CHAINS: usize = 12;

/// A function of independent chains, each a register that a step depends on and replaces.
#[cfg(target_arch = "x86_64")]
macro_rules! chain {
    ($name:ident, $features:literal, $start:expr, $operand:expr, |$x:ident, $a:ident| $step:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(turns: usize) {
            let $a = black_box($operand);
            let mut chains = [black_box($start); CHAINS];
            for _ in 0..turns {
                for $x in &mut chains {
                    *$x = $step;
                }
            }
            black_box(chains);
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, black_box};
    use std::arch::x86_64::*;

    chain!(f32_avx2, "avx2,fma", _mm256_set1_ps(1.0), _mm256_set1_ps(0.5), |x, a| _mm256_fmadd_ps(*x, a, a));
    chain!(f32_avx512, "avx512f", _mm512_set1_ps(1.0), _mm512_set1_ps(0.5), |x, a| _mm512_fmadd_ps(*x, a, a));
    chain!(
        bf16_dot,
        "avx512f,avx512bf16",
        _mm512_set1_ps(1.0),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
        |x, a| _mm512_dpbf16_ps(*x, a, a)
    );
    chain!(int8_dot, "avx512f,avx512vnni", _mm512_set1_epi8(1), _mm512_set1_epi8(1), |x, a| {
        _mm512_dpbusd_epi32(*x, a, a)
    });
    // Without a dot product: pairs of 8-bit products to 16 bits, pairs of those to 32, and a sum. The chain goes through
    // the operand, or the products would be computed once.
    chain!(int8_avx2, "avx2", _mm256_set1_epi8(1), _mm256_set1_epi8(1), |x, a| {
        let pairs = _mm256_maddubs_epi16(a, *x);
        _mm256_add_epi32(*x, _mm256_madd_epi16(pairs, a))
    });
    chain!(int8_avx512, "avx512f,avx512bw", _mm512_set1_epi8(1), _mm512_set1_epi8(1), |x, a| {
        let pairs = _mm512_maddubs_epi16(a, *x);
        _mm512_add_epi32(*x, _mm512_madd_epi16(pairs, a))
    });
}

/// Four lanes, which every 64-bit target has registers for, by the compiler.
fn f32_plain(turns: usize) {
    let a = black_box([0.5_f32; 4]);
    let mut chains = [black_box([1.0_f32; 4]); CHAINS];
    for _ in 0..turns {
        for x in &mut chains {
            *x = std::array::from_fn(|i| x[i] * a[i] + a[i]);
        }
    }
    black_box(chains);
}

fn int8_plain(turns: usize) {
    let a = black_box([3_i8; 4]);
    let mut chains = [black_box([1_i32; 4]); CHAINS];
    for _ in 0..turns {
        for x in &mut chains {
            *x = std::array::from_fn(|i| x[i].wrapping_add(i32::from(x[i] as i8) * i32::from(a[i])));
        }
    }
    black_box(chains);
}

/// For `f32`, bf16 and 8-bit integers. A chain of `lanes` results of `k` products each is `2·k·lanes` operations a step.
pub(super) fn chains(isa: Isa) -> [Chain; 3] {
    let chain = |run: fn(usize), ops: usize| Chain { run, ops: ops * CHAINS };
    // SAFETY (of every call below): `isa` is at most what `Isa::detected` found on this CPU, and each level has the
    // features of the functions in its arm.
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Dot => [
            // SAFETY: as above.
            chain(|turns| unsafe { x86::f32_avx512(turns) }, 32),
            // SAFETY: as above.
            chain(|turns| unsafe { x86::bf16_dot(turns) }, 64),
            // SAFETY: as above.
            chain(|turns| unsafe { x86::int8_dot(turns) }, 128),
        ],
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => [
            // SAFETY: as above.
            chain(|turns| unsafe { x86::f32_avx512(turns) }, 32),
            // SAFETY: as above.
            chain(|turns| unsafe { x86::f32_avx512(turns) }, 32),
            // SAFETY: as above.
            chain(|turns| unsafe { x86::int8_avx512(turns) }, 128),
        ],
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => [
            // SAFETY: as above.
            chain(|turns| unsafe { x86::f32_avx2(turns) }, 16),
            // SAFETY: as above.
            chain(|turns| unsafe { x86::f32_avx2(turns) }, 16),
            // SAFETY: as above.
            chain(|turns| unsafe { x86::int8_avx2(turns) }, 64),
        ],
        _ => [chain(f32_plain, 8), chain(f32_plain, 8), chain(int8_plain, 8)],
    }
}

/// Cycles per second, by additions of which each waits for the one before.
pub(super) fn clock(effort: &Effort) -> Option<f64> {
    const ADDITIONS: u64 = 1 << 16;
    let (mut best, mut runs): (f64, usize) = (0.0, 0);
    let start = Instant::now();
    // So many in any case: the time may pass while another program has the core.
    while runs < effort.rounds || start.elapsed().as_secs_f64() < 10.0 * effort.seconds {
        runs += 1;
        let begin = Instant::now();
        dependent_additions(ADDITIONS)?;
        best = best.max(ADDITIONS as f64 / begin.elapsed().as_secs_f64());
    }
    Some(best)
}

/// Eight of them, and the count down to the end of the loop.
#[cfg(target_arch = "x86_64")]
macro_rules! additions {
    () => {
        ".rept 8\n add {x}, 1\n .endr\n sub {n}, 8\n jnz 2b"
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! additions {
    () => {
        ".rept 8\n add {x}, {x}, #1\n .endr\n subs {n}, {n}, #8\n b.ne 2b"
    };
}

/// Runs `n` of them, a multiple of 8; `None` where no code is written for the machine.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn dependent_additions(n: u64) -> Option<()> {
    // SAFETY: adds in two registers that are declared, touches neither memory nor stack, and ends when `n` is 0.
    unsafe {
        std::arch::asm!(
            "2:", additions!(),
            x = inout(reg) 0_u64 => _, n = inout(reg) n => _, options(nomem, nostack)
        );
    }
    Some(())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn dependent_additions(_: u64) -> Option<()> {
    None
}
