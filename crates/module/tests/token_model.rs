//! What the provided methods of a token model do around the model's own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_module::{
    Init, KvCache, Module, Param, Pass, Positions, Result, Rows, Scope, Seed, Site, Tensor, TokenModel,
    Visit, VisitMut, Weight,
};
use ndarray::{Array2, ArrayView2, array};

const N: usize = 11;
const D: usize = 2;

/// Hidden states are embeddings; a cache is filled and not read.
#[derive(Debug)]
struct Echo {
    table: Param,
    site: Site,
}

impl Echo {
    fn new() -> Self {
        let source = Seed::new(5);
        let scope = Scope::root(&source);
        let table = scope.param("table", &[N, D], Init::Normal { std: 1.0 }).unwrap();
        Self { table, site: scope.site() }
    }
}

impl Module for Echo {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [b, t, d] = x.dims()?;
        let spans = pass.spans(b, t)?;
        if let Some(cache) = pass.cache() {
            let k = x.reshape(&[b, t, 1, d])?;
            cache.append(self.site.slot, &k, &k, &spans)?;
        }
        Ok(x.clone())
    }
    fn visit(&self, v: &mut dyn Visit) {
        v.param("table", &self.table);
    }
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.param("table", &mut self.table)
    }
}

impl TokenModel for Echo {
    fn vocab(&self) -> usize {
        N
    }
    fn context(&self) -> Option<usize> {
        Some(5)
    }
    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let ids: Vec<u32> = tokens.iter().copied().collect();
        self.table.gather(&ids, &[tokens.nrows(), tokens.ncols()], pass)
    }
    fn head(&self) -> &dyn Weight {
        &self.table
    }
}

#[test]
fn what_is_refused_leaves_the_cache_as_it_was() {
    let model = Echo::new();
    let mut cache = model.cache(2, 7);
    let good = array![[1, 2, 3], [4, 5, 6]];
    let lengths = |rows: [usize; 2]| Rows::right_padded(&rows);
    model.logits(good.view(), Positions::Last, &mut Pass::infer().cached(&mut cache)).unwrap();
    assert_eq!((cache.len(0), cache.len(1)), (3, 3));
    let mut check = |tokens: Array2<u32>, rows: Rows, words: &str| {
        let mut pass = Pass::infer().rows(rows).cached(&mut cache);
        let error = model.logits(tokens.view(), Positions::Last, &mut pass).unwrap_err().to_string();
        assert!(error.contains(words), "{words} in {error}");
        assert_eq!((cache.len(0), cache.len(1)), (3, 3), "after: {error}");
    };
    check(good.clone(), lengths([2, 0]), "at least one real token in each row, found none in row 1");
    check(array![[1, 2], [N as u32, 0]], lengths([1, 1]), "11 at row 1, token 0");
    check(good.clone(), lengths([2, 3]), "at most 5 tokens, the context, found 6 in row 1");
    check(Array2::zeros((2, 0)), lengths([0, 0]), "at least one token, found [2, 0]");
    check(array![[1]], Rows::default(), "2 rows");
}

#[test]
fn the_last_logits_are_those_of_the_last_real_token() {
    let model = Echo::new();
    let tokens = array![[1, 2, 3], [4, 5, 6]];
    let run = |which, rows: Rows| {
        model.logits(tokens.view(), which, &mut Pass::infer().rows(rows)).unwrap().to_array::<f32>().unwrap()
    };
    let all = run(Positions::All, Rows::default());
    for (rows, places) in
        [(Rows::right_padded(&[1, 3]), [0, 2]), (Rows::left_padded(&[1, 2], 3).unwrap(), [2, 2])]
    {
        let last = run(Positions::Last, rows);
        for (row, place) in places.into_iter().enumerate() {
            let (row_of_all, found) =
                (all.index_axis(ndarray::Axis(0), row), last.index_axis(ndarray::Axis(0), row));
            // Row products give a row the same bits alone and with others.
            assert_eq!(found, row_of_all.index_axis(ndarray::Axis(0), place));
        }
    }
}
