//! Every kernel reaches a share of what the machine does at most, on every instruction set with wide registers.
//!
//! A loop that the compiler no longer takes to vectors, or to those of the oldest CPU, gives the same numbers some times
//! slower, and no other test sees it. Each floor here is about half of what the kernel reached when it was set, where its
//! memory lay worst: on AVX2, and on the sets above it, whichever was less. Problems are short enough for the time that a
//! busy machine leaves in one piece, the best of many rounds counts, and rounds go on until the floor is reached or the
//! patience ends. `-- --nocapture` shows the shares.
//!
//! Only optimised code is measured: `cargo test --release -p formwork-kernels --test speed`.

#![cfg(all(target_arch = "x86_64", not(debug_assertions)))]

use std::time::{Duration, Instant};

use formwork_kernels::{
    Dest, Write,
    activation::Activation,
    adamw::{AdamW, Moments, adamw},
    attention::{
        Adjoint, Causal, Gradients, Inputs, Row, Shape, Strides, View, ViewMut, attention, attention_adjoint,
    },
    blocks::{Format, multiply::Matrix},
    cross_entropy::cross_entropy,
    isa::{self, Isa},
    matmul::{Mat, MatMut, matmul, matmul_bf16},
    norm::{RmsNorm, rms_norm},
    packed::{Packed, Product, linear},
    roofline::Roofline,
    softmax::softmax,
    team,
};

/// How long a kernel may try to reach its floor.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something to measure.
struct Kernel {
    name: String,
    /// Operations of a round.
    work: usize,
    /// Which operations those are compared with.
    ceiling: Ceiling,
    /// The share of the ceiling that it must reach: on AVX2, and above.
    floor: [f64; 2],
    run: Box<dyn FnMut()>,
}

impl Kernel {
    fn floor(&self, machine: &Roofline) -> f64 {
        self.floor[usize::from(machine.isa > Isa::Avx2)]
    }

    /// The share of the ceiling: the first that is enough, or else the best.
    fn share(&mut self, machine: &Roofline) -> f64 {
        let (start, mut best) = (Instant::now(), 0.0);
        loop {
            for _ in 0..8 {
                let begin = Instant::now();
                (self.run)();
                let rate = self.work as f64 / begin.elapsed().as_secs_f64();
                best = f64::max(best, rate / (self.ceiling)(machine));
            }
            if best >= self.floor(machine) || start.elapsed() > PATIENCE {
                return best;
            }
        }
    }
}

fn f32_ops(machine: &Roofline) -> f64 {
    machine.f32_ops
}

fn bf16_ops(machine: &Roofline) -> f64 {
    machine.bf16_ops
}

fn int8_ops(machine: &Roofline) -> f64 {
    machine.int8_ops
}

type Ceiling = fn(&Roofline) -> f64;

fn kernel(
    name: impl Into<String>,
    (ceiling, floor): (Ceiling, [f64; 2]),
    work: usize,
    run: impl FnMut() + 'static,
) -> Kernel {
    Kernel { name: name.into(), work, ceiling, floor, run: Box::new(run) }
}

/// Numbers around 0, of which no block has only zeros.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1009) as f32 / 504.0 - 1.0).collect()
}

