//! The inner loop: a tile of the output stays in registers while the depth goes by.
//!
//! Numbers of the left operand are broadcast, those of the right one lie along the lanes. Every element is one sum in
//! the order of the depth, whatever the tile around it, so where a tile ends changes no bit. A *step* of the depth is
//! one number in `f32` and `f64` and a pair of numbers in bf16.

#![allow(
    clippy::needless_range_loop,
    reason = "an iterator over the sums would force them out of their registers"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m256d, __m512, __m512d, __m512i};
use std::marker::PhantomData;

use super::register::{Portable, Register, Widen};
use crate::{Element, Write, isa::Isa, prefetch};

/// A tile to compute: `out[r, c] (+)= alpha · Σ_s left[r, s] · right[s, c]`.
///
/// Whoever runs one vouches that `left[r · left_row + s · left_step]` may be read for its rows and steps, that the
/// whole registers that cover its columns may be read at `right[s · right_step]`, and that its elements of the output
/// may be written, and read if they are added to.
pub(crate) struct Call<L, R, O> {
    pub(crate) left: *const L,
    pub(crate) left_row: usize,
    pub(crate) left_step: usize,
    pub(crate) right: *const R,
    pub(crate) right_step: usize,
    pub(crate) steps: usize,
    pub(crate) out: *mut O,
    pub(crate) out_stride: usize,
    /// Columns of the output; those of the last register beyond it are not stored.
    pub(crate) cols: usize,
    pub(crate) alpha: O,
    pub(crate) write: Write,
}

/// The most rows of a tile, on every instruction set.
pub(crate) const ROWS: usize = 6;

pub(crate) type Tile<L, R, O> = unsafe fn(&Call<L, R, O>);

/// The tiles of one instruction set: at `[r − 1][c − 1]` the one of `r` rows and `c` registers of columns.
pub(crate) struct Tiles<L: 'static, R: 'static, O: 'static> {
    lanes: usize,
    table: &'static [&'static [Tile<L, R, O>]],
}

impl<L, R, O> Clone for Tiles<L, R, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, R, O> Copy for Tiles<L, R, O> {}

impl<L, R, O> Tiles<L, R, O> {
    /// The most rows of a tile.
    pub(crate) fn rows(&self) -> usize {
        self.table.len()
    }

    /// Columns in a register.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// The most columns of a tile.
    pub(crate) fn cols(&self) -> usize {
        self.lanes * self.table[0].len()
    }

    /// Computes a tile of `rows` rows.
    ///
    /// # Safety
    /// As [`Call`] says. The instruction set must be there.
    ///
    /// # Panics
    /// If there is no tile of so many rows and columns.
    #[inline(always)]
    pub(crate) unsafe fn run(&self, rows: usize, call: &Call<L, R, O>) {
        let tile = self.table[rows - 1][call.cols.div_ceil(self.lanes) - 1];
        // SAFETY: the caller's promise.
        unsafe { tile(call) }
    }
}

/// How a step of the depth is added to a tile.
pub(crate) trait Kernel {
    type Left: Copy;
    type Right: Copy;
    type Sum: Register;

    /// # Safety
    /// As [`Call`] says for this step; the instruction set of `Sum` must be there.
    unsafe fn step<const R: usize, const C: usize>(
        sums: &mut [[Self::Sum; C]; R],
        left: *const Self::Left,
        left_row: usize,
        right: *const Self::Right,
    );
}

/// Numbers as they are.
struct Plain<V>(PhantomData<V>);

impl<V: Register> Kernel for Plain<V> {
    type Left = V::Item;
    type Right = V::Item;
    type Sum = V;

    #[inline(always)]
    unsafe fn step<const R: usize, const C: usize>(
        sums: &mut [[V; C]; R],
        left: *const V::Item,
        left_row: usize,
        right: *const V::Item,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let columns: [V; C] = std::array::from_fn(|c| V::load(right.add(c * V::LANES)));
            for r in 0..R {
                let x = V::splat(*left.add(r * left_row));
                for c in 0..C {
                    sums[r][c] = sums[r][c].add_product(x, columns[c]);
                }
            }
        }
    }
}

/// Pairs of bf16 on the right, on the left the same kind of pair as two `f32`; for sets without dot products.
struct Widened<V>(PhantomData<V>);

impl<V: Widen> Kernel for Widened<V> {
    type Left = [f32; 2];
    type Right = u32;
    type Sum = V;

