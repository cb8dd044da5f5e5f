//! Saving and loading by name: what is written comes back, and what does not fit is refused before it is read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::path::Path;

use formwork_checkpoint::{Checkpoint, Keep, Report, Snapshot, State, load, save, to_bytes};
use formwork_formats::{Archive, Dtype, Layout, Writer};
use formwork_module::{
    DType, Linear, Module, Param, Pass, Pool, Result, Scope, Seed, Source, Stored, Tensor, children, params,
};

/// Two layers, the first with a bias.
#[derive(Debug)]
struct Pair {
    up: Linear,
    down: Linear,
}

impl Pair {
    fn new(source: &dyn Source) -> Result<Self> {
        let scope = Scope::root(source);
        let up = scope.child("up");
        Ok(Self { up: Linear::new(&up, 7, 3)?.biased(&up)?, down: Linear::new(&scope.child("down"), 3, 7)? })
    }
}

impl Module for Pair {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.down.forward(&self.up.forward(x, pass)?, pass)
    }
    children!(up, down);
}

fn numbers(list: &[(String, Param)]) -> Vec<(String, Vec<f64>)> {
    let values = |p: &Param| match p.value().unwrap().dtype() {
        DType::F64 => p.value().unwrap().to_vec::<f64>().unwrap(),
        _ => p.value().unwrap().to_vec::<f32>().unwrap().into_iter().map(f64::from).collect(),
    };
    list.iter().map(|(name, p)| (name.clone(), values(p))).collect()
}

fn archive(tensors: &[(&str, Dtype, &[usize])]) -> Archive {
    let layout = tensors.iter().fold(Layout::new(), |l, (name, dtype, shape)| l.tensor(*name, *dtype, shape));
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &layout).unwrap();
    for (name, _, shape) in tensors {
        writer.append_f32(name, &vec![0.25; shape.iter().product()]).unwrap();
    }
    writer.finish().unwrap();
    Archive::from_bytes(bytes).unwrap()
}

#[test]
fn a_module_comes_back_bit_for_bit_in_one_file_or_in_shards() {
    for (dtype, shard_bytes) in [(DType::F32, u64::MAX), (DType::F64, u64::MAX), (DType::F32, 64)] {
        let folder = tempfile::tempdir().unwrap();
        let original = params(&Pair::new(&Seed::new(5).dtype(dtype)).unwrap());
        save(folder.path(), &original, Keep::Exact, shard_bytes).unwrap();
        let archive = Archive::open(folder.path()).unwrap();
        let loaded = Pair::new(&Checkpoint::new(&archive).dtype(dtype)).unwrap();
        assert_eq!(numbers(&params(&loaded)), numbers(&original));
        assert_eq!(archive.files().len() > 1, shard_bytes == 64);
    }
}

#[test]
fn a_narrow_file_is_widened_and_written_back_as_it_was() {
    let tensors: [(&str, Dtype, &[usize]); 3] = [
        ("up.weight", Dtype::Bf16, &[7, 3]),
        ("up.bias", Dtype::F16, &[7]),
        ("down.weight", Dtype::F32, &[3, 7]),
    ];
    let archive = archive(&tensors);
    let loaded = params(&load(&archive, Pair::new).unwrap());
    assert_eq!(loaded[0].1.stored(), Stored::Bf16);
    let again = Archive::from_bytes(to_bytes(&loaded, Keep::Stored).unwrap()).unwrap();
    for (name, dtype, _) in tensors {
        let (a, b) = (archive.entry(name).unwrap(), again.entry(name).unwrap());
        assert_eq!((b.dtype(), &b.bytes()[..]), (dtype, &a.bytes()[..]), "{name}");
    }
}

#[test]
fn a_mapped_file_is_not_held_twice() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &params(&Pair::new(&Seed::new(5)).unwrap()), Keep::Exact, u64::MAX).unwrap();
    let archive = Archive::open(folder.path()).unwrap();
    let pool = Pool::new();
    let loaded = Pair::new(&Checkpoint::new(&archive).pool(pool.clone())).unwrap();
    let x = Tensor::from_vec(vec![1.0f32; 6], &[2, 3]).unwrap();
    assert_eq!(pool.stats().taken, 0);
    loaded.forward(&x, &mut Pass::infer()).unwrap();
    assert_eq!(pool.stats().taken, 2, "what is computed comes from the model's pool");
}

