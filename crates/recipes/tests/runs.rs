//! Folders and runs: what is written comes back, a broken-off run goes on to the same bits, and mistakes are named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{fs, ops::ControlFlow, path::Path};

use formwork_formats::AtomicFolder;
use formwork_model::{ModelConfig, Transformer};
use formwork_module::{Module, Seed, params};
use formwork_recipes::{CONFIG_FILE, Plan, Run, TOKENIZER_FILE, fit, load, read_config, save};
use formwork_tokenizer::Tokenizer;
use formwork_train::{Split, Tokens, TrainConfig, TrainPrecision, Trainer, Window};
use serde_json::json;

fn config() -> ModelConfig {
    ModelConfig::from_value(json!({
        "schema": 1, "name": "tiny", "vocab": 11, "context": 7, "dim": 12,
        "blocks": {"layers": 2, "each": {
            "kind": "pre_norm", "dropout": 0.1,
            "attn_norm": {"kind": "rms", "eps": 1e-5},
            "attn": {"kind": "multi_head", "heads": 3, "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
            "ffn_norm": {"kind": "rms", "eps": 1e-5},
            "ffn": {"kind": "gated", "hidden": 20, "activation": {"kind": "silu"}},
        }},
        "norm": {"kind": "rms", "eps": 1e-5}, "head": {"kind": "tied"}, "init": {"std": 0.1},
    }))
    .unwrap()
}

fn settings() -> TrainConfig {
    serde_json::from_value(json!({
        "seed": 3, "clip": 1.0,
        "schedule": {"kind": "warmup_cosine", "peak": 1e-2, "floor": 1e-3, "warmup": 3, "steps": 12},
    }))
    .unwrap()
}

fn text() -> Split {
    Tokens::new((0..300u32).map(|i| (i * i / 7) % 11).collect::<Vec<_>>()).split(0.8).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::characters("abcdefghijk").unwrap()
}

const PLAN: Plan = Plan {
    steps: 12,
    window: Window { rows: 3, length: 7 },
    batches: 2,
    held_out: Window { rows: 4, length: 7 },
    evaluate_every: 5,
    save_every: 4,
    keep: 2,
};

fn bits(model: &Transformer) -> Vec<u32> {
    params(model)
        .iter()
        .flat_map(|(_, p)| p.value().unwrap().to_vec::<f32>().unwrap())
        .map(f32::to_bits)
        .collect()
}

fn go_on(_: &formwork_recipes::Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn fresh(folder: &Path) -> (Transformer, Trainer, Run) {
    let model = config().build(&Seed::new(1)).unwrap();
    let trainer = Trainer::new(&model, settings()).unwrap();
    let run = Run::create(folder, &config(), Some(&tokenizer()), &settings()).unwrap();
    (model, trainer, run)
}

/// The metrics without what depends on the machine.
fn metrics(folder: &Path) -> Vec<serde_json::Value> {
    let lines = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let without_time = |line: &str| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove("seconds");
        record
    };
    lines.lines().map(without_time).collect()
}

#[test]
fn a_run_broken_off_anywhere_ends_with_the_bits_of_one_that_was_not() {
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("whole");
    let (model, mut trainer, mut run) = fresh(&whole);
    let last = fit(&model, &mut trainer, &text(), &PLAN, Some(&mut run), &mut go_on).unwrap().unwrap();
    assert_eq!((last.report.step, last.tokens), (12, 12 * 2 * 21));
    assert!(last.held_out.is_some());
    let (expected, expected_metrics) = (bits(&model), metrics(&whole));
    for stop in [1, 4, 6, 11] {
        let folder = place.path().join(format!("stopped-{stop}"));
        let (model, mut trainer, mut run) = fresh(&folder);
        fit(&model, &mut trainer, &text(), &PLAN, Some(&mut run), &mut |p| match p.report.step == stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
        .unwrap();
        drop((model, trainer, run));
        // Another process: nothing but the folder is left, and a model that starts from other numbers.
        let model = config().build(&Seed::new(99)).unwrap();
        let mut trainer = Trainer::new(&model, settings()).unwrap();
        let mut run = Run::resume(&folder, &model, &mut trainer).unwrap();
        assert_eq!(trainer.steps(), stop);
        fit(&model, &mut trainer, &text(), &PLAN, Some(&mut run), &mut go_on).unwrap();
        assert_eq!(bits(&model), expected, "stopped after {stop}");
        assert_eq!(metrics(&folder), expected_metrics, "stopped after {stop}");
    }
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("whole");
    let (model, mut trainer, mut run) = fresh(&whole);
    fit(&model, &mut trainer, &text(), &PLAN, Some(&mut run), &mut go_on).unwrap();
    let folder = place.path().join("killed");
    let (killed, mut trainer, mut run) = fresh(&folder);
    let plan = Plan { steps: 6, ..PLAN };
    fit(&killed, &mut trainer, &text(), &plan, Some(&mut run), &mut go_on).unwrap();
    drop(run);
    // The checkpoint of the last step was being written when the process was killed: it is there in part, and still has
    // its temporary name.
    let last = folder.join("checkpoints/step-00000006");
    let begun = AtomicFolder::create(last.with_file_name("step-00000007")).unwrap();
    fs::rename(last.join("model.safetensors"), begun.path().join("model.safetensors")).unwrap();
    std::mem::forget(begun);
    fs::remove_dir_all(last).unwrap();
    let entries = || fs::read_dir(folder.join("checkpoints")).unwrap().count();
    let left = entries();
    let model = config().build(&Seed::new(99)).unwrap();
    let mut trainer = Trainer::new(&model, settings()).unwrap();
    let mut run = Run::resume(&folder, &model, &mut trainer).unwrap();
    assert_eq!(trainer.steps(), 4);
    assert_eq!(entries(), left - 1, "what was half-written is gone");
    fit(&model, &mut trainer, &text(), &PLAN, Some(&mut run), &mut go_on).unwrap();
    assert_eq!(metrics(&folder).len(), 12, "what was logged after the checkpoint is logged once");
    assert_eq!(load(&folder).map(|l| bits(&l.model)).unwrap(), load(&whole).map(|l| bits(&l.model)).unwrap());
}

#[test]
fn a_run_folder_holds_what_it_promises_and_loads() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let (model, mut trainer, mut run) = fresh(&folder);
    fit(&model, &mut trainer, &text(), &PLAN, Some(&mut run), &mut go_on).unwrap();
    for file in [CONFIG_FILE, TOKENIZER_FILE, "train.json", "metrics.jsonl", "loss.svg", "summary.txt"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let checkpoints: Vec<_> =
        fs::read_dir(folder.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(checkpoints.len(), PLAN.keep, "{checkpoints:?}");
    let svg = fs::read_to_string(folder.join("loss.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    let loaded = load(&folder).unwrap();
    assert_eq!(bits(&loaded.model), bits(&model));
    assert_eq!(loaded.tokenizer.unwrap().vocab(), 11);
    let one = load(folder.join("checkpoints/step-00000008")).unwrap();
    assert_ne!(bits(&one.model), bits(&model), "an earlier checkpoint loads by itself");
}

#[test]
fn a_saved_model_comes_back_with_its_tokenizer() {
    let place = tempfile::tempdir().unwrap();
    let model = config().build(&Seed::new(5)).unwrap();
    save(place.path(), &model, Some(&tokenizer())).unwrap();
    let loaded = load(place.path()).unwrap();
    assert_eq!(bits(&loaded.model), bits(&model));
    assert_eq!(loaded.model.config(), &config());
    save(place.path(), &loaded.model, None).unwrap();
    assert!(load(place.path()).unwrap().tokenizer.is_some(), "a save without a tokenizer takes none away");
    assert_eq!(params(&loaded.model as &dyn Module).len(), params(&model).len());
}

#[test]
fn mistakes_are_named_and_nothing_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let model = config().build(&Seed::new(5)).unwrap();
    let refused = |folder: &Path, words: &[&str]| {
        let error = load(folder).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word} in {error}");
        }
    };
    refused(&place.path().join("nowhere"), &["nowhere", "a model is a folder"]);
    refused(place.path(), &[CONFIG_FILE]);
    fs::write(place.path().join("config.json"), "{}").unwrap();
    refused(place.path(), &["config.json", "model_type", "one of gpt2, llama", "found nothing"]);
    refused(Path::new("model.gguf"), &["GGUF"]);

    save(place.path(), &model, Some(&tokenizer())).unwrap();
    let break_file = |file: &str, change: &dyn Fn(String) -> Vec<u8>, words: &[&str]| {
        let path = place.path().join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, change(String::from_utf8_lossy(&good).into_owned())).unwrap();
        refused(place.path(), words);
        fs::write(&path, good).unwrap();
    };
    let typo = |text: String| text.replace("theta", "teta").into_bytes();
    break_file(CONFIG_FILE, &typo, &[CONFIG_FILE, "blocks.0.attn.position.teta", "did you mean `theta`?"]);
    let heads = |text: String| text.replace("\"heads\": 3", "\"heads\": 5").into_bytes();
    break_file(CONFIG_FILE, &heads, &["blocks.0.attn", "heads", "12", "5"]);
    let wider = |text: String| text.replace("\"hidden\": 20", "\"hidden\": 24").into_bytes();
    break_file(CONFIG_FILE, &wider, &["blocks.0.ffn.up.weight", "[20, 12]", "[24, 12]"]);
    let more = |_: String| Tokenizer::bytes().to_json().as_bytes().to_vec();
    break_file(TOKENIZER_FILE, &more, &[TOKENIZER_FILE, "256", "11"]);
    let cut = fs::read(place.path().join("model.safetensors")).unwrap();
    break_file("model.safetensors", &|_| cut[..cut.len() - 9].to_vec(), &["model.safetensors"]);
    assert_eq!(bits(&load(place.path()).unwrap().model), bits(&model));
    assert!(read_config(&place.path().join("none.toml")).unwrap_err().to_string().contains("none.toml"));
}

#[test]
fn a_run_is_never_overwritten_nor_continued_with_other_settings() {
    let place = tempfile::tempdir().unwrap();
    let (model, mut trainer, mut run) = fresh(place.path());
    fit(&model, &mut trainer, &text(), &Plan { steps: 2, ..PLAN }, Some(&mut run), &mut go_on).unwrap();
    let error = Run::create(place.path(), &config(), None, &settings()).unwrap_err().to_string();
    assert!(error.contains("resume that run"), "{error}");
    let other = TrainConfig { clip: None, ..settings() };
    let model = config().build(&Seed::new(9)).unwrap();
    let before = bits(&model);
    let mut trainer = Trainer::new(&model, other).unwrap();
    let error = Run::resume(place.path(), &model, &mut trainer).unwrap_err().to_string();
    assert!(error.contains("train.json") && error.contains("settings of the run"), "{error}");
    assert_eq!(bits(&model), before);
}

#[test]
fn the_precision_of_a_run_is_recorded_and_a_run_from_before_there_was_one_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let (model, mut trainer, mut run) = fresh(place.path());
    fit(&model, &mut trainer, &text(), &Plan { steps: 2, ..PLAN }, Some(&mut run), &mut go_on).unwrap();
    drop(run);
    let path = place.path().join("train.json");
    let mut began: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(began.as_object_mut().unwrap().remove("precision"), Some(json!("f32")));
    fs::write(&path, began.to_string()).unwrap();
    let resume = |precision| {
        let model = config().build(&Seed::new(9)).unwrap();
        let mut trainer = Trainer::new(&model, TrainConfig { precision, ..settings() }).unwrap();
        Run::resume(place.path(), &model, &mut trainer).map(|_| trainer.steps())
    };
    assert_eq!(resume(TrainPrecision::F32).unwrap(), 2);
    let error = resume(TrainPrecision::Bf16).unwrap_err().to_string();
    assert!(error.contains("bf16") && error.contains("settings of the run"), "{error}");
}

