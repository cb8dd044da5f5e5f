//! Published layouts: fused, transposed and reordered tensors come in, and go out as they were.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::sync::Arc;

use formwork_checkpoint::{
    Checkpoint, Keep, Numbers, Plan, load_as,
    names::{Names, Piece},
    save_as,
};
use formwork_formats::{Archive, Dtype, Entry, Layout, Writer};
use formwork_kernels::blocks::{self, Format};
use formwork_module::{
    Blocks, DType, Linear, Module, Param, Pass, Pool, Result, Scope, Seed, Source, Stored, Tensor, Visit,
    VisitMut, Weight, children, held, params,
};

const D: usize = 5;

/// q and k of 2 heads of width 6, v of 3 rows, each with a bias, and a projection back.
#[derive(Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Attention {
    fn new(source: &dyn Source) -> Result<Self> {
        let scope = Scope::root(source);
        let linear = |name: &str, out: usize, inp: usize| {
            let scope = scope.child(name);
            Linear::new(&scope, out, inp)?.biased(&scope)
        };
        Ok(Self {
            q: linear("q", 12, D)?,
            k: linear("k", 12, D)?,
            v: linear("v", 3, D)?,
            out: linear("out", D, 3)?,
        })
    }
}

impl Module for Attention {
    fn forward(&self, x: &Tensor, _: &mut Pass<'_>) -> Result<Tensor> {
        Ok(x.clone())
    }
    children!(q, k, v, out);
}

/// GPT-2's way: fused and `[in, out]`.
fn fused(heads: Option<usize>) -> Names {
    let piece = |part: &str, what: &str| {
        let piece = Piece::new(format!("{part}.{what}"), format!("model.c_attn.{what}"));
        let piece = if what == "weight" { piece.transposed() } else { piece };
        match heads.filter(|_| part != "v") {
            Some(heads) => piece.heads(heads),
            None => piece,
        }
    };
    Names::new(["q", "k", "v"].iter().flat_map(|part| ["weight", "bias"].map(|what| piece(part, what))))
        .and([
            Piece::new("out.weight", "model.c_proj.weight").transposed(),
            Piece::new("out.bias", "model.c_proj.bias"),
        ])
        .prefix("model.")
        .inert(["*.mask"])
}

/// LLaMA's way, as GGUF has it: q and k by heads, v and the projection as they are.
fn separate() -> Names {
    let plain = |part: &str| {
        ["weight", "bias"].map(|w| Piece::new(format!("{part}.{w}"), format!("{part}_proj.{w}")))
    };
    Names::new(["q", "k"].iter().flat_map(|part| plain(part).map(|piece| piece.heads(2))))
        .and(["v", "out"].iter().flat_map(|part| plain(part)))
}

/// A file of numbers that are all different, each its index in its tensor and a small offset per tensor.
fn archive(tensors: &[(&str, Dtype, &[usize])]) -> Archive {
    let layout = tensors.iter().fold(Layout::new(), |l, (name, dtype, shape)| l.tensor(*name, *dtype, shape));
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &layout).unwrap();
    for (i, (name, _, shape)) in tensors.iter().enumerate() {
        let numbers: Vec<f32> = (0..shape.iter().product::<usize>()).map(|n| (n + 7 * i) as f32).collect();
        writer.append_f32(name, &numbers).unwrap();
    }
    writer.finish().unwrap();
    Archive::from_bytes(bytes).unwrap()
}

const FUSED: [(&str, &[usize]); 4] = [
    ("model.c_attn.weight", &[D, 27]),
    ("model.c_attn.bias", &[27]),
    ("model.c_proj.weight", &[3, D]),
    ("model.c_proj.bias", &[D]),
];
const SEPARATE: [(&str, &[usize]); 8] = [
    ("q_proj.weight", &[12, D]),
    ("q_proj.bias", &[12]),
    ("k_proj.weight", &[12, D]),
    ("k_proj.bias", &[12]),
    ("v_proj.weight", &[3, D]),
    ("v_proj.bias", &[3]),
    ("out_proj.weight", &[D, 3]),
    ("out_proj.bias", &[D]),
];