/// All transpositions: tiles, and both ways to pack for them; and few rows, which are not packed.
fn products(all: &mut Vec<Kernel>) {
    let (m, n, k) = (144, 192, 256);
    for (name, a_transposed, b_transposed) in
        [("a·b", false, false), ("a·bᵀ", false, true), ("aᵀ·b", true, false)]
    {
        for bf16 in [false, true] {
            let (a, b, mut out) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
            let run = move || {
                let of = |data, rows, cols, transposed| {
                    if transposed {
                        Mat::row_major(data, cols, rows).transposed()
                    } else {
                        Mat::row_major(data, rows, cols)
                    }
                };
                let (a, b) = (of(&a[..], m, k, a_transposed), of(&b[..], k, n, b_transposed));
                let multiply = if bf16 { matmul_bf16 } else { matmul };
                multiply(MatMut::row_major(&mut out, m, n), a, b, 1.0, Write::Store);
            };
            let (name, least): (_, (Ceiling, _)) = if bf16 {
                (format!("{name} in bf16"), (bf16_ops, [0.33, 0.4]))
            } else {
                (name.to_owned(), (f32_ops, [0.45, 0.45]))
            };
            all.push(kernel(name, least, 2 * m * n * k, run));
        }
    }
    for (m, floor) in [(1, [0.13, 0.13]), (4, [0.25, 0.25])] {
        let (a, b, mut out) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
        all.push(kernel(format!("{m} rows"), (f32_ops, floor), 2 * m * n * k, move || {
            let b = Mat::row_major(&b, n, k).transposed();
            matmul(MatMut::row_major(&mut out, m, n), Mat::row_major(&a, m, k), b, 1.0, Write::Store);
        }));
    }
}

/// Packing of weights, and products of one row and of many.
fn weights(all: &mut Vec<Kernel>) {
    for (format, pack, one, many) in [
        (Format::Bf16, [0.02, 0.02], [0.13, 0.22], [0.33, 0.5]),
        (Format::Q8_0, [0.022, 0.022], [0.2, 0.16], [0.13, 0.14]),
        (Format::Q4_0, [0.035, 0.035], [0.28, 0.19], [0.14, 0.14]),
        (Format::Q4_1, [0.035, 0.035], [0.26, 0.18], [0.14, 0.14]),
        (Format::Q5_0, [0.009, 0.009], [0.15, 0.14], [0.12, 0.12]),
        (Format::Q4_K, [0.035, 0.035], [0.25, 0.16], [0.13, 0.13]),
        (Format::Q6_K, [0.028, 0.028], [0.16, 0.13], [0.12, 0.12]),
    ] {
        // As a scale, a sixteenth or so.
        let bytes = |n: usize, k: usize| vec![0x2c_u8; n * format.row_bytes(k).expect("whole blocks")];
        let of = move |bytes: &[u8], n, k| {
            Packed::of(Matrix { format, bytes, rows: n, cols: k }).expect("a layout")
        };
        let (n, k) = (192, 512);
        let ceiling = if format == Format::Bf16 { bf16_ops } else { int8_ops };
        for (m, floor) in [(1, one), (48, many)] {
            // Memory that is prefetched behind the weights must be there, or each attempt walks the page tables.
            let (w, behind) = (of(&bytes(n, k), n, k), of(&bytes(n, k), n, k));
            let (x, mut y) = (numbers(m * k), vec![0.0; m * n]);
            all.push(kernel(format!("{m} rows by {format}"), (ceiling, floor), 2 * m * n * k, move || {
                assert_eq!(behind.rows(), n);
                linear(&x, &mut [Product { weight: (&w).into(), bias: None, y: Dest::store(&mut y) }]);
            }));
        }
        // Long enough that the pages, which are new in each round, are not all.
        let (n, k) = (1024, 2048);
        let bytes = bytes(n, k);
        all.push(kernel(format!("packing {format}"), (f32_ops, pack), n * k, move || {
            assert!(of(&bytes, n, k).bytes() >= bytes.len());
        }));
    }
}

