//! Models in several files: written, found, and refused where index and shards disagree.

use std::fs;
use std::path::Path;

use crate::support::file;
use formwork_formats::{Archive, ArchiveWriter, Bytes, Dtype, ErrorKind, INDEX_NAME, Layout, SINGLE_NAME};

fn save(folder: &Path, shard_bytes: u64) -> formwork_formats::Result<()> {
    let layout = Layout::new()
        .tensor("wte", Dtype::F32, &[7, 3])
        .tensor("none", Dtype::F32, &[0])
        .tensor("h.0", Dtype::Bf16, &[5])
        .tensor("h.1", Dtype::F32, &[2])
        .note("format", "pt");
    let mut writer = ArchiveWriter::create(folder, &layout, shard_bytes)?;
    for (i, tensor) in layout.tensors.iter().enumerate() {
        let len = tensor.shape.iter().product();
        writer.append_f32(&tensor.name, &vec![i as f32; len])?;
    }
    writer.finish()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn check(archive: &Archive, files: usize) {
    assert_eq!(archive.files().len(), files);
    assert_eq!(archive.metadata()["format"], "pt");
    let all: Vec<_> = archive.entries().map(|entry| entry.name()).collect();
    assert_eq!(all, ["wte", "none", "h.0", "h.1"]);
    assert_eq!(archive.len(), 4);
    assert_eq!(archive.entry("wte").unwrap().to_f32().unwrap(), [0.0; 21]);
    assert_eq!(archive.entry("h.0").unwrap().to_f32().unwrap(), [2.0; 5]);
    assert_eq!(archive.entry("h.1").unwrap().to_f32().unwrap(), [3.0; 2]);
    assert!(archive.entry("h.2").is_none());
}

#[test]
fn a_model_in_shards_is_found_by_folder_by_index_and_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), 84).unwrap();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(names(folder.path()), [shards[0], shards[1], INDEX_NAME]);
    check(&Archive::open(folder.path()).unwrap(), 2);
    check(&Archive::open(folder.path().join(INDEX_NAME)).unwrap(), 2);
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let given = shards.map(|shard| (shard.to_owned(), Bytes::from(read(shard))));
    check(&Archive::from_shards(&read(INDEX_NAME), given).unwrap(), 2);
    let one = Archive::open(folder.path().join(shards[1])).unwrap();
    assert_eq!(one.len(), 2, "a file named by itself is opened alone");
}

#[test]
fn a_model_that_fits_is_one_file_without_index() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), 1000).unwrap();
    save(folder.path(), 1000).unwrap();
    assert_eq!(names(folder.path()), [SINGLE_NAME]);
    check(&Archive::open(folder.path()).unwrap(), 1);
}

#[test]
fn shards_never_mix_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), 84).unwrap();
    let before = names(folder.path());
    for shard_bytes in [84, 20, 1000] {
        let error = save(folder.path(), shard_bytes).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::AlreadyThere { .. }), "{error}");
    }
    assert_eq!(names(folder.path()), before);
    let single = tempfile::tempdir().unwrap();
    save(single.path(), 1000).unwrap();
    assert!(matches!(save(single.path(), 84).unwrap_err().kind(), ErrorKind::AlreadyThere { .. }));
}

#[test]
fn an_abandoned_writer_leaves_an_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new().tensor("a", Dtype::F32, &[5]).tensor("b", Dtype::F32, &[7]);
    let start = || {
        let mut writer = ArchiveWriter::create(folder.path(), &layout, 0).unwrap();
        writer.append_f32("a", &[1.0; 5]).unwrap();
        writer.append_f32("b", &[1.0; 3]).unwrap();
        writer
    };
    drop(start());
    assert!(names(folder.path()).is_empty());
    let error = start().finish().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unfinished { .. }), "{error}");
    assert!(names(folder.path()).is_empty());
    let mut writer = start();
    assert!(writer.append_f32("a", &[1.0]).is_err());
    assert!(writer.finish().is_err());
    assert!(names(folder.path()).is_empty());
}

#[test]
fn shards_that_cannot_all_be_placed_are_all_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new().tensor("a", Dtype::F32, &[5]).tensor("b", Dtype::F32, &[7]);
    let mut writer = ArchiveWriter::create(folder.path(), &layout, 0).unwrap();
    writer.append_f32("a", &[1.0; 5]).unwrap();
    writer.append_f32("b", &[1.0; 7]).unwrap();
    let obstacle = "model-00002-of-00002.safetensors";
    fs::create_dir(folder.path().join(obstacle)).unwrap();
    assert!(matches!(writer.finish().unwrap_err().kind(), ErrorKind::Io { .. }));
    assert_eq!(names(folder.path()), [obstacle]);
}

#[test]
fn a_shard_that_could_not_be_begun_is_not_forgotten() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    fs::create_dir(&folder).unwrap();
    let layout = Layout::new().tensor("a", Dtype::F32, &[5]).tensor("b", Dtype::F32, &[7]);
    let mut writer = ArchiveWriter::create(&folder, &layout, 0).unwrap();
    writer.append_f32("a", &[1.0; 5]).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(writer.append_f32("b", &[1.0; 7]).unwrap_err().kind(), ErrorKind::Io { .. }));
    let error = writer.finish().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::MissingShards { expected: 2, found: 1 }), "{error}");
}

#[test]
fn a_name_in_two_shards_is_refused_before_writing() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new().tensor("a", Dtype::F32, &[5]).tensor("a", Dtype::F32, &[7]);
    let error = ArchiveWriter::create(folder.path(), &layout, 0).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DuplicateTensor), "{error}");
    assert!(names(folder.path()).is_empty());
}

