//! A conversation with a model that remembers it.
//!
//! Every turn renders the whole history with the template and encodes it anew, so that the model always reads what it
//! would have read had the conversation been given at once; of the tokens that the cache holds already, as many as agree
//! are kept, and only the rest goes through the model. After an ordinary answer these are the last token of the answer,
//! the end of the turn and the new question.

use std::{
    fmt,
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicBool},
};

use formwork_generate::{Finish, Session, Settings, Text};
use formwork_module::{Error, Result, TokenModel};
use formwork_tokenizer::Tokenizer;

use super::{ChatTemplate, Message, Next, Role, guard::Markers};
use crate::{Decode, vocabulary};

/// What happens when a conversation no longer fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// An error; the conversation stays as it was before the message.
    #[default]
    Refuse,
    /// The oldest messages are forgotten until the rest fits with room for an answer: never the system prompt, never
    /// the new message, and always up to the next message of the user.
    DropOldest,
}

/// How a [`Chat`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How answers are chosen, where they end, and how the cache stores. The tokenizer's own ends of a text or a turn end
    /// an answer too, unless [`ends`](Self::ends) says otherwise.
    pub settings: Settings,
    /// Which tokens end an answer.
    pub ends: Ends,
    /// The most tokens of the whole conversation, which take cache memory from the first message on; the model's
    /// context is the limit where that is less.
    pub capacity: usize,
    /// What happens when it no longer fits.
    pub overflow: Overflow,
    /// Stops an answer, or the reading of a message, once it is true.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// Which tokens end an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// Those of the settings, and those that the tokenizer knows: a model's settings may name the end of a text and
    /// leave out the end of a turn.
    #[default]
    All,
    /// Those of the settings alone; none means that only the number of tokens ends an answer.
    Settings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Settings { max_tokens: 512, ..Settings::default() },
            ends: Ends::All,
            capacity: 4096,
            overflow: Overflow::Refuse,
            cancel: None,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub text: String,
    /// Its tokens as the model chose them, the end included.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the conversation before it.
    pub prompt: usize,
    /// How many of these the cache did not hold.
    pub read: usize,
    /// Messages that were forgotten to make room.
    pub dropped: usize,
}

/// A conversation with a model.
pub struct Chat<'m> {
    session: Session<'m>,
    tokenizer: &'m Tokenizer,
    markers: Markers,
    template: ChatTemplate,
    settings: Settings,
    overflow: Overflow,
    messages: Vec<Message>,
}

impl<'m> Chat<'m> {
    /// An empty conversation.
    ///
    /// The template's `bos_token` and its like are the tokenizer's, where the template does not say.
    ///
    /// # Errors
    /// No capacity, settings out of range, or a tokenizer with more ids than the model.
    pub fn new(
        model: &'m dyn TokenModel,
        tokenizer: &'m Tokenizer,
        template: ChatTemplate,
        options: &Options,
    ) -> Result<Self> {
        vocabulary::fits(tokenizer, model.vocab())?;
        let mut settings = options.settings.clone();
        if options.ends == Ends::All {
            settings.end.extend(&tokenizer.special().end);
            settings.end.sort_unstable();
            settings.end.dedup();
        }
        settings.request()?;
        let mut session = Session::new(model, 1, options.capacity)?
            .cached_in(settings.cache)?
            .in_precision(settings.precision());
        if let Some(flag) = &options.cancel {
            session = session.cancelled_by(flag.clone());
        }
        let (markers, template) = (Markers::of(tokenizer), template.tokens_of(tokenizer));
        let (overflow, messages) = (options.overflow, Vec::new());
        Ok(Self { session, tokenizer, markers, template, settings, overflow, messages })
    }

    /// The conversation so far, the system prompt first where there is one.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Goes on with another conversation; what it has in common with this one, from the beginning, need not be read
    /// again.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Sets the system prompt, or takes it away; the rest of the conversation stays.
    pub fn set_system(&mut self, text: Option<&str>) {
        let has = self.messages.first().is_some_and(|message| message.role == Role::System);
        self.messages.splice(..usize::from(has), text.map(Message::system));
    }

