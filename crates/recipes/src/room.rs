//! Whether a model fits in memory, asked before any of it is taken.

use std::collections::HashSet;

use formwork_checkpoint::{Plan, format_of};
use formwork_formats::Archive;
use formwork_module::{DType, Error, Result};

use crate::folder::Weights;

/// The memory that a model's weights may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// What the system says is available, where it says so (Linux).
    #[default]
    Available,
    /// So many bytes.
    Bytes(u64),
    /// Any amount.
    Unlimited,
}

impl Memory {
    fn bytes(self) -> Option<u64> {
        match self {
            Memory::Available => {
                std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text))
            }
            Memory::Bytes(bytes) => Some(bytes),
            Memory::Unlimited => None,
        }
    }

    /// Refuses weights that do not fit.
    pub(crate) fn holds(self, needed: u64) -> Result<()> {
        match self.bytes() {
            Some(available) if needed > available => {
                let expected =
                    format!("weights of at most {}, the memory that is available", shown(available));
                Err(Error::invalid("memory", expected, shown(needed))
                    .hint("free memory, choose a smaller model, or convert it to fewer bits"))
            }
            _ => Ok(()),
        }
    }
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn shown(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64)
}

/// Bytes of a model's weights in memory, mapped ones included.
pub(crate) fn needed(plan: &Plan, archive: &Archive, weights: Weights, dtype: DType) -> u64 {
    let wide = if dtype == DType::F64 { 8 } else { 4 };
    let mut counted = HashSet::new();
    let parts = plan.tensors().iter().flat_map(|whole| whole.parts.iter().map(move |part| (whole, part)));
    // A table that stands twice in a file is held once.
    let parts = parts.filter(|(_, part)| counted.insert(part.ours.as_str()));
    let bytes = parts.map(|(whole, part)| {
        let numbers = part.shape.iter().fold(1u64, |product, &n| product.saturating_mul(n as u64));
        let stored = archive.entry(&whole.name).map(|entry| entry.dtype());
        match stored.filter(|dtype| part.shape.len() == 2 && weights.keeps(*dtype)).and_then(format_of) {
            Some(format) => numbers / format.block() as u64 * format.block_bytes() as u64,
            None => numbers.saturating_mul(wide),
        }
    });
    bytes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_available_memory_is_read_and_enforced() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:     2 kB\n"), Some(2048));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        let error = Memory::Bytes(1 << 30).holds(3 << 30).unwrap_err().to_string();
        assert!(error.contains("at most 1.00 GiB") && error.contains("found 3.00 GiB"), "{error}");
        assert!(Memory::Unlimited.holds(u64::MAX).is_ok() && Memory::Bytes(7).holds(7).is_ok());
    }
}
