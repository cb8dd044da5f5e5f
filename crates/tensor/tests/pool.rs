//! Reused memory: a graph that has run before takes nothing from the system.
#![allow(clippy::unwrap_used, reason = "in the functions that tests share")]

use formwork_tensor::{DType, Pool, Tensor, Variable};
use formwork_testkit::{normals, tensor};

/// A forward and a backward through most ops; every number that it makes comes from the pool of its leaves.
fn round(x: &Variable, w: &Variable, bias: &Variable) -> f64 {
    let h = x.tensor().linear(&w.tensor(), Some(&bias.tensor())).unwrap(); // [b, t, d]
    let scores = h.matmul(&h.transpose(1, 2).unwrap()).unwrap().softmax().unwrap(); // [b, t, t]
    let mixed = scores.matmul(&h).unwrap().tanh().unwrap().add_scaled(&x.tensor(), 0.5).unwrap(); // [b, t, d]
    let halves = [mixed.narrow(2, 0, 6).unwrap(), mixed.narrow(2, 6, 7).unwrap()];
    let swapped = Tensor::cat(&[&halves[1], &halves[0]], 2).unwrap().mul(&bias.tensor()).unwrap(); // [b, t, d]
    let loss =
        swapped.sum_axis(1).unwrap().mean().unwrap().add(&mixed.exp().unwrap().mean().unwrap()).unwrap();
    loss.backward().unwrap();
    loss.item().unwrap()
}

fn leaves(pool: &Pool, dtype: DType) -> [Variable; 3] {
    let of = |seed, dims: &[usize]| Variable::new(tensor(&normals(seed, dims), dtype, Some(pool)));
    [of(1, &[2, 5, 13]), of(2, &[13, 13]), of(3, &[13])]
}

#[test]
fn a_second_round_takes_nothing_from_the_system() {
    for dtype in [DType::F32, DType::F64] {
        let pool = Pool::new();
        let [x, w, bias] = leaves(&pool, dtype);
        let clear = || [&x, &w, &bias].map(Variable::clear);
        let first = round(&x, &w, &bias);
        clear();
        let before = pool.stats();
        let second = round(&x, &w, &bias);
        clear();
        let after = pool.stats();
        assert_eq!(first.to_bits(), second.to_bits());
        assert!(after.taken > before.taken + 30, "{before:?}, then {after:?}");
        assert_eq!((after.from_system, after.bytes), (before.from_system, before.bytes));
    }
}

#[test]
fn everything_comes_back_to_the_pool() {
    let pool = Pool::new();
    let leaves = leaves(&pool, DType::F32);
    let [x, w, bias] = &leaves;
    round(x, w, bias);
    drop(leaves);
    pool.trim();
    assert_eq!(pool.stats().bytes, 0);
}

#[test]
fn a_result_comes_from_the_pool_of_whichever_input_has_one() {
    let pool = Pool::new();
    let with = Tensor::full(1.0, &[3, 3], DType::F32, Some(&pool)).unwrap();
    let without = Tensor::full(1.0, &[3, 3], DType::F32, None).unwrap();
    let check = |name: &str, y: Tensor| {
        assert_eq!(y.pool().map(Pool::stats), Some(pool.stats()), "{name}");
    };
    check("add", without.add(&with).unwrap());
    check("add, broadcast", without.add(&with.narrow(0, 0, 1).unwrap()).unwrap());
    check("add_scaled", without.add_scaled(&with, 1.0).unwrap());
    check("matmul", without.matmul(&with).unwrap());
    check("linear", without.linear(&with, None).unwrap());
    check("cat", Tensor::cat(&[&without, &with], 0).unwrap());
}

#[test]
fn memory_outlives_the_handle_to_its_pool() {
    let pool = Pool::new();
    let x = Tensor::full(2.0, &[100], DType::F32, Some(&pool)).unwrap();
    drop(pool);
    assert_eq!(x.add(&x).unwrap().sum().unwrap().item().unwrap(), 400.0);
}

#[test]
fn two_threads_may_share_a_pool() {
    let pool = Pool::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let [x, w, bias] = leaves(&pool, DType::F32);
                    assert!(round(&x, &w, &bias).is_finite());
                }
            });
        }
    });
    pool.trim();
    assert_eq!(pool.stats().bytes, 0);
}