    #[inline(always)]
    unsafe fn step<const R: usize, const C: usize>(
        sums: &mut [[V; C]; R],
        left: *const [f32; 2],
        left_row: usize,
        right: *const u32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            // The odd one first, as the dot product does. Written out: a loop over the two would index registers by a
            // number that is known too late.
            let odd: [V; C] = std::array::from_fn(|c| V::odd(right.add(c * V::LANES)));
            for r in 0..R {
                let x = V::splat((*left.add(r * left_row))[1]);
                for c in 0..C {
                    sums[r][c] = sums[r][c].add_product(x, odd[c]);
                }
            }
            let even: [V; C] = std::array::from_fn(|c| V::even(right.add(c * V::LANES)));
            for r in 0..R {
                let x = V::splat((*left.add(r * left_row))[0]);
                for c in 0..C {
                    sums[r][c] = sums[r][c].add_product(x, even[c]);
                }
            }
        }
    }
}

/// Pairs of bf16 on both sides.
#[cfg(target_arch = "x86_64")]
struct Dot;

#[cfg(target_arch = "x86_64")]
impl Kernel for Dot {
    type Left = u32;
    type Right = u32;
    type Sum = __m512;

    #[inline(always)]
    unsafe fn step<const R: usize, const C: usize>(
        sums: &mut [[__m512; C]; R],
        left: *const u32,
        left_row: usize,
        right: *const u32,
    ) {
        use std::arch::x86_64::{__m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32};
        // SAFETY: the caller's promise; both types of register are 512 bits of any value.
        unsafe {
            let bf16 = |register: __m512i| std::mem::transmute::<__m512i, __m512bh>(register);
            let columns: [__m512i; C] = std::array::from_fn(|c| _mm512_loadu_si512(right.add(c * 16).cast()));
            for r in 0..R {
                let x = bf16(_mm512_set1_epi32((*left.add(r * left_row)).cast_signed()));
                for c in 0..C {
                    sums[r][c] = _mm512_dpbf16_ps(sums[r][c], x, bf16(columns[c]));
                }
            }
        }
    }
}

type Out<K> = <<K as Kernel>::Sum as Register>::Item;

/// # Safety
/// As [`Call`] says, for `R` rows and at most `C` registers of columns; the instruction set must be there.
#[inline(always)]
unsafe fn body<K: Kernel, const R: usize, const C: usize>(call: &Call<K::Left, K::Right, Out<K>>) {
    let Call { mut left, left_row, left_step, mut right, right_step, steps, out, out_stride, cols, .. } =
        *call;
    let lanes = K::Sum::LANES;
    // SAFETY: the caller's promise, of which each part below takes what is its own. The addresses are advanced past
    // their last use without being followed, hence wrapping.
    unsafe {
        let mut sums = [[K::Sum::splat(Out::<K>::default()); C]; R];
        // The output is fetched meanwhile, a row a step: all rows at once would hold up the operands.
        let fetching = steps.min(R);
        for step in 0..fetching {
            for c in 0..C {
                prefetch::first(out.wrapping_add(step * out_stride + c * lanes), 1);
            }
            K::step(&mut sums, left, left_row, right);
            left = left.wrapping_add(left_step);
            right = right.wrapping_add(right_step);
        }
        for _ in fetching..steps {
            K::step(&mut sums, left, left_row, right);
            left = left.wrapping_add(left_step);
            right = right.wrapping_add(right_step);
        }
        if call.alpha != Out::<K>::of(1.0) {
            let alpha = K::Sum::splat(call.alpha);
            for r in 0..R {
                for c in 0..C {
                    sums[r][c] = sums[r][c].times(alpha);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                let sum = sums[r][c];
                let to = out.add(r * out_stride + c * lanes);
                let width = cols - c * lanes;
                if width >= lanes {
                    put(sum, to, call.write);
                } else {
                    // The same arithmetic beside the output.
                    let mut aside = [Out::<K>::default(); 16];
                    if call.write == Write::Add {
                        std::ptr::copy_nonoverlapping(to, aside.as_mut_ptr(), width);
                    }
                    put(sum, aside.as_mut_ptr(), call.write);
                    std::ptr::copy_nonoverlapping(aside.as_ptr(), to, width);
                }
            }
        }
    }
}

/// # Safety
/// A register's worth may be written, and read if it is added to.
#[inline(always)]
unsafe fn put<V: Register>(sum: V, to: *mut V::Item, write: Write) {
    // SAFETY: the caller's promise; junk is not read before a store.
    unsafe {
        match write {
            Write::Store => sum.store(to),
            Write::Add => V::load(to).plus(sum).store(to),
        }
    }
}

/// One function compiled for one instruction set.
macro_rules! compiled {
    ($name:ident $(, $features:literal)?) => {
        /// # Safety
        /// As [`body`].
        $(#[target_feature(enable = $features)])?
        unsafe fn $name<K: Kernel, const R: usize, const C: usize>(call: &Call<K::Left, K::Right, Out<K>>) {
            // SAFETY: the caller's promise.
            unsafe { body::<K, R, C>(call) }
        }
    };
}

compiled!(portable);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl");
#[cfg(target_arch = "x86_64")]
compiled!(avx512_dot, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16");

/// As many sums as the registers hold beside a row of columns and a broadcast number.
macro_rules! tiles {
    ($compiled:ident::<$kernel:ty>, $lanes:expr, $rows:tt, $cols:tt) => {
        Tiles { lanes: $lanes, table: tiles!(@table $compiled, $kernel, $rows, $cols) }
    };
    (@table $compiled:ident, $kernel:ty, [$($r:literal)*], $cols:tt) => {
        &[$(tiles!(@row $compiled, $kernel, $r, $cols)),*]
    };
    (@row $compiled:ident, $kernel:ty, $r:literal, [$($c:literal)*]) => {
        &[$($compiled::<$kernel, $r, $c>),*]
    };
}

/// The types whose numbers are multiplied as they are.
pub trait Tiled: Sized + 'static {
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "sealed: nobody outside can name or call it")]
    fn tiles(isa: Isa) -> Tiles<Self, Self, Self>;
    /// For a row alone: its sums leave registers for more columns, so that rows on the right are read in longer runs.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "as above")]
    fn row_tiles(isa: Isa) -> Tiles<Self, Self, Self>;
}

