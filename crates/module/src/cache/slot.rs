//! The memory of one layer's keys and values.

use std::sync::Arc;

use formwork_kernels::{attention::Blocks, blocks, scratch::List};
use formwork_tensor::{Scalar, Storage, dispatch};

use super::{CacheBlocks, CacheTensor, CacheType};
use crate::{At, Buffer, DType, Kind, Pool, Result, RowSpan, Shape, Tensor};

/// Keys and values of a layer, `[b, g, capacity, e]` each.
#[derive(Clone)]
pub(super) struct Slot {
    k: Memory,
    v: Memory,
    dims: [usize; 4],
}

#[derive(Clone)]
enum Memory {
    Plain(Storage),
    Blocks(CacheBlocks),
}

/// Where one tensor's tokens go.
pub(super) struct Placement<'a> {
    pub(super) spans: &'a [RowSpan],
    /// Tokens per row of the source.
    pub(super) width: usize,
    /// Of the memory: `[b, g, capacity, e]`.
    pub(super) dims: [usize; 4],
}

impl Slot {
    pub(super) fn new(dims: [usize; 4], kind: CacheType, dtype: DType, pool: Option<&Pool>) -> Result<Self> {
        let rows = Shape::new(&dims[..3]).at("cache")?.len();
        let size = Shape::new(&dims).at("cache")?.len();
        let memory = || -> Result<Memory> {
            let Some(format) = kind.format() else {
                return Ok(Memory::Plain(
                    dispatch!(dtype, T => T::store(Arc::new(Buffer::<T>::new(size, pool)))),
                ));
            };
            let bytes = Shape::new(&[rows, Blocks::row_bytes(format, dims[3])]).at("cache")?.len();
            let data = Arc::new(vec![0; bytes]);
            Ok(Memory::Blocks(CacheBlocks { data, format, dims, capacity: dims[2] }))
        };
        Ok(Self { k: memory()?, v: memory()?, dims })
    }

    pub(super) fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.k.bytes() + self.v.bytes()
    }

    pub(super) fn write(&mut self, [k, v]: [&Tensor; 2], place: &Placement<'_>) -> Result<()> {
        self.k.write(k, place)?;
        self.v.write(v, place)
    }

    /// All keys and values where they lie.
    pub(super) fn contents(&self) -> Result<[CacheTensor; 2]> {
        Ok([self.k.contents(&self.dims)?, self.v.contents(&self.dims)?])
    }

    /// Other rows of the batch, in memory of their own.
    pub(super) fn gather(&self, rows: &[usize]) -> Result<Self> {
        let [b, g, capacity, e] = self.dims;
        let dims = [rows.len(), g, capacity, e];
        Ok(Self { k: self.k.gather(b, rows, dims)?, v: self.v.gather(b, rows, dims)?, dims })
    }
}

impl Memory {
    fn bytes(&self) -> usize {
        match self {
            Memory::Plain(storage) => storage.len() * storage.dtype().bytes(),
            Memory::Blocks(blocks) => blocks.data.len(),
        }
    }

    fn contents(&self, dims: &[usize; 4]) -> Result<CacheTensor> {
        match self {
            Memory::Plain(storage) => Ok(CacheTensor::Plain(Tensor::from_storage(storage.clone(), 0, dims)?)),
            Memory::Blocks(blocks) => Ok(CacheTensor::Blocks(blocks.clone())),
        }
    }

    fn write(&mut self, source: &Tensor, place: &Placement<'_>) -> Result<()> {
        let source = source.compact()?;
        match self {
            Memory::Plain(to) => dispatch!(to.dtype(), T => {
                let source = source.slice::<T>()?;
                own::<T>(to)?;
                let to = to.unique_mut::<T>()?.ok_or(Kind::Busy { what: "the cache" })?;
                let e = place.dims[3];
                place.each(|from, at| to[at * e..(at + 1) * e].copy_from_slice(&source[from * e..(from + 1) * e]));
                Ok(())
            }),
            Memory::Blocks(to) => {
                let encoded = dispatch!(source.dtype(), T => encode(source.slice::<T>()?, to));
                let row = to.row_bytes();
                let data = Arc::make_mut(&mut to.data);
                place.each(|from, at| {
                    data[at * row..(at + 1) * row].copy_from_slice(&encoded[from * row..(from + 1) * row]);
                });
                Ok(())
            }
        }
    }

    fn gather(&self, from: usize, rows: &[usize], dims: [usize; 4]) -> Result<Self> {
        match self {
            Memory::Plain(storage) => Ok(Memory::Plain(gather_rows(storage, from, rows)?)),
            Memory::Blocks(blocks) => {
                let size = blocks.data.len() / from.max(1);
                let mut data = Vec::with_capacity(rows.len() * size);
                rows.iter()
                    .for_each(|row| data.extend_from_slice(&blocks.data[row * size..(row + 1) * size]));
                Ok(Memory::Blocks(CacheBlocks { data: Arc::new(data), dims, ..*blocks }))
            }
        }
    }
}

impl Placement<'_> {
    /// Calls `f` with the rows of `e` numbers to copy: from `[b, t, g]`, to `[b, g, capacity]`.
    fn each(&self, mut f: impl FnMut(usize, usize)) {
        let [_, g, capacity, _] = self.dims;
        for (row, span) in self.spans.iter().enumerate() {
            for (i, token) in span.tokens.clone().enumerate() {
                for head in 0..g {
                    f((row * self.width + token) * g + head, (row * g + head) * capacity + span.first + i);
                }
            }
        }
    }
}

/// Rows of `e` numbers as rows of blocks. A token's rows are few and come often, so they are encoded in one call.
fn encode<T: Scalar>(source: &[T], to: &CacheBlocks) -> List<u8> {
    let e = to.dims[3].max(1);
    let whole = e.next_multiple_of(to.format.block());
    let rows = source.len() / e;
    let mut numbers = List::repeated(0.0f32, rows * whole);
    for (to, from) in numbers.chunks_exact_mut(whole).zip(source.chunks_exact(e)) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.f64() as f32;
        }
    }
    let mut bytes = List::repeated(0, rows * to.row_bytes());
    blocks::encode(to.format, &numbers, &mut bytes);
    bytes
}

/// Makes memory that a fork shares our own.
fn own<T: Scalar>(storage: &mut Storage) -> Result<()> {
    if storage.unique_mut::<T>()?.is_none() {
        let shared = Tensor::from_storage(storage.clone(), 0, &[storage.len()])?;
        let mut copy = shared.buffer::<T>(shared.len());
        copy.copy_from_slice(shared.slice::<T>()?);
        *storage = T::store(Arc::new(copy));
    }
    Ok(())
}

/// Rows of `[b, ..]` in another order, in memory of their own.
fn gather_rows(storage: &Storage, from: usize, rows: &[usize]) -> Result<Storage> {
    let all = Tensor::from_storage(storage.clone(), 0, &[storage.len()])?;
    let size = all.len() / from.max(1);
    dispatch!(storage.dtype(), T => {
        let old = all.slice::<T>()?;
        let mut new = all.buffer::<T>(rows.len() * size);
        for (to, &row) in new.chunks_exact_mut(size.max(1)).zip(rows) {
            to.copy_from_slice(&old[row * size..(row + 1) * size]);
        }
        Ok(T::store(Arc::new(new)))
    })
}
