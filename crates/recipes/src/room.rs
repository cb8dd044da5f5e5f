//! Memory: whether something fits, asked before any of it is taken, and the most that this process has held.
//!
//! Both are what the system says of itself, in files of Linux; elsewhere everything fits, and the most is not known.

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
    /// How many bytes it is; `None` where there is no limit, or the system does not tell.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Memory::Available => field("/proc/meminfo", "MemAvailable:"),
            Memory::Bytes(bytes) => Some(bytes),
            Memory::Unlimited => None,
        }
    }

    /// Refuses what takes more bytes, `needed`: `what` is it, and `hint` what to try instead.
    ///
    /// # Errors
    /// More bytes than there are, with both numbers.
    ///
    /// ```
    /// use formwork_recipes::Memory;
    /// let error = Memory::Bytes(1 << 30).holds(3 << 30, "weights", "take less").unwrap_err().to_string();
    /// assert_eq!(
    ///     error,
    ///     "memory: expected weights of at most 1.00 GiB, the memory that is available, found 3.00 GiB; take less"
    /// );
    /// # Ok::<(), formwork_module::Error>(())
    /// ```
    pub fn holds(self, needed: u64, what: &str, hint: &str) -> Result<()> {
        match self.bytes() {
            Some(available) if needed > available => {
                let expected =
                    format!("{what} of at most {}, the memory that is available", shown(available));
                Err(Error::invalid("memory", expected, shown(needed)).hint(hint))
            }
            _ => Ok(()),
        }
    }
}

/// The most memory that this process has held so far, in bytes; `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// A field of a file of `/proc`, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string(path).ok()?, name)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
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
    fn a_field_is_read_in_bytes() {
        let check = |text: &str, name: &str, bytes: Option<u64>| assert_eq!(kibibytes(text, name), bytes);
        check("MemTotal: 9 kB\nMemAvailable:     2 kB\n", "MemAvailable:", Some(2048));
        check("VmPeak: 9 kB\nVmHWM:\t     2 kB\n", "VmHWM:", Some(2048));
        check("MemTotal: 9 kB\n", "MemAvailable:", None);
        check("VmHWM: 9\n", "VmHWM:", None);
        check("", "VmHWM:", None);
    }

    #[test]
    fn what_is_larger_than_memory_is_refused() {
        let check = |memory: Memory, needed: u64, fits: bool| {
            assert_eq!(memory.holds(needed, "weights", "take less").is_ok(), fits, "{memory:?} {needed}");
        };
        check(Memory::Bytes(7), 7, true);
        check(Memory::Bytes(7), 8, false);
        check(Memory::Unlimited, u64::MAX, true);
        check(Memory::Available, 1 << 20, true);
        check(Memory::Available, u64::MAX, Memory::Available.bytes().is_none());
        assert_eq!(Memory::Available.bytes().is_some(), std::path::Path::new("/proc/meminfo").exists());
        assert!(peak_memory().is_none_or(|peak| peak > 1 << 20));
    }
}
