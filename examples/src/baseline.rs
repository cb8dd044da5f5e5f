//! What others make of the same text, in bits per byte.

use std::{error::Error, io::Write};

use lzma_rust2::{LzmaOptions, LzmaWriter};

/// Each byte by its frequency in the training text; one is added to every count, so that nothing is impossible.
pub fn unigram(train: &[u8], held_out: &[u8]) -> f64 {
    let mut counts = [1.0f64; 256];
    for &byte in train {
        counts[usize::from(byte)] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    let bits: f64 = held_out.iter().map(|&byte| (total / counts[usize::from(byte)]).log2()).sum();
    bits / held_out.len() as f64
}

/// A general-purpose compressor that has read the training text: what the held-out text adds to the compressed size.
///
/// # Errors
/// What the compressor says.
pub fn lzma(train: &[u8], held_out: &[u8]) -> Result<f64, Box<dyn Error>> {
    let alone = compressed(&[train])?;
    let both = compressed(&[train, held_out])?;
    Ok(8.0 * (both - alone) as f64 / held_out.len() as f64)
}

fn compressed(parts: &[&[u8]]) -> Result<usize, Box<dyn Error>> {
    let mut out = Vec::new();
    let mut writer = LzmaWriter::new_use_header(&mut out, &LzmaOptions::with_preset(9), None)?;
    for part in parts {
        writer.write_all(part)?;
    }
    writer.finish()?;
    Ok(out.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_and_repetitions_are_found() {
        let even: Vec<u8> = (0..=255).cycle().take(2560).collect();
        assert!((unigram(&even, &even) - 8.0).abs() < 1e-9);
        assert!(unigram(b"aaaaaaaaaaaaaaaaaaab", b"aaab") < 8.0);
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let text: Vec<u8> = (0..20_000).map(|_| noise()).collect();
        assert!(lzma(&text, &text[5000..9000]).expect("compresses") < 0.5, "it has read this before");
        assert!(lzma(&[], &text).expect("compresses") > 7.0, "noise stays noise");
    }
}
