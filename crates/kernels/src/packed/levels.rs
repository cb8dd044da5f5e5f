//! The levels of 16 rows × 32 numbers in packed memory: as many bits as the format has, unpacked by shifts and masks.
//!
//! Group `j` of eight is numbers `4·j..4·j + 4` of each row, one [`Group`] with a level in each byte.
//!
//! ```text
//! 8 bits  the eight groups, each level plus 128
//! 4 bits  four groups: the low halves are groups 0..4, the high halves groups 4..8
//! 5 bits  the low four bits so, then one group whose bit j is the high bit of group j
//! 6 bits  the low four bits so, then two groups: bits 2·j.. of group p are the high bits of group 4·p + j
//! ```

use super::formats::Weights;
use super::lanes::{Group, LANES, Lanes};

/// Bytes that the levels take.
pub(super) const fn bytes(bits: u32) -> usize {
    bits as usize * size_of::<Group>()
}

/// The groups of levels that `packed` holds.
#[inline(always)]
pub(super) fn load<L: Lanes, W: Weights>(l: L, packed: &[u8]) -> [L::Bytes; 8] {
    let (groups, _) = packed.as_chunks::<64>();
    if W::BITS == 8 {
        return std::array::from_fn(
            #[inline(always)]
            |j| l.bytes(&groups[j]),
        );
    }
    let mut levels = [l.bytes(&groups[0]); 8];
    for j in 0..4 {
        let both = l.bytes(&groups[j]);
        levels[j] = l.bits::<0, 0>(both, 15);
        levels[j + 4] = l.bits::<4, 0>(both, 15);
    }
    if W::BITS == 5 {
        let fifth = l.bytes(&groups[4]);
        let bits = [
            l.bits::<0, 4>(fifth, 16),
            l.bits::<0, 3>(fifth, 16),
            l.bits::<0, 2>(fifth, 16),
            l.bits::<0, 1>(fifth, 16),
            l.bits::<0, 0>(fifth, 16),
            l.bits::<1, 0>(fifth, 16),
            l.bits::<2, 0>(fifth, 16),
            l.bits::<3, 0>(fifth, 16),
        ];
        for j in 0..8 {
            levels[j] = l.or(levels[j], bits[j]);
        }
    }
    if W::BITS == 6 {
        for p in 0..2 {
            let upper = l.bytes(&groups[4 + p]);
            levels[4 * p] = l.or(levels[4 * p], l.bits::<0, 4>(upper, 48));
            levels[4 * p + 1] = l.or(levels[4 * p + 1], l.bits::<0, 2>(upper, 48));
            levels[4 * p + 2] = l.or(levels[4 * p + 2], l.bits::<0, 0>(upper, 48));
            levels[4 * p + 3] = l.or(levels[4 * p + 3], l.bits::<2, 0>(upper, 48));
        }
    }
    levels
}

/// Writes the levels of 16 rows, the inverse of [`load`].
#[inline(always)]
pub(super) fn store<W: Weights>(rows: &[[u8; 32]; LANES], packed: &mut [u8]) {
    let mut groups = [[0_u8; 64]; 8];
    for (j, group) in groups.iter_mut().enumerate() {
        for (l, four) in group.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *four = [rows[l][4 * j], rows[l][4 * j + 1], rows[l][4 * j + 2], rows[l][4 * j + 3]];
        }
    }
    let (packed, _) = packed.as_chunks_mut::<64>();
    if W::BITS == 8 {
        packed[..8].copy_from_slice(&groups);
        return;
    }
    for j in 0..4 {
        let mut both = groups[j];
        for (low, high) in both.iter_mut().zip(groups[j + 4]) {
            *low = (*low & 15) | high << 4;
        }
        packed[j] = both;
    }
    let width = W::BITS - 4; // bits above the fourth
    for (p, plane) in packed[4..4 + width as usize].iter_mut().enumerate() {
        let per_plane = 8 / width as usize;
        let mut upper = [0_u8; 64];
        for j in 0..per_plane {
            for (upper, level) in upper.iter_mut().zip(groups[per_plane * p + j]) {
                *upper |= level >> 4 << (j as u32 * width);
            }
        }
        *plane = upper;
    }
}

#[cfg(test)]
mod tests {
    use super::super::formats::{Centred, Groups16};
    use super::super::lanes::plain::Plain;
    use super::*;

    fn check<W: Weights>() {
        let rows: [[u8; 32]; LANES] = std::array::from_fn(|l| {
            std::array::from_fn(|i| (l * 37 + i * 11 + l * i * 3) as u8 & (u32::MAX >> (32 - W::BITS)) as u8)
        });
        let mut packed = vec![0xff; bytes(W::BITS)];
        store::<W>(&rows, &mut packed);
        let groups = load::<_, W>(Plain, &packed);
        for (l, row) in rows.iter().enumerate() {
            for (i, &level) in row.iter().enumerate() {
                assert_eq!(groups[i / 4][4 * l + i % 4], level, "{} bits, row {l}, number {i}", W::BITS);
            }
        }
    }

    #[test]
    fn levels_of_every_width_come_back() {
        check::<Centred<4>>();
        check::<Centred<5>>();
        check::<Groups16>();
        check::<Centred<8>>();
    }
}
