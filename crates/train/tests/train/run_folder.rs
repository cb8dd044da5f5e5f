//! The folder of a run, across interruptions.

use std::fs;

use formwork_train::run::{
    CURVE, Curve, METRICS, Record, RunFolder, SUMMARY, Summary, chart::Scale, records,
};

fn record(step: u64) -> Record {
    Record {
        loss: Some(1.0 + 1.0 / step as f64),
        held_out: step.is_multiple_of(5).then_some(1.5),
        ..Record::at(step)
    }
}

/// A run of `steps` steps in a folder of its own.
fn run(steps: u64) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::create(place.path()).unwrap();
    (1..=steps).for_each(|step| folder.log(&record(step)).unwrap());
    place
}

fn steps(place: &tempfile::TempDir) -> Vec<u64> {
    records(place.path()).unwrap().iter().map(|r| r.step).collect()
}

#[test]
fn what_was_logged_is_read_back_and_nothing_unknown_is_invented() {
    let place = run(7);
    assert_eq!(records(place.path()).unwrap(), (1..=7).map(record).collect::<Vec<_>>());
    let mut folder = RunFolder::resume(place.path(), 7).unwrap();
    let broken =
        Record { loss: Some(f64::NAN), grad_norm: Some(f64::INFINITY), lr: Some(0.5), ..Record::at(8) };
    folder.log(&broken).unwrap();
    assert_eq!(*records(place.path()).unwrap().last().unwrap(), Record { lr: Some(0.5), ..Record::at(8) });
}

#[test]
fn resuming_drops_later_lines_and_goes_on() {
    let check = |step: u64, left: &[u64]| {
        let place = run(7);
        let mut folder = RunFolder::resume(place.path(), step).unwrap();
        assert_eq!(steps(&place), left);
        folder.log(&record(step + 1)).unwrap();
        assert_eq!(steps(&place), [left, &[step + 1]].concat());
    };
    check(4, &[1, 2, 3, 4]);
    check(7, &[1, 2, 3, 4, 5, 6, 7]);
    check(0, &[]);
}

#[test]
fn a_line_cut_short_is_forgotten_wherever_the_kill_came() {
    let whole = fs::read(run(3).path().join(METRICS)).unwrap();
    let line = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for cut in line..whole.len() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(METRICS), &whole[..cut]).unwrap();
        let mut folder = RunFolder::resume(place.path(), 1).unwrap();
        folder.log(&record(2)).unwrap();
        assert_eq!(steps(&place), [1, 2], "cut at {cut}");
    }
}

#[test]
fn a_line_without_its_end_is_completed_before_the_next() {
    let place = run(2);
    let path = place.path().join(METRICS);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.trim_end()).unwrap();
    RunFolder::resume(place.path(), 2).unwrap().log(&record(3)).unwrap();
    assert_eq!(steps(&place), [1, 2, 3]);
}

#[test]
fn fields_of_another_version_survive_a_resume() {
    let place = run(1);
    let path = place.path().join(METRICS);
    let text = r#"{"step":1,"loss":2.0,"temperature":0.5}"#.to_owned() + "\n" + r#"{"step":2}"# + "\n";
    fs::write(&path, &text).unwrap();
    RunFolder::resume(place.path(), 1).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains(r#""temperature":0.5"#));
}

#[test]
fn what_would_mix_runs_or_lose_lines_is_refused() {
    let check = |result: formwork_module::Result<RunFolder>, words: &[&str]| {
        let error = result.unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let place = run(3);
    check(RunFolder::create(place.path()), &["without a run", METRICS, "resume that run"]);
    let empty = tempfile::tempdir().unwrap();
    check(RunFolder::resume(empty.path(), 3), &[METRICS, "metrics of a run"]);
    fs::write(empty.path().join(METRICS), "{\"step\":1}\nnonsense\n{\"step\":2}\n").unwrap();
    check(RunFolder::resume(empty.path(), 3), &["line 2", "record of metrics"]);
    let file = empty.path().join("file");
    fs::write(&file, "x").unwrap();
    check(RunFolder::create(&file), &["file", "a folder for the run"]);
}

#[test]
fn the_curve_and_the_summary_stand_in_the_folder() {
    let place = run(70);
    let folder = RunFolder::resume(place.path(), 70).unwrap();
    let levels = vec![("unigram".to_owned(), 1.9)];
    folder.write_curve(&Curve { title: "tiny".into(), scale: Scale::Log, levels }).unwrap();
    folder
        .write_summary(&Summary { title: "tiny".into(), facts: vec![("parameters".into(), "1234".into())] })
        .unwrap();
    let svg = fs::read_to_string(place.path().join(CURVE)).unwrap();
    for word in ["tiny", "training", "held-out", "unigram", "nats per token", "</svg>"] {
        assert!(svg.contains(word), "{word}");
    }
    let summary = fs::read_to_string(place.path().join(SUMMARY)).unwrap();
    assert!(summary.contains("1234") && summary.contains("1.5000 nats per token at step 70"), "{summary}");
}
