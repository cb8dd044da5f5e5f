//! Generation until each row's end.

use std::ops::ControlFlow;

use formwork_module::{At, Error, Kind, Result};

use crate::{
    Event, Finish, Output, Request, Session, Text,
    settings::empty_stop,
    stop::{Found, Holdback},
};

impl Session<'_> {
    /// Goes on with every row that is awake until it ends, and reports each token to `on_event` as it comes.
    ///
    /// `texts` has one decoder per row of the session, or none at all where text is not wanted; each begins anew with
    /// this call. Text that may become a stop string is held back until that is decided.
    /// `Break` from `on_event` ends all rows that have not ended ([`Finish::Cancelled`]), as the flag of
    /// [`cancelled_by`](Session::cancelled_by) does; after `Break` there are no more events.
    ///
    /// Returns an output for each row that was awake. A row that ended with [`Finish::Length`] or
    /// [`Finish::Cancelled`] and has room stays awake, so that another call goes on with it; the others rest until
    /// their next prompt.
    ///
    /// # Errors
    /// No prompt yet; an empty stop string, or stop strings without decoders; another number of decoders than rows;
    /// those of the model, the sampler and the decoders.
    pub fn write(
        &mut self,
        request: &Request,
        texts: &mut [Box<dyn Text + '_>],
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Output>> {
        self.check_request(request, texts.len())?;
        let mut writers: Vec<_> =
            (0..self.rows()).filter(|&row| self.is_awake(row)).map(Writer::new).collect();
        let mut run = Run { request, texts, on_event: &mut on_event, flow: ControlFlow::Continue(()) };
        for writer in &mut writers {
            if request.max_tokens == 0 || self.is_full(writer.row) {
                run.end(writer, Finish::Length)?;
                self.rest(writer.row)?;
            }
        }
        while run.flow.is_continue() && writers.iter().any(|writer| writer.finish.is_none()) {
            match self.step(&request.sampler) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), Kind::Cancelled) => break,
                Err(error) => return Err(error),
            }
            for writer in writers.iter_mut().filter(|writer| writer.finish.is_none()) {
                let id = *self.rows[writer.row]
                    .history
                    .tokens()
                    .last()
                    .expect("a step adds a token to each awake row");
                run.take(writer, id, self.is_full(writer.row))?;
                if writer.finish.is_some() {
                    self.rest(writer.row)?;
                }
            }
        }
        for writer in &mut writers {
            if writer.finish.is_none() {
                run.end(writer, Finish::Cancelled)?;
            }
            let cut_short = matches!(writer.finish, Some(Finish::Length | Finish::Cancelled));
            if cut_short && !self.is_full(writer.row) {
                self.wake(writer.row)?;
            }
        }
        Ok(writers.into_iter().map(Writer::output).collect())
    }

    fn is_full(&self, row: usize) -> bool {
        self.rows[row].history.len() >= self.capacity
    }

    fn check_request(&self, request: &Request, texts: usize) -> Result<()> {
        if self.rows.iter().all(|row| row.history.is_empty()) {
            return Err(Error::invalid("write", "a prompt to go on from", "an empty session")
                .hint("call prompt first"));
        }
        if let Some(at) = request.stop.iter().position(String::is_empty) {
            return Err(empty_stop(at));
        }
        if texts != 0 && texts != self.rows() {
            return Err(Error::invalid(
                "write",
                format_args!("a text decoder for each of {} rows, or none", self.rows()),
                texts,
            ));
        }
        if texts == 0 && !request.stop.is_empty() {
            return Err(Error::invalid("write", "text decoders, in which to look for stop strings", "none")
                .hint("give one decoder per row, or use end ids"));
        }
        Ok(())
    }
}

/// One row on its way to its output.
struct Writer {
    row: usize,
    ids: Vec<u32>,
    text: String,
    holdback: Holdback,
    finish: Option<Finish>,
}

impl Writer {
    fn new(row: usize) -> Self {
        Self { row, ids: Vec::new(), text: String::new(), holdback: Holdback::default(), finish: None }
    }

    fn output(self) -> Output {
        let finish = self.finish.expect("every row is ended before its output is taken");
        Output { row: self.row, ids: self.ids, text: self.text, finish }
    }
}

/// What all rows of one call share.
struct Run<'r, 't, F> {
    request: &'r Request,
    texts: &'r mut [Box<dyn Text + 't>],
    on_event: F,
    /// `Break` once the listener wants no more.
    flow: ControlFlow<()>,
}

impl<F: FnMut(Event<'_>) -> ControlFlow<()>> Run<'_, '_, F> {
    /// A row has a new token, with which it may be full.
    fn take(&mut self, writer: &mut Writer, id: u32, full: bool) -> Result<()> {
        let from = writer.text.len();
        writer.ids.push(id);
        if self.request.end.contains(&id) {
            writer.finish = Some(self.flush(writer, Finish::End)?);
        } else if self.decode(writer, |text, piece| text.push(id, piece))? == Found::Stop {
            writer.finish = Some(Finish::Stop);
        } else if full || writer.ids.len() >= self.request.max_tokens {
            writer.finish = Some(self.flush(writer, Finish::Length)?);
        }
        self.report(writer, Some(id), from);
        Ok(())
    }

    /// A row ends without a token.
    fn end(&mut self, writer: &mut Writer, finish: Finish) -> Result<()> {
        let from = writer.text.len();
        writer.finish = Some(self.flush(writer, finish)?);
        self.report(writer, None, from);
        Ok(())
    }

    /// Lets out all text that waited for more; it may be a stop string yet.
    fn flush(&mut self, writer: &mut Writer, finish: Finish) -> Result<Finish> {
        let found = self.decode(writer, |text, piece| text.finish(piece))?;
        writer.holdback.finish(&mut writer.text);
        Ok(if found == Found::Stop { Finish::Stop } else { finish })
    }

    fn decode(
        &mut self,
        writer: &mut Writer,
        step: impl FnOnce(&mut dyn Text, &mut String) -> Result<()>,
    ) -> Result<Found> {
        let Some(text) = self.texts.get_mut(writer.row) else { return Ok(Found::Nothing) };
        step(&mut **text, writer.holdback.incoming()).at(format_args!("row {}", writer.row))?;
        Ok(writer.holdback.release(&self.request.stop, &mut writer.text))
    }

    fn report(&mut self, writer: &Writer, id: Option<u32>, from: usize) {
        if self.flow.is_continue() {
            let event = Event { row: writer.row, id, text: &writer.text[from..], finish: writer.finish };
            self.flow = (self.on_event)(event);
        }
    }
}
