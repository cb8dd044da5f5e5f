//! The drive of products with packed weights: activations prepared once, then all products in one parallel region.

use super::activations::Block;
use super::bf16::Bf16;
use super::formats::Centred;
use super::integer::Integer;
use super::layout::{Layout, Tile, To, prepared, tiles};
use super::plan::Plan;
use super::{Panels, Source, pack, with_layout};
use crate::blocks::Format;
use crate::disjoint::Disjoint;
use crate::{Write, dest::Dest, isa, prefetch, scratch, team};

/// One of the products of [`linear`].
#[derive(Debug)]
pub struct Product<'a> {
    /// `W`, `[n, k]`.
    pub weight: Panels<'a>,
    /// Added to every row of the output, `[n]`.
    pub bias: Option<&'a [f32]>,
    /// The output, `[m, n]`.
    pub y: Dest<'a, f32>,
}

/// Products that run in one parallel region; more follow in the next.
const AT_ONCE: usize = 8;
/// Numbers that are prepared together; rows beyond wait for the next pass over the weights.
const MOST: usize = 4 << 20;
/// Numbers from which on preparing them is shared among threads.
const SHARED: usize = 32 << 10;

/// `y = x·Wᵀ + bias` for each product, stored or added; all share `x`, `[m, k]`. See the [module](super).
///
/// # Panics
/// If the weights do not all have `k` columns, `x` is not rows of that width, or a `y` or bias does not fit.
pub fn linear(x: &[f32], products: &mut [Product<'_>]) {
    let Some((m, k)) = check(x, products) else { return };
    // Whole tiles, so that a pass begins where a tile does.
    let pass = (MOST / k).max(1).next_multiple_of(TILE);
    for start in (0..m).step_by(pass) {
        let rows = start..m.min(start + pass);
        let x = &x[rows.start * k..rows.end * k];
        // Nothing is prepared of a kind that no weight needs.
        let of = |needed: bool| if needed { x } else { &[] };
        let bf16 = |p: &Product<'_>| p.weight.format() == Format::Bf16;
        let (pairs, blocks) = (of(products.iter().any(bf16)), of(!products.iter().all(bf16)));
        with_prepared::<Bf16, _>(pairs, k, |pairs| {
            with_prepared::<Integer<Centred<8>>, _>(blocks, k, |blocks| {
                for products in products.chunks_mut(AT_ONCE) {
                    region(rows.start, rows.len(), &Activations { blocks, pairs }, products);
                }
            });
        });
    }
}

/// Rows and columns of `x`; `None` where there is no product.
///
/// # Panics
/// As [`linear`].
pub(super) fn check(x: &[f32], products: &[Product<'_>]) -> Option<(usize, usize)> {
    let k = products.first()?.weight.cols();
    let m = x.len() / k;
    assert!(m * k == x.len(), "packed: expected x in rows of {k}, found {} elements", x.len());
    for p in products {
        let n = p.weight.rows();
        assert!(p.weight.cols() == k, "packed: expected weights of {k} columns, found {}", p.weight.cols());
        assert!(p.y.data.len() == m * n, "packed: expected y [{m}, {n}], found {} elements", p.y.data.len());
        let bias = p.bias.map_or(n, <[f32]>::len);
        assert!(bias == n, "packed: expected bias [{n}], found {bias} elements");
    }
    Some((m, k))
}

/// Passes, and what is prepared together, end at multiples of this, which is one of every layout's tallest tile.
const TILE: usize = 48;

/// One `x` as each kind of layout wants it; empty where none does.
pub(super) struct Activations<'a> {
    pub(super) blocks: &'a [Block],
    pub(super) pairs: &'a [u32],
}

/// Runs `f` on `x` prepared for `L`, in this thread's working memory.
fn with_prepared<L: Layout, R>(x: &[f32], k: usize, f: impl FnOnce(&[L::Unit]) -> R) -> R {
    let m = x.len() / k;
    scratch::with(prepared::<L>(m, k), |units: &mut [L::Unit]| {
        let all = Disjoint::new(units);
        let prepare = |tile: Tile| {
            let from = tile.start * L::units(k);
            // SAFETY: tiles do not overlap.
            let units = unsafe { all.slice(from..from + tile.height * L::units(k)) };
            let x = &x[tile.start * k..(tile.start + tile.rows) * k];
            isa::dispatch(
                #[inline(always)]
                |_| L::prepare(x, k, tile.height, units),
            );
        };
        if x.len() < SHARED {
            tiles::<L>(0..m).for_each(prepare);
        } else {
            let each = (SHARED / 4 / k).next_multiple_of(TILE).max(TILE);
            team::parallel(m.div_ceil(each), |i| {
                tiles::<L>(i * each..m.min((i + 1) * each)).for_each(prepare);
            });
        }
        f(units)
    })
}

/// A product as its tasks see it.
struct Part<'a> {
    weight: Panels<'a>,
    bias: Option<&'a [f32]>,
    y: Disjoint<'a, f32>,
    write: Write,
    plan: Plan,
    tasks: usize,
}

