//! One matrix into blocks, and what it lost.

use formwork_kernels::{
    blocks::{self, Format},
    team,
};
use formwork_tensor::{Error, Kind, Result};

/// A matrix in blocks.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Its rows, one after another.
    pub bytes: Vec<u8>,
    /// How far its numbers are from those it was made of.
    pub error: TensorError,
}

/// How far decoded numbers are from the original ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TensorError {
    /// The largest absolute difference.
    pub max: f64,
    /// The root of the mean squared difference.
    pub rms: f64,
    /// [`rms`](Self::rms) relative to the root mean square of the original numbers; 0 for a matrix of zeros.
    pub relative: f64,
}

/// Numbers that a task encodes: whole blocks of every format, and some tens of microseconds at least.
const PIECE: usize = 8 * 1024;

/// Encodes a matrix of rows of `cols` numbers, and measures the error by decoding it again.
///
/// Blocks are encoded one by one as ggml's reference encoder does, so the bytes are the same for any number of threads.
///
/// ```
/// use formwork_kernels::blocks::Format;
/// let row: Vec<f32> = (0..32).map(|i| i as f32).collect();
/// let encoded = formwork_quant::encode(Format::Q8_0, &row, 32)?;
/// assert_eq!(encoded.bytes.len(), 34);
/// assert!(encoded.error.max <= 0.5 * 31.0 / 127.0 + 0.01); // half a step, and the rounding of its size
/// # Ok::<(), formwork_module::Error>(())
/// ```
///
/// # Errors
/// Rows that are no whole number of blocks, a number of numbers that is no whole number of rows, and numbers that
/// are not finite or so large that the format cannot hold them.
pub fn encode(format: Format, numbers: &[f32], cols: usize) -> Result<Encoded> {
    fitting(format, cols)?;
    let is_rows = if cols == 0 { numbers.is_empty() } else { numbers.len().is_multiple_of(cols) };
    if !is_rows {
        return Err(Error::invalid(
            "quantise",
            format_args!("rows of {cols} numbers"),
            format_args!("{} numbers", numbers.len()),
        ));
    }
    finite(numbers, cols)?;
    let piece_bytes = PIECE / format.block() * format.block_bytes();
    let mut bytes = vec![0; numbers.len() / format.block() * format.block_bytes()];
    let mut sums = vec![Sums::default(); numbers.len().div_ceil(PIECE)];
    team::for_each_chunk2((&mut bytes, piece_bytes), (&mut sums, 1), |i, bytes, sums| {
        let numbers = &numbers[i * PIECE..numbers.len().min((i + 1) * PIECE)];
        blocks::encode(format, numbers, bytes);
        let mut decoded = vec![0.0; numbers.len()];
        blocks::decode(format, bytes, &mut decoded);
        sums[0] = Sums::of(numbers, &decoded);
    });
    // In the order of the pieces, so that the report is the same for any number of threads as well.
    let all = sums.into_iter().fold(Sums::default(), Sums::add);
    if !all.error.is_finite() {
        let largest = numbers.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        let expected = format!("numbers that {format} can hold");
        let hint = "its scales are half-precision numbers; take bf16, or leave the tensor as it is";
        return Err(Error::invalid("quantise", expected, format_args!("{largest:e}")).hint(hint));
    }
    Ok(Encoded { bytes, error: all.mean(numbers.len()) })
}

/// Refuses a width that is no whole number of blocks.
pub(crate) fn fitting(format: Format, cols: usize) -> Result<()> {
    match format.row_bytes(cols) {
        Some(_) => Ok(()),
        None => {
            let expected = format!("rows of a multiple of {} numbers for {format}", format.block());
            let instead = crate::fits::fits(format, cols);
            Err(Error::invalid("quantise", expected, cols).hint(format_args!("take {instead}, which fits")))
        }
    }
}

