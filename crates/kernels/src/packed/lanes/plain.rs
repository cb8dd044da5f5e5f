//! [`Lanes`] as loops: what the other implementations must compute.

use super::super::formats::Weights;
use super::{Group, LANES, Lanes};
use crate::blocks::half;

/// Any CPU.
#[derive(Clone, Copy, Debug)]
pub(in crate::packed) struct Plain;

impl Lanes for Plain {
    type Bytes = Group;
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];

    #[inline(always)]
    fn bytes(self, from: &Group) -> Group {
        *from
    }

    #[inline(always)]
    fn bits<const RIGHT: u32, const LEFT: u32>(self, mut a: Group, mask: u8) -> Group {
        for a in &mut a {
            *a = (*a >> RIGHT << LEFT) & mask;
        }
        a
    }

    #[inline(always)]
    fn or(self, mut a: Group, b: Group) -> Group {
        for (a, b) in a.iter_mut().zip(b) {
            *a |= b;
        }
        a
    }

    #[inline(always)]
    fn dot<W: Weights, const N: usize, const R: usize>(
        self,
        levels: &[Group; N],
        x: [&[[i8; 4]; N]; R],
        start: [i32; R],
    ) -> [[i32; LANES]; R] {
        let mut sums = [[0; LANES]; R];
        for r in 0..R {
            sums[r] = [start[r]; LANES];
            for j in 0..N {
                // Products fit 16 bits with their sign, and sums of two in 32: the shape of an instruction that even
                // the oldest x86-64 has.
                let x: [i16; 4] = x[r][j].map(i16::from);
                for (l, four) in levels[j].as_chunks::<4>().0.iter().enumerate() {
                    let four = four.map(i16::from);
                    let pair = |i: usize| i32::from(four[i]) * i32::from(x[i]);
                    sums[r][l] = sums[r][l].wrapping_add((pair(0) + pair(1)) + (pair(2) + pair(3)));
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 2 * LANES]) -> [f32; LANES] {
        std::array::from_fn(|l| half::widen(u16::from_le_bytes([from[2 * l], from[2 * l + 1]])))
    }

    #[inline(always)]
    fn unsigned(self, from: &[u8; LANES]) -> [f32; LANES] {
        from.map(f32::from)
    }

    #[inline(always)]
    fn signed(self, from: &[u8; LANES]) -> [f32; LANES] {
        from.map(|byte| f32::from(byte as i8))
    }

    #[inline(always)]
    fn floats(self, a: [i32; LANES]) -> [f32; LANES] {
        a.map(|a| a as f32)
    }

    #[inline(always)]
    fn splat(self, a: f32) -> [f32; LANES] {
        [a; LANES]
    }

    #[inline(always)]
    fn mul(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|l| a[l] * b[l])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|l| a[l] * b[l] + c[l])
    }

    #[inline(always)]
    fn store(self, a: [f32; LANES], to: &mut [f32; LANES]) {
        *to = a;
    }
}