fn attentions(all: &mut Vec<Kernel>) {
    let shape = Shape { batch: 1, heads: 2, kv_heads: 1, queries: 128, keys: 128, head_dim: 64 };
    let pairs = shape.queries * (shape.queries + 1) / 2;
    for (name, backward, floor) in
        [("attention", false, [0.27; 2]), ("attention and its adjoint", true, [0.27; 2])]
    {
        let of = |heads: usize| (numbers(128 * heads * 64), Strides::heads_first(heads, 128, 64));
        let ((q, qs), (k, ks), (v, _)) = (of(2), of(1), of(1));
        let (mut out, mut lse) = (q.clone(), vec![0.0; 2 * 128]);
        let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
        let work = pairs * shape.heads * 4 * shape.head_dim * if backward { 7 } else { 2 } / 2;
        all.push(kernel(name, (f32_ops, floor), work, move || {
            let rows = [Row::whole(128, 128)];
            let inputs =
                Inputs::new(shape, [View::new(&q, qs), View::new(&k, ks), View::new(&v, ks)], &rows, &Causal);
            attention(&inputs, &mut ViewMut::new(&mut out, qs), &mut lse);
            if backward {
                let adjoint = Adjoint { out: View::new(&out, qs), lse: &lse, dout: View::new(&q, qs) };
                let mut into = Gradients {
                    dq: ViewMut::new(&mut dq, qs),
                    dk: ViewMut::new(&mut dk, ks),
                    dv: ViewMut::new(&mut dv, ks),
                    dsinks: None,
                    write: Write::Store,
                };
                attention_adjoint(&inputs, &adjoint, &mut into);
            }
        }));
    }
}

/// Passes over vectors in a cache, by numbers read or written.
fn passes(all: &mut Vec<Kernel>) {
    let (rows, d) = (16, 512);
    let len = rows * d;
    let x = numbers(len);
    let (input, mut y) = (x.clone(), x.clone());
    all.push(kernel("softmax", (f32_ops, [0.0055, 0.0075]), len, move || softmax(&input, d, 1.0, &mut y)));
    let (input, mut y) = (x.clone(), x.clone());
    all.push(kernel("gelu", (f32_ops, [0.0045, 0.008]), len, move || {
        Activation::GeluTanh.apply(&input, Dest::store(&mut y));
    }));
    let (input, up, mut y) = (x.clone(), x.clone(), x.clone());
    all.push(kernel("gated silu", (f32_ops, [0.006, 0.009]), len, move || {
        Activation::Silu.gated(&input, &up, Dest::store(&mut y));
    }));
    let (input, gain, mut y, mut rstd) = (x.clone(), numbers(d), x.clone(), vec![0.0; rows]);
    all.push(kernel("rms norm", (f32_ops, [0.03, 0.03]), len, move || {
        rms_norm(RmsNorm { x: &input, add: None, gain: &gain, eps: 1e-5, y: &mut y, rstd: &mut rstd });
    }));
    let (logits, mut lse, mut loss) = (x.clone(), vec![0.0; rows], vec![0.0; rows]);
    all.push(kernel("cross entropy", (f32_ops, [0.006, 0.0095]), len, move || {
        cross_entropy(&logits, &[3; 16], &mut lse, &mut loss);
    }));
    let rule =
        AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 1.0 };
    let (mut params, grads, mut m, mut v) = (x.clone(), x.clone(), vec![0.0; len], vec![1.0; len]);
    all.push(kernel("adamw", (f32_ops, [0.008, 0.008]), len, move || {
        adamw(&rule, &mut params, &grads, Moments { m: &mut m, v: &mut v });
    }));
}

#[test]
fn no_kernel_has_lost_its_vectors() {
    let mut slow = Vec::new();
    for set in Isa::available().filter(|&set| set >= Isa::Avx2) {
        isa::with(set, || {
            team::with_threads(1, || {
                let machine = Roofline::measure(1);
                println!("{machine}");
                let mut all = Vec::new();
                products(&mut all);
                weights(&mut all);
                attentions(&mut all);
                passes(&mut all);
                for kernel in &mut all {
                    let share = kernel.share(&machine);
                    println!("{:>10} {:30} {share:.4}", set.name(), kernel.name);
                    if share < kernel.floor(&machine) {
                        slow.push(format!(
                            "{} on {}: {share:.4} of the ceiling, expected {}",
                            kernel.name,
                            set.name(),
                            kernel.floor(&machine)
                        ));
                    }
                }
            });
        });
    }
    assert!(slow.is_empty(), "expected vectors at work, found\n{}", slow.join("\n"));
}
