//! What is written as GGUF is what is read: every kind, type and alignment, in memory and mapped.

use std::path::Path;

use crate::support::Numbers;
use crate::support_gguf::sound;
use formwork_formats::gguf::{Gguf, Layout, Metadata, Value, Writer};
use formwork_formats::{Bytes, Dtype, Entry};

const KNOWN: [Dtype; 18] = [
    Dtype::F64,
    Dtype::F32,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::I64,
    Dtype::I32,
    Dtype::I16,
    Dtype::I8,
    Dtype::Q4_0,
    Dtype::Q4_1,
    Dtype::Q5_0,
    Dtype::Q5_1,
    Dtype::Q8_0,
    Dtype::Q2_K,
    Dtype::Q3_K,
    Dtype::Q4_K,
    Dtype::Q5_K,
    Dtype::Q6_K,
];

/// Every kind of value, alone and in arrays, and every type in several shapes.
fn layout(alignment: u32) -> Layout {
    let mut layout = Layout::new()
        .set("general.alignment", alignment)
        .set("u8", 200u8)
        .set("i8", -7i8)
        .set("u16", 60_000u16)
        .set("i16", -300i16)
        .set("u32", u32::MAX)
        .set("i32", i32::MIN)
        .set("f32", 0.1f32)
        .set("bool", true)
        .set("text", "é \"\n\0")
        .set("raw", Value::String(Bytes::from(vec![0xff, 0x00])))
        .set("u64", u64::MAX)
        .set("i64", i64::MIN)
        .set("f64", 1e-300)
        .set("as.u8", vec![1u8, 255])
        .set("as.i8", vec![-1i8])
        .set("as.u16", vec![1u16, 2])
        .set("as.i16", vec![-1i16, 2])
        .set("as.u32", vec![u32::MAX])
        .set("as.i32", vec![i32::MIN, 5])
        .set("as.f32", vec![f32::MIN_POSITIVE, -0.0])
        .set("as.bool", vec![true, false, true])
        .set("as.u64", vec![u64::MAX])
        .set("as.i64", vec![i64::MIN])
        .set("as.f64", vec![1e300, 0.1])
        .set("as.text", Value::strings(["a", "", "κόσμος"]))
        .set("as.raw", Value::strings([&b"\xff"[..], b""]))
        .set("as.nothing", Vec::<f32>::new())
        .set("ключ", 1u8);
    for dtype in KNOWN {
        let n = dtype.block();
        for (i, shape) in [&[n][..], &[3, n], &[2, 0, n], &[5, 0], &[2, 3, 5, 2 * n]].iter().enumerate() {
            layout = layout.tensor(format!("{dtype}.{i}"), dtype, shape);
        }
        if n == 1 {
            layout = layout.tensor(format!("{dtype} é"), dtype, &[]);
        }
    }
    layout
}

fn contents(i: usize, len: usize) -> Vec<u8> {
    let mut numbers = Numbers(i as u64);
    (0..len).map(|_| numbers.next() as u8).collect()
}

fn write(mut writer: Writer<'_>, layout: &Layout) {
    for (i, tensor) in layout.tensors.iter().enumerate() {
        let bytes = contents(i, tensor.bytes().unwrap() as usize);
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        writer.append_bytes(&tensor.name, first).unwrap();
        if !rest.is_empty() {
            writer.append_bytes(&tensor.name, rest).unwrap();
        }
    }
    writer.finish().unwrap();
}

fn check(file: &Gguf, layout: &Layout, path: Option<&Path>) {
    assert_eq!(file.metadata(), &layout.metadata);
    assert_eq!(file.entries().len(), layout.tensors.len());
    for (i, (tensor, entry)) in layout.tensors.iter().zip(file.entries()).enumerate() {
        assert_eq!(
            (entry.name(), entry.dtype(), entry.shape()),
            (&*tensor.name, tensor.dtype, &tensor.shape[..])
        );
        assert!(std::ptr::eq(file.entry(&tensor.name).unwrap(), entry));
        assert_eq!(entry.bytes()[..], contents(i, entry.bytes().len()), "{}", tensor.name);
        assert_eq!(entry.file(), path);
    }
}

