//! A matrix in blocks as a weight.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use formwork_kernels::{
    blocks::{
        Format,
        multiply::{dense, gather},
    },
    packed::{Packed, Panels},
};
use formwork_module::{Blocks, Pass, Visit, Weight, may_pack, packed_products};
use formwork_tensor::{Buffer, DType, Error, Pool, Result, Shape, Tensor, dispatch};

use crate::product::{Product, matrix};

/// A matrix `[out, in]` that stays in its blocks. Clones share the bytes and the panels.
///
/// It does not learn: gradients go through it to its input and to a bias. Products take the type of their input.
///
/// In inference on `f32`, unless the pass asks for [`Precision::Full`](formwork_module::Precision), products round the
/// activations to what the blocks are made of and read the matrix from panels, into which the first of them packs it.
///
/// ```
/// use formwork_kernels::blocks::Format;
/// use formwork_module::{Blocks, Pass, Tensor, Weight};
/// use formwork_quant::Quantised;
/// let bytes = vec![0x00, 0x3c, 0x00, 0x40, 0x00, 0x42, 0x00, 0x44]; // 1, 2, 3, 4 as f16
/// let w = Quantised::new(Blocks::new("up.weight", [2, 2], Format::F16, bytes)?);
/// let x = Tensor::from_vec(vec![1.0f64, 10.0], &[1, 2])?;
/// assert_eq!(w.apply(&x, None, &mut Pass::infer())?.to_vec::<f64>()?, [21.0, 43.0]);
/// assert_eq!(w.gather(&[1], &[1], &mut Pass::infer())?.to_vec::<f32>()?, [3.0, 4.0]);
/// # Ok::<(), formwork_module::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Quantised {
    matrix: Arc<Held>,
    /// The matrix's, here since every product asks for it and what stands behind a pointer is out of the cache by then.
    shape: [usize; 2],
    dtype: DType,
    pool: Pool,
}

/// A matrix in its blocks and, once products have asked for it, in panels.
#[derive(Debug)]
struct Held {
    blocks: Arc<Blocks>,
    packed: OnceLock<Option<Packed>>,
    /// Whether a product of few rows has been there.
    used: AtomicBool,
}

/// Rows of a product that make its panels in passing; with more, making them twice would cost more than it saves.
const FEW: usize = 8;

/// A weight from the bytes of a file, which may be mapped; `path` is its full name, `shape` is `[out, in]`.
///
/// # Errors
/// A width that is no whole number of blocks, or another number of bytes than the shape asks for.
pub fn weight(
    path: &str,
    shape: [usize; 2],
    format: Format,
    bytes: impl Deref<Target = [u8]> + Send + Sync + 'static,
) -> Result<Arc<dyn Weight>> {
    Ok(Arc::new(Quantised::new(Blocks::new(path, shape, format, bytes)?)))
}

impl Quantised {
    /// A weight of a matrix in blocks; rows looked up in it are `f32`, from a pool of its own.
    pub fn new(blocks: Blocks) -> Self {
        let shape = blocks.shape();
        let matrix = Held { blocks: Arc::new(blocks), packed: OnceLock::new(), used: AtomicBool::new(false) };
        Self { matrix: Arc::new(matrix), shape, dtype: DType::F32, pool: Pool::new() }
    }

    /// Another type for rows that are looked up, and so for all that is computed from them.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Another pool for rows that are looked up, and so for all that is computed from them.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// The matrix.
    pub fn blocks(&self) -> &Blocks {
        &self.matrix.blocks
    }
}

impl Weight for Quantised {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [out, inp] = self.shape;
        let fits = x.shape().last() == Some(&inp)
            && bias.is_none_or(|b| **b.shape() == [out] && b.dtype() == x.dtype() && !b.is_tracked());
        if fits
            && may_pack(x, pass)
            && let Some(packed) = self.packed(x.shape().rows().0)
        {
            let bias = bias.map(Tensor::compact).transpose()?;
            let [y] = packed_products(x, [packed], &[bias], pass)?;
            return Ok(y);
        }
        let product = Product(self.matrix.blocks.clone());
        match bias {
            Some(bias) => Tensor::apply1(product, &[x, bias]),
            None => Tensor::apply1(product, &[x]),
        }
    }

    /// Nothing here learns, so the rows have no history.
    fn gather(&self, ids: &[u32], dims: &[usize], _: &mut Pass<'_>) -> Result<Tensor> {
        let [n, d] = self.shape;
        let places = Shape::new(dims)?;
        if places.len() != ids.len() {
            let expected = format!("{} ids for {places}", places.len());
            return Err(Error::shape("gather", expected, ids.len()));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= n) {
            return Err(Error::invalid("gather", format_args!("ids below {n}, the rows of the table"), id));
        }
        let shape = places.with_axis(d)?; // [dims.., d]
        dispatch!(self.dtype, T => {
            let mut y = Buffer::<T>::new(shape.len(), Some(&self.pool));
            gather(matrix(self.blocks()), ids, &mut y);
            Tensor::from_buffer(y, &shape)
        })
    }

    /// All of it decoded: four bytes a number, and nothing that learns.
    fn to_dense(&self, _: &mut Pass<'_>) -> Result<Tensor> {
        let shape = Shape::new(&self.shape)?;
        dispatch!(self.dtype, T => {
            let mut y = Buffer::<T>::new(shape.len(), Some(&self.pool));
            dense(matrix(self.blocks()), &mut y);
            Tensor::from_buffer(y, &shape)
        })
    }

    /// A first product of few rows reads panels made in passing, so that a first token does not wait for memory as
    /// large as the model. Then all threads pack it; pages of a mapped file leave memory, so that the matrix is not held
    /// twice, and rows that are looked up later bring theirs back.
    fn packed(&self, rows: usize) -> Option<Panels<'_>> {
        let held = &*self.matrix;
        if rows <= FEW && held.packed.get().is_none() && !held.used.swap(true, Relaxed) {
            return Panels::passing(matrix(&held.blocks));
        }
        let pack = || {
            let packed = Packed::of(matrix(&held.blocks))?;
            held.blocks.release();
            Some(packed)
        };
        held.packed.get_or_init(pack).as_ref().map(Panels::from)
    }

    fn visit(&self, name: &str, v: &mut dyn Visit) {
        v.blocks(name, self.blocks());
    }
}
