//! What a conversion did to each tensor.

use std::fmt;

use formwork_formats::Dtype;
use formwork_quant::TensorError;

/// What a conversion did.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// Every tensor, in the order in which they were written; the parts of a fused one each by itself.
    pub tensors: Vec<Line>,
    /// What somebody should know. One sentence each.
    pub notes: Vec<String>,
}

/// What a conversion did to one tensor.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name it got.
    pub name: String,
    /// The lengths of its axes, in our order.
    pub shape: Vec<usize>,
    /// The type it had.
    pub from: Dtype,
    /// The type it has now.
    pub to: Dtype,
    /// What it lost; `None` where it lost nothing: the same bits, or wider numbers.
    pub error: Option<TensorError>,
}

impl Line {
    /// Bytes of the tensor now.
    pub fn bytes(&self) -> u64 {
        self.to.size_of(&self.shape).map_or(0, |bytes| bytes as u64)
    }
}

impl Conversion {
    /// Bytes of all tensors now.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(Line::bytes).sum()
    }

    /// The largest error of any tensor relative to its own size; 0 where nothing was lost.
    pub fn worst(&self) -> f64 {
        self.tensors.iter().filter_map(|line| line.error).map(|error| error.relative).fold(0.0, f64::max)
    }
}

/// A line per tensor, and the sum.
impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.tensors.iter().map(|line| line.name.len()).max().unwrap_or(0).max("tensor".len());
        writeln!(
            f,
            "{:wide$}  {:>15}  {:5}  {:5}  {:>9}  {:>9}  {:>8}",
            "tensor", "shape", "from", "to", "max error", "rms error", "relative"
        )?;
        for line in &self.tensors {
            let shape = format!("{:?}", line.shape);
            write!(f, "{:wide$}  {shape:>15}  {:5}  {:5}", line.name, line.from.name(), line.to.name())?;
            match line.error {
                Some(TensorError { max, rms, relative }) => {
                    writeln!(f, "  {max:9.2e}  {rms:9.2e}  {:7.3}%", 100.0 * relative)?;
                }
                None => writeln!(f, "  {:>9}", "none")?,
            }
        }
        let kept = self.tensors.iter().filter(|line| line.error.is_none()).count();
        write!(f, "{} tensors in {} bytes; {kept} lost nothing", self.tensors.len(), self.bytes())
    }
}
