//! A product with a matrix in blocks takes no memory for decoded numbers from the system once it has run.

use formwork_kernels::blocks::Format;
use formwork_module::{Blocks, Pass, Weight};
use formwork_quant::Quantised;
use formwork_tensor::{DType, Pool, Tensor};
use formwork_testkit::CountingAllocator;

/// A row of the matrix decoded is 3072 bytes: anything of that size is counted as large.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new(2048);

#[test]
fn a_second_token_takes_no_large_memory() {
    let (out, inp) = (1024, 768);
    let bytes = vec![0x11_u8; out * inp / 32 * 20];
    let pool = Pool::new();
    let blocks = Blocks::new("up.weight", [out, inp], Format::Q4_1, bytes).unwrap();
    let weight = Quantised::new(blocks).pool(pool.clone());
    let x = Tensor::full(0.5, &[1, 1, inp], DType::F32, Some(&pool)).unwrap();
    let token = || {
        let mut pass = Pass::infer();
        let row = weight.gather(&[7], &[1, 1], &mut pass).unwrap();
        let y = weight.apply(&x.add(&row).unwrap(), None, &mut pass).unwrap();
        assert_eq!(**y.shape(), [1, 1, out]);
    };
    // On one thread: which of several meets a task first, and fills its working memory, is chance.
    formwork_kernels::team::with_threads(1, || {
        token();
        let ((), allocated) = ALLOCATOR.count(token);
        assert_eq!(allocated.large.count, 0, "{allocated:?}");
        assert!(allocated.small.bytes < 2048, "{allocated:?}");
    });
}
