//! What a format is to the rest of the crate: a pair of functions on one block, driven over many.
//!
//! Each format is a type without values that implements [`Codec`]; the two constants of the trait are the numbers
//! and the bytes of a block, so that blocks are arrays and no index needs a check. The implementations are
//! `#[inline(always)]`: called inside [`isa::dispatch`](crate::isa::dispatch) they become code for that
//! instruction set.

/// The two directions of a format whose blocks are `N` numbers in `BYTES` bytes.
///
/// The arithmetic is single precision without fused operations, in the order that each implementation states, so
/// that the bits are the same on every machine and instruction set.
pub(crate) trait Codec<const N: usize, const BYTES: usize> {
    /// Writes the numbers that `block` stands for. Every pattern of bytes stands for some, perhaps not finite.
    fn decode(block: &[u8; BYTES], out: &mut [f32; N]);

    /// Writes the block that stands for `x` best, by the rule of the format.
    fn encode(x: &[f32; N], block: &mut [u8; BYTES]);
}

/// Decodes whole blocks.
///
/// # Panics
/// If `bytes` are not whole blocks or `out` is not as long as they are.
#[inline(always)]
pub(crate) fn decode_all<C: Codec<N, BYTES>, const N: usize, const BYTES: usize>(
    bytes: &[u8],
    out: &mut [f32],
) {
    let (blocks, rest) = bytes.as_chunks::<BYTES>();
    let (out, short) = out.as_chunks_mut::<N>();
    assert!(rest.is_empty() && short.is_empty() && blocks.len() == out.len(), "blocks: lengths differ");
    for (block, out) in blocks.iter().zip(out) {
        C::decode(block, out);
    }
}

/// Encodes whole blocks.
///
/// # Panics
/// If `x` is not whole blocks or `bytes` is not as long as they are.
#[inline(always)]
pub(crate) fn encode_all<C: Codec<N, BYTES>, const N: usize, const BYTES: usize>(
    x: &[f32],
    bytes: &mut [u8],
) {
    let (x, short) = x.as_chunks::<N>();
    let (blocks, rest) = bytes.as_chunks_mut::<BYTES>();
    assert!(rest.is_empty() && short.is_empty() && blocks.len() == x.len(), "blocks: lengths differ");
    for (x, block) in x.iter().zip(blocks) {
        C::encode(x, block);
    }
}

/// `out = value(level)`, the level as a number.
///
/// In two passes with plain loops, eight levels to a chunk: otherwise, or as a `map` of arrays, the compiler unrolls
/// short loops before it looks for vectors and then finds few, which is up to five times slower.
#[inline(always)]
pub(crate) fn each<const N: usize>(levels: &[u8; N], out: &mut [f32; N], value: impl Fn(f32) -> f32) {
    spread(levels, out);
    for out in out {
        *out = value(*out);
    }
}

/// `out = level`.
#[inline(always)]
pub(crate) fn spread<const N: usize>(levels: &[u8; N], out: &mut [f32; N]) {
    for (out, levels) in out.as_chunks_mut::<8>().0.iter_mut().zip(levels.as_chunks::<8>().0) {
        let mut numbers = [0.0; 8];
        for (number, &level) in numbers.iter_mut().zip(levels) {
            *number = f32::from(level);
        }
        *out = numbers;
    }
}
