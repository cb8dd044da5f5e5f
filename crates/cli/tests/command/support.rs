//! Runs the binary, and makes the tiny models that it runs on.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use formwork::{ModelConfig, Seed, Tokenizer, Transformer, recipes};
use serde_json::Value;
use tempfile::TempDir;

/// A config of LLaMA's parts, two layers, a context of 151.
pub(crate) const CONFIG: &str = r#"{
    "schema": 1, "name": "tiny", "vocab": 26, "context": 151, "dim": 12,
    "blocks": {"layers": 2, "each": {
        "kind": "pre_norm",
        "attn_norm": {"kind": "rms", "eps": 1e-5},
        "attn": {"kind": "multi_head", "heads": 3, "kv_heads": 1, "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
        "ffn_norm": {"kind": "rms", "eps": 1e-5},
        "ffn": {"kind": "gated", "hidden": 29, "activation": {"kind": "silu"}}
    }},
    "norm": {"kind": "rms", "eps": 1e-5},
    "head": {"kind": "untied"},
    "init": {"std": 0.7}
}"#;

/// The tiny model with another number of ids.
pub(crate) fn tiny(vocab: usize, seed: u64) -> Transformer {
    let config = ModelConfig { vocab, ..ModelConfig::from_json(CONFIG).expect("a good config") };
    config.build(&Seed::new(seed)).expect("a small model")
}

/// One token per letter, 26 ids.
pub(crate) fn letters() -> Tokenizer {
    Tokenizer::characters("abcdefghijklmnopqrstuvwxyz").expect("a text")
}

/// What the command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the command writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_formwork"))
}

/// Runs the command.
pub(crate) fn formwork(args: &[&str]) -> Said {
    command().args(args).output().expect("the command starts").into()
}

/// What the command prints when all goes well: nothing on stderr, no colours.
pub(crate) fn good(args: &[&str]) -> String {
    let said = formwork(args);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{args:?}");
    assert!(!said.stdout.contains('\u{1b}'), "{args:?} writes a colour into a pipe");
    said.stdout
}

/// The same as JSON.
pub(crate) fn json(args: &[&str]) -> Value {
    serde_json::from_str(&good(args)).expect("one JSON value")
}

/// The command fails with this exit code and a sentence that has all of `parts`.
pub(crate) fn refused(args: &[&str], code: i32, parts: &[&str]) {
    let said = formwork(args);
    assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
    assert!(said.stderr.starts_with("formwork: "), "{args:?}: {}", said.stderr);
    for part in parts {
        assert!(said.stderr.contains(part), "{args:?} should say {part:?}: {}", said.stderr);
    }
    assert!(!said.stderr.contains("panicked"), "{args:?}: {}", said.stderr);
    if code == 1 {
        assert_eq!(said.stderr.trim_end().lines().count(), 1, "one sentence: {}", said.stderr);
    }
    assert_eq!(said.stdout, "", "{args:?}");
}

/// A folder that is gone at the end of the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// A folder with the tiny model, with as many ids as the tokenizer has.
    pub(crate) fn model(tokenizer: Option<&Tokenizer>) -> Self {
        let folder = Self::new();
        let vocab = tokenizer.map_or(26, Tokenizer::vocab);
        recipes::save(folder.path(), &tiny(vocab, 7), tokenizer).expect("room on the disk");
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn text(&self) -> &str {
        self.path().to_str().expect("a path in UTF-8")
    }

    /// Writes a file, and gives its path as an argument.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.path().join(name);
        std::fs::write(&path, content).expect("room on the disk");
        path.to_str().expect("a path in UTF-8").to_owned()
    }
}
