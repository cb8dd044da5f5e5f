//! Weights packed once for fast products: `y = x·Wᵀ + bias`, several of them on one `x` at a time.
//!
//! `x`: `[m, k]`, `W`: `[n, k]`, `bias`: `[n]`, `y`: `[m, n]`. Activations are rounded to what the weights are stored
//! in: against bf16, to bf16; against blocks of integers, to integers of 8 bits with a scale for each 32 of them, and
//! then every product is one of integers; the sums are `f32`. That is the error of `Q8_0` in the activations, about
//! 0.4% of the largest of 32 for each number, and far below the error of the weights. For products with the full
//! activations use [`blocks::multiply`](crate::blocks::multiply); [`linear_split`] rounds them to 16 bits in place of 8.
//!
//! [`Packed::of`] copies the rows of `W` into panels that the widest registers read from front to back, in memory of
//! huge pages; it holds as many bytes as the file does, within 3%. A product reads them from memory once for each few
//! hundred rows of `x`, or all rows where there are fewer. [`Panels::passing`] makes the same panels while the product
//! runs and keeps none: for a matrix that is used once, and for the first token, which then does not wait for memory.
//! Work is cut by shape alone and a sum runs along the depth in one order, so any number of threads gives the same bits,
//! and a row alone has the bits of the row among others. Instruction sets differ in the rounding of the sums only.
//!
//! ```
//! use formwork_kernels::blocks::{self, Format, multiply::Matrix};
//! use formwork_kernels::{Dest, packed::{Packed, Panels, Product, linear}};
//!
//! let mut bytes = [0; 2 * 34];
//! let rows: Vec<f32> = (0..64).map(|i| if i < 32 { 1.0 } else { -2.0 }).collect(); // [2, 32]
//! blocks::encode(Format::Q8_0, &rows, &mut bytes);
//! let w = Packed::of(Matrix { format: Format::Q8_0, bytes: &bytes, rows: 2, cols: 32 }).expect("a layout of Q8_0");
//!
//! let mut y = [f32::NAN; 2]; // [1, 2]
//! let product = Product { weight: Panels::from(&w), bias: Some(&[0.5, 0.0]), y: Dest::store(&mut y) };
//! linear(&[0.25; 32], &mut [product]);
//! assert!((y[0] - 8.5).abs() < 0.01 && (y[1] + 16.0).abs() < 0.02);
//! ```

mod activations;
mod bf16;
mod formats;
mod integer;
mod lanes;
mod layout;
mod levels;
mod plan;
mod product;
mod split;
#[cfg(test)]
mod tests;

pub use product::{Product, linear};
pub use split::linear_split;

use crate::blocks::{Format, multiply::Matrix};
use crate::memory::huge::Part;
use crate::{isa, team};
use layout::{Layout, Rows};

/// Runs an expression with a name for the [`Layout`] of a format, if it has one: `with_layout!(format, L => …)` is
/// an `Option`.
macro_rules! with_layout {
    ($format:expr, $layout:ident => $body:expr) => {{
        use $crate::blocks::Format;
        use $crate::packed::bf16::Bf16;
        use $crate::packed::formats::{Affine, Centred, Groups8, Groups16};
        use $crate::packed::integer::Integer;
        macro_rules! run {
            ($name:ty) => {{
                type $layout = $name;
                Some($body)
            }};
        }
        match $format {
            Format::Q8_0 => run!(Integer<Centred<8>>),
            Format::Q4_0 => run!(Integer<Centred<4>>),
            Format::Q5_0 => run!(Integer<Centred<5>>),
            Format::Q4_1 => run!(Integer<Affine<4>>),
            Format::Q5_1 => run!(Integer<Affine<5>>),
            Format::Q4_K => run!(Integer<Groups8<4>>),
            Format::Q5_K => run!(Integer<Groups8<5>>),
            Format::Q6_K => run!(Integer<Groups16>),
            Format::Bf16 => run!(Bf16),
            Format::F16 | Format::Q2_K | Format::Q3_K => None,
        }
    }};
}
pub(crate) use with_layout;

/// A matrix `[rows, cols]` packed for [`linear`]; see the [module](self).
#[derive(Debug)]
pub struct Packed {
    format: Format,
    rows: usize,
    cols: usize,
    memory: Part,
}

impl Packed {
    /// Packs a matrix on the team, or `None` where its format has no layout (yet), it has no element, or the system
    /// has no memory left.
    ///
    /// # Panics
    /// If the bytes of `m` are not those of its shape.
    pub fn of(m: Matrix<'_>) -> Option<Packed> {
        let row_bytes = row_bytes(m)?;
        with_layout!(m.format, L => {
            let panel_bytes = L::panel_bytes(m.cols);
            let mut memory = Part::zeroed(panel_bytes.checked_mul(m.rows.div_ceil(L::PANEL))?)?;
            team::for_each_chunk(memory.bytes_mut(), panel_bytes, |i, panel| pack::<L>(m, row_bytes, i, panel));
            Packed { format: m.format, rows: m.rows, cols: m.cols, memory }
        })
    }

    /// Outputs `n` of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs `k` of a product.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The format that it was packed from.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }
}

/// What a product reads a matrix from.
#[derive(Clone, Copy, Debug)]
pub struct Panels<'a>(Source<'a>);

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Kept(&'a Packed),
    /// With the bytes of a row.
    Passing(Matrix<'a>, usize),
}

impl<'a> From<&'a Packed> for Panels<'a> {
    fn from(packed: &'a Packed) -> Self {
        Self(Source::Kept(packed))
    }
}

impl<'a> Panels<'a> {
    /// Panels that each product makes anew, one after the other in a thread's working memory, with the same bits as
    /// those of [`Packed::of`]; `None` where that has none. Meant for few rows of `x`: for many, a panel is made more
    /// than once.
    ///
    /// # Panics
    /// If the bytes of `m` are not those of its shape.
    pub fn passing(m: Matrix<'a>) -> Option<Self> {
        let row_bytes = row_bytes(m)?;
        with_layout!(m.format, L => L::PANEL).map(|_| Self(Source::Passing(m, row_bytes)))
    }

    /// Outputs `n` of a product.
    pub fn rows(self) -> usize {
        match self.0 {
            Source::Kept(packed) => packed.rows,
            Source::Passing(m, _) => m.rows,
        }
    }

    /// Inputs `k` of a product.
    pub fn cols(self) -> usize {
        match self.0 {
            Source::Kept(packed) => packed.cols,
            Source::Passing(m, _) => m.cols,
        }
    }

    /// The format that they are made from.
    pub fn format(self) -> Format {
        match self.0 {
            Source::Kept(packed) => packed.format,
            Source::Passing(m, _) => m.format,
        }
    }
}

/// The bytes of a row of `m`, if it has elements.
///
/// # Panics
/// If the bytes of `m` are not those of its shape.
fn row_bytes(m: Matrix<'_>) -> Option<usize> {
    Some(m.row_bytes("packed")).filter(|&row| row > 0 && m.rows > 0)
}

/// Writes panel `i` of a matrix to where zeros are.
fn pack<L: Layout>(m: Matrix<'_>, row_bytes: usize, i: usize, panel: &mut [u8]) {
    let start = i * L::PANEL * row_bytes;
    let end = m.bytes.len().min(start + L::PANEL * row_bytes);
    let rows = Rows { bytes: &m.bytes[start..end], row_bytes };
    isa::dispatch(
        #[inline(always)]
        |_| L::pack(&rows, panel),
    );
}
