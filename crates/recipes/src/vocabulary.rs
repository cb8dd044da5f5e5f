//! The tokenizer of a model: `tokenizer.json`, or the vocabulary inside a GGUF file.

use std::path::Path;

use formwork_formats::{Archive, gguf::Metadata};
use formwork_module::{At, Error, Result};
use formwork_tokenizer::{Tokenizer, gguf::Vocabulary};

use crate::{
    files::read_json,
    layout::{Place, TOKENIZER_FILE, is_gguf, locate},
    opened::Opened,
};

/// What stands beside a published `tokenizer.json`; the first that is there counts.
const TOKENIZER_CONFIGS: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// The key of a GGUF file that says that it has a vocabulary, and of which kind.
const MODEL: &str = "tokenizer.ggml.model";

/// Loads the tokenizer of anything that [`load`](crate::load) takes, without its model: a folder with a `tokenizer.json` and
/// a GGUF file that holds only a vocabulary are enough.
///
/// # Errors
/// A path without a tokenizer, or one whose rules are not known.
pub fn load_tokenizer(path: impl AsRef<Path>) -> Result<Tokenizer> {
    let path = path.as_ref();
    let found = match path.is_dir() && path.join(TOKENIZER_FILE).is_file() {
        true => in_folder(path)?,
        false => match locate(path)? {
            Place::Ours { home, .. } | Place::Published(home) => in_folder(&home)?,
            Place::Gguf(file) => {
                in_gguf(&Archive::open(&file).map_err(Error::external)?).in_file(file.display())?
            }
        },
    };
    found.ok_or_else(|| {
        let what = if is_gguf(path) { MODEL } else { TOKENIZER_FILE };
        Error::missing(format_args!("{what} in {}", path.display()))
    })
}

/// The tokenizer of a model that has been opened; it has no more ids than the model.
pub(crate) fn of(opened: &Opened) -> Result<Option<Tokenizer>> {
    let (found, place) = match opened.archive.gguf() {
        Some(_) => (in_gguf(&opened.archive).in_file(opened.weights.display())?, opened.weights.clone()),
        None => (in_folder(&opened.home)?, opened.home.join(TOKENIZER_FILE)),
    };
    if let Some(tokenizer) = &found {
        fits(tokenizer, opened.config.vocab).in_file(place.display())?;
    }
    Ok(found)
}

/// Refuses a tokenizer with more ids than a model that is there has rows. Its config cannot be changed any more.
pub(crate) fn fits(tokenizer: &Tokenizer, rows: usize) -> Result<()> {
    tokenizer.fits(rows).map_err(|error| match error {
        formwork_tokenizer::Error::TooLarge { tokenizer, .. } => {
            let expected = format!("at most {rows} ids, one for each row of the model's table");
            Error::invalid("tokenizer", expected, format_args!("{tokenizer}"))
                .hint("it belongs to another model; use the one that these weights were trained with")
        }
        error => Error::external(error),
    })
}

/// What to tell of a tokenizer that leaves a tenth of the model's ids without a token: tables are padded, but by less.
pub(crate) fn foreign(opened: &Opened, tokenizer: &Tokenizer) -> Option<String> {
    let (ids, rows) = (tokenizer.vocab(), opened.config.vocab);
    (ids < rows - rows / 10)
        .then(|| format!("the tokenizer has {ids} ids and the model {rows}; it may belong to another model"))
}

/// What to tell of a model whose tokenizer is there in a form that is not read.
pub(crate) fn unread(opened: &Opened) -> Option<String> {
    let others = ["tokenizer.model", "vocab.json", "vocab.txt"];
    let found = others.into_iter().find(|name| opened.files.get(name).is_some())?;
    Some(format!(
        "the folder has {found} and no {TOKENIZER_FILE}, the only form that is read; token ids are needed"
    ))
}

fn in_folder(folder: &Path) -> Result<Option<Tokenizer>> {
    let path = folder.join(TOKENIZER_FILE);
    match path.is_file() {
        true => {
            let tokenizer = Tokenizer::load(path).map_err(|error| match error {
                // What the system says names the path, what is wrong inside only the file.
                error @ formwork_tokenizer::Error::File(_) => Error::external(error),
                error => Error::external(error).in_file(folder.display()),
            })?;
            configured(tokenizer, folder).map(Some)
        }
        false => Ok(None),
    }
}

/// The same tokenizer with what the files beside it say of its begin and its end.
fn configured(tokenizer: Tokenizer, folder: &Path) -> Result<Tokenizer> {
    let Some(path) = TOKENIZER_CONFIGS.iter().map(|name| folder.join(name)).find(|path| path.is_file())
    else {
        return Ok(tokenizer);
    };
    let json = read_json(&path)?;
    tokenizer.with_config(&json).map_err(Error::external).in_file(path.display())
}

/// The tokenizer of a GGUF file, if it has one.
pub(crate) fn in_gguf(archive: &Archive) -> Result<Option<Tokenizer>> {
    archive.gguf().map_or(Ok(None), |gguf| tokenizer(gguf.metadata()))
}

/// The tokenizer that metadata describes; `None` where it has no vocabulary.
pub(crate) fn tokenizer(metadata: &Metadata) -> Result<Option<Tokenizer>> {
    let model = metadata.str(MODEL).map_err(Error::external)?;
    if model.is_none_or(|model| matches!(model, "none" | "no_vocab")) {
        return Ok(None);
    }
    let read = Vocabulary::read(metadata).and_then(Tokenizer::from_vocabulary);
    read.map(Some).map_err(Error::external)
}
