//! Numbers in and out of little-endian bytes.
//!
//! Widening (`bf16`, `f16` → `f32` → `f64`) is exact. Narrowing rounds to nearest, ties to even.
//! A finite number that would become infinite is an error, never silence; infinities and NaN pass.
//!
//! ```
//! use formwork_formats::{Archive, Bytes, Dtype, Layout, Writer};
//! let mut file = Vec::new();
//! let layout = Layout::new().tensor("x", Dtype::Bf16, &[2]);
//! let mut writer = Writer::new(&mut file, &layout)?;
//! writer.append_f32("x", &[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0])?; // two ties between neighbours
//! writer.finish()?;
//! let archive = Archive::from_bytes(Bytes::from(file))?;
//! assert_eq!(archive.entry("x").expect("written above").to_f32()?, [1.0, 1.015625]);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use crate::Dtype;

/// How many numbers are converted at a time: small enough for the stack and the first cache.
const CHUNK: usize = 512;

/// The first finite number that has no finite counterpart in the other type.
#[derive(Debug, PartialEq)]
pub(crate) struct Unfit {
    pub(crate) index: usize,
    pub(crate) value: f64,
}

/// Fills `out` from `bytes`, which hold `out.len()` numbers of the float type `dtype`.
pub(crate) fn read_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<(), Unfit> {
    debug_assert_eq!(bytes.len(), out.len() * dtype.block_bytes());
    match dtype {
        Dtype::F32 => words(bytes, out, f32::from_le_bytes),
        // The upper half of an f32: a shift, NaN payloads included.
        Dtype::Bf16 => words(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        Dtype::F16 => {
            let mut bits = [0u16; CHUNK];
            for (bytes, out) in bytes.chunks(2 * CHUNK).zip(out.chunks_mut(CHUNK)) {
                let bits = &mut bits[..out.len()];
                words(bytes, bits, u16::from_le_bytes);
                bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
            }
        }
        _ => {
            debug_assert_eq!(dtype, Dtype::F64, "callers ask for floats only");
            for (index, (bytes, out)) in bytes.as_chunks().0.iter().zip(out).enumerate() {
                let value = f64::from_le_bytes(*bytes);
                *out = value as f32;
                if out.is_infinite() && value.is_finite() {
                    return Err(Unfit { index, value });
                }
            }
        }
    }
    Ok(())
}

/// Fills `out` from `bytes`, which hold `out.len()` numbers of the float type `dtype`. Exact.
pub(crate) fn read_f64(dtype: Dtype, bytes: &[u8], out: &mut [f64]) {
    if dtype == Dtype::F64 {
        return words(bytes, out, f64::from_le_bytes);
    }
    let mut narrow = [0f32; CHUNK];
    for (bytes, out) in bytes.chunks(dtype.block_bytes() * CHUNK).zip(out.chunks_mut(CHUNK)) {
        let narrow = &mut narrow[..out.len()];
        read_f32(dtype, bytes, narrow).expect("every float but F64 widens to f32");
        for (out, &value) in out.iter_mut().zip(&*narrow) {
            *out = f64::from(value);
        }
    }
}

/// The integer or truth value in `bytes`, or `None` for floats, blocks and for `U64` above `i64::MAX`.
pub(crate) fn read_i64(dtype: Dtype, bytes: &[u8]) -> Option<i64> {
    let (mut word, signed) = ([0u8; 8], matches!(dtype, Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8));
    if dtype.is_float() || dtype.is_blocks() || bytes.len() != dtype.block_bytes() {
        return None;
    }
    if signed && bytes.last().is_some_and(|top| top & 0x80 != 0) {
        word = [0xff; 8];
    }
    word[..bytes.len()].copy_from_slice(bytes);
    match dtype {
        Dtype::Bool => Some(i64::from(bytes[0] != 0)),
        Dtype::U64 => i64::try_from(u64::from_le_bytes(word)).ok(),
        _ => Some(i64::from_le_bytes(word)),
    }
}

fn words<T, const N: usize>(bytes: &[u8], out: &mut [T], decode: impl Fn([u8; N]) -> T) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = decode(*bytes);
    }
}

// Room first and then whole words: extending byte by byte is twenty times slower.
fn append<T: Copy, const N: usize>(values: &[T], out: &mut Vec<u8>, encode: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + values.len() * N, 0);
    for (bytes, &value) in out[start..].as_chunks_mut().0.iter_mut().zip(values) {
        *bytes = encode(value);
    }
}

