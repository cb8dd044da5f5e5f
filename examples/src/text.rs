//! Text that every clone of the repository has: its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use formwork::{At, Error, Result};

/// The repository's documentation and sources, one file after another, in an order that mixes the crates.
///
/// # Errors
/// A repository that cannot be read.
pub fn repository_text() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for place in ["README.md", "CHANGELOG.md", "docs", "crates", "examples", "benches"] {
        collect(&root.join(place), &mut files)?;
    }
    // By a hash of the name: the held-out end is then a sample of everything, not the last crate.
    files.sort_by_key(|path| (scatter(path.strip_prefix(root).unwrap_or(path)), path.clone()));
    let mut text = String::new();
    for path in files {
        text.push_str(&fs::read_to_string(&path).map_err(Error::external).in_file(path.display())?);
        text.push('\n');
    }
    Ok(text)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::external).in_file(path.display())? {
            let path = entry.map_err(Error::external)?.path();
            let built = path.file_name().is_some_and(|name| name == "target");
            if !built {
                collect(&path, files)?;
            }
        }
    } else if path.extension().is_some_and(|e| e == "rs" || e == "md") {
        files.push(path.to_owned());
    }
    Ok(())
}

fn scatter(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
