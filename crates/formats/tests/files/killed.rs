//! A writer that dies: the old file is whole, whatever the moment.

use std::fs;
use std::path::Path;
use std::process::Command;

use formwork_formats::{Archive, AtomicFolder, Dtype, Layout, SafeTensors, Writer, remove_stale_temporaries};

/// Says to the copy of this test that it is the one to die, and where.
const VICTIM: &str = "FORMWORK_TEST_VICTIM";
const ROWS: usize = 1009;

fn begin(path: &Path, value: f32) -> Writer<'static> {
    let layout = Layout::new().tensor("a", Dtype::F32, &[ROWS, 101]).tensor("b", Dtype::F32, &[ROWS]);
    let mut writer = Writer::create(path, &layout).unwrap();
    writer.append_f32("a", &vec![value; ROWS * 101]).unwrap();
    writer
}

fn save(path: &Path, value: f32) {
    let mut writer = begin(path, value);
    writer.append_f32("b", &[value; ROWS]).unwrap();
    writer.finish().unwrap();
}

fn check_old(path: &Path) {
    let file = SafeTensors::open(path).unwrap();
    for entry in file.entries() {
        assert!(entry.to_f32().unwrap().iter().all(|&v| v == 1.0));
    }
}

#[test]
fn a_killed_writer_loses_nothing_and_its_leftovers_can_be_swept() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        let folder = Path::new(&folder);
        let _half = begin(&folder.join("model.safetensors"), 2.0);
        let checkpoint = AtomicFolder::create(folder.join("step-7")).unwrap();
        save(&checkpoint.path().join("model.safetensors"), 2.0);
        // No destructor runs, as when the system kills a process.
        std::process::abort();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    save(&path, 1.0);
    let name = "killed::a_killed_writer_loses_nothing_and_its_leftovers_can_be_swept";
    let victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(VICTIM, folder.path())
        .output()
        .unwrap();
    assert!(!victim.status.success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "the file and two leftovers");
    check_old(&path);
    assert!(Archive::open(folder.path().join("step-7")).is_err());
    assert_eq!(Archive::open(folder.path()).unwrap().len(), 2, "leftovers are not seen as weights");
    assert_eq!(remove_stale_temporaries(folder.path()).unwrap(), 2);
    check_old(&path);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_error_in_the_middle_leaves_the_old_file_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    save(&path, 1.0);
    let failures: [fn(Writer<'static>); 3] = [
        drop,
        |writer| assert!(writer.finish().is_err()),
        |mut writer| {
            assert!(writer.append_f32("c", &[2.0]).is_err());
            assert!(writer.append_f32("b", &[2.0; ROWS]).is_err());
            assert!(writer.finish().is_err());
        },
    ];
    for fail in failures {
        fail(begin(&path, 2.0));
        check_old(&path);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    save(&path, 3.0);
    assert_eq!(SafeTensors::open(&path).unwrap().entry("b").unwrap().to_f32().unwrap(), [3.0; ROWS]);
}

#[test]
fn a_layout_that_cannot_be_written_touches_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new().tensor("x", Dtype::U8, &[1]).tensor("x", Dtype::U8, &[1]);
    let error = Writer::create(folder.path().join("m"), &layout).unwrap_err();
    assert_eq!(error.file(), Some(&*folder.path().join("m")));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