fn of_type<'a>(tensors: &[(&'a str, &'a [usize])], dtype: Dtype) -> Vec<(&'a str, Dtype, &'a [usize])> {
    tensors.iter().map(|(name, shape)| (*name, dtype, *shape)).collect()
}

fn numbers(module: &dyn Module, name: &str) -> Vec<f32> {
    let list = params(module);
    let (_, param): &(String, Param) = list.iter().find(|(found, _)| found == name).unwrap();
    param.value().unwrap().to_vec().unwrap()
}

#[test]
fn parts_of_a_fused_and_transposed_tensor_are_its_columns() {
    let archive = archive(&of_type(&FUSED, Dtype::F32));
    let loaded = load_as(&Checkpoint::new(&archive), &fused(None), Attention::new).unwrap();
    // Theirs is [in, out]: input i of output o is at 27·i + o.
    let column = |o: usize| (0..D).map(|i| (27 * i + o) as f32).collect::<Vec<_>>();
    assert_eq!(numbers(&loaded, "q.weight")[..D], column(0));
    assert_eq!(numbers(&loaded, "k.weight")[D..2 * D], column(13));
    assert_eq!(numbers(&loaded, "v.weight")[2 * D..], column(26));
    assert_eq!(numbers(&loaded, "v.bias"), [24.0 + 7.0, 25.0 + 7.0, 26.0 + 7.0]);
}

#[test]
fn rows_of_heads_are_reordered_from_side_by_side_to_halves() {
    let archive = archive(&of_type(&SEPARATE, Dtype::F32));
    let loaded = load_as(&Checkpoint::new(&archive), &separate(), Attention::new).unwrap();
    // Pairs (0, 1), (2, 3), (4, 5) of a head become (0, 3), (1, 4), (2, 5).
    let order = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11];
    let bias: Vec<f32> = order.iter().map(|&row| (row + 7) as f32).collect();
    assert_eq!(numbers(&loaded, "q.bias"), bias);
    let weight: Vec<f32> = order.iter().flat_map(|&row| (0..D).map(move |i| (row * D + i) as f32)).collect();
    assert_eq!(numbers(&loaded, "q.weight"), weight);
    assert_eq!(numbers(&loaded, "v.weight")[..3], [28.0, 29.0, 30.0]);
}

#[test]
fn what_was_loaded_is_saved_with_the_same_names_types_and_bytes() {
    let check = |tensors: &[(&str, &[usize])], names: &Names, dtype: Dtype, compute: DType| {
        let mut tensors = of_type(tensors, dtype);
        tensors[1].1 = Dtype::F32; // mixed in one file
        let archive = archive(&tensors);
        let checkpoint = Checkpoint::new(&archive).dtype(compute);
        let loaded = load_as(&checkpoint, names, Attention::new).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save_as(folder.path(), &held(&loaded), &names.fitted(&archive), Keep::Stored, u64::MAX).unwrap();
        let again = Archive::open(folder.path()).unwrap();
        assert_eq!(again.len(), tensors.len());
        for (name, dtype, shape) in tensors {
            let (a, b) = (archive.entry(name).unwrap(), again.entry(name).unwrap());
            assert_eq!(
                (b.dtype(), b.shape(), &b.bytes()[..]),
                (dtype, shape, &a.bytes()[..]),
                "{name} {dtype}"
            );
        }
    };
    let bare = FUSED.map(|(name, shape)| (name.strip_prefix("model.").unwrap(), shape));
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for names in [fused(None), fused(Some(2)), fused(Some(3))] {
            check(&FUSED, &names, dtype, DType::F32);
            check(&bare, &names, dtype, DType::F32);
        }
        check(&SEPARATE, &separate(), dtype, DType::F32);
    }
    check(&FUSED, &fused(Some(2)), Dtype::F64, DType::F64);
    check(&SEPARATE, &separate(), Dtype::F64, DType::F64);
}

