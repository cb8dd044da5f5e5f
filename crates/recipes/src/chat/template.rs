//! A model's own way to write a conversation down as one text: its chat template, in the language of Jinja.
//!
//! Rendered as the reference does: blocks trimmed, `messages`, `add_generation_prompt`, the special tokens by name,
//! `raise_exception`, `tojson` as Python spells it, `{% generation %}`, `{% break %}`, Python's methods of texts.
//! `tools` and `documents` are there and none. `strftime_now` is there once a date is given
//! ([`dated`](ChatTemplate::dated)): without one, templates that ask whether it is defined use the date they have.
//!
//! **A template is a program of strangers.** Its steps and its memory are bounded together, so one that loops for ever
//! or doubles a text until memory ends is an error; it reads no file and no clock.
//!
//! ```
//! use formwork_recipes::chat::{ChatTemplate, Message, Next};
//! let template = ChatTemplate::new(
//!     "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}\
//!      {% if add_generation_prompt %}<assistant>{% endif %}",
//! )?;
//! assert_eq!(template.render(&[Message::user(" Hello ")], Next::Answer)?, "<user>Hello\n<assistant>");
//!
//! let endless = ChatTemplate::new("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")?;
//! let error = endless.render(&[], Next::Nothing).unwrap_err().to_string();
//! assert!(error.starts_with("chat template: expected an end after"), "{error}");
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::{
    collections::BTreeMap,
    error::Error as _,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use formwork_module::{At, Error, Result};
use formwork_tokenizer::{Tokenizer, config};
use minijinja::{AutoEscape, Environment, ErrorKind, Value, syntax::SyntaxConfig, value::Serde};

use super::{Date, Message, json, keep, python, source};
use crate::files::bounded;

/// The name under which the engine knows the template.
const NAME: &str = "chat";
/// Steps that any conversation has; one step also pays for 64 bytes, so this bounds memory at 16 MiB.
const STEPS: u64 = 1 << 18;
/// Steps for each message, and for each byte of the contents.
const STEPS_PER_MESSAGE: u64 = 2000;
const STEPS_PER_BYTE: u64 = 2;
/// The longest message of `raise_exception` that is shown.
const SHOWN: usize = 300;

/// What the rendered text ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The beginning of the model's answer, so that it goes on with its words: `add_generation_prompt`.
    Answer,
    /// Nothing: the conversation as it is.
    Nothing,
}

