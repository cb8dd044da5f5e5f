//! Parameters as the tensors of a layout: joined, reordered and transposed back.

use formwork_formats::{ArchiveWriter, Bytes, Dtype, Writer};
use formwork_kernels::blocks;
use formwork_module::{Blocks, DType, Error, Result, Tensor};

use crate::{
    names::Order,
    plan::{Part, Plan, Whole},
    types::{dtype_of, format_of},
};

/// Rows of a transposed tensor that are put together at once.
const TILE: usize = 64;

/// What takes tensors in the order in which they were declared, each in pieces.
pub trait Sink {
    /// The next bytes of a tensor, as they are to stand in the file.
    ///
    /// # Errors
    /// What the writer refuses.
    fn append_bytes(&mut self, tensor: &str, bytes: &[u8]) -> Result<()>;

    /// The next numbers of a tensor, whole rows of it, to be stored in its declared type.
    ///
    /// # Errors
    /// What the writer refuses, such as a number that the type cannot hold.
    fn append_f32(&mut self, tensor: &str, values: &[f32]) -> Result<()>;

    /// The same from 64-bit numbers.
    ///
    /// # Errors
    /// As [`append_f32`](Sink::append_f32).
    fn append_f64(&mut self, tensor: &str, values: &[f64]) -> Result<()>;
}

macro_rules! sink {
    ($($writer:ty),*) => {$(
        impl Sink for $writer {
            fn append_bytes(&mut self, tensor: &str, bytes: &[u8]) -> Result<()> {
                self.append_bytes(tensor, bytes).map_err(Error::external)
            }
            fn append_f32(&mut self, tensor: &str, values: &[f32]) -> Result<()> {
                self.append_f32(tensor, values).map_err(Error::external)
            }
            fn append_f64(&mut self, tensor: &str, values: &[f64]) -> Result<()> {
                self.append_f64(tensor, values).map_err(Error::external)
            }
        }
    )*};
}

sink!(ArchiveWriter, Writer<'_>, formwork_formats::gguf::Writer<'_>);

/// The numbers of a parameter on their way into a file.
#[derive(Clone, Debug)]
pub enum Numbers {
    /// 32- or 64-bit numbers.
    Tensor(Tensor),
    /// A matrix in blocks.
    Blocks(Blocks),
    /// Bytes in the order of our rows and axes, of a file's type.
    Stored {
        /// The type.
        dtype: Dtype,
        /// The bytes.
        bytes: Bytes,
    },
}

impl Numbers {
    /// The type in which they stand.
    pub fn dtype(&self) -> Dtype {
        match self {
            Numbers::Tensor(tensor) if tensor.dtype() == DType::F64 => Dtype::F64,
            Numbers::Tensor(_) => Dtype::F32,
            Numbers::Blocks(blocks) => dtype_of(blocks.format()),
            Numbers::Stored { dtype, .. } => *dtype,
        }
    }

    /// The bytes of a parameter, where it has any; as many as its type takes for its shape, whatever was claimed.
    fn bytes(&self, shape: &[usize]) -> Result<Option<&[u8]>> {
        let bytes: &[u8] = match self {
            Numbers::Tensor(_) => return Ok(None),
            Numbers::Blocks(blocks) => blocks.bytes(),
            Numbers::Stored { bytes, .. } => bytes,
        };
        let dtype = self.dtype();
        match dtype.size_of(shape) {
            Some(size) if size == bytes.len() => Ok(Some(bytes)),
            size => {
                let expected = match size {
                    Some(size) => format!("{size} bytes, which {shape:?} in {dtype} has"),
                    None => format!("rows of whole blocks, which {shape:?} in {dtype} does not have"),
                };
                Err(Error::invalid("checkpoint", expected, format_args!("{} bytes", bytes.len())))
            }
        }
    }

    /// The bytes, where they can stand in a file of the type `target` as they are.
    fn raw(&self, shape: &[usize], target: Dtype) -> Result<Option<&[u8]>> {
        if self.dtype() == target { self.bytes(shape) } else { Ok(None) }
    }

    /// As 32-bit numbers, or 64-bit ones where they are wider; bytes are decoded.
    ///
    /// # Errors
    /// Numbers or bytes that are not those of the shape, or of no floating-point type.
    pub fn into_tensor(self, shape: &[usize]) -> Result<Tensor> {
        let dtype = self.dtype();
        let bytes = match &self {
            Numbers::Tensor(tensor) if **tensor.shape() == *shape => return tensor.compact(),
            Numbers::Tensor(tensor) => {
                return Err(Error::shape("checkpoint", format_args!("{shape:?}"), tensor.shape()));
            }
            stored => stored.bytes(shape)?.unwrap_or_default(),
        };
        if let Some(format) = format_of(dtype) {
            let mut values = vec![0f32; shape.iter().product()];
            blocks::decode(format, bytes, &mut values);
            return Tensor::from_vec(values, shape);
        }
        match dtype {
            Dtype::F32 => Tensor::from_vec(words(bytes, f32::from_le_bytes), shape),
            Dtype::F64 => Tensor::from_vec(words(bytes, f64::from_le_bytes), shape),
            other => Err(Error::invalid("checkpoint", "floating-point numbers", other.name())),
        }
    }
}

fn words<T, const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|word| decode(*word)).collect()
}