#[test]
fn every_kind_and_type_survives_memory_and_mapping() {
    for alignment in [1u32, 32, 64, 1 << 15] {
        let layout = layout(alignment);
        let mut memory = Vec::new();
        write(Writer::new(&mut memory, &layout).unwrap(), &layout);
        let file = Gguf::from_bytes(memory.clone()).unwrap();
        check(&file, &layout, None);
        // The first tensor begins at the alignment too, as the header's own test says.
        let address = |entry: &Entry| entry.bytes().as_ptr() as usize;
        for entry in file.entries() {
            let offset = address(entry) - address(&file.entries()[0]);
            assert_eq!(offset % alignment as usize, 0, "{}", entry.name());
        }

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        write(Writer::create(&path, &layout).unwrap(), &layout);
        assert_eq!(std::fs::read(&path).unwrap(), memory);
        check(&Gguf::open(&path).unwrap(), &layout, Some(&path));
    }
}

#[test]
fn a_file_that_was_read_is_written_with_the_same_bytes() {
    let bytes = sound().build();
    let file = Gguf::from_bytes(bytes.clone()).unwrap();
    let mut layout = Layout { metadata: file.metadata().clone(), tensors: Vec::new() };
    for entry in file.entries() {
        layout = layout.tensor(entry.name(), entry.dtype(), entry.shape());
    }
    let mut again = Vec::new();
    let mut writer = Writer::new(&mut again, &layout).unwrap();
    for entry in file.entries() {
        writer.append_bytes(entry.name(), entry.bytes()).unwrap();
    }
    writer.finish().unwrap();
    // All but the padding, which the file built by hand does not leave zero.
    let header = bytes.len() - 352;
    assert_eq!((again.len(), &again[..header]), (bytes.len(), &bytes[..header]));
    let again = Gguf::from_bytes(again).unwrap();
    for (a, b) in file.entries().iter().zip(again.entries()) {
        assert_eq!((a.name(), a.bytes()), (b.name(), b.bytes()));
    }
}

#[test]
fn numbers_are_rounded_to_the_declared_type() {
    let values = [1.0f32, -2.5, 0.1, 65504.0, 1e-7];
    let dtypes = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16];
    let layout = dtypes.iter().fold(Layout::new(), |layout, dtype| layout.tensor(dtype.name(), *dtype, &[5]));
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &layout).unwrap();
    for dtype in dtypes {
        writer.append_f32(dtype.name(), &values[..2]).unwrap();
        writer.append_f64(dtype.name(), &values.map(f64::from)[2..]).unwrap();
    }
    writer.finish().unwrap();
    let file = Gguf::from_bytes(file).unwrap();
    let read = |dtype: Dtype| file.entry(dtype.name()).unwrap().to_f32().unwrap();
    assert_eq!(read(Dtype::F64), values);
    assert_eq!(read(Dtype::F32), values);
    assert_eq!(read(Dtype::F16), values.map(|v| half::f16::from_f32(v).to_f32()));
    assert_eq!(read(Dtype::Bf16), values.map(|v| half::bf16::from_f32(v).to_f32()));
}

#[test]
fn a_writer_that_is_dropped_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, b"old").unwrap();
    let layout = Layout::new().tensor("x", Dtype::Q8_0, &[64]);
    let mut writer = Writer::create(&path, &layout).unwrap();
    writer.append_bytes("x", &[0; 34]).unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!((error.tensor(), error.file()), (Some("x"), Some(&*path)));
    // Nothing to write it with, and nothing begun.
    assert!(Writer::create(&path, &layout.clone().set("split.count", 3u16)).is_err());
    let mut writer = Writer::create(&path, &layout).unwrap();
    assert!(writer.append_f32("x", &[0.0; 64]).is_err(), "blocks are encoded elsewhere");
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn metadata_can_be_changed_and_keeps_its_order() {
    let file = Gguf::from_bytes(sound().build()).unwrap();
    let mut metadata: Metadata = file.metadata().clone();
    metadata.set("k.u8", "a text now");
    metadata.set("last", 1u8);
    let keys: Vec<&str> = metadata.iter().map(|(key, _)| key).collect();
    assert_eq!((keys[1], keys[keys.len() - 1]), ("k.u8", "last"));
    assert_eq!(metadata.str("k.u8").unwrap(), Some("a text now"));
}
