//! A step like the one before takes no tensor memory from the system. Alone in its file, since it counts allocations.
#![allow(clippy::unwrap_used, reason = "in the functions that tests share")]

#[allow(dead_code, reason = "other suites use the rest")]
#[path = "train/tiny.rs"]
mod tiny;

use formwork_kernels::team::with_threads;
use formwork_module::DType;
use formwork_testkit::CountingAllocator;
use formwork_train::{
    AdamWConfig, Batch, Constant, Draw, NonFinite, ScheduleConfig, TrainConfig, TrainPrecision, Trainer,
    Window,
};

/// The activations and logits of this model are larger.
const LARGE: usize = 1 << 20;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new(LARGE);

#[test]
fn the_second_step_of_a_shape_takes_no_tensor_memory_from_the_system() {
    let build =
        tiny::Build { dtype: DType::F32, rate: 0.1, sizes: [331, 128, 512], ..tiny::Build::default() };
    let (model, text) = (build.model(), tiny::text(331, 2003));
    let config = TrainConfig {
        seed: 5,
        schedule: ScheduleConfig::Constant(Constant { lr: 0.01 }),
        adamw: AdamWConfig::default(),
        clip: Some(1.0),
        non_finite: NonFinite::default(),
        precision: TrainPrecision::F32,
    };
    let mut trainer = Trainer::new(&model, config).unwrap();
    let window = Window { rows: 32, length: 32 };
    let draw = |step| vec![text.draw(window, Draw { seed: 5, step, micro: 0 }).unwrap()];
    // Alone, since each thread takes working memory of its own when it is first given something to do, which with
    // several threads may be in any step.
    let step = |trainer: &mut Trainer, batches: &[Batch]| {
        with_threads(1, || ALLOCATOR.count(|| trainer.step(&model, batches).unwrap()))
    };
    let (first, allocated) = step(&mut trainer, &draw(0));
    assert!(allocated.large.count > 0, "the first step fills the pool");
    for at in 1..4 {
        let batches = draw(at);
        let before = trainer.pool().stats();
        let (report, allocated) = step(&mut trainer, &batches);
        assert_eq!(allocated.large.count, 0, "step {at}: {allocated:?}");
        assert_eq!(trainer.pool().stats().from_system, before.from_system, "step {at}");
        println!("step {at}: {} small allocations, {} bytes", allocated.small.count, allocated.small.bytes);
        assert_eq!(report.tokens, first.tokens);
    }
}