impl Plan {
    /// Writes every tensor of the plan; `numbers` is asked for each parameter of it, `dtype` for the type under which each
    /// tensor was declared. Parameters are asked for and let go one tensor at a time.
    ///
    /// # Errors
    /// Those of `numbers` and of the sink; with the tensor's name.
    pub fn write(
        &self,
        sink: &mut dyn Sink,
        dtype: &dyn Fn(&Whole) -> Dtype,
        numbers: &dyn Fn(&Whole, &Part) -> Result<Numbers>,
    ) -> Result<()> {
        for whole in self.tensors() {
            let target = dtype(whole);
            match whole.order {
                Order::AsIs => whole
                    .parts
                    .iter()
                    .try_for_each(|part| stacked(whole, part, target, numbers(whole, part)?, sink)),
                Order::Transposed => {
                    let parts = whole.parts.iter().map(|part| numbers(whole, part));
                    side_by_side(whole, target, parts.collect::<Result<_>>()?, sink)
                }
            }
            .map_err(|error| error.at(&whole.name))?;
        }
        Ok(())
    }
}

/// The rows of one part, one after another.
fn stacked(whole: &Whole, part: &Part, target: Dtype, numbers: Numbers, sink: &mut dyn Sink) -> Result<()> {
    let name = &whole.name;
    if let Some(bytes) = numbers.raw(&part.shape, target)? {
        let width = bytes.len() / part.rows().max(1);
        return in_their_order(part, width, bytes, &mut |rows| sink.append_bytes(name, rows));
    }
    let tensor = numbers.into_tensor(&part.shape)?;
    match tensor.dtype() {
        DType::F64 => {
            in_their_order(part, part.width(), tensor.slice()?, &mut |rows| sink.append_f64(name, rows))
        }
        _ => in_their_order(part, part.width(), tensor.slice()?, &mut |rows| sink.append_f32(name, rows)),
    }
}

fn in_their_order<T: Copy>(
    part: &Part,
    width: usize,
    ours: &[T],
    append: &mut dyn FnMut(&[T]) -> Result<()>,
) -> Result<()> {
    let Some(heads) = part.heads else { return append(ours) };
    let mut head = Vec::new();
    let e = part.rows() / heads;
    for first in (0..part.rows()).step_by(e) {
        head.clear();
        for row in first..first + e {
            let from = part.our_row(row) * width;
            head.extend_from_slice(&ours[from..from + width]);
        }
        append(&head)?;
    }
    Ok(())
}

/// All parts of a transposed tensor, a few of its rows at a time.
fn side_by_side(whole: &Whole, target: Dtype, parts: Vec<Numbers>, sink: &mut dyn Sink) -> Result<()> {
    let raw = parts.iter().zip(&whole.parts).map(|(numbers, part)| numbers.raw(&part.shape, target));
    // All of them or none: as soon as one is to be converted, all are.
    let raw = raw.collect::<Result<Option<Vec<&[u8]>>>>()?;
    if let Some(bytes) = raw.filter(|_| target.block() == 1) {
        let append = &mut |rows: &[u8]| sink.append_bytes(&whole.name, rows);
        return match target.block_bytes() {
            8 => tiles(whole, &words_of::<8>(&bytes), &mut |rows| append(rows.as_flattened())),
            4 => tiles(whole, &words_of::<4>(&bytes), &mut |rows| append(rows.as_flattened())),
            2 => tiles(whole, &words_of::<2>(&bytes), &mut |rows| append(rows.as_flattened())),
            1 => tiles(whole, &words_of::<1>(&bytes), &mut |rows| append(rows.as_flattened())),
            width => Err(Error::invalid("checkpoint", "numbers of 1, 2, 4 or 8 bytes", width)),
        };
    }
    let wide = parts.into_iter().zip(&whole.parts).map(|(numbers, part)| numbers.into_tensor(&part.shape));
    let wide = wide.collect::<Result<Vec<_>>>()?;
    if wide.iter().any(|tensor| tensor.dtype() == DType::F64) {
        let wide = wide.iter().map(Tensor::slice::<f64>).collect::<Result<Vec<_>>>()?;
        return tiles(whole, &wide, &mut |rows| sink.append_f64(&whole.name, rows));
    }
    let wide = wide.iter().map(Tensor::slice::<f32>).collect::<Result<Vec<_>>>()?;
    tiles(whole, &wide, &mut |rows| sink.append_f32(&whole.name, rows))
}

fn words_of<'b, const N: usize>(parts: &[&'b [u8]]) -> Vec<&'b [[u8; N]]> {
    parts.iter().map(|bytes| bytes.as_chunks().0).collect()
}

fn tiles<T: Copy + Default>(
    whole: &Whole,
    parts: &[&[T]],
    append: &mut dyn FnMut(&[T]) -> Result<()>,
) -> Result<()> {
    let (rows, columns) = (whole.shape[0], whole.shape[1]);
    let mut tile = vec![T::default(); TILE.min(rows) * columns];
    for from in (0..rows).step_by(TILE) {
        let to = rows.min(from + TILE);
        for (part, ours) in whole.parts.iter().zip(parts) {
            for row in 0..part.rows() {
                let line = &ours[row * rows + from..row * rows + to];
                let column = part.start + part.their_row(row);
                line.iter().enumerate().for_each(|(i, &number)| tile[i * columns + column] = number);
            }
        }
        append(&tile[..(to - from) * columns])?;
    }
    Ok(())
}