/// A compiled chat template. Cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate {
    source: Arc<str>,
    environment: Environment<'static>,
    variables: BTreeMap<String, serde_json::Value>,
    /// Every text in the template's code: what it may look for in a content.
    literals: Arc<[String]>,
    /// The file that it stands in, for messages.
    file: Option<Arc<str>>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// A template of more than 256 KiB, or one that is no Jinja, with the line.
    pub fn new(source: impl Into<Arc<str>>) -> Result<Self> {
        let source = source.into();
        let prepared = source::prepare(&source)?;
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(explain)?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(python::method);
        environment.add_filter("tojson", json::tojson);
        environment.add_filter("trim", python::trim);
        environment.add_filter("indent", python::indent);
        environment.add_filter("sum", keep::sum);
        environment.add_filter("string", keep::string);
        environment.add_filter("length", keep::length);
        environment.add_filter("count", keep::length);
        environment.set_formatter(keep::print);
        environment.add_filter(source::KEEP, keep::keep);
        environment.add_filter(source::HOLD, keep::hold);
        // The engine's own inventions, which no published template uses.
        environment.remove_global("debug");
        ["chain", "zip", "pprint"].iter().for_each(|name| environment.remove_filter(name));
        environment.add_test("iterable", python::is_iterable);
        environment.add_test("sequence", python::is_sequence);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            let refused = Refused(message);
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(refused))
        });
        // Compiling has no business with more than the template's own length.
        environment.set_fuel(Some(STEPS));
        guarded(|| environment.add_template_owned(NAME, prepared.source))?.map_err(explain)?;
        let literals = prepared.literals.into();
        Ok(Self { source, environment, variables: BTreeMap::new(), literals, file: None })
    }

    /// The source of the template in a `tokenizer_config.json`, if it has one: of several the one named `default`.
    ///
    /// # Errors
    /// Text that is no JSON, or larger than any config, and a field that is no template.
    pub fn source_in(json: &[u8]) -> Result<Option<String>> {
        bounded(json)?;
        config::chat_template(json).map_err(Error::external)
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The texts in the template's code.
    pub(super) fn literals(&self) -> &[String] {
        &self.literals
    }

    /// Sets a variable of the template: `bos_token`, or a switch that its model documents, as `enable_thinking`.
    ///
    /// What is set here is part of the template, never text of a message: special tokens in it are special.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Names the file that the template stands in, for what goes wrong when it is used.
    ///
    /// ```
    /// use formwork_recipes::chat::{ChatTemplate, Next};
    /// let template = ChatTemplate::new("{{ raise_exception('no') }}")?.of_file("chat_template.jinja");
    /// let error = template.render(&[], Next::Nothing).unwrap_err().to_string();
    /// assert!(error.starts_with("chat_template.jinja: chat template: expected"), "{error}");
    /// # Ok::<(), formwork_module::Error>(())
    /// ```
    #[must_use]
    pub fn of_file(mut self, file: impl fmt::Display) -> Self {
        self.file = Some(file.to_string().into());
        self
    }

    /// Sets `bos_token`, `eos_token`, `pad_token` and `unk_token` to those of a tokenizer, unless they are set.
    #[must_use]
    pub fn tokens_of(mut self, tokenizer: &Tokenizer) -> Self {
        let special = tokenizer.special();
        let named = [
            ("bos_token", special.begin),
            ("eos_token", special.end.first().copied()),
            ("pad_token", special.pad),
            ("unk_token", special.unknown),
        ];
        for (name, id) in named {
            if let Some(piece) = id.and_then(|id| tokenizer.piece(id)) {
                self.variables.entry(name.to_owned()).or_insert_with(|| piece.into());
            }
        }
        self
    }

    /// Gives templates that ask for it this date, as `strftime_now`.
    #[must_use]
    pub fn dated(mut self, date: Date) -> Self {
        let spell = move |format: String| {
            let failed = |error: Error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string());
            date.format(&format).map_err(failed)
        };
        self.environment.add_function("strftime_now", spell);
        self
    }

    /// The text of a conversation, as the reference's `apply_chat_template` renders it.
    ///
    /// What looks like a special token in a content looks so in the text too: to encode a conversation use
    /// [`encode`](Self::encode), which tells them apart.
    ///
    /// # Errors
    /// A conversation that the template refuses, with its own words; an error in the template, with the line; one that
    /// does not end. Each names the template's file, if that is known ([`of_file`](Self::of_file)).
    pub fn render(&self, messages: &[Message], next: Next) -> Result<String> {
        let rendered = self.rendered(messages, next);
        match &self.file {
            Some(file) => rendered.in_file(file),
            None => rendered,
        }
    }

    fn rendered(&self, messages: &[Message], next: Next) -> Result<String> {
        let contents: u64 = messages.iter().map(|message| message.content.len() as u64).sum();
        let steps =
            STEPS + messages.len() as u64 * STEPS_PER_MESSAGE + contents.saturating_mul(STEPS_PER_BYTE);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(steps));
        let own = self.variables.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
        let mut context: BTreeMap<_, _> = own.collect();
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("add_generation_prompt", (next == Next::Answer).into());
        context.insert("tools", ().into());
        context.insert("documents", ().into());
        let template = environment.get_template(NAME).map_err(explain)?;
        guarded(|| template.render(context))?.map_err(|error| match error.kind() {
            ErrorKind::OutOfFuel => {
                Error::invalid("chat template", format_args!("an end after at most {steps} steps"), "none")
                    .hint("its loops, or the texts it makes, grow without bound; it is not usable")
            }
            _ => explain(error),
        })
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, variables) = (self.source.len(), &self.variables);
        f.debug_struct("ChatTemplate")
            .field("bytes", &bytes)
            .field("variables", variables)
            .finish_non_exhaustive()
    }
}

/// Runs the engine; should it panic on a template, that is an error of the template.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
        Error::invalid(
            "chat template",
            "a template of the usual kind",
            "one on which the template engine panicked",
        )
    })
}

/// What a template says with `raise_exception`.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// An error of the engine in one sentence.
#[allow(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn explain(error: minijinja::Error) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Refused(message)) = inner.downcast_ref() {
            let message: String = message.chars().take(SHOWN).collect();
            return Error::invalid(
                "chat template",
                "a conversation that it takes",
                format_args!("one of which it says: {message}"),
            );
        }
        cause = inner.source();
    }
    let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
    let detail: String = error.detail().unwrap_or_default().chars().take(SHOWN).collect();
    let what = match detail.is_empty() {
        true => error.kind().to_string(),
        false => format!("{}: {detail}", error.kind()),
    };
    Error::invalid("chat template", "a template of the usual kind", format_args!("{what}{line}"))
}
