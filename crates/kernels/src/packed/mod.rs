//! Weights packed once for fast products: `y = x·Wᵀ + bias`, several of them on one `x` at a time.
//!
//! `x`: `[m, k]`, `W`: `[n, k]`, `bias`: `[n]`, `y`: `[m, n]`. Activations are rounded to what the weights are stored
//! in: against bf16, to bf16; against blocks of integers, to integers of 8 bits with a scale for each 32 of them, and
//! then every product is one of integers; the sums are `f32`. That is the error of `Q8_0` in the activations, about
//! 0.4% of the largest of 32 for each number, and far below the error of the weights. For products with the full
//! activations use [`blocks::multiply`](crate::blocks::multiply).
//!
//! [`Packed::of`] copies the rows of `W` into panels that the widest registers read from front to back, in memory of
//! huge pages; it holds as many bytes as the file does, within 3%. A product reads them once for few rows of `x`, and
//! once for each few thousand. Work is cut by shape alone and a sum runs along the depth in one order, so any number
//! of threads gives the same bits, and a row alone has the bits of the row among others. Instruction sets differ in
//! the rounding of the sums only.
//!
//! ```
//! use formwork_kernels::blocks::{self, Format, multiply::Matrix};
//! use formwork_kernels::{Dest, packed::{Packed, Product, linear}};
//!
//! let mut bytes = [0; 2 * 34];
//! let rows: Vec<f32> = (0..64).map(|i| if i < 32 { 1.0 } else { -2.0 }).collect(); // [2, 32]
//! blocks::encode(Format::Q8_0, &rows, &mut bytes);
//! let w = Packed::of(Matrix { format: Format::Q8_0, bytes: &bytes, rows: 2, cols: 32 }).expect("a layout of Q8_0");
//!
//! let mut y = [f32::NAN; 2]; // [1, 2]
//! let product = Product { weight: &w, bias: Some(&[0.5, 0.0]), y: Dest::store(&mut y) };
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
#[cfg(test)]
mod tests;

pub use product::{Product, linear};

use crate::blocks::{Format, multiply::Matrix};
use crate::memory::huge::Part;
use crate::team;
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
        let row_bytes = m.format.row_bytes(m.cols);
        let all = row_bytes.and_then(|row| row.checked_mul(m.rows));
        assert!(
            all == Some(m.bytes.len()),
            "packed: expected [{}, {}] in {}, found {} bytes",
            m.rows,
            m.cols,
            m.format,
            m.bytes.len()
        );
        let row_bytes = row_bytes.filter(|&row| row > 0 && m.rows > 0)?;
        with_layout!(m.format, L => {
            let panel_bytes = L::panel_bytes(m.cols);
            let mut memory = Part::zeroed(panel_bytes.checked_mul(m.rows.div_ceil(L::PANEL))?)?;
            team::for_each_chunk(memory.bytes_mut(), panel_bytes, |i, panel| {
                let start = i * L::PANEL * row_bytes;
                let end = m.bytes.len().min(start + L::PANEL * row_bytes);
                let rows = Rows { bytes: &m.bytes[start..end], row_bytes };
                L::pack(&rows, panel);
            });
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