macro_rules! tiled {
    ($item:ty, $wide:ty, $middle:ty, $lanes:literal) => {
        impl Tiled for $item {
            #[allow(private_interfaces, reason = "as the trait says")]
            fn tiles(isa: Isa) -> Tiles<$item, $item, $item> {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 | Isa::Avx512Dot => {
                        tiles!(avx512::<Plain<$wide>>, <$wide>::LANES, [1 2 3 4 5 6], [1 2 3 4])
                    }
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => tiles!(avx2::<Plain<$middle>>, <$middle>::LANES, [1 2 3 4 5 6], [1 2]),
                    _ => tiles!(portable::<Plain<Portable<$item, $lanes>>>, $lanes, [1 2 3 4 5 6], [1 2]),
                }
            }

            #[allow(private_interfaces, reason = "as the trait says")]
            fn row_tiles(isa: Isa) -> Tiles<$item, $item, $item> {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 | Isa::Avx512Dot => Self::tiles(isa),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => tiles!(avx2::<Plain<$middle>>, <$middle>::LANES, [1], [1 2 3 4 5 6 7 8]),
                    _ => tiles!(portable::<Plain<Portable<$item, $lanes>>>, $lanes, [1], [1 2 3 4 5 6 7 8]),
                }
            }
        }
    };
}

tiled!(f32, __m512, __m256, 4);
tiled!(f64, __m512d, __m256d, 2);

/// Pairs on both sides, where the set has the dot product.
#[cfg(target_arch = "x86_64")]
pub(crate) fn dot(isa: Isa) -> Option<Tiles<u32, u32, f32>> {
    (isa == Isa::Avx512Dot).then_some(tiles!(avx512_dot::<Dot>, 16, [1 2 3 4 5 6], [1 2 3 4]))
}

/// Pairs on both sides, where the set has the dot product.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn dot(_: Isa) -> Option<Tiles<u32, u32, f32>> {
    None
}

/// Pairs on the right, widened while they are multiplied.
pub(crate) fn widened(isa: Isa) -> Tiles<[f32; 2], u32, f32> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Dot => tiles!(avx512::<Widened<__m512>>, 16, [1 2 3 4 5 6], [1 2 3 4]),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => tiles!(avx2::<Widened<__m256>>, 8, [1 2 3 4 5 6], [1 2]),
        _ => tiles!(portable::<Widened<Portable<f32, 4>>>, 4, [1 2 3 4 5 6], [1 2]),
    }
}

/// As [`widened`], for a row alone: its sums leave registers for more columns, so that what lies side by side on the
/// right is read in one go.
pub(crate) fn widened_row(isa: Isa) -> Tiles<[f32; 2], u32, f32> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Dot => widened(isa),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => tiles!(avx2::<Widened<__m256>>, 8, [1], [1 2 3 4 5 6 7 8]),
        _ => tiles!(portable::<Widened<Portable<f32, 4>>>, 4, [1], [1 2 3 4 5 6 7 8]),
    }
}
