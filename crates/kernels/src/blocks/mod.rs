//! Matrices in the block formats of published files: what a block is, decoding, encoding, products.
//!
//! A row of a matrix is cut into blocks of [`Format::block`] numbers, each of [`Format::block_bytes`] bytes: small
//! integers (levels) with a scale, and in some formats an offset. Rows hold whole blocks, so that rows can be taken
//! apart.
//!
//! | | numbers | levels | a number is |
//! |---|---|---|---|
//! | `Q4_0`, `Q5_0`, `Q8_0` | 32 | 4, 5, 8 bits | `scale · level`, levels around 0 |
//! | `Q4_1`, `Q5_1` | 32 | 4, 5 bits | `scale · level + min` |
//! | `Q3_K`, `Q6_K` | 256 in groups of 16 | 3, 6 bits | `scale · s · level`, `s` a small integer of the group |
//! | `Q2_K` | 256 in groups of 16 | 2 bits | `scale · s · level − min · m`, `s` and `m` of the group |
//! | `Q4_K`, `Q5_K` | 256 in groups of 32 | 4, 5 bits | the same |
//!
//! The layouts and the rules of encoding are those of ggml's reference encoders without an importance matrix,
//! <https://github.com/ggml-org/ggml>; the bits are the same as those of its usual x86-64 build. Where a compiler
//! fuses multiplication and addition (on ARM it does so unasked), ggml itself differs: in numbers near a tie, and
//! through the search for a scale in about a third of the blocks of weights in `Q2_K` and `Q5_K`. Here every
//! operation rounds by itself, on every machine and instruction set.
//!
//! ```
//! use formwork_kernels::blocks::{self, Format};
//!
//! let x: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) / 4.0).collect();
//! let mut block = [0; 18];
//! blocks::encode(Format::Q4_0, &x, &mut block);
//! assert_eq!(block[..2], [0x00, 0x38]); // the scale, −4/−8, in half precision
//! let mut y = [0.0; 32];
//! blocks::decode(Format::Q4_0, &block, &mut y);
//! assert_eq!((y[0], y[1], y[31]), (-4.0, -3.5, 3.5)); // multiples of 0.5
//! ```

mod codec;
mod fit;
mod format;
pub(crate) mod group8;
pub(crate) mod half;
pub mod multiply;
pub(crate) mod planes;
mod q2_k;
mod q3_k;
mod q4;
mod q4_k;
mod q5;
mod q5_k;
mod q6_k;
mod q8;
mod round;

use crate::isa::{self, Isa};
use codec::{decode_all, encode_all};

pub use format::Format;

/// Writes the numbers that blocks stand for.
///
/// `bytes` are whole blocks, as many as `out` has numbers for; rows that follow each other may be decoded in one go.
/// Every pattern of bytes decodes: a scale may be infinite or NaN, and then so are its numbers.
///
/// # Panics
/// If `bytes` are not whole blocks or `out` is not as long as they are.
///
/// ```
/// use formwork_kernels::blocks::{self, Format};
/// let mut out = [0.0; 2];
/// blocks::decode(Format::F16, &[0x00, 0x3c, 0x00, 0xc0], &mut out);
/// assert_eq!(out, [1.0, -2.0]);
/// ```
pub fn decode(format: Format, bytes: &[u8], out: &mut [f32]) {
    check("decode", format, bytes.len(), out.len());
    dispatch(
        #[inline(always)]
        || match format {
            Format::F16 => decode_all::<half::F16, _, _>(bytes, out),
            Format::Bf16 => decode_all::<half::Bf16, _, _>(bytes, out),
            Format::Q4_0 => decode_all::<q4::Q4_0, _, _>(bytes, out),
            Format::Q4_1 => decode_all::<q4::Q4_1, _, _>(bytes, out),
            Format::Q5_0 => decode_all::<q5::Q5_0, _, _>(bytes, out),
            Format::Q5_1 => decode_all::<q5::Q5_1, _, _>(bytes, out),
            Format::Q8_0 => decode_all::<q8::Q8_0, _, _>(bytes, out),
            Format::Q2_K => decode_all::<q2_k::Q2K, _, _>(bytes, out),
            Format::Q3_K => decode_all::<q3_k::Q3K, _, _>(bytes, out),
            Format::Q4_K => decode_all::<q4_k::Q4K, _, _>(bytes, out),
            Format::Q5_K => decode_all::<q5_k::Q5K, _, _>(bytes, out),
            Format::Q6_K => decode_all::<q6_k::Q6K, _, _>(bytes, out),
        },
    );
}

/// Writes the blocks that stand for `x`.
///
/// `x` is whole blocks: a row, or rows that follow each other. Each block depends on its own numbers only, so that
/// pieces may be encoded on different threads. For finite numbers the bytes are those of ggml's reference encoder.
/// A scale or minimum beyond the range of half precision becomes infinite, and the block decodes to infinities and
/// NaN: magnitudes should stay below 5e5, in `F16`, `Q4_1` and `Q5_1` below 65504. Numbers that are not finite give
/// bytes without a meaning; look for them before.
///
/// # Panics
/// If `x` is not whole blocks or `out` is not as long as they are.
///
/// ```
/// use formwork_kernels::blocks::{self, Format};
/// let mut out = [0; 34];
/// blocks::encode(Format::Q8_0, &[127.0; 32], &mut out);
/// assert_eq!(out[..3], [0x00, 0x3c, 127]); // scale 1, then the levels
/// ```
pub fn encode(format: Format, x: &[f32], out: &mut [u8]) {
    check("encode", format, out.len(), x.len());
    dispatch(
        #[inline(always)]
        || match format {
            Format::F16 => encode_all::<half::F16, _, _>(x, out),
            Format::Bf16 => encode_all::<half::Bf16, _, _>(x, out),
            Format::Q4_0 => encode_all::<q4::Q4_0, _, _>(x, out),
            Format::Q4_1 => encode_all::<q4::Q4_1, _, _>(x, out),
            Format::Q5_0 => encode_all::<q5::Q5_0, _, _>(x, out),
            Format::Q5_1 => encode_all::<q5::Q5_1, _, _>(x, out),
            Format::Q8_0 => encode_all::<q8::Q8_0, _, _>(x, out),
            Format::Q2_K => encode_all::<q2_k::Q2K, _, _>(x, out),
            Format::Q3_K => encode_all::<q3_k::Q3K, _, _>(x, out),
            Format::Q4_K => encode_all::<q4_k::Q4K, _, _>(x, out),
            Format::Q5_K => encode_all::<q5_k::Q5K, _, _>(x, out),
            Format::Q6_K => encode_all::<q6_k::Q6K, _, _>(x, out),
        },
    );
}

#[track_caller]
fn check(what: &str, format: Format, bytes: usize, numbers: usize) {
    assert_eq!(Some(bytes), format.row_bytes(numbers), "{what}: bytes of {numbers} numbers of {format}");
}

/// At most AVX2: with wider registers at hand the compiler takes these short loops to scalar code, up to ten times
/// slower. The bits are the same.
fn dispatch(f: impl FnOnce()) {
    isa::with(isa::current().min(Isa::Avx2), || {
        isa::dispatch(
            #[inline(always)]
            |_| f(),
        );
    });
}
