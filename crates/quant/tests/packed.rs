//! Products from panels: when they are used, what they change, and that a matrix is never held twice for them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use formwork_kernels::{blocks::Format, team::with_threads};
use formwork_module::{
    Blocks, Init, Linear, Param, Pass, Precision, Record, Result, Scope, Seed, Tensor, Weight, linears,
    packed_products,
};
use formwork_quant::{Quantised, encode};
use formwork_tensor::{DType, Variable};
use formwork_testkit::{normals, tensor};

const OUT: usize = 37;
const INP: usize = 512;

/// A matrix of normal numbers in blocks, and how often it was told to release its bytes.
fn quantised(seed: u64, out: usize) -> (Quantised, Arc<AtomicUsize>) {
    let numbers: Vec<f32> = normals(seed, &[out, INP]).iter().map(|&v| v as f32).collect();
    let bytes = encode(Format::Q4_0, &numbers, INP).expect("numbers that fit").bytes;
    let released = Arc::new(AtomicUsize::new(0));
    let count = released.clone();
    let blocks = Blocks::new("up.weight", [out, INP], Format::Q4_0, bytes).expect("as many bytes");
    let note = move || {
        count.fetch_add(1, Relaxed);
    };
    (Quantised::new(blocks.released_by(note)), released)
}

fn rows(seed: u64, t: usize, dtype: DType) -> Tensor {
    tensor(&normals(seed, &[t, INP]), dtype, None)
}

fn full() -> Pass<'static> {
    Pass::infer().in_precision(Precision::Full)
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn rounded_activations_change_a_product_a_little() {
    let (weight, _) = quantised(1, OUT);
    let (x, bias) = (rows(2, 5, DType::F32), tensor(&normals(3, &[OUT]), DType::F32, None));
    let exact = weight.apply(&x, Some(&bias), &mut full()).unwrap().to_vec::<f32>().unwrap();
    let fast = weight.apply(&x, Some(&bias), &mut Pass::infer()).unwrap().to_vec::<f32>().unwrap();
    let norm = |of: &mut dyn Iterator<Item = f32>| of.map(|v| f64::from(v * v)).sum::<f64>().sqrt();
    let error = |found: &[f32]| {
        norm(&mut exact.iter().zip(found).map(|(a, b)| a - b)) / norm(&mut exact.iter().copied())
    };
    let (one, mut split) = (error(&fast), Pass::infer().in_precision(Precision::Split));
    let two = error(&weight.apply(&x, Some(&bias), &mut split).unwrap().to_vec::<f32>().unwrap());
    // 8 bits over the largest of 32 normal numbers: steps of about 2/127, of which a rounding is off by 0.3.
    assert!(one > 1e-4 && one < 0.01, "{one}");
    assert!(two < one / 100.0, "{two} in two terms, {one} in one");
}

#[test]
fn full_precision_and_f64_and_a_tape_meet_the_stored_numbers() {
    let (weight, released) = quantised(1, OUT);
    let dense = weight.to_dense(&mut full()).unwrap();
    let check = |what: &str, found: &Tensor, expected: &Tensor| {
        let (a, b) = (found.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4), "{what}");
    };
    let x = rows(2, 5, DType::F32);
    let expected = x.linear(&dense, None).unwrap();
    check("full precision", &weight.apply(&x, None, &mut full()).unwrap(), &expected);
    let tracked = Variable::new(x.clone()).tensor();
    check("a tracked input", &weight.apply(&tracked, None, &mut Pass::infer()).unwrap(), &expected);
    let mut taped = Pass::infer().recording(Record::Tape);
    check("a pass with a tape", &weight.apply(&x, None, &mut taped).unwrap(), &expected);
    let wide = rows(2, 5, DType::F64);
    let y = weight.apply(&wide, None, &mut Pass::infer()).unwrap();
    assert_eq!(y.dtype(), DType::F64);
    assert_eq!(released.load(Relaxed), 0, "nothing was packed");
}