/// Rows `first..first + m` of up to [`AT_ONCE`] products.
fn region(first: usize, m: usize, x: &Activations<'_>, products: &mut [Product<'_>]) {
    let mut products = products.iter_mut();
    let parts: [Option<Part<'_>>; AT_ONCE] = std::array::from_fn(|_| {
        products.next().map(|p| {
            let plan = plan(p.weight, m);
            let Dest { data, write } = &mut p.y;
            let tasks = plan.tasks();
            Part { weight: p.weight, bias: p.bias, y: Disjoint::new(data), write: *write, plan, tasks }
        })
    });
    let parts = || parts.iter().flatten();
    team::parallel(parts().map(|part| part.tasks).sum(), |mut task| {
        for part in parts() {
            if task < part.tasks {
                with_layout!(part.weight.format(), L => run::<L>(part, task, first, x));
                return;
            }
            task -= part.tasks;
        }
    });
}

fn plan(weight: Panels<'_>, m: usize) -> Plan {
    let (n, k) = (weight.rows(), weight.cols());
    let plan = with_layout!(weight.format(), L => {
        Plan::new(m, L::TALLEST, n.div_ceil(L::PANEL), L::panel_bytes(k), L::PANEL * k)
    });
    plan.expect("what is packed has a layout")
}

/// One task of a product.
fn run<L: Layout>(part: &Part<'_>, task: usize, first: usize, x: &Activations<'_>) {
    const { assert!(L::TALLEST * L::PANEL <= TALLEST_SUMS && TILE.is_multiple_of(L::TALLEST)) };
    let isa = isa::current();
    let (n, k) = (part.weight.rows(), part.weight.cols());
    let (rows, panels) = part.plan.part(task);
    let panel_bytes = L::panel_bytes(k);
    let units = L::activations(x);
    let own = if matches!(part.weight.0, Source::Passing(..)) { panel_bytes } else { 0 };
    with_sums_and_bytes(own, |sums, own| {
        for panel in panels {
            let bytes = match part.weight.0 {
                Source::Kept(packed) => &packed.memory[panel * panel_bytes..(panel + 1) * panel_bytes],
                Source::Passing(matrix, row_bytes) => {
                    own.fill(0);
                    pack::<L>(matrix, row_bytes, panel, own);
                    &*own
                }
            };
            let cols = panel * L::PANEL..n.min((panel + 1) * L::PANEL);
            let bias = part.bias.map(|bias| &bias[cols.clone()]);
            let piece = |row: usize| {
                let row = (first + row) * n;
                // SAFETY: tasks have different rows or panels, and one piece is in use at a time.
                unsafe { part.y.slice(row + cols.start..row + cols.end) }
            };
            for tile in tiles::<L>(rows.clone()) {
                let own = tile.start..tile.start + tile.rows;
                let from = tile.start * L::units(k);
                let x = &units[from..from + tile.height * L::units(k)];
                if part.write == Write::Store && tile.height == tile.rows {
                    let (top, last) = ((first + own.start) * n, (first + own.end - 1) * n);
                    let start = part.y.start_of(top + cols.start..last + cols.end);
                    let to = To { start, stride: n, cols: cols.len() };
                    // SAFETY: all of it is between the ends that were checked; tasks have different rows or panels.
                    if unsafe { L::store(isa, bytes, x, tile.height, to) } {
                        for row in own.clone() {
                            add_bias(piece(row), bias);
                        }
                        continue;
                    }
                }
                // The rows of a tile lie far apart, and waiting for each would cost as much as a tenth of a product.
                for row in own.clone() {
                    let piece = piece(row);
                    prefetch::first(piece.as_ptr(), piece.len());
                }
                let sums = &mut sums[..tile.height * L::PANEL];
                L::product(isa, bytes, x, tile.height, sums);
                for (row, sums) in own.zip(sums.chunks_exact_mut(L::PANEL)) {
                    add_bias(sums, bias);
                    put(piece(row), sums, part.write);
                }
            }
        }
    });
}

/// What a panel is aligned to.
const ALIGN: usize = 64;

/// Working memory of a task: the sums of a tile, and `len` bytes for a panel of its own.
fn with_sums_and_bytes(len: usize, f: impl FnOnce(&mut [f32], &mut [u8])) {
    scratch::with(TALLEST_SUMS, |sums: &mut [f32]| {
        scratch::with(if len > 0 { len + ALIGN } else { 0 }, |bytes: &mut [u8]| {
            let skip = if len > 0 { bytes.as_ptr().align_offset(ALIGN) } else { 0 };
            f(sums, &mut bytes[skip..skip + len]);
        });
    });
}

/// The most sums of a tile and a panel.
const TALLEST_SUMS: usize = 1024;

fn add_bias(sums: &mut [f32], bias: Option<&[f32]>) {
    for (sum, bias) in sums.iter_mut().zip(bias.into_iter().flatten()) {
        *sum += bias;
    }
}

/// Stores or adds sums to a row's piece of the output.
fn put(y: &mut [f32], sums: &[f32], write: Write) {
    match write {
        Write::Store => {
            // By vectors: a piece is short, and a call to copy it costs as much as copying it.
            let (whole, rest) = y.as_chunks_mut::<16>();
            let (from, _) = sums.as_chunks::<16>();
            for (y, sums) in whole.iter_mut().zip(from) {
                *y = *sums;
            }
            let copied = 16 * whole.len();
            for (y, sum) in rest.iter_mut().zip(&sums[copied..]) {
                *y = *sum;
            }
        }
        Write::Add => {
            for (y, sum) in y.iter_mut().zip(sums) {
                *y += *sum;
            }
        }
    }
}
