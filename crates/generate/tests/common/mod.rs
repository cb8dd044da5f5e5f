//! Two small models of a stranger: one whose logits are known by heart, one whose logits depend on all that came before.
#![allow(dead_code, reason = "each test program uses a part of this")]

use std::sync::Arc;

use formwork_generate::Text;
use formwork_module::{
    DType, Embedding, Init, Module, Param, Pass, Pool, Result, RowSpan, Scope, Seed, Site, Source, Spec,
    Tensor, TokenModel, Visit, VisitMut, Weight,
};
use formwork_tensor::dispatch;
use ndarray::ArrayView2;

pub(crate) const VOCAB: usize = 11;

/// After token `i` the logits are row `i` of a table, whatever came before.
#[derive(Debug)]
pub(crate) struct Bigram {
    table: Embedding,
    head: Arc<dyn Weight>,
}

/// Gives the numbers that it was made with, and the identity for `head.weight`.
#[derive(Debug)]
struct Table(Vec<f32>);

impl Source for Table {
    fn param(&self, path: &str, spec: &Spec) -> Result<formwork_module::Given> {
        let values = match path {
            "head.weight" => (0..VOCAB * VOCAB).map(|i| f32::from(u8::from(i % (VOCAB + 1) == 0))).collect(),
            _ => self.0.clone(),
        };
        let value = Some(Tensor::from_vec(values, &spec.shape)?);
        Ok(formwork_module::Given { value, stored: formwork_module::Stored::F32 })
    }
}

impl Bigram {
    /// `logits[i]` follow token `i`.
    pub(crate) fn new(logits: impl Fn(usize, usize) -> f32) -> Self {
        let source = Table((0..VOCAB * VOCAB).map(|i| logits(i / VOCAB, i % VOCAB)).collect());
        let scope = Scope::root(&source);
        let table = Embedding::new(&scope.child("embed"), VOCAB, VOCAB, Init::Constant(0.0)).unwrap();
        let head = scope.child("head").param("weight", &[VOCAB, VOCAB], Init::Constant(0.0)).unwrap();
        Self { table, head: Arc::new(head) }
    }

    /// Token `i` is followed by `next(i)`.
    pub(crate) fn chain(next: impl Fn(usize) -> usize) -> Self {
        Self::new(|i, j| if j == next(i) { 3.0 } else { 0.0 })
    }
}

impl Module for Bigram {
    fn forward(&self, x: &Tensor, _: &mut Pass<'_>) -> Result<Tensor> {
        Ok(x.clone())
    }
    fn visit(&self, v: &mut dyn Visit) {
        self.table.visit(v);
    }
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        self.table.visit_mut(v)
    }
}

impl TokenModel for Bigram {
    fn vocab(&self) -> usize {
        VOCAB
    }
    fn context(&self) -> Option<usize> {
        None
    }
    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let ids: Vec<u32> = tokens.iter().copied().collect();
        self.table.lookup(&ids, tokens.shape(), pass)
    }
    fn head(&self) -> &dyn Weight {
        &*self.head
    }
}

/// `hidden[t] = Σ_{j ≤ t} x[j] · (1 + j mod 3) / (1 + t − j)`, with the past from a cache: it notices every token that
/// is missing, doubled or at another position. Outputs at padding are NaN, so that whoever uses one notices too.
#[derive(Debug)]
pub(crate) struct Recall {
    table: Embedding,
    head: Param,
    site: Site,
    context: Option<usize>,
}

pub(crate) const DIM: usize = 7;

impl Recall {
    pub(crate) fn new(source: &dyn Source, context: Option<usize>) -> Self {
        let scope = Scope::root(source);
        let table = Embedding::new(&scope.child("embed"), VOCAB, DIM, Init::Normal { std: 0.5 }).unwrap();
        let head = scope.child("head").param("weight", &[VOCAB, DIM], Init::Normal { std: 1.0 }).unwrap();
        Self { table, head, site: scope.child("mix").site(), context }
    }

    pub(crate) fn seeded(context: Option<usize>) -> Self {
        Self::new(&Seed::new(5), context)
    }

    pub(crate) fn in_f64() -> Self {
        Self::new(&Seed::new(5).dtype(DType::F64), None)
    }

