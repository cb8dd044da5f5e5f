//! `docs/ADDING.md` shows code of this crate and changes to files of the repository: both must be true of what is there.

use std::{collections::BTreeSet, fs, path::Path};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The blocks of one language, without their fences.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

/// The block's first line names the file: `// examples/outside-crate/src/dyt.rs`.
#[test]
fn code_of_this_crate_is_quoted_to_the_letter() {
    let text = read("docs/ADDING.md");
    let mut quoted = 0;
    for block in blocks(&text, "rust") {
        let (first, code) = block.split_once('\n').expect("a line that names the file");
        let Some(path) = first.strip_prefix("// examples/") else { continue };
        assert!(read(&format!("examples/{path}")).contains(code), "{first} has changed:\n{code}");
        quoted += 1;
    }
    assert!(quoted >= 5, "only {quoted} quotations");
}

/// What a diff keeps or takes away must stand in the file; otherwise nobody could apply it.
#[test]
fn the_changes_shown_fit_the_files_they_change() {
    let text = read("docs/ADDING.md");
    let mut changed = BTreeSet::new();
    for block in blocks(&text, "diff") {
        let mut file = None;
        for line in block.lines() {
            if let Some(path) = line.strip_prefix("--- a/") {
                changed.insert(path);
                file = Some((path, read(path)));
            } else if let (Some(old), Some((path, file))) = (line.strip_prefix([' ', '-']), &file)
                && !line.starts_with("---")
            {
                assert!(file.lines().any(|found| found == old), "{path} has no line `{old}`");
            }
        }
    }
    assert!(changed.len() >= 5, "{changed:?}");
}

/// A part that has come to the repository since is no longer an example of one that is added.
#[test]
fn what_is_shown_as_new_is_not_there_yet() {
    let text = read("docs/ADDING.md");
    let rows = text.lines().filter(|line| line.starts_with("| [")).collect::<Vec<_>>();
    let new = rows.iter().flat_map(|row| row.split('`')).filter(|word| word.starts_with("crates/"));
    let new: BTreeSet<_> = new.collect();
    assert!(rows.len() >= 10 && new.len() >= 6, "{new:?}");
    for path in new {
        assert!(
            text.contains(&format!("\n {path} ")),
            "{path} stands in the table and in no list of changes"
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        assert!(!path.exists(), "{} exists", path.display());
    }
}
