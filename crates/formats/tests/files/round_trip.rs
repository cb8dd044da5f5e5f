//! What is written is what is read: every type and shape, from bytes, read files and mapped ones.

use std::path::Path;

use crate::support::Numbers;
use formwork_formats::{Archive, Bytes, Dtype, Layout, SafeTensors, Writer};

const SHAPES: [&[usize]; 7] = [&[], &[0], &[7], &[2, 3], &[5, 0, 2], &[2, 3, 5, 7], &[1, 1, 1, 1]];

/// Every type in every shape, in an order that leaves many of them unaligned, under odd names.
fn layout() -> Layout {
    let mut layout = Layout::new().note("format", "pt").note("ключ \"\n", "\\ 値");
    for dtype in Dtype::ALL.into_iter().filter(|dtype| !dtype.is_blocks()).rev() {
        for (i, shape) in SHAPES.iter().enumerate() {
            layout = layout.tensor(format!("{dtype}.{i} é\"\\\u{1}"), dtype, shape);
        }
    }
    layout.tensor("n".repeat(10_000), Dtype::F32, &[1]).tensor("", Dtype::U8, &[1])
}

fn contents(i: usize, len: usize) -> Vec<u8> {
    let mut numbers = Numbers(i as u64);
    (0..len).map(|_| numbers.next() as u8).collect()
}

fn write(writer: &mut Writer<'_>, layout: &Layout) {
    for (i, tensor) in layout.tensors.iter().enumerate() {
        let bytes = contents(i, tensor.dtype.size_of(&tensor.shape).unwrap());
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        writer.append_bytes(&tensor.name, first).unwrap();
        if !rest.is_empty() {
            writer.append_bytes(&tensor.name, rest).unwrap();
        }
    }
}

fn check(file: &SafeTensors, layout: &Layout, path: Option<&Path>) {
    assert_eq!(file.metadata(), &layout.metadata);
    assert_eq!(file.entries().len(), layout.tensors.len());
    for (i, tensor) in layout.tensors.iter().enumerate() {
        let entry = file.entry(&tensor.name).unwrap();
        assert_eq!((entry.dtype(), entry.shape()), (tensor.dtype, &tensor.shape[..]));
        assert_eq!(entry.bytes()[..], contents(i, entry.bytes().len()), "{}", tensor.name);
        assert_eq!(entry.file(), path);
    }
}

#[test]
fn every_type_and_shape_survives_memory_reading_and_mapping() {
    let layout = layout();
    let mut memory = Vec::new();
    let mut writer = Writer::new(&mut memory, &layout).unwrap();
    write(&mut writer, &layout);
    writer.finish().unwrap();
    check(&SafeTensors::from_bytes(Bytes::from(memory.clone())).unwrap(), &layout, None);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut writer = Writer::create(&path, &layout).unwrap();
    write(&mut writer, &layout);
    writer.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), memory);
    let opened = SafeTensors::open(&path).unwrap();
    assert!(opened.entries().iter().all(|entry| entry.bytes().is_mapped() == cfg!(feature = "mmap")));
    check(&opened, &layout, Some(&path));
    check(&SafeTensors::from_bytes(Bytes::read(&path).unwrap()).unwrap(), &layout, None);
}

#[test]
fn an_entry_outlives_its_archive_and_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let save = |value: f32| {
        let mut writer = Writer::create(&path, &Layout::new().tensor("x", Dtype::F32, &[11])).unwrap();
        writer.append_f32("x", &[value; 11]).unwrap();
        writer.finish().unwrap();
    };
    save(1.0);
    let entry = Archive::open(&path).unwrap().entry("x").unwrap().clone();
    // Replacing the file under a mapped one is what a training run does to its last checkpoint.
    save(2.0);
    assert_eq!(entry.to_f32().unwrap(), [1.0; 11]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(entry.to_f32().unwrap(), [1.0; 11]);
}

#[test]
fn an_unaligned_tensor_is_copied_and_an_aligned_one_seen_in_place() {
    let values = [1.5f32, -0.0, 3.25e-41, f32::INFINITY, -7.0];
    let folder = tempfile::tempdir().unwrap();
    for odd in 0..8usize {
        let path = folder.path().join(odd.to_string());
        let layout = Layout::new().tensor("odd", Dtype::U8, &[odd]).tensor("x", Dtype::F32, &[5]);
        let mut writer = Writer::create(&path, &layout).unwrap();
        writer.append_bytes("odd", &vec![9; odd]).unwrap();
        writer.append_f32("x", &values).unwrap();
        writer.finish().unwrap();
        let archive = Archive::open(&path).unwrap();
        let entry = archive.entry("x").unwrap();
        let bits = |numbers: &[f32]| numbers.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&entry.to_f32().unwrap()), bits(&values));
        let view = entry.as_f32();
        // A map begins at a page; memory begins where the allocator likes, and says so itself.
        let aligned = entry.bytes().as_ptr().align_offset(4) == 0;
        assert_eq!(view.is_some(), aligned && cfg!(target_endian = "little"));
        if entry.bytes().is_mapped() {
            assert_eq!(aligned, odd % 4 == 0);
        }
        if let Some(view) = view {
            assert_eq!(view.as_ptr().cast::<u8>(), entry.bytes().as_ptr(), "seen in place, not copied");
            drop(archive);
            assert_eq!(bits(&view), bits(&values));
        }
    }
}

#[test]
fn floats_are_rounded_to_the_declared_type_and_widened_exactly() {
    let values = [0.0f32, 1.0, -2.5, 0.1, 1.0 / 3.0, 65504.0, -1e-7];
    type Round = fn(f32) -> f64;
    let expected: [(Dtype, Round); 4] = [
        (Dtype::F64, f64::from),
        (Dtype::F32, f64::from),
        (Dtype::F16, |v| half::f16::from_f32(v).to_f64()),
        (Dtype::Bf16, |v| half::bf16::from_f32(v).to_f64()),
    ];
    let layout =
        expected.iter().fold(Layout::new(), |layout, (dtype, _)| layout.tensor(dtype.name(), *dtype, &[7]));
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &layout).unwrap();
    for (dtype, _) in expected {
        writer.append_f32(dtype.name(), &values).unwrap();
    }
    writer.finish().unwrap();
    let file = SafeTensors::from_bytes(Bytes::from(file)).unwrap();
    for (dtype, round) in expected {
        let entry = file.entry(dtype.name()).unwrap();
        assert_eq!(entry.to_f64().unwrap(), values.map(round), "{dtype}");
        assert_eq!(entry.to_f32().unwrap(), values.map(|v| round(v) as f32), "{dtype}");
    }
}

#[test]
fn the_same_numbers_give_the_same_bytes() {
    let save = || {
        let mut out = Vec::new();
        let layout = layout();
        let mut writer = Writer::new(&mut out, &layout).unwrap();
        write(&mut writer, &layout);
        writer.finish().unwrap();
        out
    };
    assert_eq!(save(), save());
}
