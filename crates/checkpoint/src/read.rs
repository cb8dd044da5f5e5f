//! Rows of a model's parameter out of a tensor of a layout: cut out, reordered, transposed, widened.
//!
//! A map is read in stripes, and each stripe's pages are given back: what has to be copied is not held twice.

use formwork_formats::{Archive, Bytes, Entry};
use formwork_kernels::blocks;
use formwork_module::{Error, Result};

use crate::{
    names::{Order, STRIPE},
    plan::{self, Part, Plan, Whole},
};

/// Rows of a transposed tensor that are read at once: enough that a cache line of the copy is filled.
const TILE: usize = 64;

/// A number in memory, or as it stands in a file.
pub(crate) trait Number: Copy + Default + 'static {
    /// Bytes of `out.len()` numbers from number `first` of an entry.
    fn copy(entry: &Entry, first: usize, out: &mut [Self]) -> Result<()>;
}

impl Number for f32 {
    fn copy(entry: &Entry, first: usize, out: &mut [f32]) -> Result<()> {
        let Some(format) = plan::blocks(entry.dtype()) else {
            return entry.copy_range_into_f32(first, out).map_err(Error::external);
        };
        let (block, size) = (format.block(), format.block_bytes());
        let bytes = match (first.is_multiple_of(block), format.row_bytes(out.len())) {
            (true, Some(len)) => entry.bytes().get(first / block * size..first / block * size + len),
            _ => None,
        };
        let Some(bytes) = bytes else {
            let found = format!("{} numbers from {first}", out.len());
            return Err(Error::invalid("checkpoint", format_args!("whole blocks of {format}"), found)
                .hint("the layout cuts or transposes a matrix in blocks; convert it to f32 or f16 first"));
        };
        blocks::decode(format, bytes, out);
        Ok(())
    }
}

impl Number for f64 {
    fn copy(entry: &Entry, first: usize, out: &mut [f64]) -> Result<()> {
        if plan::blocks(entry.dtype()).is_none() {
            return entry.copy_range_into_f64(first, out).map_err(Error::external);
        }
        let mut narrow = vec![0f32; out.len()];
        f32::copy(entry, first, &mut narrow)?;
        out.iter_mut().zip(narrow).for_each(|(wide, narrow)| *wide = f64::from(narrow));
        Ok(())
    }
}