/// A safetensors file of one-byte tensors.
fn shard(tensors: &[&str]) -> Vec<u8> {
    let entry = |(i, name): (usize, &&str)| {
        format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1)
    };
    let entries: Vec<_> = tensors.iter().enumerate().map(entry).collect();
    file(format!("{{{}}}", entries.join(",")), &vec![1; tensors.len()])
}

#[track_caller]
fn check_refused(
    index: &str,
    shards: &[(&str, &[&str])],
    tensor: Option<&str>,
    expected: impl Fn(&ErrorKind) -> bool,
) {
    let given = shards.iter().map(|(name, tensors)| ((*name).to_owned(), Bytes::from(shard(tensors))));
    let error = Archive::from_shards(index.as_bytes(), given).unwrap_err();
    assert!(expected(error.kind()), "{error}");
    assert_eq!(error.tensor(), tensor);
    // The same from a folder, where a shard that nobody names is nobody's business.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(INDEX_NAME), index).unwrap();
    for (name, tensors) in shards {
        fs::write(folder.path().join(name), shard(tensors)).unwrap();
    }
    if !matches!(error.kind(), ErrorKind::UnlistedShard { .. }) {
        let error = Archive::open(folder.path()).unwrap_err();
        assert!(expected(error.kind()), "{error}");
        assert!(error.file().is_some_and(|file| file.starts_with(folder.path())), "{error}");
    }
}

#[test]
fn an_index_and_shards_that_disagree_are_refused() {
    let index = r#"{"weight_map": {"x": "a", "y": "b"}}"#;
    check_refused(
        index,
        &[("a", &["x"])],
        None,
        |kind| matches!(kind, ErrorKind::MissingShard { shard } if shard == "b"),
    );
    check_refused(
        index,
        &[("a", &["x"]), ("b", &[])],
        Some("y"),
        |kind| matches!(kind, ErrorKind::NotInShard { shard, instead: None } if shard == "b"),
    );
    check_refused(
        index,
        &[("a", &["x", "y"]), ("b", &[])],
        Some("y"),
        |kind| matches!(kind, ErrorKind::NotInShard { instead: Some(instead), .. } if instead == "a"),
    );
    check_refused(
        index,
        &[("a", &["x"]), ("b", &["y", "x"])],
        Some("x"),
        |kind| matches!(kind, ErrorKind::InTwoShards { first, second } if (&**first, &**second) == ("a", "b")),
    );
    check_refused(
        index,
        &[("a", &["x"]), ("b", &["y"]), ("c", &[])],
        None,
        |kind| matches!(kind, ErrorKind::UnlistedShard { shard } if shard == "c"),
    );
}

#[test]
fn a_tensor_that_the_index_forgot_is_seen_all_the_same() {
    let given = [("a".to_owned(), Bytes::from(shard(&["x", "extra"])))];
    let archive = Archive::from_shards(br#"{"weight_map": {"x": "a"}}"#, given).unwrap();
    assert_eq!(archive.entries().map(|e| e.name()).collect::<Vec<_>>(), ["x", "extra"]);
}

#[test]
fn an_index_never_leads_out_of_its_folder() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("secret"), shard(&["x"])).unwrap();
    let folder = root.path().join("model");
    fs::create_dir(&folder).unwrap();
    let absolute = root.path().join("secret").display().to_string();
    for path in ["../secret", "./../secret", "a/../../secret", &absolute] {
        fs::write(folder.join(INDEX_NAME), format!(r#"{{"weight_map": {{"x": {path:?}}}}}"#)).unwrap();
        let error = Archive::open(&folder).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ShardOutsideFolder { .. }), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn links_are_followed_and_shards_lie_beside_the_link() {
    use std::os::unix::fs::symlink;
    let cache = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshot"));
    fs::create_dir(&blobs).unwrap();
    fs::create_dir(&snapshot).unwrap();
    let made = tempfile::tempdir().unwrap();
    save(made.path(), 84).unwrap();
    // As download caches do it: contents under a hash, the folder full of links.
    for (hash, name) in names(made.path()).iter().enumerate() {
        fs::copy(made.path().join(name), blobs.join(hash.to_string())).unwrap();
        symlink(format!("../blobs/{hash}"), snapshot.join(name)).unwrap();
    }
    check(&Archive::open(&snapshot).unwrap(), 2);
    check(&Archive::open(snapshot.join(INDEX_NAME)).unwrap(), 2);
    symlink("nowhere", snapshot.join(SINGLE_NAME)).unwrap();
    let error = Archive::open(&snapshot).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { .. }), "a dangling link is not passed over: {error}");
}

#[test]
fn a_folder_is_searched_in_a_fixed_order() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Archive::open(folder.path());
    let put = |name: &str, tensors: &[&str]| fs::write(folder.path().join(name), shard(tensors)).unwrap();
    assert!(matches!(open().unwrap_err().kind(), ErrorKind::NoWeights));
    put("model-00001-of-00002.safetensors", &["x"]);
    assert!(matches!(open().unwrap_err().kind(), ErrorKind::ShardWithoutIndex { .. }));
    fs::remove_file(folder.path().join("model-00001-of-00002.safetensors")).unwrap();
    put("adapter.safetensors", &["x"]);
    assert_eq!(open().unwrap().len(), 1);
    put("other.safetensors", &["x", "y"]);
    let error = open().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Ambiguous { found } if found.len() == 2), "{error}");
    fs::write(
        folder.path().join("a.safetensors.index.json"),
        r#"{"weight_map": {"y": "other.safetensors"}}"#,
    )
    .unwrap();
    assert_eq!(open().unwrap().len(), 2);
    put(SINGLE_NAME, &["x", "y", "z"]);
    assert_eq!(open().unwrap().len(), 3);
}

#[test]
fn a_missing_path_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = Archive::open(folder.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("check the path"), "{error}");
}
