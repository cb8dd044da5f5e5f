//! Dropout on the probabilities: `O = (P ⊙ M)·V` with `M` 0 or `1 / (1 − p)`, after the softmax.
//!
//! Each factor is drawn by counter from a key and the place of its probability (batch row, head, query position, key
//! position), so the mask is never stored: the adjoint draws it again, and tiles, threads and padding do not change it.
//! Srivastava et al. 2014, <https://jmlr.org/papers/v15/srivastava14a.html>; Vaswani et al. 2017 apply it here.
//!
//! ```
//! use formwork_kernels::attention::Dropout;
//!
//! let dropout = Dropout { key: 7, probability: 0.25 };
//! let factors: Vec<f64> = (0..1000).map(|key| dropout.factor([0, 1, 5, key])).collect();
//! assert!(factors.iter().all(|&f| f == 0.0 || f == 1.0 / 0.75));
//! assert!((factors.iter().sum::<f64>() / 1000.0 - 1.0).abs() < 0.1);
//! ```

use super::{
    plan::QueryTile,
    tile::{Lanes, WIDTH},
};
use crate::{Element, rng};

/// Which probabilities are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The stream of draws: mixed from seed, site and step.
    pub key: u64,
    /// The probability of being dropped: in [0, 1].
    pub probability: f64,
}

impl Dropout {
    /// What the probability of `[batch row, head, query position, key position]` is multiplied with.
    pub fn factor<T: Element>(&self, [batch, head, query, key]: [usize; 4]) -> T {
        self.threshold().factor(self.stream([batch, head, query]), key)
    }

    /// The draws of one query.
    pub(super) fn stream(&self, place: [usize; 3]) -> u64 {
        rng::stream(place.into_iter().fold(self.key, |key, index| rng::mix(key, index as u64)))
    }

    /// 2³² · p of the upper halves of the draws are dropped: at p = 1 all of them.
    pub(super) fn threshold<T: Element>(&self) -> Threshold<T> {
        let limit = (self.probability * (1_u64 << 32) as f64).round() as u64;
        let kept = if limit == 1 << 32 { T::zero() } else { T::of(1.0 / (1.0 - self.probability)) };
        Threshold { limit, kept }
    }

    /// The draws of all queries of a tile.
    pub(super) fn over<T: Element>(&self, tile: &QueryTile) -> TileDropout<T> {
        let mut streams = [0; WIDTH];
        for (lane, stream) in streams.iter_mut().enumerate().take(tile.lanes()) {
            let [batch, head, t] = tile.index(lane);
            *stream = self.stream([batch, head, tile.positions.start + t - tile.queries.start]);
        }
        TileDropout { streams, threshold: self.threshold() }
    }
}

/// Turns draws into factors.
#[derive(Clone, Copy)]
pub(super) struct Threshold<T> {
    limit: u64,
    kept: T,
}

impl<T: Element> Threshold<T> {
    #[inline(always)]
    pub(super) fn factor(&self, stream: u64, key: usize) -> T {
        if (rng::draw(stream, key as u64) >> 32) < self.limit { T::zero() } else { self.kept }
    }
}

/// Dropout of one tile, whose queries lie along lanes.
pub(super) struct TileDropout<T> {
    streams: [u64; WIDTH],
    threshold: Threshold<T>,
}

impl<T: Element> TileDropout<T> {
    /// The factors of all queries for the key at a position.
    #[inline(always)]
    pub(super) fn factors(&self, key: usize) -> Lanes<T> {
        let mut factors = Lanes::default();
        for l in 0..WIDTH {
            factors.0[l] = self.threshold.factor(self.streams[l], key);
        }
        factors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_of_the_place_matters_and_shares_are_right() {
        let count = |factor: &dyn Fn(usize) -> f64| {
            (0..10_000).filter(|&i| factor(i) == 0.0).count() as f64 / 10_000.0
        };
        for probability in [0.0, 0.1, 0.5, 1.0] {
            let dropout = Dropout { key: 3, probability };
            for axis in 0..4 {
                let place = |i: usize| std::array::from_fn(|a| if a == axis { i } else { 2 });
                let share = count(&|i| dropout.factor(place(i)));
                // Four standard errors.
                assert!((share - probability).abs() < 0.02, "axis {axis}: {share} of {probability}");
            }
        }
        let differ = |a: Dropout, b: Dropout| {
            (0..100).any(|i| a.factor::<f32>([0, 0, 0, i]) != b.factor([0, 0, 0, i]))
        };
        let one = Dropout { key: 1, probability: 0.5 };
        assert!(differ(one, Dropout { key: 2, ..one }) && !differ(one, one));
    }
}
