//! A steady state: what a decoded token asks of the system. Alone in its file, since it counts for the whole process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::ops::ControlFlow;

use common::Recall;
use formwork_generate::{Request, Session, Settings};
use formwork_module::Pool;
use formwork_testkit::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new(4096);

const TOKENS: usize = 64;

/// Small allocations of one step of the little model of these tests and of all that is around it, for two rows.
/// Counted, not wished: a new one must be noticed.
const SMALL_PER_STEP: u64 = 30;

#[test]
fn a_decoded_token_takes_no_tensor_memory_from_the_system() {
    let pool = Pool::new();
    let model = Recall::pooled(&pool);
    let settings = Settings {
        temperature: 0.9,
        top_k: Some(7),
        top_p: Some(0.95),
        min_p: Some(0.01),
        ..Settings::default()
    };
    let request = Request { max_tokens: TOKENS, ..settings.request().unwrap() };
    let mut session = Session::new(&model, 2, 16 + 3 * TOKENS).unwrap();
    session.prompt(&[&[1, 2, 3, 4, 5], &[6, 7]]).unwrap();
    session.write(&request, &mut [], |_| ControlFlow::Continue(())).unwrap();
    let before = pool.stats();
    let write = || session.write(&request, &mut [], |_| ControlFlow::Continue(()));
    let (outputs, allocated) = ALLOCATOR.count(write);
    assert!(outputs.unwrap().iter().all(|output| output.ids.len() == TOKENS));
    let after = pool.stats();
    assert!(after.taken > before.taken, "the model's tensors come from the pool");
    assert_eq!(after.from_system, before.from_system, "tensor memory asked of the system");
    assert_eq!(allocated.large.count, 0, "{allocated:?}");
    let (count, bytes) = (allocated.small.count, allocated.small.bytes);
    let tokens = TOKENS as f64;
    println!(
        "a step of two rows: {:.1} small allocations, {:.0} bytes",
        count as f64 / tokens,
        bytes as f64 / tokens
    );
    assert!(count <= SMALL_PER_STEP * TOKENS as u64, "{count} small allocations in {TOKENS} steps");
}
