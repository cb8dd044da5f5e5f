//! Threads never change a bit; memory comes from the pool of the inputs and goes back to it.

use formwork_kernels::team::with_threads;
use formwork_tensor::{DType, Pool, Tensor};
use ndarray::ArrayD;

use super::{
    Report,
    gradients::{Cotangents, Point},
};
use crate::{Numbers, OpCase, case::tensors, normals, sizes::Setting};

/// Elements of the largest input: several tasks for every parallel loop.
const LARGE: usize = 40_000;

pub(super) fn check_threads(case: &OpCase, report: &mut Report<'_>) {
    let setting = Setting::large(&case.sizes(), &case.inputs, LARGE);
    let point = Point { case, numbers: case.numbers(&setting) };
    let run = |threads| with_threads(threads, || outcome(&point, &tensors(&point.numbers, DType::F32, None)));
    for threads in [2, 3] {
        report
            .run(format_args!("threads: {setting}: 1 and {threads}"), || same_bits(&run(1)?, &run(threads)?));
    }
}

pub(super) fn check_pool(case: &OpCase, report: &mut Report<'_>) {
    let setting = Setting::usual(&case.sizes());
    let point = Point { case, numbers: case.numbers(&setting) };
    report.run(format_args!("pool: {setting}: outputs"), || {
        let pool = Pool::new();
        let inputs = tensors(&point.numbers, DType::F32, Some(&pool));
        for (i, y) in case.call(&inputs)?.iter().enumerate() {
            // Two pools never agree in these counts here: nothing else takes from this one.
            if y.pool().map(Pool::stats) != Some(pool.stats()) {
                return Err(format!("output {i} is not in memory of the inputs' pool"));
            }
        }
        Ok(())
    });
    report.run(format_args!("pool: {setting}: a second run"), || {
        let pool = Pool::new();
        let round = || outcome(&point, &tensors(&point.numbers, DType::F32, Some(&pool)));
        round()?;
        let first = pool.stats().from_system;
        round()?;
        match pool.stats().from_system - first {
            0 => Ok(()),
            n => Err(format!("took {n} buffers from the system, after {first} in the first")),
        }
    });
    report.run(format_args!("pool: {setting}: junk in reused memory"), || {
        let pool = Pool::new();
        let expected = outcome(&point, &tensors(&point.numbers, DType::F32, None))?;
        // One run shows the pool every size that the op takes, on NaN, so that its scratch memory keeps NaN too;
        // whether it succeeds does not matter. Memory of a result's size could still hold a finite cotangent.
        let nan: Vec<_> = point.numbers.iter().map(|x| x.mapv(|_| f64::NAN)).collect();
        let _ = outcome(&point, &tensors(&nan, DType::F32, Some(&pool)));
        for result in &expected {
            let mut all: Vec<_> = (0..32).map(|_| pool.take::<f32>(result.len())).collect();
            all.iter_mut().for_each(|buffer| buffer.fill(f32::NAN));
        }
        same_bits(&expected, &outcome(&point, &tensors(&point.numbers, DType::F32, Some(&pool)))?)
    });
}

/// Outputs, then gradients.
fn outcome(point: &Point<'_>, inputs: &[Tensor]) -> Result<Vec<ArrayD<f64>>, String> {
    let mut all: Vec<_> = point.case.call(inputs)?.iter().map(Numbers::numbers).collect();
    if point.case.learns.contains(&true) {
        let cotangents: Cotangents =
            all.iter().zip(70..).map(|(y, seed)| Some(normals(seed, y.shape()))).collect();
        all.extend(point.gradients(inputs, &cotangents, 1)?);
    }
    Ok(all)
}

fn same_bits(a: &[ArrayD<f64>], b: &[ArrayD<f64>]) -> Result<(), String> {
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        if let Some((place, (a, b))) =
            a.iter().zip(b).enumerate().find(|(_, (a, b))| a.to_bits() != b.to_bits())
        {
            return Err(format!("result {i} (outputs, then gradients) at element {place}: {a} and {b}"));
        }
    }
    Ok(())
}