#[test]
fn many_rows_pack_at_once_and_few_the_second_time_with_the_same_bits() {
    let x = rows(2, 9, DType::F32);
    let (many, released) = quantised(1, OUT);
    let expected = bits(&many.apply(&x, None, &mut Pass::infer()).unwrap());
    assert_eq!(released.load(Relaxed), 1, "9 rows pack");

    let (few, released) = quantised(1, OUT);
    let clone = few.clone();
    let x = x.narrow(0, 0, 3).unwrap();
    for (weight, times) in [(&few, 0), (&clone, 1), (&few, 1)] {
        let y = weight.apply(&x, None, &mut Pass::infer()).unwrap();
        assert_eq!(bits(&y), expected[..3 * OUT]);
        assert_eq!(released.load(Relaxed), times, "stored bytes are let go once the panels are kept");
    }
    // Stored bytes are still what rows are looked up in, and what is shown.
    let table = few.to_dense(&mut full()).unwrap();
    let row = few.gather(&[7], &[1], &mut Pass::infer()).unwrap();
    assert_eq!(bits(&row), bits(&table.narrow(0, 7, 1).unwrap()));
}

/// Asks a source of seeds for everything but weights, which it quantises.
fn layer(seed: u64, out: usize, bias: bool) -> Result<Linear> {
    let source = Seed::new(seed);
    let scope = Scope::root(&source);
    let bias: Option<Param> =
        bias.then(|| scope.param("bias", &[out], Init::Uniform { bound: 1.0 })).transpose()?;
    Ok(Linear { weight: Arc::new(quantised(seed, out).0), bias })
}

#[test]
fn layers_over_one_input_give_the_bits_of_one_after_another_for_any_number_of_threads() {
    let [q, k, v] =
        [(1, OUT, true), (2, 11, false), (3, 11, true)].map(|(s, out, bias)| layer(s, out, bias).unwrap());
    for t in [1, 7] {
        let x = rows(5, t, DType::F32);
        let alone: Vec<_> = [&q, &k, &v]
            .map(|l| {
                let bias = l.bias.as_ref().map(|b| b.value().unwrap());
                bits(&l.weight.apply(&x, bias.as_ref(), &mut Pass::infer()).unwrap())
            })
            .into();
        for threads in 1..=3 {
            let together = with_threads(threads, || {
                linears([("q", &q), ("k", &k), ("v", &v)], &x, &mut Pass::infer()).unwrap()
            });
            let together: Vec<_> = together.iter().map(bits).collect();
            assert_eq!(together, alone, "{t} rows on {threads} threads");
        }
    }
}

#[test]
fn a_width_that_differs_is_refused_with_the_layers_name() {
    let (q, k) = (layer(1, OUT, false).unwrap(), layer(2, 11, false).unwrap());
    let x = tensor(&normals(1, &[2, INP + 1]), DType::F32, None);
    let error = linears([("q", &q), ("k", &k)], &x, &mut Pass::infer()).unwrap_err().to_string();
    assert_eq!(error, "q: linear: expected x [.., 512] for weight [37, 512], found [2, 513]");
}

#[test]
fn a_bias_of_another_width_is_refused_with_the_layers_name() {
    let (q, mut k) = (layer(1, OUT, true).unwrap(), layer(2, 11, true).unwrap());
    k.bias = layer(2, 12, true).unwrap().bias;
    let x = rows(1, 2, DType::F32);
    let error = linears([("q", &q), ("k", &k)], &x, &mut Pass::infer()).unwrap_err().to_string();
    assert!(error.starts_with("k: ") && error.contains("bias [11]"), "{error}");
    let (weight, _) = quantised(2, 11);
    let panels = [weight.packed(9).unwrap()];
    let bias = [Some(tensor(&normals(3, &[12]), DType::F32, None))];
    let error = packed_products(&x, panels, &bias, &Pass::infer()).unwrap_err().to_string();
    assert_eq!(error, "linear: expected bias [11], found [12]");
    let narrow = tensor(&normals(1, &[2, INP - 1]), DType::F32, None);
    let error = packed_products(&narrow, panels, &[None], &Pass::infer()).unwrap_err().to_string();
    assert_eq!(error, "linear: expected x [.., 512] for weight [11, 512], found [2, 511]");
}
