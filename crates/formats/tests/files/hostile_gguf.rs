//! GGUF files that are wrong in one named way each: the kind of the error and the place it names.
//!
//! Among them are those that other parsers have fallen over in public, first of all the family of
//! CVE-2024-21802: counts, lengths and dimensions that are trusted, and sums of them that wrap.

use crate::memory::{cost, within};
use crate::support_gguf::{File, array, sound, text};
use formwork_formats::gguf::{Gguf, Kind};
use formwork_formats::{Archive, Bytes, Dtype, ErrorKind};

/// Reads the file; `place` is the tensor or the key that the error should name.
#[track_caller]
fn check(file: Vec<u8>, place: Option<&str>, expected: impl Fn(&ErrorKind) -> bool) {
    let len = file.len();
    let (read, taken) = cost(|| Gguf::from_bytes(file));
    let error = read.expect_err("the file is wrong");
    assert!(expected(error.kind()), "{error}");
    assert_eq!(error.tensor().or(error.key()), place, "{error}");
    let text = error.to_string();
    assert!(text.len() < 600 && !text.ends_with('.') && !text.contains('\n'), "{text}");
    within(taken, len);
}

/// A file with one value at the key `k`.
fn value(kind: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    File::new().pair("k", kind, value).build()
}

/// A file with one tensor `x` and 64 bytes of data.
fn tensor(dims: &[u64], dtype: u32, offset: u64) -> Vec<u8> {
    File::new().place("x", dims, dtype, offset).data([0; 64]).build()
}

#[test]
fn the_sound_file_is_sound() {
    let file = Gguf::from_bytes(sound().build()).unwrap();
    assert_eq!((file.entries().len(), file.metadata().len(), file.alignment()), (7, 18, 32));
    let metadata = file.metadata();
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("llama"));
    let whole = ["k.u8", "k.u16", "k.u32", "k.u64"].map(|key| metadata.u64(key).unwrap().unwrap());
    assert_eq!(whole, [200, 60_000, 4_000_000_000, u64::MAX]);
    let signed = ["k.i8", "k.i16", "k.i32", "k.i64"].map(|key| metadata.i64(key).unwrap().unwrap());
    assert_eq!(signed, [-2, -300, -70_000, i64::MIN]);
    assert_eq!(["k.f32", "k.f64"].map(|key| metadata.f64(key).unwrap().unwrap()), [2.5, 1e300]);
    assert_eq!(metadata.bool("k.bool").unwrap(), Some(true));
    assert_eq!(metadata.get("k.raw").unwrap().as_bytes(), Some(&b"\xff\xfe"[..]));
    let tokens: Vec<&[u8]> = metadata.strings("tokens").unwrap().unwrap().map(|text| text.bytes()).collect();
    assert_eq!(tokens, [&b"<s>"[..], "é".as_bytes(), b"\xe2\x96"]);
    assert_eq!(metadata.f32s("scores").unwrap().unwrap().collect::<Vec<_>>(), [1.0, -2.0]);
    assert_eq!(metadata.i64s("types").unwrap().unwrap().collect::<Vec<_>>(), [3, -1]);
    assert_eq!(metadata.bools("flags").unwrap().unwrap().collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(
        metadata.get("none").unwrap().as_array().map(|a| (a.len(), a.kind())),
        Some((0, Kind::String))
    );
    let shape = |name| file.entry(name).map(|entry| (entry.dtype(), entry.shape().to_vec())).unwrap();
    assert_eq!(shape("token_embd.weight"), (Dtype::F32, vec![2, 3]));
    assert_eq!(shape("blk.0.attn_q.weight"), (Dtype::Q4_0, vec![2, 32]));
    assert_eq!(shape("blk.0.ffn_up.weight"), (Dtype::Q2_K, vec![1, 1, 1, 256]));
    assert_eq!(shape("empty"), (Dtype::F32, vec![0, 7]));
    assert_eq!(shape("scalar"), (Dtype::Bf16, vec![]));
    let data = sound().data;
    assert_eq!(file.entry("blk.0.q8").unwrap().bytes()[..], data[256..256 + 68]);
}

