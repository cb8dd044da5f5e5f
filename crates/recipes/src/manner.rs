//! How a model wants to be used: the template of its conversations, and its settings of generation.

use std::path::PathBuf;

use formwork_formats::gguf::Value;
use formwork_module::{At, Error, Result};

use crate::{
    chat::ChatTemplate,
    gguf::FILES,
    opened::Opened,
    settings::{self, Generation},
};

/// The file of a template of its own.
pub(crate) const TEMPLATE_FILE: &str = "chat_template.jinja";
/// The file that may have the template in it.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The key of a GGUF file's template.
pub(crate) const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// The template of a model that has been opened, if it has one.
pub(crate) fn template(opened: &Opened) -> Result<Option<ChatTemplate>> {
    let (source, place) = match opened.archive.gguf() {
        Some(gguf) => {
            let source = gguf.metadata().str(TEMPLATE_KEY).map_err(Error::external)?.map(str::to_owned);
            (source, opened.weights.clone())
        }
        None => in_folder(opened)?,
    };
    let named = |source| ChatTemplate::new(source).map(|template| template.of_file(place.display()));
    source.map(|source| named(source).in_file(place.display())).transpose()
}

/// The source of the template among the files of a folder, and the file that has or would have it.
pub(crate) fn in_folder(opened: &Opened) -> Result<(Option<String>, PathBuf)> {
    let place = opened.home.join(TEMPLATE_FILE);
    if let Some(bytes) = opened.files.get(TEMPLATE_FILE) {
        let text = String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::invalid("template", "UTF-8 text", "other bytes"))
            .in_file(place.display())?;
        return Ok((Some(text), place));
    }
    let place = opened.home.join(TOKENIZER_CONFIG);
    let source = match opened.files.get(TOKENIZER_CONFIG) {
        Some(bytes) => ChatTemplate::source_in(bytes).in_file(place.display())?,
        None => None,
    };
    Ok((source, place))
}

/// The settings of a model that has been opened; of a GGUF file those of the folder that it was made from, if any.
pub(crate) fn generation(opened: &Opened) -> Result<Generation> {
    let Some(gguf) = opened.archive.gguf() else {
        return settings::read(&opened.home, opened.config.vocab);
    };
    let file = |name: &str| match gguf.metadata().get(&format!("{FILES}{name}")) {
        Some(Value::String(bytes)) => Ok(Some(bytes.clone())),
        _ => Ok(None),
    };
    let place = |name: &str| format!("{}: {FILES}{name}", opened.weights.display());
    settings::found(&file, &place, opened.config.vocab)
}
