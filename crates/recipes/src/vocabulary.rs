//! The tokenizer of a model: `tokenizer.json`, or the vocabulary inside a GGUF file.

use std::path::Path;

use formwork_formats::{
    Archive, Bytes,
    gguf::{Metadata, Value},
};
use formwork_module::{At, Error, Result};
use formwork_tokenizer::{
    Tokenizer,
    gguf::{TokenType, Vocabulary},
};

use crate::{
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
        tokenizer.fits(opened.config.vocab).map_err(Error::external).in_file(place.display())?;
    }
    Ok(found)
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
            let tokenizer = Tokenizer::load(path).map_err(Error::external)?;
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
    let json = Bytes::read(&path).map_err(Error::external)?;
    tokenizer.with_config(&json).map_err(Error::external).in_file(path.display())
}

/// The tokenizer of a GGUF file, if it has one.
pub(crate) fn in_gguf(archive: &Archive) -> Result<Option<Tokenizer>> {
    archive.gguf().map_or(Ok(None), |gguf| tokenizer(gguf.metadata()))
}

/// The tokenizer that metadata describes.
pub(crate) fn tokenizer(metadata: &Metadata) -> Result<Option<Tokenizer>> {
    let vocabulary = read(metadata).map_err(Error::external)?;
    vocabulary.map(|vocabulary| Tokenizer::from_vocabulary(vocabulary).map_err(Error::external)).transpose()
}

/// The vocabulary in the metadata of a GGUF file; `None` where it has none.
fn read(metadata: &Metadata) -> formwork_formats::Result<Option<Vocabulary>> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let Some(model) = metadata.str(MODEL)?.filter(|model| !matches!(*model, "none" | "no_vocab")) else {
        return Ok(None);
    };
    // Files write −1 where there is no such token.
    type Found<T> = formwork_formats::Result<T>;
    let id = |name: &str| -> Found<_> { Ok(metadata.i64(&key(name))?.and_then(|id| u32::try_from(id).ok())) };
    let flag = |name: &str| metadata.bool(&key(name));
    let texts = |name: &str| -> Found<Vec<Vec<u8>>> {
        let list = metadata.strings(&key(name))?;
        Ok(list.map(|list| list.map(|text| text.bytes().to_vec()).collect()).unwrap_or_default())
    };
    Ok(Some(Vocabulary {
        model: model.to_owned(),
        pre: metadata.str(&key("pre"))?.map(str::to_owned),
        tokens: texts("tokens")?,
        scores: metadata.f32s(&key("scores"))?.map(Iterator::collect).unwrap_or_default(),
        types: metadata
            .i64s(&key("token_type"))?
            .map(|list| list.map(TokenType::from_number).collect())
            .unwrap_or_default(),
        merges: texts("merges")?,
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?,
        eot: id("eot_token_id")?,
        eom: id("eom_token_id")?,
        unk: id("unknown_token_id")?,
        pad: id("padding_token_id")?,
        add_bos: flag("add_bos_token")?,
        add_eos: flag("add_eos_token")?,
        add_space_prefix: flag("add_space_prefix")?,
        remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
        name: metadata.str("general.name")?.map(str::to_owned),
    }))
}

/// Puts a vocabulary into the metadata of a GGUF file.
pub(crate) fn write(vocabulary: &Vocabulary, metadata: &mut Metadata) {
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            metadata.set(format!("tokenizer.ggml.{name}"), value);
        }
    };
    let texts = |list: &[Vec<u8>]| (!list.is_empty()).then(|| Value::strings(list));
    set("model", Some(vocabulary.model.as_str().into()));
    set("pre", vocabulary.pre.as_deref().map(Value::from));
    set("tokens", Some(Value::strings(&vocabulary.tokens)));
    set("scores", (!vocabulary.scores.is_empty()).then(|| vocabulary.scores.clone().into()));
    let types: Vec<i32> = vocabulary.types.iter().map(|kind| kind.number()).collect();
    set("token_type", (!types.is_empty()).then(|| types.into()));
    set("merges", texts(&vocabulary.merges));
    set("bos_token_id", vocabulary.bos.map(Value::from));
    set("eos_token_id", vocabulary.eos.map(Value::from));
    set("eot_token_id", vocabulary.eot.map(Value::from));
    set("eom_token_id", vocabulary.eom.map(Value::from));
    set("unknown_token_id", vocabulary.unk.map(Value::from));
    set("padding_token_id", vocabulary.pad.map(Value::from));
    set("add_bos_token", vocabulary.add_bos.map(Value::from));
    set("add_eos_token", vocabulary.add_eos.map(Value::from));
    set("add_space_prefix", vocabulary.add_space_prefix.map(Value::from));
    set("remove_extra_whitespaces", vocabulary.remove_extra_whitespaces.map(Value::from));
}