#[test]
fn every_proper_prefix_is_refused() {
    let whole = sound().build();
    let needed = whole.len() - (352 - 324);
    for len in 0..needed {
        let error = Gguf::from_bytes(whole[..len].to_vec()).unwrap_err();
        let expected = |k: &ErrorKind| match k {
            ErrorKind::Truncated { needed, found } => *needed > *found && *found == len as u64,
            ErrorKind::CountPastEnd { found, limit, .. } => found > limit,
            _ => false,
        };
        assert!(expected(error.kind()), "{len}: {error}");
    }
    // The last padding may be missing.
    for len in needed..whole.len() {
        assert_eq!(Gguf::from_bytes(whole[..len].to_vec()).unwrap().entries().len(), 7);
    }
}

#[test]
fn other_formats_and_versions_are_refused() {
    let with = |change: fn(&mut File)| {
        let mut file = sound();
        change(&mut file);
        file.build()
    };
    check(
        with(|f| f.magic = *b"GGML"),
        None,
        |k| matches!(k, ErrorKind::NotGguf { found } if found == b"GGML"),
    );
    check(with(|f| f.magic = *b"\n\0\x1b\""), None, |k| matches!(k, ErrorKind::NotGguf { .. }));
    check(with(|f| f.version = 0), None, |k| matches!(k, ErrorKind::UnsupportedVersion { found: 0 }));
    check(with(|f| f.version = 1), None, |k| matches!(k, ErrorKind::UnsupportedVersion { found: 1 }));
    check(with(|f| f.version = 4), None, |k| matches!(k, ErrorKind::UnsupportedVersion { found: 4 }));
    check(with(|f| f.version = u32::MAX), None, |k| matches!(k, ErrorKind::UnsupportedVersion { .. }));
    for version in [1u32, 2, 3] {
        let mut file = sound();
        file.version = version.swap_bytes();
        check(file.build(), None, |k| matches!(k, ErrorKind::BigEndian));
    }
    assert!(Gguf::from_bytes(with(|f| f.version = 2)).is_ok());
    let safetensors = crate::support::sound();
    check(safetensors, None, |k| matches!(k, ErrorKind::NotGguf { .. }));
}

#[test]
fn counts_that_the_file_cannot_hold_are_refused() {
    let extremes = [u64::MAX, i64::MAX as u64, 1 << 63, 1 << 32, u64::MAX / 24, 1000];
    for count in extremes {
        let past = |k: &ErrorKind| matches!(k, ErrorKind::CountPastEnd { found, .. } if *found == count);
        let mut file = sound();
        file.tensors = Some(count);
        check(file.build(), None, past);
        file.tensors = None;
        file.pairs = Some(count);
        check(file.build(), None, past);
        // Text, and arrays of every width, in the middle of a file.
        check(value(8, count.to_le_bytes()), Some("k"), past);
        for kind in Kind::ALL.iter().enumerate().filter(|(_, kind)| **kind != Kind::Array).map(|(i, _)| i) {
            check(value(9, array(kind as u32, count, &[0; 40])), Some("k"), past);
        }
        let inner = [&1u64.to_le_bytes()[..], b"a", &count.to_le_bytes(), b"b"].concat();
        check(value(9, array(8, 2, &inner)), Some("k"), past);
        let key = [&count.to_le_bytes()[..], &[0; 30]].concat();
        let mut file = File::new();
        file.pairs = Some(1);
        check([file.build(), key.clone()].concat(), None, past);
        let mut file = File::new();
        file.tensors = Some(1);
        check([file.build(), key].concat(), None, past);
    }
}

#[test]
fn more_pairs_or_tensors_than_any_honest_file_are_refused() {
    for (tensors, pairs) in [(Some(1 << 17 | 1), None), (None, Some(1 << 16 | 1))] {
        let mut file = File::new();
        (file.tensors, file.pairs) = (tensors, pairs);
        // As many as the file could hold.
        check([file.build(), vec![0; 4 << 20]].concat(), None, |k| matches!(k, ErrorKind::TooMany { .. }));
    }
}

