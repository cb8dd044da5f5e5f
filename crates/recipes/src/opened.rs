//! A model on disk that has been looked at, and of whose numbers none has been read but those that a file holds twice.

use std::path::{Path, PathBuf};

use formwork_checkpoint::names::Names;
use formwork_formats::Archive;
use formwork_model::{
    Builder, HeadConfig, ModelConfig,
    published::{self, Family, Published},
};
use formwork_module::{At, DType, Error, Result};
use serde_json::Value;

use crate::{
    files::{Files, bounded, parsed, read_json},
    folder::{Weights, plan},
    gguf,
    layout::{CONFIG_FILE, Layout, PUBLISHED_FILE, Place, locate},
    room,
};

/// Config, names and headers.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) layout: Layout,
    pub(crate) config: ModelConfig,
    /// How the archive calls the parameters.
    pub(crate) names: Names,
    pub(crate) archive: Archive,
    /// The small files beside it; none for a GGUF file.
    pub(crate) files: Files,
    pub(crate) notes: Vec<String>,
    /// The file or folder with the weights, for messages.
    pub(crate) weights: PathBuf,
    /// The folder with everything else.
    pub(crate) home: PathBuf,
}

impl Opened {
    /// Reads the config and the headers of whatever a path holds.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        match locate(path)? {
            Place::Ours { home, weights } => {
                let config = config_file(&home.join(CONFIG_FILE))?.config;
                let archive = Archive::open(&weights).map_err(Error::external)?;
                let files = Files::read(&home)?;
                let (layout, names, notes) = (Layout::Ours, Names::identity(), Vec::new());
                plausible(&config, &archive).in_file(weights.display())?;
                Ok(Self { layout, config, names, archive, files, notes, weights, home })
            }
            Place::Published(folder) => Self::published(folder),
            Place::Gguf(file) => Self::gguf(file),
        }
    }

    fn published(folder: PathBuf) -> Result<Self> {
        let path = folder.join(PUBLISHED_FILE);
        let Read { mut config, family, mut notes } = config_file(&path)?;
        let Some(family) = family else {
            return Err(Error::invalid(PUBLISHED_FILE, "a published config", "one of this project")
                .hint(format_args!("call it {CONFIG_FILE}"))
                .in_file(path.display()));
        };
        let archive = Archive::open(&folder).map_err(Error::external)?;
        plausible(&config, &archive).in_file(folder.display())?;
        let mut names = family.names(&config).in_file(path.display())?;
        // Both are there and differ: the reference implementation keeps both, whatever the config says.
        if let Some([head, table]) = names.untied(&archive) {
            notes.push(format!(
                "{PUBLISHED_FILE} ties {head} to {table}, but the files hold both, with different numbers; they are not tied"
            ));
            config.head = HeadConfig::Untied {};
            names = family.names(&config).in_file(path.display())?;
        }
        let names = names.fitted(&archive);
        let files = Files::read(&folder)?;
        let (layout, weights, home) = (Layout::Published(family), folder.clone(), folder);
        Ok(Self { layout, config, names, archive, files, notes, weights, home })
    }

    fn gguf(file: PathBuf) -> Result<Self> {
        let archive = Archive::open(&file).map_err(Error::external)?;
        let Published { family, config, notes } = gguf::read(&archive).in_file(file.display())?;
        plausible(&config, &archive).in_file(file.display())?;
        let names = family.gguf_names(&config).in_file(file.display())?.fitted(&archive);
        let home = file.parent().map_or_else(PathBuf::new, Path::to_owned);
        let (layout, files, weights) = (Layout::Gguf(family), Files::default(), file);
        Ok(Self { layout, config, names, archive, files, notes, weights, home })
    }
}