/// A number of so many bytes, whatever it means.
impl<const N: usize> Number for [u8; N]
where
    [u8; N]: Default,
{
    fn copy(entry: &Entry, first: usize, out: &mut [[u8; N]]) -> Result<()> {
        let bytes =
            first.checked_mul(N).and_then(|from| entry.bytes().get(from..from.checked_add(out.len() * N)?));
        let Some(bytes) = bytes else {
            return Err(Error::invalid(
                "checkpoint",
                format_args!("{} numbers from {first}", out.len()),
                "fewer",
            ));
        };
        out.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// Fills `out`, row-major as the parameter, from its tensor.
pub(crate) fn part<T: Number>(entry: &Entry, whole: &Whole, part: &Part, out: &mut [T]) -> Result<()> {
    match whole.order {
        Order::AsIs => rows(entry, part, part.width(), out, &T::copy),
        Order::Transposed => transposed(entry, whole, part, out),
    }
    .map_err(|error| error.at(&whole.name))
}

/// What copies numbers out of an entry, from a first one on.
type Taken<'f, T> = dyn Fn(&Entry, usize, &mut [T]) -> Result<()> + 'f;

/// Rows of `width` numbers, in our order.
fn rows<T>(entry: &Entry, part: &Part, width: usize, out: &mut [T], copy: &Taken<'_, T>) -> Result<()> {
    let total = part.rows();
    if width == 0 || total == 0 {
        return Ok(());
    }
    let theirs = entry.shape().first().copied().unwrap_or(1).max(1);
    let bytes_per_row = entry.bytes().len() / theirs;
    // A stripe holds whole heads, so that its rows lie together in the file as well.
    let unit = part.heads.map_or(1, |heads| total / heads);
    let stripe = (STRIPE / bytes_per_row.max(1)).next_multiple_of(unit).max(unit);
    for from in (0..total).step_by(stripe) {
        let to = total.min(from + stripe);
        let out = &mut out[from * width..to * width];
        if part.heads.is_none() {
            copy(entry, (part.start + from) * width, out)?;
        } else {
            for (row, out) in (from..to).zip(out.chunks_exact_mut(width)) {
                copy(entry, (part.start + part.their_row(row)) * width, out)?;
            }
        }
        release(entry, (part.start + from) * bytes_per_row..(part.start + to) * bytes_per_row);
    }
    Ok(())
}

/// Columns of theirs as rows of ours.
fn transposed<T: Number>(entry: &Entry, whole: &Whole, part: &Part, out: &mut [T]) -> Result<()> {
    let (rows, width) = (part.rows(), part.width()); // ours: [rows, width]
    let columns = whole.shape[1]; // theirs: [width, columns]
    let bytes_per_row = entry.bytes().len() / width.max(1);
    let mut tile = vec![T::default(); TILE * rows];
    let mut held = 0;
    for from in (0..width).step_by(TILE) {
        let to = width.min(from + TILE);
        for (i, line) in (from..to).zip(tile.chunks_exact_mut(rows.max(1))) {
            T::copy(entry, i * columns + part.start, line)?;
        }
        for row in 0..rows {
            let column = part.their_row(row);
            let out = &mut out[row * width + from..row * width + to];
            out.iter_mut().zip(tile.chunks_exact(rows)).for_each(|(out, line)| *out = line[column]);
        }
        if (to - held) * bytes_per_row >= STRIPE || to == width {
            release(entry, held * bytes_per_row..to * bytes_per_row);
            held = to;
        }
    }
    Ok(())
}

/// Gives the pages of a map back.
fn release(entry: &Entry, range: std::ops::Range<usize>) {
    if let Some(bytes) = entry.bytes().slice(range) {
        bytes.release();
    }
}

impl Plan {
    /// The bytes of a parameter as its file stores them, in our order of rows and axes: nothing is rounded or decoded.
    ///
    /// Where the file has them in that order, they are the file's.
    ///
    /// # Errors
    /// A tensor that is not there or of another shape, and a transposed matrix in blocks.
    pub fn bytes(&self, archive: &Archive, ours: &str) -> Result<Bytes> {
        let (whole, place) = self.place(ours)?;
        let entry = plan::entry(archive, whole)?;
        if let Some(rows) = plan::plain(whole, place, entry)? {
            return Ok(rows.bytes().clone());
        }
        let bytes = match whole.order {
            Order::AsIs => {
                let width = entry.bytes().len() / whole.shape[0].max(1);
                let mut out = vec![0u8; place.rows() * width];
                let copy = |entry: &Entry, first: usize, out: &mut [u8]| {
                    <[u8; 1]>::copy(entry, first, out.as_chunks_mut().0)
                };
                rows(entry, place, width, &mut out, &copy)?;
                out
            }
            Order::Transposed => match entry.bytes().len() / entry.elements().max(1) {
                8 => swapped::<8>(entry, whole, place)?,
                4 => swapped::<4>(entry, whole, place)?,
                2 if plan::blocks(entry.dtype()).is_none() => swapped::<2>(entry, whole, place)?,
                _ => {
                    let found = entry.dtype().name();
                    return Err(Error::invalid("checkpoint", "floating-point numbers", found)
                        .hint("a matrix in blocks cannot be transposed; convert it to f32 or f16 first")
                        .at(&whole.name));
                }
            },
        };
        Ok(bytes.into())
    }
}

fn swapped<const N: usize>(entry: &Entry, whole: &Whole, place: &Part) -> Result<Vec<u8>>
where
    [u8; N]: Default,
{
    let mut out = vec![<[u8; N]>::default(); place.rows() * place.width()];
    part(entry, whole, place, &mut out)?;
    Ok(out.into_flattened())
}
