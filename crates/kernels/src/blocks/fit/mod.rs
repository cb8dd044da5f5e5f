//! How the formats of 256 numbers find the scale of a group.
//!
//! The largest magnitude alone makes a poor scale: with few levels it pays to cut an outlier for the sake of the
//! others. So each group tries scales around that one and keeps the best by a weighted error, and for given levels
//! the best scale (and minimum) is a least squares problem with a closed answer.
//!
//! - [`affine`]: `x ≈ scale · level − min`.
//! - [`symmetric`]: `x ≈ scale · level` with levels on both sides of 0.
//!
//! The sums are sequential in single precision and every comparison is strict, since which candidate wins decides
//! bits of the block.

pub(super) mod affine;
pub(super) mod symmetric;
