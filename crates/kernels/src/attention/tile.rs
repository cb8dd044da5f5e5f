//! Products of small dense tiles, the inner loops of attention.
//!
//! Queries lie along the lanes of vector registers: a [`Lanes`] holds one number for each of 32 queries. Scores are
//! computed transposed, `Sᵀ = K·Qᵀ`, so the keys and values are read where they lie, one broadcast number at a time,
//! and softmax, a reduction over keys, needs no horizontal operation. A block of rows of the result stays in
//! registers; how many depends on how many registers the instruction set has.

#[cfg(target_arch = "x86_64")]
use super::vector;
use crate::{Element, Write, isa::Isa};

/// Queries of a tile: lanes of a row.
pub(super) const WIDTH: usize = 32;

/// One number for each query of a tile (or each of 32 columns), aligned to a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Lanes<T>(pub(super) [T; WIDTH]);

impl<T: Element> Default for Lanes<T> {
    fn default() -> Self {
        Lanes([T::zero(); WIDTH])
    }
}

/// Runs `f` on each row in turn.
///
/// The compiler would unroll the 32 lanes of a short `f` first and then vectorise across rows, gathering what lies
/// side by side; a row that it must take as given keeps it to the lanes.
#[inline(always)]
pub(super) fn each_row<T>(rows: &mut [Lanes<T>], mut f: impl FnMut(&mut Lanes<T>)) {
    for row in rows {
        f(std::hint::black_box(row));
    }
}

/// `eˣ` for what a softmax asks, `x ≤ 0` up to rounding: within 2 units in the last place in `f32`, with 0 below the
/// smallest normal number; in `f64` the standard library's.
///
/// Twelve instructions where [`Element::fast_exp`], which may meet any number and gives the same bits on every
/// instruction set, takes thirty: this one fuses, and scales by one power of two.
#[inline(always)]
pub(super) fn exp<T: Element>(isa: Isa, x: T) -> T {
    if size_of::<T>() != 4 {
        return x.fast_exp();
    }
    // Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the product of the upper one with n is exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // ln 2⁻¹²⁶, rounded up.
    const LEAST: f32 = -87.336_54;
    // (eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2, with the least relative error of eʳ: 3e-9.
    const TERMS: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_745, 0.001_381_454];
    // SAFETY: there are two types of elements, and this is the one of four bytes. By way of f64, which needs no such
    // promise, the comparison below would be made in f64.
    let x: f32 = unsafe { std::mem::transmute_copy(&x) };
    let shifted = isa.mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = isa.mul_add(-n, LN2[1], isa.mul_add(-n, LN2[0], x));
    let mut sum = TERMS[4];
    for term in [TERMS[3], TERMS[2], TERMS[1], TERMS[0], 1.0, 1.0] {
        sum = isa.mul_add(sum, r, term);
    }
    // The bits above those of n fall out of the number.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    // Not `x >= LEAST`, which NaN would fail.
    let y = if x < LEAST { 0.0 } else { sum * power };
    // SAFETY: as above.
    unsafe { std::mem::transmute_copy(&y) }
}

impl<T: Element> Lanes<T> {
    /// Multiplies lane by lane.
    #[inline(always)]
    pub(super) fn multiply(&mut self, by: &Lanes<T>) {
        for l in 0..WIDTH {
            self.0[l] *= by.0[l];
        }
    }
}

/// A factor of a product: element `(i, k)` is `data[i · row + k · column]`.
///
/// Rows of keys are `(stride, 1)`, the same rows transposed `(1, stride)`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    pub(super) data: &'a [T],
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows of lanes, one row of the matrix each.
    #[inline(always)]
    pub(super) fn of_lanes(lanes: &'a [Lanes<T>]) -> Self {
        const { assert!(size_of::<Lanes<T>>() == WIDTH * size_of::<T>(), "rows of lanes have no padding between") };
        // SAFETY: `Lanes` is one array of T without padding, so n of them are n · WIDTH initialised T.
        let data = unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len() * WIDTH) };
        Matrix { data, row: WIDTH, column: 1 }
    }

    /// A matrix whose rows of `width`, a multiple of the lanes, lie in lanes that follow each other.
    #[inline(always)]
    pub(super) fn rows_of_lanes(lanes: &'a [Lanes<T>], width: usize) -> Self {
        Matrix { row: width, ..Self::of_lanes(lanes) }
    }

    /// Rows of lanes as one slice to write.
    #[inline(always)]
    pub(super) fn flat(lanes: &'a mut [Lanes<T>]) -> &'a mut [T] {
        const { assert!(size_of::<Lanes<T>>() == WIDTH * size_of::<T>(), "rows of lanes have no padding between") };
        // SAFETY: as in `of_lanes`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), lanes.len() * WIDTH) }
    }

    /// The first `n` rows of `width` elements, which must be contiguous.
    #[inline(always)]
    pub(super) fn rows(self, n: usize, width: usize) -> impl Iterator<Item = &'a [T]> {
        (0..n).map(move |i| &self.data[i * self.row..][..width])
    }

    /// The same elements with rows and columns exchanged.
    #[inline(always)]
    pub(super) fn transposed(self) -> Self {
        Matrix { row: self.column, column: self.row, ..self }
    }
}

