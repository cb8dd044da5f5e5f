//! What quantising did to a module, tensor by tensor. It prints as a table.

use std::fmt;

use formwork_kernels::blocks::Format;

use crate::TensorError;

/// What quantising did, in the order of the weights.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Each matrix that is in blocks now.
    pub tensors: Vec<TensorReport>,
    /// The full names of the weights that were left as they were.
    pub kept: Vec<String>,
}

/// What quantising did to one matrix.
#[derive(Clone, Debug)]
pub struct TensorReport {
    /// Its full name.
    pub path: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// What it is in now.
    pub format: Format,
    /// Bytes of its blocks.
    pub bytes: usize,
    /// What it lost.
    pub error: TensorError,
}

impl TensorReport {
    /// Bits per number; 0 for a matrix without any.
    pub fn bits(&self) -> f64 {
        bits(self.bytes, self.numbers())
    }

    fn numbers(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Report {
    /// Bytes of all blocks.
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(|t| t.bytes).sum()
    }

    /// Bits per number of all that is in blocks now; 0 if nothing is.
    pub fn bits(&self) -> f64 {
        bits(self.bytes(), self.tensors.iter().map(TensorReport::numbers).sum())
    }
}

fn bits(bytes: usize, numbers: usize) -> f64 {
    if numbers == 0 { 0.0 } else { bytes as f64 * 8.0 / numbers as f64 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.tensors.iter().map(|t| t.path.len()).max().unwrap_or(0).max("tensor".len());
        writeln!(
            f,
            "{:wide$}  {:>15}  {:6}  {:>6}  {:>9}  {:>9}  {:>8}",
            "tensor", "shape", "format", "bits", "max error", "rms error", "relative"
        )?;
        for t in &self.tensors {
            let shape = format!("{:?}", t.shape);
            let TensorError { max, rms, relative } = t.error;
            writeln!(
                f,
                "{:wide$}  {shape:>15}  {:6}  {:6.3}  {max:9.2e}  {rms:9.2e}  {:7.3}%",
                t.path,
                t.format.name(),
                t.bits(),
                100.0 * relative
            )?;
        }
        let (count, bytes, kept) = (self.tensors.len(), self.bytes(), self.kept.len());
        write!(
            f,
            "{count} matrices in {bytes} bytes, {:.3} bits a number; {kept} left as they were",
            self.bits()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_prints_one_line_for_each_tensor_and_a_sum() {
        let error = TensorError { max: 0.01, rms: 0.0025, relative: 0.0125 };
        let one = TensorReport {
            path: "blocks.0.up".into(),
            shape: [2, 64],
            format: Format::Q4_0,
            bytes: 72,
            error,
        };
        let report = Report { tensors: vec![one.clone(), one], kept: vec!["a".into()] };
        let text = report.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "blocks.0.up          [2, 64]  q4_0     4.500    1.00e-2    2.50e-3    1.250%");
        assert_eq!(lines[3], "2 matrices in 144 bytes, 4.500 bits a number; 1 left as they were");
        assert_eq!(Report::default().bits(), 0.0);
    }
}
