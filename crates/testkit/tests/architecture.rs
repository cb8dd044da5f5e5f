//! The layers of the workspace, held by a test: which crate may depend on which, who may write `unsafe`, who may
//! touch files, who may read the environment. A new edge is a line in this table, and a decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

/// A member of the workspace and the members it may depend on, from the ground up.
const LAYERS: &[(&str, &[&str])] = &[
    // Arithmetic and bytes.
    ("kernels", &[]),
    ("formats", &[]),
    // Numbers.
    ("tensor", &["kernels"]),
    // The waist.
    ("module", &["kernels", "tensor"]),
    // Parts: the waist and what is under it, never each other.
    ("activation", PART),
    ("attention", PART),
    ("checkpoint", PART),
    ("feedforward", PART),
    ("generate", PART),
    ("norm", PART),
    ("position", PART),
    ("quant", PART),
    ("tokenizer", PART),
    ("train", PART),
    // Assembly: the parts that a model is made of.
    (
        "model",
        &[
            "activation",
            "attention",
            "checkpoint",
            "feedforward",
            "kernels",
            "module",
            "norm",
            "position",
            "tensor",
        ],
    ),
    // Recipes and the front see everything below.
    ("recipes", BELOW_RECIPES),
    ("formwork", BELOW_FRONT),
    // Programs use the front alone, as a stranger would.
    ("cli", &["formwork"]),
    ("examples", &["formwork"]),
    ("benches", &["formwork"]),
    // Beside: for tests alone.
    ("testkit", &["kernels", "tensor"]),
];

const PART: &[&str] = &["formats", "kernels", "module", "tensor"];

const BELOW_RECIPES: &[&str] = &[
    "activation",
    "attention",
    "checkpoint",
    "feedforward",
    "formats",
    "generate",
    "kernels",
    "model",
    "module",
    "norm",
    "position",
    "quant",
    "tensor",
    "tokenizer",
    "train",
];

const BELOW_FRONT: &[&str] = &[
    "activation",
    "attention",
    "checkpoint",
    "feedforward",
    "formats",
    "generate",
    "kernels",
    "model",
    "module",
    "norm",
    "position",
    "quant",
    "recipes",
    "tensor",
    "tokenizer",
    "train",
];

/// Beyond the edges above, what tests of a crate may use: the harness, and safetensors, in which goldens are kept.
const DEV_ONLY: &[&str] = &["testkit", "formats"];

/// Crates that may contain `unsafe`: kernels, the memory map of formats, the counting allocator of testkit.
const UNSAFE: &[&str] = &["kernels", "formats", "testkit"];

/// Crates whose code may touch files; programs are free to.
const FILES: &[&str] = &["formats", "train", "recipes", "cli", "examples", "benches"];

/// Crates whose code may read the environment: the command, the documented override of kernels, and for tests the number
/// of damaged files to try.
const ENVIRONMENT: &[&str] = &["cli", "kernels", "testkit"];

struct Member {
    name: String,
    folder: PathBuf,
    manifest: Table,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn members() -> Vec<Member> {
    let crates = fs::read_dir(root().join("crates")).expect("the folder of crates");
    let mut folders: Vec<_> = crates.map(|entry| entry.expect("an entry of the folder").path()).collect();
    folders.extend(["examples", "benches"].map(|name| root().join(name)));
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    folders.sort();
    let read = |folder: PathBuf| {
        let text = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let manifest = text.parse().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let name = folder.file_name().expect("a folder").to_string_lossy().into_owned();
        Member { name, folder, manifest }
    };
    folders.into_iter().map(read).collect()
}

/// The members of the workspace among the dependencies of one kind, those of targets included.
fn edges(manifest: &Table, kind: &str) -> BTreeSet<String> {
    let own = |dependencies: &Value| -> Vec<String> {
        let keys = dependencies.as_table().into_iter().flat_map(Table::keys);
        let names =
            keys.filter(|k| k.starts_with("formwork")).map(|k| k.trim_start_matches("formwork-").to_string());
        names.collect()
    };
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = targets.filter_map(|target| target.get(kind)).chain(manifest.get(kind));
    tables.flat_map(own).collect()
}

fn allowed() -> BTreeMap<&'static str, BTreeSet<String>> {
    LAYERS.iter().map(|(name, below)| (*name, below.iter().map(|b| b.to_string()).collect())).collect()
}

/// Every Rust file under a folder of a member, as its path and text.
fn sources(member: &Member, folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![member.folder.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry of the folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                files.push((path, text));
            }
        }
    }
    files
}

/// The lines of a file that are neither comments nor after the start of its tests, which stand last.
///
/// A module of tests in a file of its own is declared anywhere, so only one with a body ends the code.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim_start()));
    lines
        .take_while(|(_, line)| !(line.starts_with("mod tests") && line.contains('{')))
        .filter(|(_, line)| !line.starts_with("//"))
}

