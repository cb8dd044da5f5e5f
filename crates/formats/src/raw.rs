//! What the compiler cannot check here: mapping a file, giving its pages back, and bytes seen as
//! `f32`.
//!
//! All `unsafe` of this crate is in this file. The safe twin of the map is reading the file, that
//! of the cast is [`Entry::to_f32`](crate::Entry::to_f32); tests compare both pairs.
//!
//! ```
//! use formwork_formats::{Archive, Bytes, Dtype, Layout, Writer};
//! let mut file = Vec::new();
//! let layout = Layout::new().tensor("x", Dtype::F32, &[2]);
//! let mut writer = Writer::new(&mut file, &layout)?;
//! writer.append_f32("x", &[1.5, -3.0])?;
//! writer.finish()?;
//! let archive = Archive::from_bytes(Bytes::from(file))?;
//! let x = archive.entry("x").expect("written above");
//! assert_eq!(x.as_f32().map(|view| view[1]).unwrap_or(x.to_f32()?[1]), -3.0);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

/// Maps a whole regular file for reading.
#[cfg(feature = "mmap")]
pub(crate) fn map(file: &std::fs::File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is read-only, so we cannot write through it. What no code can rule out is
    // another process that changes or shortens the file while it is mapped; `Bytes::open` documents
    // that this is the caller's to prevent, and our own writers never touch a file in place: they
    // rename a new one over it, and a map goes on showing the old contents.
    unsafe { memmap2::Mmap::map(file) }
}

/// Tells the system that `range` of `map` is not needed now, so that its pages may leave memory.
#[cfg(all(feature = "mmap", unix))]
pub(crate) fn release(map: &memmap2::Mmap, range: std::ops::Range<usize>) {
    if range.is_empty() {
        return;
    }
    // SAFETY: `DontNeed` drops pages from this process. These are pages of a file mapped shared and
    // for reading only, which nobody can have written through: the next touch brings the same bytes
    // back from the file, also on another thread and also for neighbours in a page at either end.
    // The result is not looked at, since a page that stays costs only memory.
    let _ =
        unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
}

/// `bytes` as numbers without a copy; `None` if they are unaligned, no whole count, or the host is
/// big-endian.
pub(crate) fn cast_f32(bytes: &[u8]) -> Option<&[f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every pattern of four bytes is a valid `f32`, and `align_to` puts only aligned, whole
    // ones into the middle; its lifetime is that of `bytes`.
    let (before, numbers, after) = unsafe { bytes.align_to::<f32>() };
    (before.is_empty() && after.is_empty()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cast_refuses_what_is_not_whole_and_aligned() {
        // One of four neighbouring starts is aligned, wherever the array lies.
        let bytes = [0u8; 4 * 7 + 3];
        let views: Vec<_> = (0..4).map(|start| cast_f32(&bytes[start..start + 28])).collect();
        let aligned = views.iter().flatten().count();
        assert_eq!(aligned, usize::from(cfg!(target_endian = "little")));
        assert!((0..4).all(|start| cast_f32(&bytes[start..start + 27]).is_none()));
    }

    #[test]
    fn the_cast_gives_the_numbers_of_the_safe_reading() {
        let values = [1.0f32, -0.0, f32::MIN_POSITIVE / 2.0, f32::NAN, f32::INFINITY];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        // An allocator may place bytes at any address: skip none silently, copy to where it fits.
        let mut room = vec![0u8; bytes.len() + 4];
        let start = room.as_ptr().align_offset(4);
        room[start..start + bytes.len()].copy_from_slice(&bytes);
        let view = cast_f32(&room[start..start + bytes.len()]);
        assert_eq!(view.is_some(), cfg!(target_endian = "little"));
        for (seen, value) in view.into_iter().flatten().zip(values) {
            assert_eq!(seen.to_bits(), value.to_bits());
        }
    }
}
