//! Two parts of Formwork without the rest of it: `formwork-attention`, `formwork-norm` and the waist they stand on.

use std::sync::Arc;

use formwork_attention::{Attention, Settings};
use formwork_module::{
    Acts, DType, Module, Norm, Pass, Position, Result, Scope, ScoreBias, Seed, Tensor, children, params,
};
use formwork_norm::{RmsConfig, RmsNorm};

/// The last `reach` tokens count, the others hardly.
#[derive(Debug)]
struct Near {
    reach: usize,
}

impl Position for Near {
    fn acts(&self) -> Acts {
        Acts::Scores
    }
    fn bias(&self, _: &mut Pass<'_>) -> Result<Option<ScoreBias>> {
        let reach = self.reach;
        let bias =
            move |_: usize, query: usize, key: usize| if query.abs_diff(key) < reach { 0.0 } else { -1e3 };
        Ok(Some(ScoreBias::Fixed(Arc::new(bias))))
    }
}

#[derive(Debug)]
struct Block {
    norm: RmsNorm,
    attn: Attention,
}

impl Module for Block {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let delta = self.attn.forward(x, pass)?; // [b, t, d]
        Ok(self.norm.add_norm(x, &delta, pass)?.1) // [b, t, d]
    }
    children!(norm, attn);
}

#[test]
fn two_parts_make_a_block_without_the_rest() -> Result<()> {
    let source = Seed::new(3).dtype(DType::F64);
    let scope = Scope::root(&source);
    let settings = Settings { kv_heads: Some(1), ..Settings::new(6, 3) };
    let block = Block {
        norm: RmsNorm::new(&scope.child("norm"), 6, &RmsConfig { eps: 1e-6 })?,
        attn: Attention::new(&scope.child("attn"), &settings, Arc::new(Near { reach: 2 }))?,
    };
    let names: Vec<_> = params(&block).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["norm.weight", "attn.q.weight", "attn.k.weight", "attn.v.weight", "attn.o.weight"]);

    let numbers: Vec<f64> = (0..42).map(|i| (1.3 * f64::from(i * i)).sin()).collect();
    let run = |numbers: &[f64]| {
        block.forward(&Tensor::from_vec(numbers.to_vec(), &[1, 7, 6])?, &mut Pass::infer())?.to_vec::<f64>()
    };
    let y = run(&numbers)?;
    for row in y.chunks(6) {
        let mean_square = row.iter().map(|y| y * y).sum::<f64>() / 6.0;
        assert!(
            (mean_square - 1.0).abs() < 1e-3,
            "an RMS norm with gain 1 gives rows of mean square 1: {mean_square}"
        );
    }
    // Token 3 is out of reach of tokens 5 and 6, and after tokens 0 to 2.
    let mut other = numbers.clone();
    other[3 * 6..4 * 6].iter_mut().for_each(|x| *x += 1.0);
    for (token, (a, b)) in y.chunks(6).zip(run(&other)?.chunks(6)).enumerate() {
        assert_eq!(a != b, [3, 4].contains(&token), "token {token}");
    }

    block.forward(&Tensor::from_vec(numbers, &[1, 7, 6])?, &mut Pass::train(1, 0))?.sum()?.backward()?;
    assert!(params(&block).iter().all(|(_, param)| param.has_grad()));
    Ok(())
}
