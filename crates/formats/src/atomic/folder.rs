//! A folder that appears with all its files or not at all.
//!
//! What a checkpoint of several files needs: while the folder has its name, everything in it is
//! complete and on the disk, so that a reader needs no manifest to know.
//!
//! ```
//! let root = tempfile::tempdir().expect("a place to write");
//! let step = root.path().join("step-7");
//! let folder = formwork_formats::AtomicFolder::create(&step)?;
//! std::fs::write(folder.path().join("config.json"), "{}").expect("room on the disk");
//! assert!(!step.exists());
//! folder.commit()?;
//! assert_eq!(std::fs::read_dir(&step).expect("it is there now").count(), 1);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{folder_of, sync_folder, temporary};
use crate::ErrorKind;
use crate::error::{Error, Result};

/// A folder being filled under a temporary name; [`AtomicFolder::commit`] gives it its own.
///
/// Dropped without a commit, it is removed with all that was written into it. It never replaces a
/// folder that exists, since no portable rename swaps two folders in one step: give each checkpoint
/// a name of its own and let a small file, written with [`atomic_write`](crate::atomic_write), say
/// which is the latest.
#[derive(Debug)]
pub struct AtomicFolder {
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl AtomicFolder {
    /// Creates the temporary folder beside `target`.
    ///
    /// # Errors
    /// `target` exists already, or its parent is missing or cannot be written to.
    pub fn create(target: impl AsRef<Path>) -> Result<Self> {
        let target = target.as_ref().to_path_buf();
        refuse_existing(&target)?;
        let (temporary, ()) = temporary(&target, |path| fs::create_dir(path))?;
        Ok(Self { temporary, target, committed: false })
    }

    /// The folder to write into now.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Where the folder will appear.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Syncs every file and folder inside, gives the folder its name, syncs its parent.
    ///
    /// # Errors
    /// `target` has appeared meanwhile, or the disk is failing; the folder is then removed.
    pub fn commit(mut self) -> Result<()> {
        let failed = |action, source| Error::io(action, source).in_file(Some(&self.target));
        sync_tree(&self.temporary).map_err(|source| failed("write the folder to the disk", source))?;
        refuse_existing(&self.target)?;
        fs::rename(&self.temporary, &self.target)
            .map_err(|source| failed("rename the finished folder into place", source))?;
        let synced =
            sync_folder(folder_of(&self.target)?).map_err(|source| failed("sync the folder", source));
        self.committed = true;
        synced
    }
}

fn refuse_existing(target: &Path) -> Result<()> {
    // Also a dangling link is something that exists.
    if fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    let found = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(Error::from(ErrorKind::AlreadyThere { found }).in_file(Some(target)))
}

fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            // Windows syncs only through a handle that may write.
            fs::File::options().read(true).write(!cfg!(unix)).open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done about a failure here, and nothing but the leftover remains.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_folder_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = AtomicFolder::create(root.path().join("step")).unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), b"x").unwrap();
        drop(folder);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_appears_with_all_its_files() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("step");
        let folder = AtomicFolder::create(&target).unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), b"x").unwrap();
        folder.commit().unwrap();
        assert_eq!(fs::read(target.join("inner/file")).unwrap(), b"x");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_exists_is_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("step");
        let late = AtomicFolder::create(&target).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(target.join("file"), b"old").unwrap();
        for error in [AtomicFolder::create(&target).unwrap_err(), late.commit().unwrap_err()] {
            assert!(matches!(error.kind(), ErrorKind::AlreadyThere { .. }), "{error}");
        }
        assert_eq!(fs::read(target.join("file")).unwrap(), b"old");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