    /// The tokens that the model holds: the conversation as it was last rendered, and the answer as it was chosen.
    pub fn tokens(&self) -> &[u32] {
        self.session.history(0).map_or(&[], |history| history.tokens())
    }

    /// Says something, and gives the answer; its text also goes to `on_text` as it comes, whole characters at a time.
    /// `Break` ends the answer there: what was said so far is the answer.
    ///
    /// # Errors
    /// A conversation that the template refuses, or that does not fit; cancellation before the answer began; those of
    /// the model and the tokenizer. The conversation is then as before.
    pub fn send(
        &mut self,
        text: impl Into<String>,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Reply> {
        let before = self.messages.clone();
        self.messages.push(Message::user(text));
        let reply = self.answer(on_text);
        match &reply {
            Ok(reply) => self.messages.push(Message::assistant(&reply.text)),
            Err(_) => self.messages = before,
        }
        reply
    }

    fn answer(&mut self, mut on_text: impl FnMut(&str) -> ControlFlow<()>) -> Result<Reply> {
        let (ids, dropped) = self.fitting()?;
        let read = ids.len() - self.session.resume(0, &ids)?;
        let mut texts: [Box<dyn Text>; 1] = [Box::new(Decode::new(self.tokenizer))];
        let request = self.settings.request()?;
        let outputs = self.session.write(&request, &mut texts, |event| match event.text {
            "" => ControlFlow::Continue(()),
            text => on_text(text),
        })?;
        let output = outputs.into_iter().next().ok_or_else(|| Error::missing("an answer"))?;
        let (text, finish) = (output.text, output.finish);
        Ok(Reply { text, ids: output.ids, finish, prompt: ids.len(), read, dropped })
    }

    /// The tokens of the conversation, shortened by the policy where it has to be.
    fn fitting(&mut self) -> Result<(Vec<u32>, usize)> {
        let capacity = self.session.capacity();
        let mut dropped = 0;
        loop {
            let ids =
                self.template.encode_with(&self.markers, self.tokenizer, &self.messages, Next::Answer)?;
            // One token of an answer at least; where messages may go, a whole one, or half of all there is.
            let room = match self.overflow {
                Overflow::Refuse => 1,
                Overflow::DropOldest => self.settings.max_tokens.min(capacity / 2).max(1),
            };
            let oldest = self.oldest();
            if !ids.is_empty() && (ids.len() + room <= capacity || (oldest == 0 && ids.len() < capacity)) {
                return Ok((ids, dropped));
            }
            if ids.is_empty() {
                return Err(Error::invalid("chat", "a template that writes something", "an empty text"));
            }
            if oldest == 0 {
                return Err(self.too_long(ids.len(), capacity));
            }
            let from = self.messages.iter().take_while(|message| message.role == Role::System).count();
            self.messages.drain(from..from + oldest);
            dropped += oldest;
        }
    }

    /// How many messages after the system prompt may go now: up to the user's next one, or none.
    fn oldest(&self) -> usize {
        if self.overflow == Overflow::Refuse {
            return 0;
        }
        let from = self.messages.iter().take_while(|message| message.role == Role::System).count();
        let later = self.messages.iter().skip(from + 1).position(|message| message.role == Role::User);
        later.map_or(0, |at| at + 1)
    }

    fn too_long(&self, found: usize, capacity: usize) -> Error {
        let expected = format!("a conversation of less than {capacity} tokens");
        let hint = match self.overflow {
            Overflow::Refuse => {
                "begin another one, let it forget its oldest messages, or give it a larger capacity"
            }
            Overflow::DropOldest => "shorten the message or the system prompt, or give it a larger capacity",
        };
        Error::invalid("chat", expected, found).hint(hint)
    }
}

impl fmt::Debug for Chat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, tokens) = (self.messages.len(), self.tokens().len());
        f.debug_struct("Chat").field("messages", &messages).field("tokens", &tokens).finish_non_exhaustive()
    }
}
