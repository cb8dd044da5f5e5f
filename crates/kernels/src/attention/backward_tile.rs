//! A block of query tiles in the backward pass: five products for each tile of keys, in the registers of one thread.

use std::ops::Range;

use super::{
    BiasAdjoint, Tile, ViewMut,
    backward::{Job, TOGETHER},
    forward::{KEYS, scores, seen},
    plan::{QueryTile, transpose_panel},
    tile::{Lanes, Matrix, WIDTH, each_row, exp, product},
};
use crate::{Element, Write, isa::Isa, reduce::sum_map2};

/// Rows of lanes that a block works in, beside slopes.
pub(super) fn of_a_block(columns: usize) -> usize {
    TOGETHER * of_a_tile(columns) + 2 * KEYS
}

/// Rows of lanes that a query tile keeps: five matrices and two statistics.
fn of_a_tile(columns: usize) -> usize {
    5 * columns + 2
}

/// A key head: its keys and values, copied or decoded, the sums of their gradients, and space for a tile.
struct Keys<'s, T> {
    /// `[s, e]`, rows filled up to whole lanes.
    k: Matrix<'s, T>,
    v: Matrix<'s, T>,
    /// `dK` and `dV`, each `[⌈e/32⌉, s]`.
    sums: &'s mut [Lanes<T>],
    /// Sᵀ: `[keys, lanes]`.
    s: &'s mut [Lanes<T>],
    /// dSᵀ: `[keys, lanes]`.
    ds: &'s mut [Lanes<T>],
    /// Slopes of a transform: `[keys, lanes]`.
    slopes: Option<&'s mut [Lanes<T>]>,
}

/// Adds what a block of query tiles and all keys of their head give each other.
#[inline(always)]
pub(super) fn backward_block<T: Element>(
    isa: Isa,
    job: &Job<'_, '_, T>,
    tiles: &[Option<QueryTile>; TOGETHER],
    (k, v): (&[Lanes<T>], &[Lanes<T>]),
    sums: &mut [Lanes<T>],
    space: &mut [Lanes<T>],
    biases: &mut [&mut dyn BiasAdjoint<T>],
) {
    let x = job.x;
    let Some(Some(first)) = tiles.iter().find(|tile| tile.is_some()) else { return };
    let valid = &x.rows[first.batch].k;
    let columns = x.shape.head_dim.next_multiple_of(WIDTH);
    let (own, space) = space.split_at_mut(TOGETHER * of_a_tile(columns));
    let (s, space) = space.split_at_mut(KEYS);
    let (ds, slopes) = space.split_at_mut(KEYS);
    let [k, v] = [k, v].map(|lanes| Matrix::rows_of_lanes(lanes, columns));
    let mut keys = Keys { k, v, sums, s, ds, slopes: x.transform.map(|_| slopes) };
    for (tile, own) in tiles.iter().zip(own.chunks_exact_mut(of_a_tile(columns))) {
        if let Some(tile) = tile {
            Queries::of(own, columns).begin(isa, job, tile);
        }
    }
    for start in (0..valid.len()).step_by(KEYS) {
        let range = start..valid.len().min(start + KEYS);
        for (tile, own) in tiles.iter().zip(own.chunks_exact_mut(of_a_tile(columns))) {
            if let Some((tile, seen, kind)) = tile.as_ref().and_then(|tile| seen(x, tile, range.clone())) {
                Queries::of(own, columns).add(isa, job, tile, (seen, kind), &mut keys, biases);
            }
        }
    }
    for (tile, own) in tiles.iter().zip(own.chunks_exact_mut(of_a_tile(columns))) {
        if let Some(tile) = tile {
            Queries::of(own, columns).finish(isa, job, tile);
        }
    }
}

/// What a query tile keeps.
struct Queries<'s, T> {
    /// Scaled: `[⌈e/32⌉, lanes, 32]`.
    q: &'s mut [Lanes<T>],
    /// `[⌈e/32⌉, lanes, 32]`
    dout: &'s mut [Lanes<T>],
    /// Qᵀ, scaled: `[e, lanes]`.
    qt: &'s mut [Lanes<T>],
    /// dOᵀ: `[e, lanes]`.
    dot: &'s mut [Lanes<T>],
    /// dQᵀ / scale: `[e, lanes]`.
    dqt: &'s mut [Lanes<T>],
    /// The saved log-sum-exp; +∞, which makes every probability 0, where no query is or none saw a key.
    lse: &'s mut Lanes<T>,
    /// `D = Σ_e dO · O`.
    along: &'s mut Lanes<T>,
}

impl<'s, T: Element> Queries<'s, T> {
    #[inline(always)]
    fn of(space: &'s mut [Lanes<T>], columns: usize) -> Self {
        let ([lse, along], space) = space.split_first_chunk_mut().expect("two rows beside the matrices");
        let (q, space) = space.split_at_mut(columns);
        let (dout, space) = space.split_at_mut(columns);
        let (qt, space) = space.split_at_mut(columns);
        let (dot, dqt) = space.split_at_mut(columns);
        Queries { q, dout, qt, dot, dqt, lse, along }
    }

    #[inline(always)]
    fn begin(self, isa: Isa, job: &Job<'_, '_, T>, tile: &QueryTile) {
        let (e, x, a) = (job.x.shape.head_dim, job.x, job.a);
        tile.load(&x.q, e, x.scale, self.q);
        tile.load(&a.dout, e, T::one(), self.dout);
        transpose_panel(isa, self.q, self.qt);
        transpose_panel(isa, self.dout, self.dot);
        self.dqt.fill(Lanes::default());
        (*self.lse, *self.along) = (Lanes([T::infinity(); WIDTH]), Lanes::default());
        for lane in 0..tile.lanes() {
            let at @ [batch, head, t] = tile.index(lane);
            let saved = a.lse[(batch * x.shape.heads + head) * x.shape.queries + t];
            if saved != T::neg_infinity() {
                self.lse.0[lane] = saved;
                self.along.0[lane] = sum_map2(a.dout.row(at, e), a.out.row(at, e), |a, b| a * b);
            }
        }
    }