/// `out[i] (+)= Σ_k a(i, k) · b(k, 0..32)` for `i < out.len()`, `k < depth`; rows of `b` are contiguous.
///
/// # Panics
/// If a factor has fewer elements.
#[inline(always)]
pub(super) fn product<T: Element>(
    isa: Isa,
    (a, b): (Matrix<'_, T>, Matrix<'_, T>),
    depth: usize,
    out: &mut [Lanes<T>],
    write: Write,
) {
    if out.is_empty() {
        return;
    }
    if depth > 0 {
        let last = (out.len() - 1) * a.row + (depth - 1) * a.column;
        assert!(last < a.data.len(), "product: element {last} of {}", a.data.len());
        let end = (depth - 1) * b.row + WIDTH;
        assert!(end <= b.data.len() && b.column == 1, "product: row up to {end} of {}", b.data.len());
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(factors) = vector::Factors::of((a, b), depth, out, write) {
        match isa {
            // SAFETY: the instruction set is in use, and the last elements of both factors are within them.
            Isa::Avx512 | Isa::Avx512Dot => return unsafe { vector::avx512(factors) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { vector::avx2(factors) },
            Isa::Scalar => {}
        }
    }
    plain(isa, (a, b), depth, out, write);
}

/// [`product`] without instructions of its own: for f64, for other machines, and the twin of the others in tests.
#[inline(always)]
fn plain<T: Element>(
    isa: Isa,
    (a, b): (Matrix<'_, T>, Matrix<'_, T>),
    depth: usize,
    out: &mut [Lanes<T>],
    write: Write,
) {
    for (i, out) in out.iter_mut().enumerate() {
        let mut sums = if write == Write::Add { out.0 } else { [T::zero(); WIDTH] };
        for k in 0..depth {
            let x = a.data[i * a.row + k * a.column];
            for (sum, &b) in sums.iter_mut().zip(&b.data[k * b.row..][..WIDTH]) {
                *sum = isa.mul_add(x, b, *sum);
            }
        }
        out.0 = sums;
    }
}

/// The transpose of a tile of 32 × 32.
#[inline(always)]
pub(super) fn transpose<T: Element>(isa: Isa, from: &[Lanes<T>; WIDTH], to: &mut [Lanes<T>; WIDTH]) {
    let (from, to) = (from.as_ptr().cast::<T>(), to.as_mut_ptr().cast());
    // Blocks of 8 × 8 take as little time as larger ones here, and less where a wide register is two narrow ones.
    // SAFETY: both are 32 whole rows, and the CPU has the sets below the one in use.
    unsafe { crate::transpose::transpose(isa.min(Isa::Avx2), (from, WIDTH), (to, WIDTH), WIDTH, WIDTH) };
}

/// The maximum with −∞, of a query that saw no key yet, replaced by 0: differences from it are taken, and −∞ − −∞ is NaN.
#[inline(always)]
pub(super) fn finite<T: Element>(max: &Lanes<T>) -> Lanes<T> {
    Lanes(max.0.map(|m| if m == T::neg_infinity() { T::zero() } else { m }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{isa, testing::*};

    fn lanes<T: Element>(seed: u64, n: usize) -> Vec<Lanes<T>> {
        numbers(seed, n * WIDTH).as_chunks().0.iter().map(|c| Lanes(*c)).collect()
    }

    fn check_products<T: Element>() {
        for (m, k) in [(1, 1), (8, 3), (19, 7), (32, 33), (5, 0), (0, 4)] {
            let a = numbers::<T>(1, (m + 2) * (k + 3));
            let (b, old) = (lanes::<T>(3, k), lanes::<T>(4, m));
            for (row, column) in [(k + 3, 1), (1, m + 2)] {
                for write in [Write::Store, Write::Add] {
                    let want: Vec<T> = (0..m * WIDTH)
                        .map(|e| {
                            let (i, l) = (e / WIDTH, e % WIDTH);
                            let start = if write == Write::Add { old[i].0[l].f64() } else { 0.0 };
                            let sum =
                                (0..k).map(|k| a[i * row + k * column].f64() * b[k].0[l].f64()).sum::<f64>();
                            T::of(start + sum)
                        })
                        .collect();
                    on_every_isa(|| {
                        let mut out =
                            if write == Write::Add { old.clone() } else { vec![Lanes([T::nan(); WIDTH]); m] };
                        let factors = (Matrix { data: &a, row, column }, Matrix::of_lanes(&b));
                        isa::dispatch(|isa| product(isa, factors, k, &mut out, write));
                        let flat: Vec<T> = out.iter().flat_map(|v| v.0).collect();
                        close("product", &flat, &want, tolerance::<T>());
                    });
                }
            }
        }
    }

    #[test]
    fn products_agree_with_plain_loops_on_every_path() {
        check_products::<f32>();
        check_products::<f64>();
    }

    #[test]
    #[should_panic(expected = "element 9 of 9")]
    fn a_left_factor_that_is_too_short_is_refused() {
        let a = Matrix { data: &[0.0_f32; 9], row: 4, column: 1 };
        product(Isa::Scalar, (a, Matrix::of_lanes(&lanes(1, 2))), 2, &mut lanes(2, 3), Write::Store);
    }

    #[test]
    #[should_panic(expected = "row up to 72 of 71")]
    fn a_right_factor_that_is_too_short_is_refused() {
        let a = Matrix { data: &[0.0_f32; 9], row: 1, column: 1 };
        let b = Matrix { data: &[0.0; 71], row: 40, column: 1 };
        product(Isa::Scalar, (a, b), 2, &mut lanes(2, 3), Write::Store);
    }

    fn check_transpose<T: Element>() {
        let from: [Lanes<T>; WIDTH] = lanes(1, WIDTH).try_into().unwrap();
        on_every_isa(|| {
            let mut to = [Lanes([T::nan(); WIDTH]); WIDTH];
            isa::dispatch(|isa| transpose(isa, &from, &mut to));
            assert!((0..WIDTH * WIDTH).all(|e| to[e / WIDTH].0[e % WIDTH] == from[e % WIDTH].0[e / WIDTH]));
        });
    }

    #[test]
    fn a_transpose_swaps_row_and_lane_on_every_path() {
        check_transpose::<f32>();
        check_transpose::<f64>();
    }
}
