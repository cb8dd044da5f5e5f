//! Files that are wrong in one named way each: the kind of the error and the tensor it names.

use crate::support::{file, sound};
use formwork_formats::{Bytes, ErrorKind, MAX_HEADER, SafeTensors};

#[track_caller]
fn check(file: Vec<u8>, tensor: Option<&str>, expected: impl Fn(&ErrorKind) -> bool) {
    let error = SafeTensors::from_bytes(Bytes::from(file)).expect_err("the file is wrong");
    assert!(expected(error.kind()), "{error}");
    assert_eq!(error.tensor(), tensor, "{error}");
    let text = error.to_string();
    assert!(text.len() < 600 && !text.ends_with('.') && !text.contains('\n'), "{text}");
}

/// A header with one tensor `x`.
fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"x":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}"#)
}

/// A header with `U8` tensors at these offsets.
fn tiles(offsets: &[(usize, usize)]) -> String {
    let entry = |(i, (begin, end)): (usize, &(usize, usize))| {
        format!(r#""t{i}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#, end - begin)
    };
    format!("{{{}}}", offsets.iter().enumerate().map(entry).collect::<Vec<_>>().join(","))
}

#[test]
fn the_sound_file_is_sound() {
    let file = SafeTensors::from_bytes(Bytes::from(sound())).unwrap();
    assert_eq!(file.entries().len(), 7);
    assert_eq!(file.metadata()["note"], "a\"b");
    assert_eq!(file.entry("é").unwrap().shape(), [0usize; 0]);
}

#[test]
fn every_proper_prefix_is_truncated() {
    let whole = sound();
    for len in 0..whole.len() {
        check(whole[..len].to_vec(), (len >= 8 + header_len(&whole)).then_some("mask"), |kind| match kind {
            ErrorKind::TooShort { found } => *found == len as u64 && len < 8,
            ErrorKind::Truncated { needed, found } => *needed > *found && *found == len as u64 && len >= 8,
            _ => false,
        });
    }
}

fn header_len(file: &[u8]) -> usize {
    u64::from_le_bytes(file[..8].try_into().unwrap()) as usize
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_read() {
    for length in [MAX_HEADER + 1, 1 << 40, u64::MAX, u64::MAX - 7, i64::MAX as u64] {
        let mut bytes = sound();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        check(
            bytes,
            None,
            |kind| matches!(kind, ErrorKind::HeaderTooLarge { found, .. } if *found == length),
        );
    }
    let mut bytes = sound();
    bytes[..8].copy_from_slice(&MAX_HEADER.to_le_bytes());
    check(bytes, None, |kind| matches!(kind, ErrorKind::Truncated { .. }));
}

#[test]
fn a_header_that_is_no_json_of_the_format_is_refused() {
    let json = |kind: &ErrorKind| matches!(kind, ErrorKind::Json { what: "header", .. });
    for header in ["", " {}", "[]", "{", "{}x", "{} {}", "null", r#"{"__metadata__":[]}"#] {
        check(file(header, b""), None, json);
    }
    check(file(r#"{"__metadata__":{"a":1}}"#, b""), None, json);
    check(file("{\"a\"}", b""), Some("a"), json);
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    check(file(deep, b""), Some("x"), json);
    check(file(b"{\"\xff\":1}", b""), None, |kind| matches!(kind, ErrorKind::NotUtf8 { at: 10 }));
    let fields = [
        r#"{"x":1}"#.to_owned(),
        r#"{"x":{"shape":[],"data_offsets":[0,1]}}"#.to_owned(),
        r#"{"x":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}"#.to_owned(),
        r#"{"x":{"dtype":"U8","shape":[],"data_offsets":[0,1],"strides":[1]}}"#.to_owned(),
        one("7", "[]", "[0,1]"),
        one("\"U8\"", "[-1]", "[0,1]"),
        one("\"U8\"", "[1.0]", "[0,1]"),
        one("\"U8\"", "[1e30]", "[0,1]"),
        one("\"U8\"", "[18446744073709551616]", "[0,1]"),
        one("\"U8\"", "1", "[0,1]"),
        one("\"U8\"", "[[1]]", "[0,1]"),
        one("\"U8\"", "[1]", "[0]"),
        one("\"U8\"", "[1]", "[0,1,2]"),
        one("\"U8\"", "[1]", "[-1,0]"),
        one("\"U8\"", "[1]", "{\"begin\":0}"),
    ];
    for header in fields {
        check(file(header, &[0]), Some("x"), json);
    }
}

#[test]
fn names_and_keys_stand_once() {
    let twice = r#"{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0078":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    check(file(twice, &[0; 2]), Some("x"), |kind| matches!(kind, ErrorKind::DuplicateTensor));
    for header in [r#"{"__metadata__":{},"__metadata__":{}}"#, r#"{"__metadata__":{"k":"1","k":"1"}}"#] {
        check(file(header, b""), None, |kind| matches!(kind, ErrorKind::DuplicateKey { .. }));
    }
}

#[test]
fn types_and_dimensions_are_known_ones() {
    for dtype in ["F8_E4M3", "f32", "", "C64", "Q4_0", "Q6_K"] {
        let header = one(&format!("{dtype:?}"), "[1]", "[0,1]");
        check(
            file(header, &[0]),
            Some("x"),
            |kind| matches!(kind, ErrorKind::UnknownDtype { found } if found == dtype),
        );
    }
    check(file(one("\"U8\"", "[1,1,1,1,1]", "[0,1]"), &[0]), Some("x"), |kind| {
        matches!(kind, ErrorKind::TooManyDims { found: 5, limit: 4 })
    });
    let zeros = format!("[{}0]", "0,".repeat(200_000));
    check(file(one("\"U8\"", &zeros, "[0,0]"), b""), Some("x"), |kind| {
        matches!(kind, ErrorKind::TooManyDims { found: 200_001, .. })
    });
}

#[test]
fn products_that_wrap_are_refused() {
    let (max, half) = (u64::MAX, 1u64 << 32);
    for (dtype, shape) in [
        ("U8", format!("[{max},2]")),
        ("U8", format!("[{half},{half}]")),
        ("U8", format!("[{half},{half},0]")),
        ("U8", format!("[0,{half},{half}]")),
        ("F16", format!("[{}]", 1u64 << 63)),
        ("F64", format!("[{},3,1]", 1u64 << 61)),
    ] {
        check(file(one(&format!("\"{dtype}\""), &shape, "[0,0]"), b""), Some("x"), |kind| {
            matches!(kind, ErrorKind::SizeOverflow { .. })
        });
    }
    // The size fits and the place does not.
    let at_the_end = one("\"U8\"", "[1]", &format!("[{},{max}]", max - 1));
    check(file(at_the_end, b""), Some("x"), |kind| matches!(kind, ErrorKind::SizeOverflow { .. }));
}

#[test]
fn offsets_and_shape_agree() {
    for (shape, offsets) in [("[2,3]", "[0,20]"), ("[2,3]", "[0,28]"), ("[]", "[0,0]"), ("[0]", "[0,4]")] {
        check(file(one("\"F32\"", shape, offsets), &[0; 28]), Some("x"), |kind| {
            matches!(kind, ErrorKind::SizeMismatch { .. })
        });
    }
    check(file(one("\"U8\"", "[1]", "[5,4]"), &[0; 8]), Some("x"), |kind| {
        matches!(kind, ErrorKind::OffsetsReversed { begin: 5, end: 4 })
    });
    check(file(one("\"U8\"", "[1000000000000]", "[0,1000000000000]"), &[0; 8]), Some("x"), |kind| {
        matches!(kind, ErrorKind::Truncated { .. })
    });
}

#[test]
fn tensors_tile_the_data() {
    let overlap = |begin, end| move |kind: &ErrorKind| matches!(kind, ErrorKind::Overlap { begin: b, other_end: e, .. } if (*b, *e) == (begin, end));
    check(file(tiles(&[(0, 5), (3, 8)]), &[0; 8]), Some("t1"), overlap(3, 5));
    check(file(tiles(&[(3, 8), (0, 5)]), &[0; 8]), Some("t0"), overlap(3, 5));
    check(file(tiles(&[(0, 8), (0, 8)]), &[0; 8]), Some("t1"), overlap(0, 8));
    check(file(tiles(&[(0, 8), (3, 3)]), &[0; 8]), Some("t1"), overlap(3, 8));
    let hole = |from, to| move |kind: &ErrorKind| matches!(kind, ErrorKind::Hole { from: f, to: t } if (*f, *t) == (from, to));
    check(file(tiles(&[(1, 8)]), &[0; 8]), Some("t0"), hole(0, 1));
    check(file(tiles(&[(0, 3), (5, 8)]), &[0; 8]), Some("t1"), hole(3, 5));
    check(file(tiles(&[(0, 8), (9, 9)]), &[0; 9]), Some("t1"), hole(8, 9));
    check(file(tiles(&[(0, 7)]), &[0; 8]), None, |kind| matches!(kind, ErrorKind::Trailing { .. }));
    check(file("{}", &[0]), None, |kind| matches!(kind, ErrorKind::Trailing { .. }));
    // Order in the header and order of the data need not be the same.
    let sound =
        SafeTensors::from_bytes(Bytes::from(file(tiles(&[(5, 8), (0, 5), (5, 5)]), &[0; 8]))).unwrap();
    let names: Vec<_> = sound.entries().iter().map(|entry| entry.name()).collect();
    assert_eq!(names, ["t1", "t2", "t0"]);
}