    pub(crate) fn pooled(pool: &Pool) -> Self {
        Self::new(&Seed::new(5).pool(pool.clone()), None)
    }
}

impl Module for Recall {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        pass.check_cancelled()?;
        let [b, t, d] = x.dims()?;
        let spans = pass.spans(b, t)?;
        let x = x.reshape(&[b, t, 1, d])?;
        // Without a cache the real tokens stand where the padding ends.
        let cached = pass.cache().is_some();
        let padding = |span: &RowSpan| if cached { 0 } else { span.tokens.start };
        let past = match pass.cache() {
            Some(cache) => cache.append(self.site.slot, &x, &x, &spans)?.0, // [b, 1, capacity, d]
            None => x.transpose(1, 2)?.compact()?,                          // [b, 1, t, d]
        };
        let width = past.shape()[2];
        dispatch!(x.dtype(), T => {
            let past = past.slice::<T>()?;
            let mut y = x.buffer::<T>(b * t * d);
            y.fill(T::NAN);
            for (row, span) in spans.iter().enumerate() {
                for (i, token) in span.tokens.clone().enumerate() {
                    let y = &mut y[(row * t + token) * d..][..d];
                    y.fill(0.0);
                    let at = span.first + i;
                    for j in 0..=at {
                        let share = (1 + j % 3) as T / (1 + at - j) as T;
                        for (y, x) in y.iter_mut().zip(&past[(row * width + padding(span) + j) * d..]) {
                            *y += share * x;
                        }
                    }
                }
            }
            Tensor::from_buffer(y, &[b, t, d])
        })
    }
    fn visit(&self, v: &mut dyn Visit) {
        self.table.visit(v);
        v.param("head", &self.head);
    }
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        self.table.visit_mut(v)
    }
}

impl TokenModel for Recall {
    fn vocab(&self) -> usize {
        VOCAB
    }
    fn context(&self) -> Option<usize> {
        self.context
    }
    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let ids: Vec<u32> = tokens.iter().copied().collect();
        self.table.lookup(&ids, tokens.shape(), pass)
    }
    fn head(&self) -> &dyn Weight {
        &self.head
    }
}

/// The logits that follow a text, computed all at once and without a cache.
pub(crate) fn recomputed(model: &dyn TokenModel, text: &[u32]) -> Vec<f32> {
    let tokens = ArrayView2::from_shape((1, text.len()), text).unwrap();
    let logits = model.logits(tokens, formwork_module::Positions::Last, &mut Pass::infer()).unwrap();
    match logits.dtype() {
        DType::F64 => logits.to_vec::<f64>().unwrap().into_iter().map(|x| x as f32).collect(),
        _ => logits.to_vec().unwrap(),
    }
}

/// Text of a vocabulary in which a token is any bytes: whole characters come out, the others wait.
pub(crate) struct Pieces {
    pieces: Vec<&'static [u8]>,
    waiting: Vec<u8>,
}

impl Pieces {
    pub(crate) fn boxed(pieces: &[&'static str]) -> Box<dyn Text> {
        Self::of_bytes(&pieces.iter().map(|piece| piece.as_bytes()).collect::<Vec<_>>())
    }

    pub(crate) fn of_bytes(pieces: &[&'static [u8]]) -> Box<dyn Text> {
        Box::new(Self { pieces: pieces.to_vec(), waiting: Vec::new() })
    }
}

impl Text for Pieces {
    fn push(&mut self, id: u32, text: &mut String) -> Result<()> {
        let unknown = || formwork_module::Error::invalid("pieces", "a known id", id);
        self.waiting.extend_from_slice(self.pieces.get(id as usize).ok_or_else(unknown)?);
        let whole = match std::str::from_utf8(&self.waiting) {
            Ok(all) => all.len(),
            Err(error) => error.valid_up_to(),
        };
        text.push_str(std::str::from_utf8(&self.waiting[..whole]).unwrap());
        self.waiting.drain(..whole);
        Ok(())
    }

    fn finish(&mut self, text: &mut String) -> Result<()> {
        if !std::mem::take(&mut self.waiting).is_empty() {
            text.push('\u{fffd}');
        }
        Ok(())
    }
}