#[test]
fn bytes_are_taken_in_our_order_without_being_understood() {
    for (tensors, names) in [(&FUSED[..], fused(Some(2))), (&SEPARATE[..], separate())] {
        for dtype in [Dtype::F64, Dtype::F32, Dtype::Bf16] {
            let archive = archive(&of_type(tensors, dtype));
            let loaded = load_as(&Checkpoint::new(&archive), &names, Attention::new).unwrap();
            let plan = Plan::of(&held(&loaded), &names).unwrap();
            for (name, param) in params(&loaded) {
                let bytes = plan.bytes(&archive, &name).unwrap();
                let layout = Layout::new().tensor("x", dtype, param.shape());
                let mut file = Vec::new();
                let mut writer = Writer::new(&mut file, &layout).unwrap();
                writer.append_bytes("x", &bytes).unwrap();
                writer.finish().unwrap();
                let read = Archive::from_bytes(file).unwrap().entry("x").unwrap().to_f32().unwrap();
                assert_eq!(read, numbers(&loaded, &name), "{name} {dtype}");
            }
        }
    }
}

#[test]
fn differences_are_told_in_their_names() {
    let check = |tensors: &[(&str, &[usize])], words: &[&str]| {
        let archive = archive(&of_type(tensors, Dtype::F32));
        let message =
            load_as(&Checkpoint::new(&archive), &fused(None), Attention::new).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word} in {message}");
        }
    };
    check(&FUSED[..3], &["1 missing: model.c_proj.bias [5]"]);
    let mut wrong = FUSED;
    wrong[0].1 = &[27, D];
    wrong[3].0 = "model.c_prj.bias";
    check(
        &wrong,
        &[
            "1 reshaped: model.c_attn.weight is [27, 5] instead of [5, 27]",
            "model.c_proj.bias [5] (is it model.c_prj.bias?)",
            "1 unused: model.c_prj.bias [5]",
        ],
    );
    let mut inert = FUSED.to_vec();
    inert.push(("model.c_attn.mask", &[1, 3]));
    let archive = archive(&of_type(&inert, Dtype::F32));
    assert!(load_as(&Checkpoint::new(&archive), &fused(None), Attention::new).is_ok());
}

#[test]
fn a_second_name_counts_only_where_its_bytes_differ() {
    let names = separate().tied("head.weight", "v_proj.weight");
    let with = |head: &'static str, first: Option<usize>| {
        let mut tensors = of_type(&SEPARATE, Dtype::F32);
        tensors.insert(first.unwrap_or(tensors.len()), (head, Dtype::F32, &[3, D]));
        archive(&tensors)
    };
    assert_eq!(names.untied(&with("other", None)), None);
    let different = with("head.weight", None);
    let pair = ["head.weight".to_owned(), "v_proj.weight".to_owned()];
    assert_eq!(names.untied(&different), Some(pair));
    // The numbers of `archive` depend on the place: the same place twice in two files gives the same bytes.
    let (mut layout, mut bytes) = (Layout::new(), Vec::new());
    for (name, dtype, shape) in of_type(&SEPARATE, Dtype::F32) {
        layout = layout.tensor(name, dtype, shape);
    }
    layout = layout.tensor("head.weight", Dtype::F32, &[3, D]);
    let plain = archive(&of_type(&SEPARATE, Dtype::F32));
    let mut writer = Writer::new(&mut bytes, &layout).unwrap();
    for (name, _) in SEPARATE {
        writer.append_bytes(name, plain.entry(name).unwrap().bytes()).unwrap();
    }
    writer.append_bytes("head.weight", plain.entry("v_proj.weight").unwrap().bytes()).unwrap();
    writer.finish().unwrap();
    let twice = Archive::from_bytes(bytes).unwrap();
    assert_eq!(names.untied(&twice), None);
    let loaded = load_as(&Checkpoint::new(&twice), &names, Attention::new).unwrap();
    let folder = tempfile::tempdir().unwrap();
    save_as(folder.path(), &held(&loaded), &names.fitted(&twice), Keep::Stored, u64::MAX).unwrap();
    let again = Archive::open(folder.path()).unwrap();
    assert_eq!(
        again.entry("head.weight").unwrap().bytes()[..],
        twice.entry("v_proj.weight").unwrap().bytes()[..]
    );
}