/// Appends `values` to `out` as the float type `dtype`.
pub(crate) fn write_f32(dtype: Dtype, values: &[f32], out: &mut Vec<u8>) -> Result<(), Unfit> {
    match dtype {
        Dtype::F64 => append(values, out, |v| f64::from(v).to_le_bytes()),
        Dtype::F32 => append(values, out, f32::to_le_bytes),
        _ => {
            let mut narrow = [0u16; CHUNK];
            for (chunk, values) in values.chunks(CHUNK).enumerate() {
                let bits = &mut narrow[..values.len()];
                let infinite: fn(u16) -> bool = if dtype == Dtype::F16 {
                    bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(values);
                    |bits| f16::from_bits(bits).is_infinite()
                } else {
                    debug_assert_eq!(dtype, Dtype::Bf16, "callers ask for floats only");
                    bits.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(values);
                    |bits| bf16::from_bits(bits).is_infinite()
                };
                let unfit = bits.iter().zip(values).position(|(&b, v)| infinite(b) && v.is_finite());
                if let Some(i) = unfit {
                    return Err(Unfit { index: chunk * CHUNK + i, value: f64::from(values[i]) });
                }
                append(bits, out, u16::to_le_bytes);
            }
        }
    }
    Ok(())
}

/// Appends `values` to `out` as the float type `dtype`, rounding once.
pub(crate) fn write_f64(dtype: Dtype, values: &[f64], out: &mut Vec<u8>) -> Result<(), Unfit> {
    if dtype == Dtype::F64 {
        append(values, out, f64::to_le_bytes);
        return Ok(());
    }
    let mut narrow = [0f32; CHUNK];
    for (chunk, values) in values.chunks(CHUNK).enumerate() {
        let narrow = &mut narrow[..values.len()];
        for (index, (narrow, &value)) in narrow.iter_mut().zip(values).enumerate() {
            *narrow = if dtype == Dtype::F32 { value as f32 } else { round_to_odd(value) };
            if narrow.is_infinite() && value.is_finite() {
                return Err(Unfit { index: chunk * CHUNK + index, value });
            }
        }
        write_f32(dtype, narrow, out).map_err(|Unfit { index, .. }| {
            let index = chunk * CHUNK + index;
            Unfit { index, value: values[index - chunk * CHUNK] }
        })?;
    }
    Ok(())
}

