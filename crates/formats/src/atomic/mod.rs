//! Files and folders that appear whole or not at all.
//!
//! Write to a temporary neighbour, sync it, rename it over the target, sync the folder. A process
//! killed at any moment leaves the old contents under the name, or the new; an error or a dropped
//! writer also removes the temporary. After a kill the temporary stays behind (its name begins with
//! `.formwork-`); [`remove_stale_temporaries`] clears such leftovers.
//!
//! ```
//! let folder = tempfile::tempdir().expect("a place to write");
//! let path = folder.path().join("latest");
//! formwork_formats::atomic_write(&path, b"step-7")?;
//! formwork_formats::atomic_write(&path, b"step-11")?;
//! assert_eq!(std::fs::read(&path).expect("written above").len(), 7);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

mod file;
mod folder;

pub use file::AtomicFile;
pub use folder::AtomicFolder;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::ErrorKind;
use crate::error::{Error, Result};

const PREFIX: &str = ".formwork-";
const SUFFIX: &str = ".tmp";

/// Writes `bytes` to `path` in one step: afterwards, and after a crash, `path` has its old contents
/// or all of the new.
///
/// # Errors
/// The folder of `path` is missing or cannot be written, or the disk is full; the old contents are
/// untouched unless only the last sync of the folder failed.
pub fn atomic_write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(&path)?;
    file.write_all(bytes)
        .map_err(|source| Error::io("write the file", source).in_file(Some(path.as_ref())))?;
    file.commit()
}

/// Removes what killed writers left behind in `folder` (not in its subfolders); returns how many.
///
/// Call it only while nothing else writes into `folder`: the temporaries of a living writer look
/// the same as those of a dead one.
///
/// # Errors
/// The folder cannot be listed or a leftover cannot be removed.
pub fn remove_stale_temporaries(folder: impl AsRef<Path>) -> Result<usize> {
    let folder = folder.as_ref();
    let sweep = || -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(is_temporary) {
                continue;
            }
            // `file_type` does not follow links: a link is removed, never what it points to.
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
            removed += 1;
        }
        Ok(removed)
    };
    sweep().map_err(|source| Error::io("remove leftovers from the folder", source).in_file(Some(folder)))
}

fn is_temporary(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The folder that holds `target`: `"x"` lies in `"."`.
fn folder_of(target: &Path) -> Result<&Path> {
    if target.file_name().is_none() {
        return Err(Error::from(ErrorKind::NoFileName).in_file(Some(target)));
    }
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Ok(parent),
        _ => Ok(Path::new(".")),
    }
}

/// Tries temporary names beside `target` until `create` finds one free.
fn temporary<T>(target: &Path, create: impl Fn(&Path) -> io::Result<T>) -> Result<(PathBuf, T)> {
    let folder = folder_of(target)?;
    // The name says nothing about the target, so that it is not too long where the target's is not,
    // and needs neither clock nor process id: creation is exclusive, the next number is tried.
    let mut number = 0u32;
    loop {
        let path = folder.join(format!("{PREFIX}{number}{SUFFIX}"));
        match create(&path) {
            Ok(made) => return Ok((path, made)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100_000 => number += 1,
            Err(source) => {
                return Err(Error::io("create a temporary file beside it", source).in_file(Some(target)));
            }
        }
    }
}

/// Makes names in `folder` survive a power cut. Only Unix can open a folder to sync it.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leftovers_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".formwork-0.tmp", ".formwork-17.tmp", ".formwork-x.tmp", ".formwork-.tmp", "model"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        fs::create_dir(folder.path().join(".formwork-3.tmp")).unwrap();
        fs::write(folder.path().join(".formwork-3.tmp/inner"), b"x").unwrap();
        assert_eq!(remove_stale_temporaries(folder.path()).unwrap(), 3);
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".formwork-.tmp", ".formwork-x.tmp", "model"]);
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        for path in ["/", "..", ""] {
            let error = atomic_write(path, b"x").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NoFileName), "{error}");
        }
    }

    #[test]
    fn a_missing_folder_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = atomic_write(folder.path().join("none/file"), b"x").unwrap_err().to_string();
        assert!(error.contains("none/file") && error.contains("create its folder"), "{error}");
    }
}