#[test]
fn values_are_of_known_kinds() {
    for found in [13, 14, 255, 1 << 31, u32::MAX] {
        check(
            value(found, [0; 16]),
            Some("k"),
            |k| matches!(k, ErrorKind::UnknownKind { found: f } if *f == found),
        );
        check(
            value(9, array(found, 1, &[0; 16])),
            Some("k"),
            |k| matches!(k, ErrorKind::UnknownKind { found: f } if *f == found),
        );
    }
    for count in [0, 1, u64::MAX] {
        check(value(9, array(9, count, &array(0, 1, &[5]))), Some("k"), |k| {
            matches!(k, ErrorKind::NestedArray)
        });
    }
    check(value(7, [2]), Some("k"), |k| matches!(k, ErrorKind::NotBool { found: 2 }));
    check(value(9, array(7, 3, &[0, 1, 0xff])), Some("k"), |k| {
        matches!(k, ErrorKind::NotBool { found: 0xff })
    });
}

#[test]
fn keys_and_names_are_text_that_stands_once() {
    let length = |k: &ErrorKind| matches!(k, ErrorKind::NameLength { .. });
    check(File::new().pair("", 0, [1]).pair("second", 0, [1]).build(), None, length);
    check(File::new().pair("k".repeat(65_536), 0, [1]).build(), None, length);
    check(File::new().place("", &[1], 0, 0).data([0; 4]).build(), None, length);
    check(File::new().place("k".repeat(65_536), &[1], 0, 0).data([0; 4]).build(), None, length);
    assert!(Gguf::from_bytes(File::new().pair("k".repeat(65_535), 0, [1]).build()).is_ok());
    let at = |k: &ErrorKind| matches!(k, ErrorKind::NotUtf8 { at: 34 });
    check(File::new().pair(b"ab\xff", 0, [1]).build(), None, at);
    check(File::new().place(b"ab\xff", &[1], 0, 0).data([0; 4]).build(), None, at);
    let twice = File::new().pair("a", 0, [1]).pair("b", 0, [1]).pair("a", 0, [1]);
    check(twice.build(), None, |k| matches!(k, ErrorKind::DuplicateKey { key } if key == "a"));
    let twice = File::new().place("x", &[8], 0, 0).place("x", &[8], 0, 32).data([0; 64]);
    check(twice.build(), Some("x"), |k| matches!(k, ErrorKind::DuplicateTensor));
}

#[test]
fn the_alignment_is_a_power_of_two() {
    let file = |kind, value: &[u8], alignment| {
        let mut file = File::new().pair("general.alignment", kind, value).place("x", &[3], 0, 0);
        file.alignment = alignment;
        file.data([0; 12]).build()
    };
    for found in [0u32, 3, 24, 33, 1 << 21, u32::MAX] {
        check(
            file(4, &found.to_le_bytes(), 32),
            Some("general.alignment"),
            |k| matches!(k, ErrorKind::BadAlignment { found: f, .. } if *f == u64::from(found)),
        );
    }
    let wrong = |k: &ErrorKind| matches!(k, ErrorKind::WrongValue { .. });
    check(file(5, &(-32i32).to_le_bytes(), 32), Some("general.alignment"), wrong);
    check(file(8, &text("32"), 32), Some("general.alignment"), wrong);
    check(file(9, &array(4, 1, &[32, 0, 0, 0]), 32), Some("general.alignment"), wrong);
    for alignment in [1u32, 2, 64, 4096, 1 << 20] {
        let read = Gguf::from_bytes(file(4, &alignment.to_le_bytes(), alignment as usize)).unwrap();
        assert_eq!(read.alignment(), u64::from(alignment));
    }
}

