//! Files for the suites: built by hand, so that the writer is not its own judge.

/// A safetensors file of this header and data.
pub(crate) fn file(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

/// A small sound file: every float type, an empty tensor, a scalar, metadata and escaped names.
pub(crate) fn sound() -> Vec<u8> {
    let header = concat!(
        r#"{"__metadata__":{"format":"pt","note":"a\"b"},"#,
        r#""wte.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"#,
        r#""h.0.attn":{"dtype":"BF16","shape":[5],"data_offsets":[24,34]},"#,
        r#""\u00e9":{"dtype":"F16","shape":[],"data_offsets":[34,36]},"#,
        r#""none":{"dtype":"F32","shape":[0,7],"data_offsets":[36,36]},"#,
        r#""wide":{"dtype":"F64","shape":[1,1,2],"data_offsets":[36,52]},"#,
        r#""ids":{"dtype":"I64","shape":[1],"data_offsets":[52,60]},"#,
        r#""mask":{"dtype":"BOOL","shape":[3],"data_offsets":[60,63]}}  "#,
    );
    let data: Vec<u8> = (0..63u8).map(|i| i.wrapping_mul(37)).collect();
    file(header, &data)
}

/// A stream of numbers from a seed (SplitMix64, Steele et al. 2014).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is at least 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
