//! A path as a model with its tokenizer, whatever layout it is in.
//!
//! | path | config | parameters |
//! |---|---|---|
//! | our folder | `formwork.json` | `model.safetensors`, or shards with an index |
//! | a run | `formwork.json` | its latest `checkpoints/step-*` |
//! | a published folder | `config.json` | the same files, with the names of the family |
//! | a `.gguf` file | its metadata | its tensors |
//!
//! The tokenizer is `tokenizer.json`, or the vocabulary inside a GGUF file. What is loaded is saved in the layout that it
//! came from, with the same names, stored types and bytes.

use std::{path::Path, sync::Arc};

use formwork_checkpoint::{Checkpoint, Keep, Plan, Saving, format_of, save_as};
use formwork_formats::{Dtype, Entry, atomic_write, gguf::Metadata};
use formwork_generate::Settings;
use formwork_model::{Builder, Hooks, ModelConfig, Outline, Transformer};
use formwork_module::{At, Blocks, DType, Error, Module, Result, Weight, held};
use formwork_quant::Quantised;
use formwork_tokenizer::Tokenizer;

use crate::{
    chat::ChatTemplate,
    gguf,
    layout::{CONFIG_FILE, Layout, TOKENIZER_FILE},
    manner,
    opened::Opened,
    room::{self, Memory},
    settings::Generation,
    vocabulary,
};

/// Bytes after which a folder's weights go on in another file.
pub(crate) const SHARD_BYTES: u64 = 4 << 30;

/// How the matrices of a model are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// For a GGUF file as [`Stored`](Weights::Stored), for a folder as [`Dense`](Weights::Dense).
    #[default]
    Usual,
    /// As the file has them: 16-bit numbers and blocks are neither widened nor copied, and do not learn.
    Stored,
    /// As 32-bit parameters, which can learn; blocks are decoded.
    Dense,
}

impl Weights {
    /// Whether a matrix of this type stays in its blocks.
    pub(crate) fn keeps(self, dtype: Dtype) -> bool {
        self == Weights::Stored && format_of(dtype).is_some()
    }

    fn of(self, layout: Layout) -> Self {
        match (self, layout) {
            (Weights::Usual, Layout::Gguf(_)) => Weights::Stored,
            (Weights::Usual, _) => Weights::Dense,
            (chosen, _) => chosen,
        }
    }
}

/// How a model is to be loaded. The default is what [`load`] does.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Parts of your own, for a config that names them.
    pub hooks: Hooks,
    /// How matrices are held.
    pub weights: Weights,
    /// The type of the parameters: 64 bits to check numbers with, 32 for everything else.
    pub dtype: DType,
    /// The memory that the weights may take.
    pub memory: Memory,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let (hooks, weights, memory) = (Hooks::default(), Weights::default(), Memory::default());
        Self { hooks, weights, dtype: DType::F32, memory }
    }
}

/// What a path holds.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: Transformer,
    /// Its tokenizer, where there is one; it fits the model's vocabulary.
    pub tokenizer: Option<Tokenizer>,
    /// The template of its conversations, where there is one.
    pub template: Option<ChatTemplate>,
    /// Its own settings of generation; the default where there are none.
    pub settings: Settings,
    /// What somebody should know: fields nobody knows, defaults that were assumed. One sentence each.
    pub notes: Vec<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a model came from: what saving it needs beside its parameters.
#[derive(Debug)]
pub struct Origin(Opened);

impl Origin {
    /// The layout.
    pub fn layout(&self) -> Layout {
        self.0.layout
    }

    /// The bytes of a small file beside the model, such as `generation_config.json`; a GGUF file has none.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.0.files.get(name).map(|bytes| &bytes[..])
    }

    /// The metadata of a GGUF file.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.0.archive.gguf().map(|gguf| gguf.metadata())
    }
}

/// Loads a model: a folder of this project, a run folder (its latest checkpoint) or one checkpoint of a run, a published
/// folder, a GGUF file.
///
/// # Errors
/// A path that is none of these, a model of another kind, a file that is broken or missing, tensors that are not the
/// model's (all are counted, the first few named), weights that do not fit in memory, and a tokenizer with more ids than
/// the model.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded> {
    load_as(path, &LoadOptions::default())
}

/// As [`load`], for a config that names parts of your own.
///
/// # Errors
/// Those of [`load`], and a custom part for which there is no hook.
pub fn load_with(path: impl AsRef<Path>, hooks: &Hooks) -> Result<Loaded> {
    load_as(path, &LoadOptions { hooks: hooks.clone(), ..LoadOptions::default() })
}