    /// Adds what the keys at positions `seen` and these queries give each other.
    #[inline(always)]
    fn add(
        self,
        isa: Isa,
        job: &Job<'_, '_, T>,
        tile: &QueryTile,
        (seen, kind): (Range<usize>, Tile),
        keys: &mut Keys<'_, T>,
        biases: &mut [&mut dyn BiasAdjoint<T>],
    ) {
        let x = job.x;
        let (e, keys_in_all, n) = (x.shape.head_dim, x.shape.keys, seen.len());
        let columns = e.next_multiple_of(WIDTH);
        let [k, v] = [keys.k, keys.v].map(|m| Matrix { data: &m.data[seen.start * columns..], ..m });
        let (s, ds) = (&mut keys.s[..n], &mut keys.ds[..n]);
        let mut slopes = keys.slopes.as_deref_mut().map(|slopes| &mut slopes[..n]);
        scores(isa, x, tile, (seen.clone(), kind), (k, &self.qt[..e]), s, slopes.as_deref_mut());
        product(isa, (v, Matrix::of_lanes(self.dot)), e, ds, Write::Store);
        let (lse, along) = (*self.lse, *self.along);
        let dropout = x.dropout.map(|dropout| dropout.over::<T>(tile));
        match &dropout {
            None => {
                for (s, ds) in s.iter_mut().zip(ds.iter_mut()) {
                    let (s, ds) = std::hint::black_box((s, ds)); // as in `each_row`
                    for l in 0..WIDTH {
                        let p = exp(isa, s.0[l] - lse.0[l]);
                        s.0[l] = p;
                        ds.0[l] = p * (ds.0[l] - along.0[l]);
                    }
                }
            }
            Some(dropout) => {
                for (key, (s, ds)) in seen.clone().zip(s.iter_mut().zip(ds.iter_mut())) {
                    let kept = dropout.factors(key);
                    for l in 0..WIDTH {
                        let p = exp(isa, s.0[l] - lse.0[l]);
                        s.0[l] = p * kept.0[l];
                        ds.0[l] = p * (kept.0[l] * ds.0[l] - along.0[l]);
                    }
                }
            }
        }
        if !biases.is_empty() {
            hand_over(tile, seen.start, ds, biases);
        }
        if let Some(slopes) = slopes {
            for (ds, slope) in ds.iter_mut().zip(slopes) {
                ds.multiply(slope);
            }
        }
        let (dk, dv) = keys.sums.split_at_mut(keys.sums.len() / 2);
        let (p, ds, lanes) = (Matrix::of_lanes(s), Matrix::of_lanes(ds), tile.lanes());
        for block in 0..columns / WIDTH {
            let rows = block * keys_in_all + seen.start..block * keys_in_all + seen.end;
            let panel = block * WIDTH..(block + 1) * WIDTH;
            let (dout, q) = (Matrix::of_lanes(&self.dout[panel.clone()]), Matrix::of_lanes(&self.q[panel]));
            product(isa, (p, dout), lanes, &mut dv[rows.clone()], Write::Add);
            product(isa, (ds, q), lanes, &mut dk[rows], Write::Add);
        }
        product(isa, (k.transposed(), ds), n, &mut self.dqt[..e], Write::Add);
    }

    #[inline(always)]
    fn finish(self, isa: Isa, job: &Job<'_, '_, T>, tile: &QueryTile) {
        let e = job.x.shape.head_dim;
        let scale = Lanes([job.x.scale; WIDTH]);
        each_row(
            &mut self.dqt[..e],
            #[inline(always)]
            |dq| dq.multiply(&scale),
        );
        transpose_panel(isa, self.dqt, self.q); // whose contents are used up
        store_queries(&job.into.dq, job.into.write, tile, self.q, e);
    }
}

#[inline(always)]
fn store_queries<T: Element>(
    view: &ViewMut<'_, T>,
    write: Write,
    tile: &QueryTile,
    dq: &[Lanes<T>],
    e: usize,
) {
    for lane in 0..tile.lanes() {
        // SAFETY: this query belongs to this tile alone.
        let row = unsafe { view.row(tile.index(lane), e) };
        write_row(row, write, |block| &dq[block * WIDTH + lane].0);
    }
}

/// Gives each head of the tile the gradients of its scores, in the order of keys and then queries.
fn hand_over<T: Element>(
    tile: &QueryTile,
    first_key: usize,
    ds: &[Lanes<T>],
    biases: &mut [&mut dyn BiasAdjoint<T>],
) {
    let (n, group) = (tile.queries.len(), biases.len());
    for (i, head) in tile.heads.clone().enumerate() {
        for (key, ds) in (first_key..).zip(ds) {
            biases[head % group].add_row(tile.positions.clone(), key, &ds.0[i * n..(i + 1) * n]);
        }
    }
}

/// Stores or adds a row that lies in blocks of 32 columns.
#[inline(always)]
pub(super) fn write_row<'a, T: Element>(
    row: &mut [T],
    write: Write,
    block: impl Fn(usize) -> &'a [T; WIDTH],
) {
    for (i, row) in row.chunks_mut(WIDTH).enumerate() {
        for (to, &from) in row.iter_mut().zip(block(i)) {
            *to = write.combine(*to, from);
        }
    }
}
