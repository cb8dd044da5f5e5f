//! What a person wants to know about a run, as a few lines of text.

use std::fmt::Write;

use super::Record;

/// A title, and facts that the metrics do not hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The first line.
    pub title: String,
    /// Such as `("parameters", "10.6 M")`, in the order of the page.
    pub facts: Vec<(String, String)>,
}

impl Summary {
    /// The page: the title, the facts, and what the metrics say.
    ///
    /// ```
    /// use formwork_train::run::{Record, Summary};
    /// let summary = Summary { title: "tiny".into(), facts: vec![("parameters".into(), "1234".into())] };
    /// let last = Record { loss: Some(2.5), tokens: Some(3000), seconds: Some(1.5), ..Record::at(7) };
    /// let text = summary.text(&[last]);
    /// assert!(text.contains("tokens a second  2000"), "{text}");
    /// ```
    pub fn text(&self, records: &[Record]) -> String {
        let mut lines = self.facts.clone();
        let mut add = |name: &str, value: Option<String>| lines.extend(value.map(|v| (name.to_owned(), v)));
        fn last<T>(records: &[Record], of: impl Fn(&Record) -> Option<T>) -> Option<T> {
            records.iter().rev().find_map(of)
        }
        let nats = |value: f64, step: u64| format!("{value:.4} nats per token at step {step}");
        add("steps", last(records, |r| Some(r.step.to_string())));
        add("tokens", last(records, |r| r.tokens).map(|n| n.to_string()));
        add("training time", last(records, |r| r.seconds).map(duration));
        let speed = last(records, |r| Some(r.tokens? as f64 / r.seconds.filter(|s| *s > 0.0)?));
        add("tokens a second", speed.map(|s| format!("{s:.0}")));
        add("training loss", last(records, |r| Some(nats(r.loss?, r.step))));
        add("held-out loss", last(records, |r| Some(nats(r.held_out?, r.step))));
        let held_out = records.iter().filter_map(|r| Some((r.held_out?, r.step)));
        let best = held_out.min_by(|a, b| a.0.total_cmp(&b.0));
        add("best held-out loss", best.map(|(value, step)| nats(value, step)));
        let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut text = format!("{}\n\n", self.title);
        for (name, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<width$}  {value}");
        }
        text
    }
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_and_the_best_are_told_apart_and_the_unknown_left_out() {
        let at = |step, held_out| Record { held_out, ..Record::at(step) };
        let text = Summary::default().text(&[
            at(10, Some(2.0)),
            at(20, Some(1.5)),
            at(30, Some(1.75)),
            at(35, None),
        ]);
        let line = |name: &str| {
            text.lines().find(|l| l.starts_with(name)).map(|l| l[name.len()..].trim().to_owned())
        };
        assert_eq!(line("steps").as_deref(), Some("35"));
        assert_eq!(line("held-out loss").as_deref(), Some("1.7500 nats per token at step 30"));
        assert_eq!(line("best held-out loss").as_deref(), Some("1.5000 nats per token at step 20"));
        assert_eq!((line("tokens"), line("training loss")), (None, None));
    }

    #[test]
    fn durations_are_said_as_people_say_them() {
        let check = |seconds, said| assert_eq!(duration(seconds), said);
        check(1.26, "1.3 s");
        check(61.4, "1 min 01 s");
        check(7384.0, "2 h 03 min");
    }
}
