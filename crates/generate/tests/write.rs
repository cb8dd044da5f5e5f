//! Where a text ends: end tokens, stop strings, lengths, the caller; and what a listener hears of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use common::{Bigram, Pieces, Recall, VOCAB};
use formwork_generate::{Event, Finish, Output, Request, Sampler, Session, Settings, Text};

const GO: ControlFlow<()> = ControlFlow::Continue(());

/// Token `i` is followed by `i + 1`.
fn counter() -> Bigram {
    Bigram::chain(|i| (i + 1) % VOCAB)
}

fn request(max_tokens: usize) -> Request {
    Request { max_tokens, ..Request::new(Sampler::greedy()) }
}

/// Writes on from token 0, and makes sure that the events put together are the output.
#[track_caller]
fn written(text: Box<dyn Text>, request: &Request) -> (Output, Vec<String>) {
    let model = counter();
    let mut session = Session::new(&model, 1, 64).unwrap();
    session.prompt(&[&[0]]).unwrap();
    let (mut ids, mut parts, mut finishes) = (Vec::new(), Vec::new(), Vec::new());
    let texts: &mut [Box<dyn Text + '_>] = &mut [text];
    let listen = |event: Event<'_>| {
        ids.extend(event.id);
        parts.push(event.text.to_owned());
        finishes.extend(event.finish);
        GO
    };
    let output = session.write(request, texts, listen).unwrap().remove(0);
    assert_eq!((&ids, &parts.concat(), finishes), (&output.ids, &output.text, vec![output.finish]));
    (output, parts)
}

#[test]
fn an_end_token_ends_a_row_and_adds_no_text() {
    let pieces = ["", "a", "b", "c", "<end>", "<other>"];
    let check = |end: &[u32], ids: &[u32], text: &str, finish: Finish| {
        let (output, _) = written(Pieces::boxed(&pieces), &Request { end: end.to_vec(), ..request(4) });
        assert_eq!((&output.ids[..], &output.text[..], output.finish), (ids, text, finish), "{end:?}");
    };
    check(&[4], &[1, 2, 3, 4], "abc", Finish::End);
    check(&[9, 3, 4], &[1, 2, 3], "ab", Finish::End);
    check(&[7], &[1, 2, 3, 4], "abc<end>", Finish::Length);
}

#[test]
fn a_stop_string_over_tokens_is_never_emitted_in_part() {
    let check = |pieces: &[&'static str], stop: &[&str], parts: &[&str], finish: Finish| {
        let stop = stop.iter().map(|&s| s.to_owned()).collect();
        let (output, heard) = written(Pieces::boxed(pieces), &Request { stop, ..request(pieces.len() - 1) });
        assert_eq!(
            (&heard[..], output.finish),
            (&parts.iter().map(|&s| s.to_owned()).collect::<Vec<_>>()[..], finish)
        );
    };
    check(&["", "hi\n", "\nUs", "er: x"], &["\n\nUser:"], &["hi", "", ""], Finish::Stop);
    check(&["", "hi\n", "\nUs", "a"], &["\n\nUser:"], &["hi", "", "\n\nUsa"], Finish::Length);
    check(&["", "hi\n", "\nUs"], &["\n\nUser:"], &["hi", "\n\nUs"], Finish::Length);
    check(&["", "日", "本", "語", "。"], &["語。"], &["日", "本", "", ""], Finish::Stop);
    check(&["", "a", "b", "c"], &["zz", "bc"], &["a", "", ""], Finish::Stop);
}