/// A config claims its layers in a few bytes; they are believed only where a file can hold them.
fn plausible(config: &ModelConfig, archive: &Archive) -> Result<()> {
    let (layers, tensors) = (config.blocks.len(), archive.len());
    match layers > tensors && config.blocks.iter().any(|block| block.residual().is_some()) {
        false => Ok(()),
        true => Err(Error::invalid("checkpoint", format_args!("the tensors of {layers} layers"), tensors)
            .hint("the config belongs to another checkpoint, or files of it are missing")),
    }
}

/// What a config file says.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) config: ModelConfig,
    /// The family, for a published config.
    pub(crate) family: Option<Family>,
    pub(crate) notes: Vec<String>,
}

/// Reads a config of ours, or a published one.
pub(crate) fn config_file(path: &Path) -> Result<Read> {
    let bytes = read_json(path)?;
    config_text(path, &bytes).in_file(path.display())
}

fn config_text(path: &Path, bytes: &[u8]) -> Result<Read> {
    bounded(bytes)?;
    let text =
        std::str::from_utf8(bytes).map_err(|_| Error::invalid("config", "UTF-8 text", "other bytes"))?;
    let ours = |config| Read { config, family: None, notes: Vec::new() };
    if path.extension().is_some_and(|ending| ending == "toml") {
        return ModelConfig::from_toml(text).map(ours);
    }
    let value: Value = parsed(bytes, "config")?;
    let named = |name: &str| path.file_name().is_some_and(|found| found == name);
    let published = named(PUBLISHED_FILE)
        || ["model_type", "architectures"].iter().any(|field| value.get(field).is_some());
    if named(CONFIG_FILE) || value.get("schema").is_some() || !published {
        // From the text, which refuses a field that stands twice.
        return ModelConfig::from_json(text).map(ours);
    }
    let Published { family, config, notes } = published::read(&value)?;
    Ok(Read { config, family: Some(family), notes })
}

/// The config in the bytes of a `.json` or `.toml` file, ours or a published one: its name says which, or what is in it.
///
/// # Errors
/// Bytes that are no config, with the path of the field.
///
/// ```
/// let json = br#"{"model_type": "gpt2", "n_layer": 3}"#;
/// let config = formwork_recipes::config_from_bytes("config.json", json)?;
/// assert_eq!((config.blocks.len(), config.dim), (3, 768)); // what is left out means what it means to GPT-2
/// # Ok::<(), formwork_module::Error>(())
/// ```
pub fn config_from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<ModelConfig> {
    let name = name.as_ref();
    config_text(name, bytes).in_file(name.display()).map(|read| read.config)
}

/// Whether a path is a GGUF file, or a folder that holds one and no other model.
pub fn holds_gguf(path: &Path) -> bool {
    matches!(locate(path), Ok(Place::Gguf(_)))
}

/// Bytes of a model's weights in the types in which its files store them, as [`Weights::Stored`] holds them.
///
/// # Errors
/// A path without a model, or files that are broken.
pub fn stored_bytes(path: &Path) -> Result<u64> {
    let opened = Opened::open(path)?;
    let plan = plan(&Builder::new(opened.config.clone()), &opened)?;
    Ok(room::needed(&plan, &opened.archive, Weights::Stored, DType::F32))
}

/// The config of a folder of any layout, a run, a GGUF file, or a `.json` or `.toml` file. Weights need not be there, but
/// in a GGUF file.
///
/// # Errors
/// A file that is not there or is no config, with the path of the field.
pub fn read_config(path: &Path) -> Result<ModelConfig> {
    let is_config =
        path.is_file() && path.extension().is_some_and(|ending| ending == "json" || ending == "toml");
    if is_config {
        return Ok(config_file(path)?.config);
    }
    Ok(match locate(path)? {
        Place::Ours { home, .. } => config_file(&home.join(CONFIG_FILE))?.config,
        Place::Published(folder) => config_file(&folder.join(PUBLISHED_FILE))?.config,
        Place::Gguf(file) => {
            let archive = Archive::open(&file).map_err(Error::external)?;
            gguf::read(&archive).in_file(file.display())?.config
        }
    })
}
