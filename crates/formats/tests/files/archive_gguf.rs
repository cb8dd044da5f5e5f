//! A GGUF file behind the same door as safetensors.

use std::path::Path;

use crate::support_gguf::sound;
use formwork_formats::gguf::Gguf;
use formwork_formats::{Archive, Bytes, Dtype, ErrorKind, Layout, Writer};

fn check(archive: &Archive, file: Option<&Path>) {
    assert_eq!((archive.len(), archive.is_empty(), archive.files().len()), (7, false, 0));
    assert_eq!(archive.entries().count(), 7);
    let entry = archive.entry("token_embd.weight").unwrap();
    assert_eq!((entry.dtype(), entry.shape(), entry.file()), (Dtype::F32, &[2, 3][..], file));
    assert_eq!(entry.rows(1..2).unwrap().bytes()[..], sound().data[12..24]);
    assert!(archive.entry("missing").is_none());
    let metadata = archive.gguf().unwrap().metadata();
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("llama"));
}

#[test]
fn a_gguf_file_is_an_archive() {
    let bytes = sound().build();
    check(&Archive::from_bytes(bytes.clone()).unwrap(), None);
    check(&Archive::from(Gguf::from_bytes(bytes.clone()).unwrap()), None);
    let folder = tempfile::tempdir().unwrap();
    // By its name, by its first bytes alone, and as the only weights of a folder.
    for name in ["model-q4.gguf", "blob"] {
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        check(&Archive::open(&path).unwrap(), Some(&path));
    }
    check(&Archive::open(folder.path()).unwrap(), Some(&folder.path().join("model-q4.gguf")));
}

#[test]
fn a_folder_prefers_safetensors_and_refuses_to_choose_between_two() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.gguf"), sound().build()).unwrap();
    std::fs::write(folder.path().join("b.gguf"), sound().build()).unwrap();
    let error = Archive::open(folder.path()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Ambiguous { found } if found.len() == 2), "{error}");
    let path = folder.path().join("model.safetensors");
    Writer::create(&path, &Layout::new()).unwrap().finish().unwrap();
    let archive = Archive::open(folder.path()).unwrap();
    assert!(archive.gguf().is_none() && archive.files().len() == 1);
}

#[test]
fn values_outlive_the_file_they_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, sound().build()).unwrap();
    let metadata = Gguf::open(&path).unwrap().metadata().clone();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(metadata.strings("tokens").unwrap().unwrap().len(), 3);
    assert_eq!(metadata.get("k.raw").unwrap().as_bytes(), Some(&Bytes::from_static(b"\xff\xfe")[..]));
}