#[test]
fn a_model_split_into_files_is_refused_by_name() {
    let split = |kind, value: &[u8]| File::new().pair("split.count", kind, value).build();
    for parts in [2u16, 9, u16::MAX] {
        check(
            split(2, &parts.to_le_bytes()),
            Some("split.count"),
            |k| matches!(k, ErrorKind::Split { parts: p } if *p == u64::from(parts)),
        );
    }
    assert!(Gguf::from_bytes(split(2, &[1, 0])).is_ok());
    assert!(Gguf::from_bytes(split(2, &[0, 0])).is_ok());
}

#[test]
fn dimensions_are_few_and_their_product_fits() {
    for n in [5u32, 9, 1 << 31, u32::MAX] {
        // The count alone lies; where there are five, they are there.
        let mut bytes = tensor(&[1; 5], 0, 0);
        let at = 24 + 8 + 1;
        bytes[at..at + 4].copy_from_slice(&n.to_le_bytes());
        check(
            bytes,
            Some("x"),
            |k| matches!(k, ErrorKind::TooManyDims { found, .. } if *found == n as usize),
        );
    }
    let (max, half) = (u64::MAX, 1u64 << 32);
    let wrapping: [(&[u64], u32); 10] = [
        (&[max, 2], 24),
        (&[half, half], 24),
        (&[half, half, 0], 24),
        (&[0, half, half], 24),
        (&[1 << 62], 0),
        (&[max], 0),
        (&[max - 31, 1], 2),
        (&[1 << 63, 1, 1, 2], 24),
        (&[half, half, half, half], 1),
        (&[256, 1 << 57, 1, 1], 14),
    ];
    for (dims, dtype) in wrapping {
        check(tensor(dims, dtype, 0), Some("x"), |k| {
            matches!(k, ErrorKind::SizeOverflow { .. } | ErrorKind::Truncated { .. })
        });
    }
    check(tensor(&[half, half], 24, 0), Some("x"), |k| matches!(k, ErrorKind::SizeOverflow { .. }));
}

#[test]
fn tensor_types_are_known_ones() {
    let unsupported = |number, name: &'static str| {
        check(
            tensor(&[256], number, 0),
            Some("x"),
            move |k| matches!(k, ErrorKind::UnsupportedType { number: n, name: Some(found) } if (*n, *found) == (number, name)),
        );
    };
    unsupported(16, "IQ2_XXS");
    unsupported(23, "IQ4_XS");
    unsupported(9, "Q8_1");
    unsupported(34, "TQ1_0");
    unsupported(39, "MXFP4");
    unsupported(4, "Q4_2");
    for number in [43, 1000, 1 << 31, u32::MAX] {
        check(
            tensor(&[256], number, 0),
            Some("x"),
            |k| matches!(k, ErrorKind::UnsupportedType { number: n, name: None } if *n == number),
        );
    }
}

#[test]
fn rows_are_whole_blocks() {
    for (dims, dtype, found) in
        [(&[31u64, 32][..], 2, 31), (&[16, 2], 8, 16), (&[33], 6, 33), (&[128, 2], 12, 128), (&[], 2, 1)]
    {
        check(
            tensor(dims, dtype, 0),
            Some("x"),
            |k| matches!(k, ErrorKind::PartialBlock { found: f, .. } if *f == found),
        );
    }
}

#[test]
fn offsets_are_aligned_and_inside_the_file() {
    for begin in [1, 31, 33, u64::MAX] {
        check(
            tensor(&[1], 0, begin),
            Some("x"),
            |k| matches!(k, ErrorKind::Misaligned { begin: b, alignment: 32 } if *b == begin),
        );
    }
    let aligned = u64::MAX - 31;
    check(tensor(&[1], 0, aligned), Some("x"), |k| matches!(k, ErrorKind::SizeOverflow { .. }));
    check(tensor(&[100], 0, aligned), Some("x"), |k| matches!(k, ErrorKind::SizeOverflow { .. }));
    check(tensor(&[1], 0, 1 << 40), Some("x"), |k| matches!(k, ErrorKind::Truncated { .. }));
    check(tensor(&[17], 0, 0), Some("x"), |k| matches!(k, ErrorKind::Truncated { .. }));
    check(tensor(&[1 << 40], 24, 0), Some("x"), |k| matches!(k, ErrorKind::Truncated { .. }));
    // An empty tensor takes no bytes and yet may not stand outside.
    check(tensor(&[0], 0, 96), Some("x"), |k| matches!(k, ErrorKind::Truncated { .. }));
    // The header ends where its padding would begin, and nothing follows.
    let bare = File::new().place("x", &[1], 0, 0).build();
    check(bare, Some("x"), |k| matches!(k, ErrorKind::Truncated { .. }));
}