/// As [`load`], as the options say.
///
/// # Errors
/// Those of [`load`], and a custom part for which there is no hook.
pub fn load_as(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Loaded> {
    let opened = Opened::open(path.as_ref())?;
    let model = build(&opened, options).in_file(opened.weights.display())?;
    let tokenizer = vocabulary::of(&opened)?;
    let template = manner::template(&opened)?;
    let Generation { settings, notes, .. } = manner::generation(&opened)?;
    if let Some(gguf) = opened.archive.gguf() {
        // A vocabulary of megabytes has been read into a table of its own.
        gguf.release();
    }
    let doubt = match &tokenizer {
        Some(tokenizer) => vocabulary::foreign(&opened, tokenizer),
        None => vocabulary::unread(&opened),
    };
    let notes = opened.notes.iter().cloned().chain(notes).chain(doubt).collect();
    Ok(Loaded { model, tokenizer, template, settings, notes, origin: Origin(opened) })
}

fn build(opened: &Opened, options: &LoadOptions) -> Result<Transformer> {
    let builder = Builder::new(opened.config.clone()).hooks(&options.hooks);
    let plan = plan(&builder, opened)?;
    let archive = &opened.archive;
    plan.report(archive).check().map_err(|error| match &opened.notes[..] {
        [] => error,
        // A field with a typo changes nothing, and then the weights are those of another model.
        notes => {
            error.hint(format_args!("the config may belong to another checkpoint: {}", notes.join("; ")))
        }
    })?;
    let weights = options.weights.of(opened.layout);
    let needed = room::needed(&plan, archive, weights, options.dtype);
    options.memory.holds(
        needed,
        "weights",
        "free memory, choose a smaller model, or convert it to fewer bits",
    )?;
    let hold = |path: &str, entry: &Entry| -> Result<Option<Arc<dyn Weight>>> {
        match (format_of(entry.dtype()), entry.shape()) {
            (Some(format), &[out, inp]) => {
                let (bytes, pages) = (entry.bytes().clone(), entry.bytes().clone());
                let blocks =
                    Blocks::new(path, [out, inp], format, bytes)?.released_by(move || pages.release());
                Ok(Some(Arc::new(Quantised::new(blocks))))
            }
            _ => Ok(None),
        }
    };
    let mut checkpoint = Checkpoint::new(archive).plan(plan).dtype(options.dtype);
    if weights == Weights::Stored {
        checkpoint = checkpoint.holding(&hold);
    }
    builder.build(&checkpoint)
}

/// Where the parameters of a model stand in its files.
pub(crate) fn plan(builder: &Builder, opened: &Opened) -> Result<Plan> {
    let outline = Outline::of(builder)?;
    Plan::new(outline.lines.iter().map(|line| (line.name.as_str(), line.shape.to_vec())), &opened.names)
}

impl Loaded {
    /// Writes the model in the layout that it came from: the same names, stored types and, for what has not changed, the
    /// same bytes; the small files beside it as they were. Buffers that hold nothing a model needs are left out.
    ///
    /// `path` is a folder, or for a model from a GGUF file a `.gguf` file or a folder to put `model.gguf` in. Files that are
    /// there are replaced, each in one step.
    ///
    /// # Errors
    /// A parameter without numbers, matrices in blocks that the layout cannot hold, or what the system says.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (path, opened) = (path.as_ref(), &self.origin.0);
        let all = held(&self.model as &dyn Module);
        match opened.layout {
            Layout::Gguf(_) => {
                let saving = Saving::new(&all, &opened.names, Keep::Stored)?;
                gguf::save(&gguf::target(path)?, &saving, &opened.archive)
            }
            Layout::Published(_) => {
                create(path)?;
                opened.files.write(path)?;
                save_as(path, &all, &opened.names, Keep::Stored, SHARD_BYTES)
            }
            Layout::Ours => {
                create(path)?;
                opened.files.write(path)?;
                save_description(path, self.model.config(), self.tokenizer.as_ref())?;
                save_as(path, &all, &opened.names, Keep::Stored, SHARD_BYTES)
            }
        }
    }
}

/// Writes a model as a folder of this project. Files that are there are replaced, each in one step.
///
/// # Errors
/// A parameter without numbers, a matrix in blocks, or what the system says.
pub fn save(folder: impl AsRef<Path>, model: &Transformer, tokenizer: Option<&Tokenizer>) -> Result<()> {
    let folder = folder.as_ref();
    save_description(folder, model.config(), tokenizer)?;
    let names = formwork_checkpoint::names::Names::identity();
    save_as(folder, &held(model as &dyn Module), &names, Keep::Stored, SHARD_BYTES)
}

/// The part of a folder that is no parameters.
pub(crate) fn save_description(
    folder: &Path,
    config: &ModelConfig,
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    create(folder)?;
    atomic_write(folder.join(CONFIG_FILE), config.to_json().as_bytes()).map_err(Error::external)?;
    match tokenizer {
        Some(tokenizer) => {
            atomic_write(folder.join(TOKENIZER_FILE), tokenizer.to_json().as_bytes()).map_err(Error::external)
        }
        None => Ok(()),
    }
}

pub(crate) fn create(folder: &Path) -> Result<()> {
    if folder.is_file() {
        return Err(Error::invalid("the place to write to", "a folder, or the name of a new one", "a file"))
            .in_file(folder.display());
    }
    std::fs::create_dir_all(folder).map_err(Error::external).in_file(folder.display())
}