/// Panics with every place outside `allowed` crates where a line of code contains one of `words`.
#[track_caller]
fn only_in(allowed: &[&str], words: &[&str], why: &str) {
    let mut found = Vec::new();
    for member in members().iter().filter(|m| !allowed.contains(&m.name.as_str())) {
        for (path, text) in sources(member, "src") {
            for (number, line) in code(&text).filter(|(_, line)| words.iter().any(|w| line.contains(w))) {
                found.push(format!("{}:{number}: {line}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{why}; found\n  {}", found.join("\n  "));
}

#[test]
fn every_member_stands_in_the_table_and_the_table_holds_members_alone() {
    let members: BTreeSet<_> = members().into_iter().map(|m| m.name).collect();
    let table: BTreeSet<_> = LAYERS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(members, table, "members of the workspace, and the table of layers");
}

#[test]
fn the_table_of_layers_has_no_circle() {
    let mut below = BTreeSet::new();
    for (name, edges) in LAYERS {
        for edge in *edges {
            assert!(below.contains(edge), "{name} may depend on {edge}, which stands above it");
        }
        below.insert(name);
    }
}

#[test]
fn dependencies_point_down_the_layers_alone() {
    let allowed = allowed();
    for member in members() {
        let Some(below) = allowed.get(member.name.as_str()) else {
            panic!("{} is not in the table", member.name)
        };
        for kind in ["dependencies", "build-dependencies"] {
            let found = edges(&member.manifest, kind);
            let wrong: Vec<_> = found.difference(below).collect();
            assert!(wrong.is_empty(), "{}: {kind} on {wrong:?}; the layers allow {below:?}", member.name);
        }
        let found = edges(&member.manifest, "dev-dependencies");
        let wrong: Vec<_> = found.difference(below).filter(|d| !DEV_ONLY.contains(&d.as_str())).collect();
        assert!(
            wrong.is_empty(),
            "{}: dev-dependencies on {wrong:?}; the layers allow {below:?}",
            member.name
        );
    }
}

#[test]
fn a_forbidden_edge_would_be_seen() {
    let manifest: Table =
        "[dependencies]\nformwork-train = {}\nserde = {}\n[target.'cfg(unix)'.dependencies]\nformwork = {}"
            .parse()
            .expect("a manifest");
    let found: Vec<_> = edges(&manifest, "dependencies").into_iter().collect();
    assert_eq!(found, ["formwork", "train"]);
    assert!(!allowed()["tensor"].contains("train"));
}

#[test]
fn crates_are_named_after_their_folders() {
    for member in members() {
        let name = member.manifest["package"]["name"].as_str().expect("a name");
        let expected =
            if member.name == "formwork" { "formwork".into() } else { format!("formwork-{}", member.name) };
        assert_eq!(name, expected, "{}", member.folder.display());
    }
}

#[test]
fn all_members_but_three_forbid_unsafe_code() {
    for member in members().iter().filter(|m| !UNSAFE.contains(&m.name.as_str())) {
        let roots: Vec<_> = ["src/lib.rs", "src/main.rs"].map(|file| member.folder.join(file)).into();
        let roots: Vec<_> = roots.iter().filter(|path| path.exists()).collect();
        assert!(!roots.is_empty(), "{}: neither lib.rs nor main.rs", member.name);
        for root in roots {
            let text = fs::read_to_string(root).expect("a crate root");
            assert!(
                code(&text).any(|(_, l)| l == "#![forbid(unsafe_code)]"),
                "{} allows unsafe code",
                root.display()
            );
        }
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_safe() {
    for member in members() {
        for (path, text) in sources(&member, "src") {
            let lines: Vec<_> = text.lines().map(str::trim_start).collect();
            for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.starts_with("unsafe impl")) {
                let near = &lines[i.saturating_sub(6)..i];
                assert!(near.iter().any(|l| l.contains("SAFETY:")), "{}:{}: {line}", path.display(), i + 1);
            }
        }
    }
}

#[test]
fn files_are_touched_by_the_crates_that_are_there_for_it() {
    let words = ["std::fs", "fs::{", "File::open", "File::create", "tempfile::"];
    let mut allowed = FILES.to_vec();
    // The harness reads goldens and counts nothing else; it is never part of a program.
    allowed.push("testkit");
    only_in(&allowed, &words, "expected file access in formats, train, recipes and programs alone");
}

#[test]
fn the_environment_is_read_by_the_command_and_the_kernel_override_alone() {
    only_in(
        ENVIRONMENT,
        &["env::var", "env::set_var", "env::remove_var"],
        "expected reads of the environment in cli, kernels and testkit alone",
    );
}

#[test]
fn the_words_looked_for_are_found_in_code_and_not_in_comments_or_tests() {
    let text = "// std::fs\nuse std::fs;\n#[cfg(test)]\nmod tests;\nuse std::fs;\n#[cfg(test)]\nmod tests {\nuse std::fs; }";
    let found: Vec<_> = code(text).filter(|(_, line)| line.contains("std::fs")).collect();
    assert_eq!(found, [(2, "use std::fs;"), (5, "use std::fs;")]);
}
