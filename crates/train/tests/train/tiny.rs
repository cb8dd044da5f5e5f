//! A model of a stranger, with everything a trainer has to cope with: dropout, a parameter that is forgotten or rightly
//! left out, and steps that break.

use std::sync::Arc;

use formwork_module::{
    DType, Dropout, Embedding, Init, Linear, Mode, Module, Param, Pass, Result, Scope, Seed, Site, Tensor,
    TokenModel, Visit, VisitMut, Weight, dropout, params,
};
use formwork_tensor::{GradSink, Op, Outputs, Saved};
use formwork_train::{Batch, Draw, Tokens, Window};
use ndarray::ArrayView2;

/// `x + down(tanh(up(x)))` between a token table and a head.
#[derive(Debug)]
pub(crate) struct Tiny {
    embed: Embedding,
    up: Linear,
    down: Linear,
    spare: Option<(Param, Use)>,
    head: Arc<dyn Weight>,
    rate: Dropout,
    site: Site,
    breaks: Vec<(u64, Break)>,
}

/// What becomes of the spare parameter, `[d]`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// Nothing, and nobody says so.
    Never,
    /// It is used in odd steps and excused in even ones.
    Odd,
}

/// How a step goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Break {
    Loss,
    Gradient,
}

pub(crate) struct Build {
    pub(crate) seed: u64,
    pub(crate) dtype: DType,
    pub(crate) rate: f64,
    pub(crate) spare: Option<Use>,
    pub(crate) sizes: [usize; 3],
    pub(crate) breaks: Vec<(u64, Break)>,
}

impl Default for Build {
    fn default() -> Self {
        Self { seed: 7, dtype: DType::F64, rate: 0.0, spare: None, sizes: [11, 5, 13], breaks: Vec::new() }
    }
}

impl Build {
    pub(crate) fn model(self) -> Tiny {
        let [n, d, f] = self.sizes;
        let source = Seed::new(self.seed).dtype(self.dtype);
        let scope = Scope::root(&source);
        let (up, down) = (scope.child("up"), scope.child("down"));
        let init = Init::Normal { std: 0.3 };
        Tiny {
            embed: Embedding::new(&scope.child("embed"), n, d, init).unwrap(),
            up: Linear::with_init(&up, f, d, init).unwrap().biased(&up).unwrap(),
            down: Linear::with_init(&down, d, f, init).unwrap(),
            spare: self.spare.map(|how| (scope.param("spare", &[d], init).unwrap(), how)),
            head: Arc::new(scope.param("head", &[n, d], init).unwrap()),
            rate: Dropout::new(self.rate).unwrap(),
            site: scope.site(),
            breaks: self.breaks,
        }
    }
}

impl Tiny {
    pub(crate) fn param(&self, name: &str) -> Param {
        params(self).into_iter().find(|(found, _)| found == name).unwrap().1
    }

    /// Every number of every parameter, to the bit.
    pub(crate) fn bits(&self) -> Vec<(String, Vec<u64>)> {
        let bits = |p: &Param| match p.value().unwrap().dtype() {
            DType::F64 => p.value().unwrap().to_vec::<f64>().unwrap().iter().map(|v| v.to_bits()).collect(),
            _ => p.value().unwrap().to_vec::<f32>().unwrap().iter().map(|v| u64::from(v.to_bits())).collect(),
        };
        params(self).iter().map(|(name, p)| (name.clone(), bits(p))).collect()
    }
}

impl Module for Tiny {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let step = match pass.mode() {
            Mode::Train { step, .. } => Some(step),
            Mode::Infer => None,
        };
        let hidden = self.up.forward(x, pass)?.tanh()?; // [b, t, f]
        let hidden = dropout(&hidden, self.rate, &self.site, 0, pass)?;
        let mut y = x.add(&self.down.forward(&hidden, pass)?)?; // [b, t, d]
        match (&self.spare, step) {
            (Some((spare, Use::Odd)), Some(step)) if step % 2 == 1 => y = y.add(&pass.take(spare)?)?,
            (Some((spare, Use::Odd)), _) => pass.skip(spare),
            _ => {}
        }
        match self.breaks.iter().find(|(at, _)| Some(*at) == step) {
            Some((_, Break::Loss)) => y.scale(f64::NAN),
            Some((_, Break::Gradient)) => Tensor::apply1(BrokenAdjoint, &[&y]),
            None => Ok(y),
        }
    }

    fn visit(&self, v: &mut dyn Visit) {
        v.enter("embed");
        self.embed.visit(v);
        v.leave();
        for (name, linear) in [("up", &self.up), ("down", &self.down)] {
            v.enter(name);
            linear.visit(v);
            v.leave();
        }
        if let Some((spare, _)) = &self.spare {
            v.param("spare", spare);
        }
        self.head.visit("head", v);
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        self.up.visit_mut(v)
    }
}

impl TokenModel for Tiny {
    fn vocab(&self) -> usize {
        self.head.shape()[0]
    }

    fn context(&self) -> Option<usize> {
        None
    }

    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let ids: Vec<u32> = tokens.iter().copied().collect();
        self.embed.lookup(&ids, tokens.shape(), pass) // [b, t, d]
    }

    fn head(&self) -> &dyn Weight {
        &*self.head
    }
}

/// The identity with a gradient of NaN.
#[derive(Debug)]
struct BrokenAdjoint;

impl Op for BrokenAdjoint {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        Ok(inputs[0].detached().into())
    }
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?.scale(f64::NAN)?;
        into.add(0, &dy)
    }
}

/// A text with something to learn: the next id is a function of this one, with some noise.
pub(crate) fn text(vocab: u32, len: usize) -> Tokens {
    let noise = |i: usize| u32::from(formwork_kernels::rng::unit(3, i as u64) < 0.1);
    let mut ids = vec![1 % vocab];
    for i in 1..len {
        ids.push((ids[i - 1] * 3 + 2 + noise(i)) % vocab);
    }
    Tokens::new(ids)
}

/// The batches of one step.
pub(crate) fn batches(text: &Tokens, step: u64, count: u64) -> Vec<Batch> {
    let window = Window { rows: 2, length: 7 };
    (0..count).map(|micro| text.draw(window, Draw { seed: 5, step, micro }).unwrap()).collect()
}