#[test]
fn tensors_tile_the_data() {
    let two = |(a, n): (u64, u64), (b, m): (u64, u64), len| {
        File::new().place("a", &[n], 24, a).place("b", &[m], 24, b).data(vec![0; len]).build()
    };
    let overlap = |k: &ErrorKind| matches!(k, ErrorKind::Overlap { begin: 32, other_end: 33, .. });
    check(two((0, 33), (32, 32), 64), Some("b"), overlap);
    check(two((32, 32), (0, 33), 64), Some("a"), overlap);
    check(two((0, 64), (0, 64), 64), Some("b"), |k| matches!(k, ErrorKind::Overlap { begin: 0, .. }));
    check(two((0, 64), (32, 0), 64), Some("b"), |k| matches!(k, ErrorKind::Overlap { begin: 32, .. }));
    let hole = |from, to| move |k: &ErrorKind| matches!(k, ErrorKind::Hole { from: f, to: t } if (*f, *t) == (from, to));
    check(two((32, 32), (64, 32), 96), Some("a"), hole(0, 32));
    check(two((0, 5), (64, 32), 96), Some("b"), hole(32, 64));
    let trailing = |k: &ErrorKind| matches!(k, ErrorKind::Trailing { .. });
    check(two((0, 32), (32, 5), 65), None, trailing);
    check([File::new().build(), vec![0; 9]].concat(), None, trailing);
    check([tensor(&[16], 0, 0), vec![0]].concat(), None, trailing);
    // Order in the header and order of the data need not be the same.
    let sound = Gguf::from_bytes(two((64, 9), (0, 40), 96)).unwrap();
    assert_eq!(sound.entries().iter().map(|entry| entry.name()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(sound.entry("a").unwrap().shape(), [9]);
}

#[test]
fn a_file_full_of_tiny_pairs_or_tensors_stays_within_its_memory() {
    // The last one stands twice, so that all before it was read in vain.
    let name = |i: u32| [i, i >> 7, i >> 14].map(|n| (n & 0x7f) as u8);
    let pairs = (0..65_535).chain([0]).fold(File::new(), |file, i| file.pair(name(i), 0, [0]));
    check_memory(&pairs, |k| matches!(k, ErrorKind::DuplicateKey { .. }));
    let places = (0..131_071).chain([0]).fold(File::new(), |file, i| file.place(name(i), &[0; 4], 0, 0));
    check_memory(&places, |k| matches!(k, ErrorKind::DuplicateTensor));
}

fn check_memory(file: &File, expected: fn(&ErrorKind) -> bool) {
    let bytes = file.build();
    let len = bytes.len();
    let (read, taken) = cost(|| Gguf::from_bytes(bytes));
    let error = read.unwrap_err();
    assert!(expected(error.kind()), "{error}");
    assert!(taken.asked <= 4 * len + (64 << 20), "{taken:?} for a file of {len}");
}

#[test]
fn an_archive_says_which_file_it_could_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, value(7, [2])).unwrap();
    for error in [Archive::open(&path).unwrap_err(), Gguf::open(&path).unwrap_err()] {
        assert_eq!((error.file(), error.key()), (Some(&*path), Some("k")));
    }
    // The name claims one format, the bytes are of another.
    std::fs::write(&path, crate::support::sound()).unwrap();
    let error = Archive::open(&path).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotGguf { .. }), "{error}");
    assert!(Archive::from_bytes(Bytes::from(b"GGUF".to_vec())).is_err());
}