#[test]
fn the_one_that_is_there_stands_for_both() {
    let mut tensors = of_type(&SEPARATE, Dtype::F32);
    tensors[4].0 = "head.weight";
    let archive = archive(&tensors);
    let names = separate().tied("head.weight", "v_proj.weight");
    let loaded = load_as(&Checkpoint::new(&archive), &names, Attention::new).unwrap();
    assert_eq!(numbers(&loaded, "v.weight")[..2], [28.0, 29.0]);
}

/// A weight that only knows what it was given.
#[derive(Debug)]
struct Kept(Blocks);

impl Weight for Kept {
    fn shape(&self) -> [usize; 2] {
        self.0.shape()
    }
    fn apply(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Pass<'_>) -> Result<Tensor> {
        Ok(x.clone())
    }
    fn gather(&self, _: &[u32], dims: &[usize], _: &mut Pass<'_>) -> Result<Tensor> {
        Tensor::zeros(dims, DType::F32, None)
    }
    fn to_dense(&self, _: &mut Pass<'_>) -> Result<Tensor> {
        Tensor::zeros(&self.0.shape(), DType::F32, None)
    }
    fn visit(&self, name: &str, v: &mut dyn Visit) {
        v.blocks(name, &self.0);
    }
}

#[derive(Debug)]
struct Fused {
    a: Linear,
    b: Linear,
}

impl Module for Fused {
    fn forward(&self, x: &Tensor, _: &mut Pass<'_>) -> Result<Tensor> {
        Ok(x.clone())
    }
    fn visit(&self, v: &mut dyn Visit) {
        v.enter("a");
        self.a.visit(v);
        v.leave();
        v.enter("b");
        self.b.visit(v);
        v.leave();
    }
    fn visit_mut(&mut self, _: &mut dyn VisitMut) -> Result<()> {
        Ok(())
    }
}

#[test]
fn matrices_are_held_in_their_blocks_and_decoded_where_they_are_not() {
    let (rows, columns) = (5, 64);
    let row = Format::Q8_0.row_bytes(columns).unwrap();
    let mut stored = vec![0u8; rows * row];
    let values: Vec<f32> = (0..rows * columns).map(|n| (n as f32 * 0.37).sin()).collect();
    blocks::encode(Format::Q8_0, &values, &mut stored);
    let layout = formwork_formats::gguf::Layout::new().tensor("ab", Dtype::Q8_0, &[rows, columns]);
    let mut file = Vec::new();
    let mut writer = formwork_formats::gguf::Writer::new(&mut file, &layout).unwrap();
    writer.append_bytes("ab", &stored).unwrap();
    writer.finish().unwrap();
    let archive = Archive::from_bytes(file).unwrap();
    let names = Names::new([Piece::new("a.weight", "ab"), Piece::new("b.weight", "ab")]);
    let build = |source: &dyn Source| {
        let scope = Scope::root(source);
        Ok(Fused {
            a: Linear::new(&scope.child("a"), 2, columns)?,
            b: Linear::new(&scope.child("b"), 3, columns)?,
        })
    };
    let hold = |path: &str, entry: &Entry| -> Result<Option<Arc<dyn Weight>>> {
        let shape = [entry.shape()[0], entry.shape()[1]];
        let blocks = Blocks::new(path, shape, Format::Q8_0, entry.bytes().clone())?;
        Ok(Some(Arc::new(Kept(blocks))))
    };
    let pool = Pool::new();
    let checkpoint = Checkpoint::new(&archive).holding(&hold).pool(pool.clone());
    let kept = load_as(&checkpoint, &names, build).unwrap();
    let all = held(&kept);
    assert_eq!(pool.stats().taken, 0);
    assert_eq!((all[1].1.shape(), all[1].1.stored()), (&[3, columns][..], Stored::Blocks(Format::Q8_0)));
    let folder = tempfile::tempdir().unwrap();
    let error = save_as(folder.path(), &all, &names, Keep::Stored, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("ab") && error.contains("Q8_0") && error.contains("GGUF"), "{error}");

    let decoded = load_as(&Checkpoint::new(&archive), &names, build).unwrap();
    let mut expected = vec![0.0; rows * columns];
    blocks::decode(Format::Q8_0, &stored, &mut expected);
    assert_eq!(numbers(&decoded, "a.weight"), expected[..2 * columns]);
    assert_eq!(numbers(&decoded, "b.weight"), expected[2 * columns..]);
    assert_eq!(params(&decoded)[0].1.stored(), Stored::Blocks(Format::Q8_0));
}

