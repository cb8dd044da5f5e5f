//! Named axes and the sizes that they take in turn.
//!
//! Axes with one name have one size. Defaults are unequal primes, so that a swapped axis fails.

use std::fmt;

/// One axis of an input: a name that all inputs share, or a fixed length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    Named(String),
    Fixed(usize),
}

/// `"b t 3"` in its axes.
pub(crate) fn parse(pattern: &str) -> Vec<Axis> {
    let axis = |word: &str| word.parse().map_or_else(|_| Axis::Named(word.into()), Axis::Fixed);
    pattern.split_whitespace().map(axis).collect()
}

/// Wider than the widest vector register, and no multiple of one.
const WIDE: usize = 37;

/// The sizes of an axis: the usual one first.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) name: String,
    pub(crate) all: Vec<usize>,
    /// Given by the case: the op cannot take any other.
    pub(crate) is_fixed: bool,
}

impl Sizes {
    /// # Panics
    /// If the style guide knows no such axis: the case must give its sizes then.
    pub(crate) fn usual(name: &str) -> Self {
        let prime = match name {
            "b" => 2,
            "g" | "h" => 3,
            "t" => 5,
            "e" => 7,
            "s" => 11,
            "d" => 13,
            "f" => 17,
            "n" => 19,
            _ => panic!("axis {name}: expected one of b t s d f h g e n, or its sizes given with dim()"),
        };
        Self { name: name.into(), all: vec![prime, 1, 0, WIDE], is_fixed: false }
    }
}

/// A size for every named axis. It prints as `b=2 t=5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting(Vec<(String, usize)>);

impl Setting {
    /// The first size of every axis.
    pub(crate) fn usual(axes: &[Sizes]) -> Self {
        Self(axes.iter().map(|axis| (axis.name.clone(), axis.all[0])).collect())
    }

    /// The usual sizes, then every other size of each axis with the rest as usual, then all axes 1 if they may be.
    pub(crate) fn all(axes: &[Sizes]) -> Vec<Self> {
        let usual = Self::usual(axes);
        let mut settings = vec![usual.clone()];
        for (i, axis) in axes.iter().enumerate() {
            for &size in &axis.all[1..] {
                let mut other = usual.clone();
                other.0[i].1 = size;
                settings.push(other);
            }
        }
        if axes.len() > 1 && axes.iter().all(|axis| axis.all.contains(&1)) {
            settings.push(Self(axes.iter().map(|axis| (axis.name.clone(), 1)).collect()));
        }
        settings
    }

    /// The usual sizes with one axis as large as it takes for some input to have `count` elements: the first that is
    /// free, or, where none is, every axis at its largest.
    pub(crate) fn large(axes: &[Sizes], inputs: &[Vec<Axis>], count: usize) -> Self {
        let mut setting = Self::usual(axes);
        let Some(free) = axes.iter().position(|axis| !axis.is_fixed) else {
            return Self(
                axes.iter().map(|a| (a.name.clone(), a.all.iter().copied().max().unwrap_or(1))).collect(),
            );
        };
        setting.0[free].1 = 1;
        let with_it = inputs.iter().filter(|axes| axes.contains(&Axis::Named(setting.0[free].0.clone())));
        let each = with_it.map(|axes| setting.shape(axes).iter().product::<usize>()).max().unwrap_or(1);
        setting.0[free].1 = (count / each.max(1)) | 1;
        setting
    }

    pub(crate) fn shape(&self, axes: &[Axis]) -> Vec<usize> {
        let len = |axis: &Axis| match axis {
            Axis::Fixed(len) => *len,
            Axis::Named(name) => self.0.iter().find(|(n, _)| n == name).map_or(0, |(_, len)| *len),
        };
        axes.iter().map(len).collect()
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<_> = self.0.iter().map(|(name, size)| format!("{name}={size}")).collect();
        f.write_str(&each.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_axis_takes_its_sizes_in_turn() {
        let axes = [Sizes::usual("b"), Sizes { name: "e".into(), all: vec![4, 2], is_fixed: true }];
        let all: Vec<_> = Setting::all(&axes).iter().map(Setting::to_string).collect();
        assert_eq!(all, ["b=2 e=4", "b=1 e=4", "b=0 e=4", "b=37 e=4", "b=2 e=2"]);
        let shape = Setting::usual(&axes).shape(&parse("e 3 b"));
        assert_eq!(shape, [4, 3, 2]);
    }

    #[test]
    fn all_axes_are_1_together_where_they_may_be() {
        let axes = [Sizes::usual("b"), Sizes::usual("d")];
        assert_eq!(Setting::all(&axes).last().unwrap().to_string(), "b=1 d=1");
    }

    #[test]
    fn a_large_setting_grows_a_free_axis() {
        let axes =
            [Sizes { name: "e".into(), all: vec![4], is_fixed: true }, Sizes::usual("t"), Sizes::usual("d")];
        let large = Setting::large(&axes, &[parse("e"), parse("t d e")], 1000);
        assert_eq!(large.to_string(), "e=4 t=19 d=13");
    }

    #[test]
    #[should_panic(expected = "axis q: expected one of b t s d f h g e n")]
    fn an_unknown_axis_must_be_given_sizes() {
        Sizes::usual("q");
    }
}
