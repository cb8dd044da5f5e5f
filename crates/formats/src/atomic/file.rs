//! One file that replaces another in one step.
//!
//! ```
//! use std::io::Write;
//! let folder = tempfile::tempdir().expect("a place to write");
//! let path = folder.path().join("config.json");
//! let mut file = formwork_formats::AtomicFile::create(&path)?;
//! file.write_all(b"{}").expect("room on the disk");
//! assert!(!path.exists()); // not before all of it is there
//! file.commit()?;
//! assert_eq!(std::fs::metadata(&path).expect("it is there now").len(), 2);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{folder_of, sync_folder, temporary};
use crate::error::{Error, Result};

/// A file being written under a temporary name; [`AtomicFile::commit`] gives it its own.
///
/// Dropped without a commit, it removes the temporary and the target keeps its old contents. Where
/// the target is a symbolic link, the link is replaced and what it points to stays as it was. The
/// new file has the permissions of any newly created one.
#[derive(Debug)]
pub struct AtomicFile {
    // `None` once the contents are synced and the handle closed, which renaming needs on Windows.
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Opens a temporary file in the folder of `path`.
    ///
    /// # Errors
    /// The folder is missing or cannot be written to, `path` ends in no name, or a device, a pipe or a socket is there,
    /// which cannot have contents in one step and must not be replaced by a file.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let target = path.as_ref().to_path_buf();
        if fs::metadata(&target).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            let source =
                io::Error::new(io::ErrorKind::InvalidInput, "it is no file but a device, a pipe or a socket");
            return Err(Error::io("replace it by a file", source).in_file(Some(&target)));
        }
        let (temporary, file) =
            temporary(&target, |path| File::options().write(true).create_new(true).open(path))?;
        let file = Some(BufWriter::with_capacity(1 << 17, file));
        Ok(Self { file, temporary, target, committed: false })
    }

    /// Where the file will appear.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Flushes to the disk and closes, without giving the file its name yet.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(|source| Error::io("write the file to the disk", source).in_file(Some(&self.target)))
    }

    /// Puts the file in place: flush, sync, rename, sync the folder.
    ///
    /// # Errors
    /// The disk is full or failing, or the target is a folder. The target then has its old contents;
    /// only if the last step fails it has the new ones, which a power cut might still lose.
    pub fn commit(mut self) -> Result<()> {
        self.sync()?;
        let rename = fs::rename(&self.temporary, &self.target);
        rename.map_err(|source| {
            Error::io("rename the finished file into place", source).in_file(Some(&self.target))
        })?;
        self.committed = true;
        sync_folder(folder_of(&self.target)?)
            .map_err(|source| Error::io("sync the folder", source).in_file(Some(&self.target)))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // Without `into_parts`, the buffer would still be written out to a file nobody wants.
        drop(self.file.take().map(BufWriter::into_parts));
        if !self.committed {
            // Nothing more can be done about a failure here, and nothing but the leftover remains.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_dropped_writer_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(&[7; 1 << 19]).unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        drop(file);
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn two_writers_at_once_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut first = AtomicFile::create(&path).unwrap();
        let mut second = AtomicFile::create(&path).unwrap();
        first.write_all(b"first").unwrap();
        second.write_all(b"second").unwrap();
        second.commit().unwrap();
        first.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_target_that_is_a_folder_is_an_error_and_no_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::create_dir(&path).unwrap();
        let error = AtomicFile::create(&path).unwrap().commit().unwrap_err();
        assert_eq!(error.file(), Some(&*path));
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_file_is_not_replaced() {
        use std::os::unix::{fs::FileTypeExt, net::UnixListener};
        let folder = tempfile::tempdir().unwrap();
        let (socket, link) = (folder.path().join("socket"), folder.path().join("link"));
        let _listener = UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for path in [&socket, &link] {
            let error = AtomicFile::create(path).unwrap_err();
            assert!(error.to_string().contains("a device, a pipe or a socket"), "{error}");
            assert_eq!(error.file(), Some(&**path));
        }
        assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket() && link.is_symlink());
        assert_eq!(names(folder.path()), ["link", "socket"]);
    }

    #[test]
    #[cfg(unix)]
    fn a_link_is_replaced_and_what_it_points_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (blob, link) = (folder.path().join("blob"), folder.path().join("link"));
        fs::write(&blob, b"shared").unwrap();
        std::os::unix::fs::symlink(&blob, &link).unwrap();
        super::super::atomic_write(&link, b"new").unwrap();
        assert_eq!(fs::read(&blob).unwrap(), b"shared");
        assert_eq!(fs::read(&link).unwrap(), b"new");
        assert!(!link.is_symlink());
    }
}
