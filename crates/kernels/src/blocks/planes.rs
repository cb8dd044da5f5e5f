//! Small integers packed in planes: the way every block format but the 8-bit one lays out its bits.
//!
//! `W` bytes hold `W · 8/BITS` integers of `BITS` bits: plane `p` is bits `BITS·p..BITS·(p+1)` of all `W` bytes, and
//! integer `i` stands in byte `i mod W` of plane `i / W`. Neighbours are thus in neighbouring bytes, and a vector of
//! bytes gives a vector of integers with one shift. More integers follow in the next `W` bytes.
//!
//! Formats of 3, 5 or 6 bits keep the low and the high bits in planes of their own, hence `shift`.

/// Sets bits `shift..shift + BITS` of `levels` from `bytes`; the other bits stay.
#[inline(always)]
pub(crate) fn unpack<const BITS: u32, const W: usize>(bytes: &[u8], shift: u32, levels: &mut [u8]) {
    let mask = ((1_u32 << BITS) - 1) as u8;
    for (bytes, levels) in bytes.as_chunks::<W>().0.iter().zip(levels.chunks_exact_mut(W * 8 / BITS as usize))
    {
        for (plane, levels) in levels.as_chunks_mut::<W>().0.iter_mut().enumerate() {
            let at = BITS * plane as u32;
            // By value: the compiler need not prove that the two slices are apart to take them as vectors.
            let mut merged = *levels;
            for (level, byte) in merged.iter_mut().zip(*bytes) {
                *level |= ((byte >> at) & mask) << shift;
            }
            *levels = merged;
        }
    }
}

/// The inverse of [`unpack`]: overwrites `bytes` with bits `shift..shift + BITS` of `levels`.
#[inline(always)]
pub(super) fn pack<const BITS: u32, const W: usize>(levels: &[u8], shift: u32, bytes: &mut [u8]) {
    let mask = ((1_u32 << BITS) - 1) as u8;
    for (bytes, levels) in
        bytes.as_chunks_mut::<W>().0.iter_mut().zip(levels.chunks_exact(W * 8 / BITS as usize))
    {
        *bytes = [0; W];
        for (plane, levels) in levels.as_chunks::<W>().0.iter().enumerate() {
            let at = BITS * plane as u32;
            for (byte, &level) in bytes.iter_mut().zip(levels) {
                *byte |= ((level >> shift) & mask) << at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_stands_in_its_byte_and_plane() {
        let mut levels = [0; 16];
        levels[6] = 0b11;
        let mut bytes = [0xff; 4];
        pack::<2, 4>(&levels, 0, &mut bytes);
        assert_eq!(bytes, [0, 0, 0b11 << 2, 0]);
    }

    #[test]
    fn low_and_high_bits_come_back_from_planes_of_their_own() {
        let levels: [u8; 64] = std::array::from_fn(|i| (i * 37 % 64) as u8);
        let (mut low, mut high, mut back) = ([0; 32], [0; 16], [0; 64]);
        pack::<4, 8>(&levels, 0, &mut low);
        pack::<2, 16>(&levels, 4, &mut high);
        unpack::<4, 8>(&low, 0, &mut back);
        unpack::<2, 16>(&high, 4, &mut back);
        assert_eq!(back, levels);
    }
}