/// Refuses numbers that are not finite, and says where the first one is.
pub(crate) fn finite(numbers: &[f32], cols: usize) -> Result<()> {
    match numbers.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let what = format!("element [{}, {}]", at / cols.max(1), at % cols.max(1));
            Err(Kind::NonFinite { what }.into())
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Sums {
    most: f64,
    error: f64,
    size: f64,
}

impl Sums {
    fn of(numbers: &[f32], decoded: &[f32]) -> Self {
        let mut sums = Self::default();
        for (&x, &y) in numbers.iter().zip(decoded) {
            let (x, error) = (f64::from(x), f64::from(x) - f64::from(y));
            sums.most = sums.most.max(error.abs());
            sums.error += error * error;
            sums.size += x * x;
        }
        sums
    }

    fn add(self, other: Self) -> Self {
        Self {
            most: self.most.max(other.most),
            error: self.error + other.error,
            size: self.size + other.size,
        }
    }

    fn mean(self, count: usize) -> TensorError {
        let relative = if self.size > 0.0 { (self.error / self.size).sqrt() } else { 0.0 };
        TensorError { max: self.most, rms: (self.error / count.max(1) as f64).sqrt(), relative }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formwork_kernels::rng;

    fn normals(len: usize) -> Vec<f32> {
        (0..len).map(|i| rng::normal(5, i as u64) as f32).collect()
    }

    #[test]
    fn normal_numbers_lose_what_the_table_of_the_crate_says() {
        let numbers = normals(24 * 512);
        let check = |format: Format, bits, percent: f64| {
            let Encoded { bytes, error } = encode(format, &numbers, 512).unwrap();
            assert_eq!(8.0 * bytes.len() as f64 / numbers.len() as f64, bits, "{format}");
            let found = 100.0 * error.relative;
            assert!((found - percent).abs() < 0.03 * percent, "{format}: {found}%");
        };
        check(Format::F16, 16.0, 0.021);
        check(Format::Bf16, 16.0, 0.168);
        check(Format::Q8_0, 8.5, 0.533);
        check(Format::Q6_K, 6.5625, 1.77);
        check(Format::Q5_1, 6.0, 3.78);
        check(Format::Q5_K, 5.5, 3.60);
        check(Format::Q5_0, 5.5, 4.27);
        check(Format::Q4_1, 5.0, 7.81);
        check(Format::Q4_K, 4.5, 7.14);
        check(Format::Q4_0, 4.5, 8.49);
        check(Format::Q3_K, 3.4375, 15.1);
        check(Format::Q2_K, 2.625, 29.6);
    }

    #[test]
    fn the_error_is_that_of_the_decoded_numbers() {
        for format in Format::ALL {
            let numbers = normals(19 * 1024);
            let Encoded { bytes, error } = encode(format, &numbers, 1024).unwrap();
            let mut decoded = vec![0.0; numbers.len()];
            blocks::decode(format, &bytes, &mut decoded);
            let errors = || numbers.iter().zip(&decoded).map(|(a, b)| f64::from(a - b));
            let rms = (errors().map(|e| e * e).sum::<f64>() / numbers.len() as f64).sqrt();
            assert!((error.rms - rms).abs() < 1e-6 * rms, "{format}");
            assert!((error.max - errors().fold(0.0, |m, e| e.abs().max(m))).abs() < 1e-6, "{format}");
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes_and_the_same_error() {
        let numbers = normals(37 * 768);
        for format in [Format::Q4_0, Format::Q3_K] {
            let run = |threads| team::with_threads(threads, || encode(format, &numbers, 768).unwrap());
            let (one, two) = (run(1), run(2));
            assert!(one.bytes == two.bytes && one.error == two.error, "{format}");
        }
    }

    #[test]
    fn what_cannot_be_encoded_is_refused_in_words() {
        let check = |format, numbers: &[f32], cols, words: &str| {
            let error = encode(format, numbers, cols).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let mut numbers = normals(96);
        check(
            Format::Q4_K,
            &numbers,
            48,
            "expected rows of a multiple of 256 numbers for q4_k, found 48; take f16",
        );
        check(Format::Q4_0, &numbers, 64, "expected rows of 64 numbers, found 96 numbers");
        numbers[41] = f32::NAN;
        check(Format::Q8_0, &numbers, 32, "element [1, 9] is not finite");
        numbers[41] = 1e30;
        check(Format::Q8_0, &numbers, 32, "numbers that q8_0 can hold, found 1e30");
        check(Format::F16, &numbers, 32, "numbers that f16 can hold");
        assert!(encode(Format::Bf16, &numbers, 32).is_ok());
    }

    #[test]
    fn nothing_and_zeros_lose_nothing() {
        for format in Format::ALL {
            assert_eq!(encode(format, &[], 0).unwrap().error, TensorError::default());
            assert!(encode(format, &[], 256).unwrap().bytes.is_empty());
            assert_eq!(encode(format, &[0.0; 512], 256).unwrap().error, TensorError::default(), "{format}");
        }
    }
}
