//! Models by name from the Hugging Face hub, through its own client (feature `hub`).
//!
//! What [`load`](crate::load) needs of a published folder is fetched into the hub's usual cache, where other programs
//! find it too, and the folder's path is given back. All files are of one commit: the one that the branch stands at when
//! the download begins. A file that is in the cache already is not fetched again.
//!
//! The client takes the cache's place, the endpoint and the token from where the hub's programs have them
//! (`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and their like) unless [`Download`] says otherwise.
//!
//! ```no_run
//! use formwork_recipes::hub::{Download, download};
//! let folder = download("HuggingFaceTB/SmolLM2-135M-Instruct", &Download::default())?;
//! let model = formwork_recipes::load(folder)?;
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use formwork_module::{At, Error, Result};
use hf_hub::{
    HFClient, HFError, HFRepositorySync,
    repository::{RepoTreeEntry, RepoTypeModel},
};
use serde_json::Value;

use crate::files::{json, read_json};

/// What is fetched, from where, to where.
#[derive(Clone, Debug, Default)]
pub struct Download {
    /// A branch, a tag or a commit; `main` unless it is given.
    pub revision: Option<String>,
    /// One GGUF file of the model, by its name; the folder unless it is given.
    pub file: Option<String>,
    /// The hub's address.
    pub endpoint: Option<String>,
    /// The folder of the cache.
    pub cache: Option<PathBuf>,
    /// What proves who asks, for models that are not open to all.
    pub token: Option<String>,
}

/// Files beside the weights, fetched where they are there.
const SMALL: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
];
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Fetches a model; gives the folder, or the GGUF file, that [`load`](crate::load) reads.
///
/// `name` is `owner/name`. Without a `file`, a model that has no safetensors but one GGUF file gives that.
///
/// # Errors
/// A name, revision or file that the hub does not have; a model whose owner grants access; a model without weights in a
/// format that is read; a hub that does not answer, or a connection that breaks (what is complete stays in the cache).
pub fn download(name: &str, options: &Download) -> Result<PathBuf> {
    let is_word = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    let Some((owner, model)) = name.split_once('/').filter(|(owner, model)| is_word(owner) && is_word(model))
    else {
        return Err(Error::invalid("hub", "a model's name such as owner/name", format_args!("{name:?}")));
    };
    let mut builder = HFClient::builder();
    if let Some(endpoint) = &options.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(cache) = &options.cache {
        builder = builder.cache_dir(cache);
    }
    if let Some(token) = &options.token {
        builder = builder.token(token);
    }
    let from = Asked { name, revision: options.revision.as_deref() };
    let client = builder.build_sync().map_err(|error| from.explain(error))?;
    let repository = client.model(owner, model);
    let info = repository.info().maybe_revision(options.revision.clone()).send();
    let commit = info.map_err(|error| from.explain(error))?.sha;
    let commit =
        commit.ok_or_else(|| Error::missing(format_args!("a commit of {name} in the hub's answer")))?;
    let tree = repository.list_tree().revision(commit.clone()).send().map_err(|error| from.explain(error))?;
    let files = tree.into_iter().filter_map(|entry| match entry {
        RepoTreeEntry::File { path, size, .. } => Some((path, size)),
        RepoTreeEntry::Directory { .. } => None,
    });
    Model { from, repository, commit, files: files.collect() }.fetch(options.file.as_deref())
}

/// What was asked for, to be named in errors.
#[derive(Clone, Copy)]
struct Asked<'a> {
    name: &'a str,
    revision: Option<&'a str>,
}

struct Model<'a> {
    from: Asked<'a>,
    repository: HFRepositorySync<RepoTypeModel>,
    commit: String,
    /// Names and sizes.
    files: Vec<(String, u64)>,
}

