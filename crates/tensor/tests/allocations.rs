//! What the pool serves is not asked of the system: counted at the global allocator, so nothing can go around it.
//!
//! One test alone, since the count is of the whole process. Matrix products are left out: the crate beneath them packs
//! its operands into memory of its own.

use formwork_kernels::team::with_threads;
use formwork_tensor::{DType, Pool, Variable};
use formwork_testkit::{CountingAllocator, normals, tensor};

/// Well below the tensors of this test (32 KiB), well above the bookkeeping of a graph.
const LARGE: usize = 4096;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new(LARGE);

#[test]
fn a_second_round_asks_the_system_for_no_tensor_memory() {
    let pool = Pool::new();
    let of = |seed, dims: &[usize]| Variable::new(tensor(&normals(seed, dims), DType::F32, Some(&pool)));
    let (x, gain) = (of(1, &[64, 128]), of(2, &[128]));
    let round = || {
        let y = x.tensor().mul(&gain.tensor()).unwrap().tanh().unwrap();
        let y = y.softmax().unwrap().transpose(0, 1).unwrap().reshape(&[64, 128]).unwrap();
        let y = y.add(&x.tensor().sum_axis(0).unwrap()).unwrap().add_scaled(&x.tensor(), 0.5).unwrap();
        y.mean().unwrap().backward().unwrap();
        x.clear();
        gain.clear();
    };
    with_threads(2, || {
        let ((), first) = ALLOCATOR.count(round);
        assert!(first.large.count >= 5, "the first round makes the memory: {first:?}");
        let ((), second) = ALLOCATOR.count(round);
        assert_eq!(second.large.count, 0, "{second:?}");
    });
}