#[test]
fn a_stop_string_whose_characters_are_split_over_tokens_is_caught() {
    // "é→é." as bytes: c3 a9 | e2 86 92 | c3 a9 | 2e, in tokens that respect no character.
    let pieces: [&'static [u8]; 6] = [b"", b"x\xc3", b"\xa9\xe2\x86", b"\x92\xc3", b"\xa9", b"."];
    let (output, parts) =
        written(Pieces::of_bytes(&pieces), &Request { stop: vec!["→é".into()], ..request(5) });
    assert_eq!((parts, output.finish), (["x", "é", "", ""].map(String::from).to_vec(), Finish::Stop));
    // Cut off in the middle of a character, what waits comes out as the decoder sees fit.
    let (output, _) = written(Pieces::of_bytes(&pieces), &Request { stop: vec!["→!".into()], ..request(3) });
    assert_eq!((&output.text[..], output.finish), ("xé→\u{fffd}", Finish::Length));
}

#[test]
fn rows_end_each_for_their_own_reason_and_go_on_or_rest() {
    let model = counter();
    let mut session = Session::new(&model, 4, 12).unwrap();
    session.prompt(&[&[0], &[5], &[2], &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]).unwrap();
    let pieces = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "X"];
    let mut texts: Vec<_> = (0..4).map(|_| Pieces::boxed(&pieces)).collect();
    let request = Request { end: vec![8], stop: vec!["56".into()], ..request(4) };
    let outputs = session.write(&request, &mut texts, |_| GO).unwrap();
    let found: Vec<_> = outputs.iter().map(|o| (o.row, &o.text[..], o.ids.len(), o.finish)).collect();
    assert_eq!(
        found,
        [
            (0, "1234", 4, Finish::Length),
            (1, "67", 3, Finish::End),
            (2, "34", 4, Finish::Stop),
            (3, "23", 2, Finish::Length)
        ]
    );
    // Row 0 has more to say, rows 1 and 2 have finished, row 3 is full.
    assert_eq!([0, 1, 2, 3].map(|row| session.is_awake(row)), [true, false, false, false]);
    let mut texts: Vec<_> = (0..4).map(|_| Pieces::boxed(&pieces)).collect();
    let outputs = session.write(&request, &mut texts, |_| GO).unwrap();
    assert_eq!((outputs.len(), &outputs[0].text[..], outputs[0].finish), (1, "", Finish::Stop));
    assert_eq!(session.history(0).unwrap().tokens(), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn nothing_to_write_is_an_end_too() {
    let model = Recall::seeded(Some(5));
    let mut session = Session::new(&model, 2, 5).unwrap();
    session.prompt(&[&[1, 2, 3, 4, 5], &[1]]).unwrap();
    let mut events = Vec::new();
    let outputs = session.write(&request(0), &mut [], |e| {
        events.push((e.row, e.id, e.finish));
        GO
    });
    assert!(outputs.unwrap().iter().all(|o| o.ids.is_empty() && o.finish == Finish::Length));
    assert_eq!(events, [(0, None, Some(Finish::Length)), (1, None, Some(Finish::Length))]);
    let outputs = session.write(&request(9), &mut [], |_| GO).unwrap();
    assert_eq!((outputs[0].row, outputs[0].ids.len(), outputs.len()), (1, 4, 1));
}

#[test]
fn a_listener_that_breaks_ends_the_rest_and_hears_no_more() {
    let model = counter();
    let mut session = Session::new(&model, 3, 30).unwrap();
    session.prompt(&[&[0], &[3], &[6]]).unwrap();
    let mut heard = 0;
    let outputs = session
        .write(&Request { end: vec![4], ..request(9) }, &mut [], |event| {
            heard += 1;
            if event.row == 1 { ControlFlow::Break(()) } else { GO }
        })
        .unwrap();
    assert_eq!(heard, 2);
    let found: Vec<_> = outputs.iter().map(|o| (&o.ids[..], o.finish)).collect();
    assert_eq!(found, [(&[1][..], Finish::Cancelled), (&[4], Finish::End), (&[7], Finish::Cancelled)]);
    let outputs = session.write(&request(2), &mut [], |_| GO).unwrap();
    assert_eq!(
        outputs.iter().map(|o| (o.row, &o.ids[..])).collect::<Vec<_>>(),
        [(0, &[2, 3][..]), (2, &[8, 9])]
    );
}

#[test]
fn a_cancelled_text_goes_on_as_if_nothing_had_been() {
    let model = Recall::seeded(None);
    let flag = Arc::new(AtomicBool::new(false));
    let settings = Settings { temperature: 1.5, seed: 3, max_tokens: 17, ..Settings::default() };
    let request = settings.request().unwrap();
    let mut session = Session::new(&model, 2, 60).unwrap().cancelled_by(flag.clone());
    let mut calm = session.fork();
    session.prompt(&[&[1, 2, 3], &[4]]).unwrap();
    let mut tokens = 0;
    let mut last = Vec::new();
    let first = session
        .write(&request, &mut [], |event| {
            tokens += 1;
            flag.fetch_or(tokens == 9, Relaxed);
            last.extend(event.finish);
            GO
        })
        .unwrap();
    // The flag went up with the first row's fifth token; the second row's was chosen in the same step and stays.
    assert_eq!(first.iter().map(|o| o.ids.len()).collect::<Vec<_>>(), [5, 5]);
    assert!(first.iter().all(|o| o.finish == Finish::Cancelled));
    assert_eq!(last, [Finish::Cancelled; 2]);
    flag.store(false, Relaxed);
    let rest =
        session.write(&Request { max_tokens: 12, ..settings.request().unwrap() }, &mut [], |_| GO).unwrap();
    calm.prompt(&[&[1, 2, 3], &[4]]).unwrap();
    let whole = calm.write(&request, &mut [], |_| GO).unwrap();
    for row in 0..2 {
        assert_eq!([&first[row].ids[..], &rest[row].ids[..]].concat(), whole[row].ids);
    }
}

#[test]
fn a_wrong_request_says_what_to_do() {
    let model = counter();
    let mut session = Session::new(&model, 2, 30).unwrap();
    let check = |session: &mut Session<'_>, stop: &[&str], texts: usize, message: &str| {
        let request = Request { stop: stop.iter().map(|&s| s.to_owned()).collect(), ..request(3) };
        let mut texts: Vec<_> = (0..texts).map(|_| Pieces::boxed(&["only one"])).collect();
        assert_eq!(session.write(&request, &mut texts, |_| GO).unwrap_err().to_string(), message);
    };
    check(
        &mut session,
        &[],
        0,
        "write: expected a prompt to go on from, found an empty session; call prompt first",
    );
    session.prompt(&[&[0], &[1]]).unwrap();
    check(
        &mut session,
        &["a", ""],
        2,
        "stop.1: expected a text, found an empty one; leave it out to stop at nothing",
    );
    check(&mut session, &[], 1, "write: expected a text decoder for each of 2 rows, or none, found 1");
    check(
        &mut session,
        &["a"],
        0,
        "write: expected text decoders, in which to look for stop strings, found none; give one decoder per row, or use end ids",
    );
    check(&mut session, &[], 2, "row 0: pieces: expected a known id, found 1");
}
