//! Decoding into either type of activation.

use std::any::TypeId;

use super::super::{self as blocks, Format};
use crate::{Element, scratch};

/// Numbers that are widened at a time: whole blocks of every format, and few enough for the first-level cache.
const PIECE: usize = 2048;

/// Decodes whole blocks.
///
/// # Panics
/// If `out` is not as long as the blocks.
pub(super) fn decode<T: Element>(format: Format, bytes: &[u8], out: &mut [T]) {
    if TypeId::of::<T>() == TypeId::of::<f32>() {
        let (start, len) = (out.as_mut_ptr().cast::<f32>(), out.len());
        // SAFETY: `T` is `f32`, so this is the same slice under its own type; `out` is not used meanwhile.
        blocks::decode(format, bytes, unsafe { std::slice::from_raw_parts_mut(start, len) });
    } else {
        widened(format, bytes, out);
    }
}

/// Decodes into a wider type, which holds every decoded number exactly.
fn widened<T: Element>(format: Format, bytes: &[u8], out: &mut [T]) {
    let piece_bytes = PIECE / format.block() * format.block_bytes();
    scratch::with(PIECE.min(out.len()), |piece: &mut [f32]| {
        for (out, bytes) in out.chunks_mut(PIECE).zip(bytes.chunks(piece_bytes)) {
            let piece = &mut piece[..out.len()];
            blocks::decode(format, bytes, piece);
            for (out, &v) in out.iter_mut().zip(&*piece) {
                *out = T::of(f64::from(v));
            }
        }
    });
}
