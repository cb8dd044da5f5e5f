//! The vectors that products of integers are written in: 16 lanes, one for each of as many rows of `W`.
//!
//! A value of a type that implements [`Lanes`] proves that the CPU has its instructions; they are made in
//! [`super::integer`], inside [`isa::dispatch`](crate::isa::dispatch). Everything is `#[inline(always)]`.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(super) mod plain;

use super::formats::Weights;

/// How many sums a vector holds.
pub(super) const LANES: usize = 16;

/// Four levels of each lane, as they stand in memory: byte `4·l + i` is level `i` of lane `l`.
pub(super) type Group = [u8; 4 * LANES];

/// Vectors of 16 lanes.
pub(super) trait Lanes: Copy {
    /// Four bytes in each lane.
    type Bytes: Copy;
    /// A 32-bit integer in each lane.
    type Ints: Copy;
    /// An `f32` in each lane.
    type Floats: Copy;

    /// Loads levels or planes of their bits.
    fn bytes(self, from: &Group) -> Self::Bytes;
    /// `(a >> RIGHT << LEFT) & mask` in each byte; at most one of the two shifts is not 0.
    fn bits<const RIGHT: u32, const LEFT: u32>(self, a: Self::Bytes, mask: u8) -> Self::Bytes;
    /// The bits of both.
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// For each row `r`: `start[r]` plus the sum over all groups of `levels · x`, exactly. Levels have `W::BITS` bits,
    /// and those of eight bits are 128 too large, for which `start` makes up. Group `j` meets `x[r][4·j..4·j + 4]`.
    fn dot<W: Weights, const N: usize, const R: usize>(
        self,
        levels: &[Self::Bytes; N],
        x: [&[[i8; 4]; N]; R],
        start: [i32; R],
    ) -> [Self::Ints; R];

    /// 16 numbers in half precision.
    fn halves(self, from: &[u8; 2 * LANES]) -> Self::Floats;
    /// 16 unsigned bytes.
    fn unsigned(self, from: &[u8; LANES]) -> Self::Floats;
    /// 16 signed bytes.
    fn signed(self, from: &[u8; LANES]) -> Self::Floats;
    /// Integers below 2²⁴ in magnitude, exactly.
    fn floats(self, a: Self::Ints) -> Self::Floats;
    /// The same number in each lane.
    fn splat(self, a: f32) -> Self::Floats;
    /// `a · b`.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`, rounded as [`Isa::mul_add`](crate::isa::Isa::mul_add) rounds it.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Writes the lanes.
    fn store(self, a: Self::Floats, to: &mut [f32; LANES]);
}