#[test]
fn a_layout_without_a_place_for_a_parameter_says_which() {
    let built = Attention::new(&Seed::new(1)).unwrap();
    let check = |names: Names, words: &[&str]| {
        let message = Plan::of(&held(&built), &names).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word} in {message}");
        }
    };
    check(Names::new([]), &["a name for q.weight"]);
    check(separate().and([Piece::new("q.weight", "again")]), &["q.weight", "one row for each parameter"]);
    let odd = Names::new([Piece::new("q.weight", "q").heads(4)]);
    check(odd, &["q.weight", "4 heads of even width"]);
    check(Names::new([Piece::new("q.bias", "q").transposed()]), &["q.bias", "a matrix", "[12]"]);
    let unequal = [Piece::new("v.weight", "x"), Piece::new("out.weight", "x")];
    check(Names::new(unequal), &["out.weight", "stack", "[5, 3]"]);
}

#[test]
fn bytes_that_are_not_as_many_as_their_type_claims_are_refused() {
    let shapes = || [("q", vec![2, 3]), ("k", vec![2, 3])];
    let transposed = Plan::new(shapes(), &Names::new(["q", "k"].map(|p| Piece::new(p, "qk").transposed())));
    let stacked = Plan::new(shapes(), &Names::new(["q", "k"].map(|p| Piece::new(p, "qk"))));
    for plan in [transposed.unwrap(), stacked.unwrap()] {
        let write = |dtype: Dtype, target: Dtype, bytes: usize| {
            let layout = Layout::new().tensor("qk", target, &plan.tensors()[0].shape);
            let mut file = Vec::new();
            let mut writer = Writer::new(&mut file, &layout).unwrap();
            let stored = |_: &_, _: &_| Ok(Numbers::Stored { dtype, bytes: vec![0u8; bytes].into() });
            plan.write(&mut writer, &|_| target, &stored).map_err(|error| error.to_string())
        };
        let check = |dtype: Dtype, target: Dtype, bytes: usize, words: &[&str]| {
            let message = write(dtype, target, bytes).unwrap_err();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        };
        for (dtype, size) in [(Dtype::U8, 6), (Dtype::F16, 12), (Dtype::F32, 24), (Dtype::F64, 48)] {
            write(dtype, dtype, size).unwrap();
            for wrong in [0, size - 1, size + 1, 2 * size] {
                let expected = format!("{size} bytes, which [2, 3] in {dtype} has");
                check(dtype, dtype, wrong, &["qk: checkpoint", &expected, &format!("found {wrong} bytes")]);
            }
        }
        // The same where the numbers are to be converted, and for rows that hold no whole block.
        check(Dtype::F32, Dtype::F64, 23, &["24 bytes", "found 23"]);
        check(Dtype::F16, Dtype::F32, 13, &["12 bytes", "found 13"]);
        check(Dtype::Q8_0, Dtype::F32, 34, &["rows of whole blocks", "[2, 3] in Q8_0"]);
    }
}
