//! GGUF files for the suites: built by hand, so that the writer is not its own judge.

/// A number in a file that says how much of something follows, or where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Its place in the file.
    pub(crate) at: usize,
    /// Its bytes.
    pub(crate) width: usize,
}

/// A GGUF file in parts. What is not said is as in a sound file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// Other counts than the true ones.
    pub(crate) tensors: Option<u64>,
    pub(crate) pairs: Option<u64>,
    pub(crate) alignment: usize,
    pub(crate) data: Vec<u8>,
    metadata: Part,
    places: Part,
}

#[derive(Clone, Debug, Default)]
struct Part {
    count: u64,
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Part {
    fn number(&mut self, number: u64, width: usize) {
        self.fields.push(Field { at: self.bytes.len(), width });
        self.bytes.extend(&number.to_le_bytes()[..width]);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64, 8);
        self.bytes.extend(text);
    }
}

/// A length and so many bytes, as a text stands in a file.
pub(crate) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

/// The value of an array: kind, count, elements.
pub(crate) fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

impl File {
    pub(crate) fn new() -> Self {
        let (metadata, places) = Default::default();
        let (tensors, pairs) = (None, None);
        Self {
            magic: *b"GGUF",
            version: 3,
            tensors,
            pairs,
            alignment: 32,
            data: Vec::new(),
            metadata,
            places,
        }
    }

    /// Adds a value of the metadata as it stands in a file behind its kind.
    pub(crate) fn pair(mut self, key: impl AsRef<[u8]>, kind: u32, value: impl AsRef<[u8]>) -> Self {
        let (part, value) = (&mut self.metadata, value.as_ref());
        part.count += 1;
        part.text(key.as_ref());
        part.number(kind.into(), 4);
        // The numbers in front of a text, and of an array and its first text.
        let begin = part.bytes.len();
        match kind {
            8 => part.fields.push(Field { at: begin, width: 8 }),
            9 => {
                part.fields.push(Field { at: begin, width: 4 });
                part.fields.push(Field { at: begin + 4, width: 8 });
                if value.len() >= 20 {
                    part.fields.push(Field { at: begin + 12, width: 8 });
                }
            }
            _ => {}
        }
        part.bytes.extend(value);
        self
    }

    /// Adds the place of a tensor, its dimensions innermost first.
    pub(crate) fn place(mut self, name: impl AsRef<[u8]>, dims: &[u64], dtype: u32, offset: u64) -> Self {
        let part = &mut self.places;
        part.count += 1;
        part.text(name.as_ref());
        part.number(dims.len() as u64, 4);
        dims.iter().for_each(|&n| part.number(n, 8));
        part.number(dtype.into(), 4);
        part.number(offset, 8);
        self
    }

    /// The data behind the padding.
    pub(crate) fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        self.with_fields().0
    }

    /// The file, and the places of all its counts, lengths, kinds and offsets.
    pub(crate) fn with_fields(&self) -> (Vec<u8>, Vec<Field>) {
        let mut head = Part::default();
        head.bytes.extend(self.magic);
        head.number(self.version.into(), 4);
        head.number(self.tensors.unwrap_or(self.places.count), 8);
        head.number(self.pairs.unwrap_or(self.metadata.count), 8);
        for part in [&self.metadata, &self.places] {
            let begin = head.bytes.len();
            head.fields.extend(part.fields.iter().map(|field| Field { at: begin + field.at, ..*field }));
            head.bytes.extend(&part.bytes);
        }
        if !self.data.is_empty() {
            head.bytes.resize(head.bytes.len().next_multiple_of(self.alignment), 0);
        }
        head.bytes.extend(&self.data);
        (head.bytes, head.fields)
    }
}

/// A small sound file: every kind of value, arrays of several, tensors of many types, one of them
/// empty and one a scalar.
pub(crate) fn sound() -> File {
    let file = File::new()
        .pair("general.architecture", 8, text("llama"))
        .pair("k.u8", 0, [200])
        .pair("k.i8", 1, [0xfe])
        .pair("k.u16", 2, 60_000u16.to_le_bytes())
        .pair("k.i16", 3, (-300i16).to_le_bytes())
        .pair("k.u32", 4, 4_000_000_000u32.to_le_bytes())
        .pair("k.i32", 5, (-70_000i32).to_le_bytes())
        .pair("k.f32", 6, 2.5f32.to_le_bytes())
        .pair("k.bool", 7, [1])
        .pair("k.u64", 10, u64::MAX.to_le_bytes())
        .pair("k.i64", 11, i64::MIN.to_le_bytes())
        .pair("k.f64", 12, 1e300f64.to_le_bytes())
        .pair("k.raw", 8, text(b"\xff\xfe"))
        .pair("tokens", 9, array(8, 3, &[text("<s>"), text("é"), text(b"\xe2\x96")].concat()))
        .pair("scores", 9, array(6, 2, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]))
        .pair("types", 9, array(5, 2, &[3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]))
        .pair("flags", 9, array(7, 3, &[1, 0, 1]))
        .pair("none", 9, array(8, 0, &[]));
    // Two rows of one block; each tensor is followed by zeros up to 32.
    let data: Vec<u8> = (0..352u32).map(|i| (i * 37 % 251) as u8).collect();
    file.place("token_embd.weight", &[3, 2], 0, 0)
        .place("blk.0.attn_q.weight", &[32, 2], 2, 32)
        .place("empty", &[7, 0], 0, 96)
        .place("blk.0.ffn_up.weight", &[256, 1, 1, 1], 10, 96)
        .place("scalar", &[], 30, 192)
        .place("blk.0.wide", &[2], 28, 224)
        .place("blk.0.q8", &[64], 8, 256)
        .data(data)
}
