//! Products of a few queries with keys and values where they lie, the inner loops of decoding.

#[cfg(target_arch = "x86_64")]
use super::few;
use super::{
    Stored,
    tile::{Lanes, Matrix, WIDTH},
};
use crate::{
    Element,
    isa::{Isa, LANES, sum_lanes},
    reduce::padded,
};

/// Rows that are ready to be multiplied.
#[derive(Clone, Copy)]
pub(super) struct Rows<'r, T> {
    numbers: Numbers<'r, T>,
    n: usize,
    e: usize,
}

#[derive(Clone, Copy)]
enum Numbers<'r, T> {
    Plain(Matrix<'r, T>),
    /// Blocks that the registers of this instruction set take: the word for their format, and bytes from row to row.
    #[cfg(target_arch = "x86_64")]
    Blocks(u8, &'r [u8], usize),
}

impl<'r, T: Element> Rows<'r, T> {
    /// `n` rows from `[batch, head, token]` on, if the products can read them where they lie.
    #[inline(always)]
    pub(super) fn of(isa: Isa, stored: &Stored<'r, T>, at: [usize; 3], n: usize, e: usize) -> Option<Self> {
        let numbers = match stored {
            Stored::Plain(view) => Numbers::Plain(view.matrix(at, n, e)),
            #[cfg(target_arch = "x86_64")]
            Stored::Blocks(blocks) if size_of::<T>() == 4 && e.is_multiple_of(LANES) => {
                let word = few::word(blocks.format())
                    .filter(|&w| isa >= Isa::Avx512 || isa == Isa::Avx2 && w == few::BF16)?;
                let (bytes, step) = blocks.rows(at, n, e);
                Numbers::Blocks(word, bytes, step)
            }
            Stored::Blocks(_) => return None,
        };
        let _ = isa;
        Some(Rows { numbers, n, e })
    }

    /// Rows of a tile.
    #[inline(always)]
    pub(super) fn decoded(tile: &'r [Lanes<T>], n: usize, e: usize) -> Self {
        Rows { numbers: Numbers::Plain(Matrix::rows_of_lanes(tile, e.next_multiple_of(WIDTH))), n, e }
    }

    /// The rows as the registers take them: the word for what they are, and where.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn direct(&self, isa: Isa) -> Option<(u8, few::Rows)> {
        let (n, e) = (self.n, self.e);
        if isa == Isa::Scalar || size_of::<T>() != 4 || !e.is_multiple_of(LANES) || n == 0 {
            return None;
        }
        let (word, start, step) = match self.numbers {
            Numbers::Plain(m) => {
                assert!((n - 1) * m.row + e <= m.data.len() && m.column == 1, "rows of keys are complete");
                (few::F32, m.data.as_ptr().cast(), m.row * size_of::<f32>())
            }
            Numbers::Blocks(word, bytes, step) => (word, bytes.as_ptr(), step),
        };
        Some((word, few::Rows { start, step, n, e }))
    }
}

/// Calls one of the functions of [`few`] for an instruction set, compiled for what the rows are; AVX2 reads no `Q8_0`,
/// as [`Rows::of`] knows.
#[cfg(target_arch = "x86_64")]
macro_rules! in_registers {
    ($isa:expr, $word:expr, $avx2:ident, $avx512:ident, $arguments:tt) => {
        match ($isa, $word) {
            (Isa::Avx2, few::BF16) => few::$avx2::<{ few::BF16 }> $arguments,
            (Isa::Avx2, _) => few::$avx2::<{ few::F32 }> $arguments,
            (_, few::BF16) => few::$avx512::<{ few::BF16 }> $arguments,
            (_, few::Q8_0) => few::$avx512::<{ few::Q8_0 }> $arguments,
            _ => few::$avx512::<{ few::F32 }> $arguments,
        }
    };
}

/// `out[i · width + j] = q[i] · k[j]` for `few` queries of `e` numbers.
///
/// # Panics
/// If there are fewer numbers than that.
#[inline(always)]
pub(super) fn dots<T: Element>(
    isa: Isa,
    (q, few): (&[T], usize),
    k: Rows<'_, T>,
    out: &mut [T],
    width: usize,
) {
    let (n, e) = (k.n, k.e);
    assert!(
        few > 0 && q.len() >= few * e && out.len() >= (few - 1) * width + n,
        "dots: {} scores",
        out.len()
    );
    #[cfg(target_arch = "x86_64")]
    if let Some((word, rows)) = k.direct(isa) {
        let q = few::Few { start: q.as_ptr().cast(), count: few, row: e };
        let out = few::Out { start: out.as_mut_ptr().cast(), row: width };
        // SAFETY: the instruction set is in use and `T` is f32; sizes are checked above, those of the rows by `direct`
        // or by the slice that `Blocks::rows` has cut.
        unsafe { return in_registers!(isa, word, dots256, dots512, (q, rows, out)) }
    }
    for (j, k) in plain(&k).rows(n, e).enumerate() {
        for i in 0..few {
            out[i * width + j] = dot(isa, &q[i * e..(i + 1) * e], k);
        }
    }
}

/// `out[i] += Σ_j p[i · width + j] · v[j]` for `few` rows of `out`.
///
/// # Panics
/// If there are fewer numbers than that.
#[inline(always)]
pub(super) fn mix<T: Element>(
    isa: Isa,
    (p, width, few): (&[T], usize, usize),
    v: Rows<'_, T>,
    out: &mut [T],
) {
    let (n, e) = (v.n, v.e);
    assert!(few > 0 && p.len() >= (few - 1) * width + n && out.len() >= few * e, "mix: {} weights", p.len());
    #[cfg(target_arch = "x86_64")]
    if let Some((word, rows)) = v.direct(isa) {
        let p = few::Few { start: p.as_ptr().cast(), count: few, row: width };
        let out = few::Out { start: out.as_mut_ptr().cast(), row: e };
        // SAFETY: as in `dots`.
        unsafe { return in_registers!(isa, word, mix256, mix512, (p, rows, out)) }
    }
    for (j, v) in plain(&v).rows(n, e).enumerate() {
        for (i, out) in out.chunks_exact_mut(e.max(1)).take(few).enumerate() {
            let p = p[i * width + j];
            for (out, &v) in out.iter_mut().zip(v) {
                *out = isa.mul_add(p, v, *out);
            }
        }
    }
}

/// The rows as numbers: blocks are only taken where the registers read them.
#[inline(always)]
fn plain<'r, T: Element>(rows: &Rows<'r, T>) -> Matrix<'r, T> {
    match rows.numbers {
        Numbers::Plain(m) => m,
        #[cfg(target_arch = "x86_64")]
        Numbers::Blocks(..) => unreachable!("blocks are read by registers alone"),
    }
}

#[inline(always)]
fn dot<T: Element>(isa: Isa, q: &[T], k: &[T]) -> T {
    let ((qs, q_tail), (ks, k_tail)) = (q.as_chunks::<LANES>(), k.as_chunks::<LANES>());
    let mut sums = [T::zero(); LANES];
    for (q, k) in qs.iter().zip(ks) {
        for l in 0..LANES {
            sums[l] = isa.mul_add(q[l], k[l], sums[l]);
        }
    }
    if !q_tail.is_empty() {
        let (q, k) = (padded(q_tail), padded(k_tail));
        for l in 0..LANES {
            sums[l] = isa.mul_add(q[l], k[l], sums[l]);
        }
    }
    sum_lanes(sums)
}