/// `value` as an `f32` whose last bit is set whenever digits were lost.
///
/// Rounding to nearest twice can land on the wrong neighbour: the first rounding may make a tie of
/// what was none. A set last bit keeps the memory that something was there, so that rounding the
/// result to 16 bits gives what rounding `value` itself would (Boldo & Melquiond 2008).
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    if back == value || value.is_nan() || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    // The magnitude bits of a float count its neighbours: one less is towards zero.
    let bits = nearest.to_bits();
    f32::from_bits(if back.abs() > value.abs() { bits - 1 } else { bits + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOATS: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16];

    fn narrow16(dtype: Dtype, value: f64) -> u16 {
        let mut out = Vec::new();
        write_f64(dtype, &[value], &mut out).unwrap();
        u16::from_le_bytes([out[0], out[1]])
    }

    #[test]
    fn every_half_float_survives_the_way_out_and_back() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for dtype in [Dtype::F16, Dtype::Bf16] {
            let mut wide = vec![0f32; 1 << 16];
            read_f32(dtype, &all, &mut wide).unwrap();
            let mut back = Vec::new();
            write_f32(dtype, &wide, &mut back).unwrap();
            for (bits, value) in (0..=u16::MAX).zip(&wide) {
                let i = usize::from(bits) * 2;
                let same = back[i..i + 2] == bits.to_le_bytes();
                assert!(same || value.is_nan(), "{dtype} {bits:#06x} became {value}");
            }
            assert_eq!(wide[if dtype == Dtype::F16 { 0x3c01 } else { 0x3f81 }], {
                if dtype == Dtype::F16 { 1.0 + 1.0 / 1024.0 } else { 1.0 + 1.0 / 128.0 }
            });
        }
    }

    #[test]
    fn widening_to_f64_is_exact() {
        for dtype in FLOATS {
            let values = [0.0f32, -0.0, 1.5, -65504.0, 5.9604645e-8, f32::INFINITY];
            let mut bytes = Vec::new();
            write_f32(dtype, &values, &mut bytes).unwrap();
            let (mut narrow, mut wide) = ([0f32; 6], [0f64; 6]);
            read_f32(dtype, &bytes, &mut narrow).unwrap();
            read_f64(dtype, &bytes, &mut wide);
            assert_eq!(narrow.map(f64::from), wide, "{dtype}");
        }
    }

    // A reference that shares nothing with the code: the nearest of all 2^16 values, even on a tie.
    fn nearest(dtype: Dtype, value: f64) -> u16 {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut wide = vec![0f64; 1 << 16];
        read_f64(dtype, &all, &mut wide);
        let (mut best, mut distance) = (0u16, f64::INFINITY);
        for (bits, candidate) in (0..=u16::MAX).zip(wide) {
            let d = (candidate - value).abs();
            if candidate.is_finite() && (d < distance || d == distance && bits & 1 == 0 && best & 1 == 1) {
                (best, distance) = (bits, d);
            }
        }
        best
    }

    #[test]
    fn narrowing_from_f64_rounds_once_to_nearest_even() {
        let tiny = f64::powi(2.0, -40);
        for dtype in [Dtype::F16, Dtype::Bf16] {
            // Half a unit in the last place above one, exactly and a little to either side.
            let half = if dtype == Dtype::F16 { f64::powi(2.0, -11) } else { f64::powi(2.0, -8) };
            for base in [1.0, 1.0 + 2.0 * half, 3.0, 6.1e-5, 5.0e-8] {
                for value in [half, half + tiny, half - tiny, -half, 0.0, 1e-3].map(|d| base + base * d) {
                    for value in [value, -value] {
                        assert_eq!(narrow16(dtype, value), nearest(dtype, value), "{dtype} {value:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn narrowing_from_f32_rounds_to_nearest_even() {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            for bits in [0x3f80_8000u32, 0x3f81_8000, 0x3f80_1000, 0x3f80_3000, 0x3f80_8001, 0x3387_ffff] {
                let value = f32::from_bits(bits);
                let mut out = Vec::new();
                write_f32(dtype, &[value], &mut out).unwrap();
                assert_eq!(out, nearest(dtype, f64::from(value)).to_le_bytes(), "{dtype} {bits:#x}");
            }
        }
    }

    #[test]
    fn a_finite_number_never_becomes_infinite() {
        let values = [&[0.0; 600][..], &[7e4, 1.0]].concat();
        let unfit = write_f32(Dtype::F16, &values, &mut Vec::new()).unwrap_err();
        assert_eq!(unfit, Unfit { index: 600, value: f64::from(7e4f32) });
        let wide: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        assert_eq!(write_f64(Dtype::F16, &wide, &mut Vec::new()).unwrap_err().index, 600);
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            assert_eq!(write_f64(dtype, &[1.0, -1e300], &mut Vec::new()).unwrap_err().index, 1);
        }
        assert_eq!(write_f32(Dtype::Bf16, &[f32::MAX], &mut Vec::new()).unwrap_err().index, 0);
        let read = read_f32(Dtype::F64, &1e300f64.to_le_bytes(), &mut [0.0]);
        assert_eq!(read, Err(Unfit { index: 0, value: 1e300 }));
        for dtype in FLOATS {
            let passing = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
            write_f32(dtype, &passing, &mut Vec::new()).unwrap();
            write_f64(dtype, &passing.map(f64::from), &mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn integers_keep_their_sign_and_range() {
        assert_eq!(read_i64(Dtype::I8, &[0xfe]), Some(-2));
        assert_eq!(read_i64(Dtype::U8, &[0xfe]), Some(254));
        assert_eq!(read_i64(Dtype::I32, &(-70_001i32).to_le_bytes()), Some(-70_001));
        assert_eq!(read_i64(Dtype::U32, &u32::MAX.to_le_bytes()), Some(i64::from(u32::MAX)));
        assert_eq!(read_i64(Dtype::I64, &i64::MIN.to_le_bytes()), Some(i64::MIN));
        assert_eq!(read_i64(Dtype::U64, &u64::MAX.to_le_bytes()), None);
        assert_eq!(read_i64(Dtype::Bool, &[2]), Some(1));
    }
}