impl Model<'_> {
    fn fetch(&self, file: Option<&str>) -> Result<PathBuf> {
        if let Some(file) = file {
            return self.file(file);
        }
        let has = |name: &str| self.files.iter().any(|(file, _)| file == name);
        if !has(INDEX) && !has(WEIGHTS) {
            return self.only_gguf();
        }
        // The config comes first: without it nothing else is of use.
        let config = self.file(CONFIG)?;
        let folder = config.parent().map(Path::to_owned).unwrap_or_default();
        for small in SMALL.iter().filter(|name| has(name)) {
            self.file(small)?;
        }
        if has(INDEX) {
            let index = self.file(INDEX)?;
            for shard in shards(&index)? {
                self.file(&shard)?;
            }
        } else {
            self.file(WEIGHTS)?;
        }
        Ok(folder)
    }

    fn only_gguf(&self) -> Result<PathBuf> {
        let gguf: Vec<_> =
            self.files.iter().map(|(name, _)| name).filter(|name| name.ends_with(".gguf")).collect();
        match gguf[..] {
            [only] => self.file(only),
            [] => {
                let expected = format!("{}, {} or a .gguf file in {}", WEIGHTS, INDEX, self.from.name);
                Err(Error::missing(expected)
                    .hint("weights in other formats are not read; convert them first"))
            }
            [first, ..] => {
                let found = format!("{} of them", gguf.len());
                Err(Error::invalid("hub", format_args!("one .gguf file in {}", self.from.name), found)
                    .hint(format_args!("name the file, such as {first}")))
            }
        }
    }

    /// Fetches a file, and makes sure that all of it is there.
    fn file(&self, name: &str) -> Result<PathBuf> {
        let Some((_, size)) = self.files.iter().find(|(file, _)| file == name) else {
            let missing = Error::missing(format_args!("{name} in {}", self.from.name));
            let gguf: Vec<_> =
                self.files.iter().map(|(name, _)| name.as_str()).filter(|n| n.ends_with(".gguf")).collect();
            return Err(match name.ends_with(".gguf") && !gguf.is_empty() {
                true => missing.hint(format_args!("it has {}", gguf.join(", "))),
                false => missing,
            });
        };
        let mut length = None;
        // A broken file in the cache is fetched once more.
        for again in [false, true] {
            let file = self
                .repository
                .download_file()
                .filename(name)
                .revision(self.commit.clone())
                .force_download(again);
            let path = file.send().map_err(|error| self.from.explain(error).at(name))?;
            let found = std::fs::metadata(&path).map_err(Error::external).in_file(path.display())?.len();
            if found == *size {
                return Ok(path);
            }
            length = Some(found);
        }
        Err(Error::invalid(name, format_args!("{size} bytes"), format_args!("{}", length.unwrap_or(0)))
            .hint("the hub sent less or something else; try again"))
    }
}

/// The files that an index names, each a file of this folder.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let read = || -> Result<BTreeSet<String>> {
        let value: Value = json(&read_json(index)?, "index")?;
        let map = value.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| Error::missing("weight_map"))?;
        let name = |file: &Value| file.as_str().filter(|file| !file.contains(['/', '\\'])).map(str::to_owned);
        let wrong = |file: &Value| Error::invalid("weight_map", "names of files", file);
        map.values().map(|file| name(file).ok_or_else(|| wrong(file))).collect()
    };
    read().in_file(index.display())
}

impl Asked<'_> {
    /// The client's error in one sentence that names the model.
    #[allow(clippy::needless_pass_by_value, reason = "it stands in `map_err`, and is kept as the source")]
    fn explain(&self, error: HFError) -> Error {
        let name = self.name;
        // To who asks without a token, the hub says of a model that is not there that it may not be seen.
        let absent = || {
            Error::missing(format_args!("a model {name} on the hub"))
                .hint("check the name; a private model needs a token")
        };
        match error {
            HFError::RepoNotFound { .. } => absent(),
            HFError::AuthRequired { context } | HFError::Forbidden { context } => {
                match context.error_code.as_deref() {
                    Some("RepoNotFound") => absent(),
                    _ => Error::invalid("hub", format_args!("access to {name}"), "a refusal").hint(
                        "its owner grants access: agree to the terms on its page, and give the token of your account",
                    ),
                }
            }
            HFError::RevisionNotFound { .. } => self.no_revision(),
            HFError::EntryNotFound { path, context, .. } => {
                match context.as_ref().and_then(|context| context.error_code.as_deref()) {
                    Some("RevisionNotFound") => self.no_revision(),
                    Some("RepoNotFound") => absent(),
                    _ => Error::missing(format_args!("{path} in {name}")),
                }
            }
            HFError::RateLimited { .. } => Error::invalid("hub", "an answer", "a limit on requests")
                .hint("wait a while, or give a token"),
            HFError::Request { source, url } => {
                let url =
                    url.or_else(|| source.url().map(ToString::to_string)).unwrap_or("the hub".to_owned());
                let what = match source.is_connect() || source.is_timeout() {
                    true => "no connection",
                    false => "a connection that broke",
                };
                Error::invalid("hub", format_args!("an answer from {url}"), what)
                    .hint("check the network and try again; what is complete is not fetched twice")
            }
            other => Error::external(other).at(name),
        }
    }

    fn no_revision(&self) -> Error {
        Error::missing(format_args!("a revision {} of {}", self.revision.unwrap_or("main"), self.name))
            .hint("a revision is a branch, a tag or a commit")
    }
}