#[test]
fn a_resume_that_is_refused_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let (model, mut trainer, mut run) = fresh(place.path());
    fit(&model, &mut trainer, &text(), &Plan { steps: 4, ..PLAN }, Some(&mut run), &mut go_on).unwrap();
    drop(run);
    let check = |file: &str, change: &dyn Fn(&[u8]) -> Vec<u8>, frozen: usize, words: &[&str]| {
        let path = place.path().join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, change(&good)).unwrap();
        let model = config().build(&Seed::new(9)).unwrap();
        params(&model).iter().take(frozen).for_each(|(_, p)| p.freeze());
        let mut trainer = Trainer::new(&model, settings()).unwrap();
        let (before, moments) = (bits(&model), trainer.state().unwrap().meta);
        let error = Run::resume(place.path(), &model, &mut trainer).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(
            (bits(&model), trainer.state().unwrap().meta, trainer.steps()),
            (before, moments, 0),
            "{file}"
        );
        fs::write(&path, good).unwrap();
    };
    let latest = "checkpoints/step-00000004";
    let same = |bytes: &[u8]| bytes.to_vec();
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 9].to_vec();
    check("metrics.jsonl", &|good| [b"{\n", good].concat(), 0, &["metrics.jsonl, line 1"]);
    check(&format!("{latest}/model.safetensors"), &cut, 0, &["model.safetensors"]);
    check(&format!("{latest}/state.safetensors"), &cut, 0, &["state.safetensors"]);
    check("train.json", &same, 1, &["embed.tokens.weight", "training state"]);
}

#[test]
fn checkpoints_of_another_run_are_not_taken_for_ones_own() {
    let place = tempfile::tempdir().unwrap();
    let (model, mut trainer, mut run) = fresh(place.path());
    fit(&model, &mut trainer, &text(), &Plan { steps: 2, ..PLAN }, Some(&mut run), &mut go_on).unwrap();
    fs::remove_file(place.path().join("metrics.jsonl")).unwrap();
    let error = Run::create(place.path(), &config(), None, &settings()).unwrap_err().to_string();
    assert!(error.contains("step-00000002") && error.contains("choose another folder"), "{error}");
}