#[test]
fn differences_are_listed_with_the_nearest_name_before_a_number_is_read() {
    let check = |tensors: &[(&str, Dtype, &[usize])], words: &[&str]| {
        let message = load(&archive(tensors), Pair::new).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word} in {message}");
        }
    };
    check(
        &[
            ("up.weigth", Dtype::F32, &[7, 3]),
            ("up.bias", Dtype::F32, &[7]),
            ("down.weight", Dtype::F32, &[7, 3]),
        ],
        &[
            "1 reshaped: down.weight is [7, 3] instead of [3, 7]",
            "up.weight [7, 3] (is it up.weigth?)",
            "1 unused: up.weigth",
        ],
    );
    check(&[("up.bias", Dtype::F32, &[7])], &["2 missing: up.weight [7, 3], down.weight [3, 7]"]);
    let all: [(&str, Dtype, &[usize]); 3] = [
        ("up.weight", Dtype::I32, &[7, 3]),
        ("up.bias", Dtype::F32, &[7]),
        ("down.weight", Dtype::F32, &[3, 7]),
    ];
    let layout = all.iter().fold(Layout::new(), |l, (name, dtype, shape)| l.tensor(*name, *dtype, shape));
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &layout).unwrap();
    for (name, _, shape) in all {
        writer.append_bytes(name, &vec![0; shape.iter().product::<usize>() * 4]).unwrap();
    }
    writer.finish().unwrap();
    let message = load(&Archive::from_bytes(bytes).unwrap(), Pair::new).unwrap_err().to_string();
    assert!(
        message.contains("up.weight") && message.contains("floating-point") && message.contains("I32"),
        "{message}"
    );
}

#[test]
fn a_clean_report_says_so() {
    let pair = params(&Pair::new(&Seed::new(5)).unwrap());
    let archive = Archive::from_bytes(to_bytes(&pair, Keep::Exact).unwrap()).unwrap();
    let report = Report::compare(&pair, &archive);
    assert!(report.is_clean() && report.to_string() == "no difference");
}

fn state(value: f64) -> State {
    let tensors = vec![
        ("moment1.up.weight".to_owned(), Tensor::from_vec(vec![value; 4], &[2, 2]).unwrap()),
        ("moment2.up.weight".to_owned(), Tensor::from_vec(vec![value as f32; 3], &[3]).unwrap()),
    ];
    State { meta: serde_json::json!({"step": 7, "loss": 1.5}), tensors }
}

#[test]
fn a_snapshot_brings_back_parameters_and_state() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("step-7");
    let original = params(&Pair::new(&Seed::new(5)).unwrap());
    Snapshot::write(&place, &original, &state(0.125)).unwrap();
    let other = params(&Pair::new(&Seed::new(6)).unwrap());
    let snapshot = Snapshot::open(&place).unwrap();
    snapshot.restore(&other).unwrap();
    assert_eq!(numbers(&other), numbers(&original));
    let back = snapshot.state().unwrap();
    assert_eq!(back.meta, state(0.125).meta);
    assert_eq!(back.tensors[0].1.to_vec::<f64>().unwrap(), [0.125; 4]);
    assert_eq!(back.tensors[1].1.to_vec::<f32>().unwrap(), [0.125; 3]);
}

#[test]
fn restored_parameters_keep_their_pool_and_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("step-7");
    let snapshot = Snapshot::write(&place, &params(&Pair::new(&Seed::new(5)).unwrap()), &state(1.0)).unwrap();
    let pool = Pool::new();
    let pair = Pair::new(&Seed::new(6).pool(pool.clone())).unwrap();
    snapshot.restore(&params(&pair)).unwrap();
    let x = Tensor::from_vec(vec![0.5f32; 6], &[2, 3]).unwrap();
    let before = pool.stats().taken;
    pair.forward(&x, &mut Pass::infer()).unwrap();
    assert!(pool.stats().taken > before, "what is computed from them still comes from the model's pool");

    let wide = params(&Pair::new(&Seed::new(6).dtype(DType::F64)).unwrap());
    let untouched = numbers(&wide);
    let error = snapshot.restore(&wide).unwrap_err().to_string();
    assert!(["up.weight", "f64", "f32"].iter().all(|word| error.contains(word)), "{error}");
    assert_eq!(numbers(&wide), untouched);
}

#[test]
fn a_snapshot_that_was_not_finished_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let pair = params(&Pair::new(&Seed::new(5)).unwrap());
    // The writer fails half-way: a state that JSON cannot be written beside is hard to make, a taken name is not.
    let place = folder.path().join("step-7");
    Snapshot::write(&place, &pair, &state(1.0)).unwrap();
    assert!(Snapshot::write(&place, &pair, &state(2.0)).is_err(), "a finished snapshot is never replaced");
    assert_eq!(
        Snapshot::open(&place).unwrap().state().unwrap().tensors[0].1.to_vec::<f64>().unwrap()[0],
        1.0
    );
    std::fs::remove_file(place.join("state.json")).unwrap();
    let message = Snapshot::open(&place).unwrap_err().to_string();
    assert!(message.contains("state.json") && message.contains("no complete snapshot"), "{message}");
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("step-7");
    let pair = params(&Pair::new(&Seed::new(5)).unwrap());
    Snapshot::write(&place, &pair, &state(1.0)).unwrap();
    let check = |file: &str, break_it: &dyn Fn(&Path), words: &[&str]| {
        let path = place.join(file);
        let good = std::fs::read(&path).unwrap();
        break_it(&path);
        let snapshot = Snapshot::open(&place).unwrap();
        let error =
            snapshot.state().map(|_| ()).and_then(|()| snapshot.restore(&pair)).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word} in {error}");
        }
        std::fs::write(&path, good).unwrap();
    };
    let truncate = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
    };
    check("model.safetensors", &truncate, &["model.safetensors"]);
    check("state.safetensors", &truncate, &["state.safetensors"]);
    check("state.json", &truncate, &["state.json"]);
}
