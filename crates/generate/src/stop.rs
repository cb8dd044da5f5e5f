//! Finds stop strings in text that arrives in pieces, and never lets out a part of one.
//!
//! What may still become a stop string, the longest end of the text with which one begins, is held back until it is
//! decided. The stop that ends first wins (of several that end together the longest), so that the result does not
//! depend on where one piece ends and the next begins.

/// Text on its way out.
#[derive(Debug, Default)]
pub(crate) struct Holdback {
    held: String,
}

/// Whether a stop string was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Stop,
    Nothing,
}

impl Holdback {
    /// Where new text is to be added, at the end.
    pub(crate) fn incoming(&mut self) -> &mut String {
        &mut self.held
    }

    /// Moves to `out` what may go. Nothing more is to come after a stop.
    pub(crate) fn release(&mut self, stops: &[String], out: &mut String) -> Found {
        if let Some(start) = first(&self.held, stops) {
            out.push_str(&self.held[..start]);
            self.held.clear();
            return Found::Stop;
        }
        let safe = self.held.len() - undecided(&self.held, stops);
        out.push_str(&self.held[..safe]);
        self.held.drain(..safe);
        Found::Nothing
    }

    /// Lets out the rest, since nothing follows.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }
}

/// Where the stop string begins that ends first.
fn first(text: &str, stops: &[String]) -> Option<usize> {
    let ends =
        stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)));
    ends.min().map(|(_, start)| start)
}

/// The length of the longest end of `text` that begins a stop string, short of being all of one.
fn undecided(text: &str, stops: &[String]) -> usize {
    let of = |stop: &String| {
        let starts =
            text.char_indices().map(|(at, _)| at).rev().take_while(|at| text.len() - at < stop.len());
        starts.filter(|&at| stop.starts_with(&text[at..])).last().map_or(0, |at| text.len() - at)
    };
    stops.iter().map(of).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that comes out, and whether it was stopped, for pieces one after the other.
    fn run(pieces: &[&str], stops: &[&str]) -> (Vec<String>, Found) {
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let (mut holdback, mut outs) = (Holdback::default(), Vec::new());
        for piece in pieces {
            let mut out = String::new();
            holdback.incoming().push_str(piece);
            let found = holdback.release(&stops, &mut out);
            outs.push(out);
            if found == Found::Stop {
                return (outs, Found::Stop);
            }
        }
        let mut rest = String::new();
        holdback.finish(&mut rest);
        outs.push(rest);
        (outs, Found::Nothing)
    }

    #[test]
    fn a_stop_string_over_several_pieces_is_caught_and_never_let_out() {
        let check = |pieces: &[&str], stops: &[&str], outs: &[&str], found: Found| {
            assert_eq!(
                run(pieces, stops),
                (outs.iter().map(|&s| s.to_owned()).collect(), found),
                "{pieces:?} {stops:?}"
            );
        };
        check(&["a", "b"], &[], &["a", "b", ""], Found::Nothing);
        check(&["a<", "/s", "> b"], &["</s>"], &["a", "", ""], Found::Stop);
        check(&["a<", "/x"], &["</s>"], &["a", "</x", ""], Found::Nothing);
        check(&["a<<", "/s>"], &["</s>"], &["a<", ""], Found::Stop);
        check(&["a<", "/"], &["</s>"], &["a", "", "</"], Found::Nothing);
        // Two stops that share a beginning, and one inside another.
        check(&["x\n", "\n", "y"], &["\n\nUser", "\n\ny"], &["x", "", ""], Found::Stop);
        check(&["abab", "ac"], &["ababac"], &["", ""], Found::Stop);
        check(&["ababab", "ac"], &["ababac"], &["ab", ""], Found::Stop);
        // Characters of several bytes, whose bytes differ only at the end.
        check(&["één", "d", "e→"], &["de←"], &["één", "", "de→", ""], Found::Nothing);
        check(&["één", "d", "e←!"], &["de←"], &["één", "", ""], Found::Stop);
        check(&["日", "本", "語"], &["本語"], &["日", "", ""], Found::Stop);
    }

    #[test]
    fn pieces_do_not_change_what_comes_out() {
        let text = "one <| two é→ <|end|> three abcd";
        for stops in
            [&["<|end|>", "|> t"][..], &["abcd", "bc"], &["é→ <", "→"], &["never"], &["<|end|> ", "end"]]
        {
            let (outs, found) = run(&[text], stops);
            let whole = outs.concat();
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            for step in 1..7 {
                let pieces: Vec<&str> = starts
                    .iter()
                    .step_by(step)
                    .map(|&at| {
                        let end = text[at..].char_indices().nth(step).map_or(text.len(), |(len, _)| at + len);
                        &text[at..end]
                    })
                    .collect();
                assert_eq!(pieces.concat(), text);
                let (outs, of_pieces) = run(&pieces, stops);
                assert_eq!((outs.concat(), of_pieces), (whole.clone(), found), "{stops:?} by {step}");
            }
        }
    }
}
