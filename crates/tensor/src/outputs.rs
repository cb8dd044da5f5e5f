//! What an op gives back, held in place: a decoded token passes through hundreds of ops and allocates for none of them.

use std::ops::{Deref, DerefMut};

use crate::{Error, Result, Tensor};

/// The outputs of an op, one or two of them without an allocation. It derefs to a slice.
///
/// ```
/// use formwork_tensor::{Outputs, Tensor};
/// let x = Tensor::from_vec(vec![1.0f32], &[1])?;
/// let outputs = Outputs::from([x.clone(), x]);
/// let [a, b] = outputs.exactly()?;
/// assert_eq!(a.len() + b.len(), 2);
/// # Ok::<(), formwork_tensor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Outputs(Held);

#[derive(Clone, Debug)]
enum Held {
    One([Tensor; 1]),
    Two([Tensor; 2]),
    Three([Tensor; 3]),
    Many(Vec<Tensor>),
}

impl Outputs {
    /// The only output.
    ///
    /// # Errors
    /// Any other number of outputs.
    pub fn one(self) -> Result<Tensor> {
        self.exactly().map(|[y]| y)
    }

    /// The outputs, where there are exactly `N`.
    ///
    /// # Errors
    /// Any other number of outputs.
    pub fn exactly<const N: usize>(self) -> Result<[Tensor; N]> {
        let found = self.len();
        let mut all = self.into_iter();
        let mut missing = found != N;
        let taken = [(); N].map(|()| {
            let next = all.next();
            missing |= next.is_none();
            next
        });
        match missing {
            true => Err(Error::invalid("op", format_args!("{N} outputs"), found)),
            false => Ok(taken.map(|tensor| tensor.expect("as many as were counted"))),
        }
    }
}

impl From<Tensor> for Outputs {
    fn from(one: Tensor) -> Self {
        Self(Held::One([one]))
    }
}

impl From<[Tensor; 2]> for Outputs {
    fn from(two: [Tensor; 2]) -> Self {
        Self(Held::Two(two))
    }
}

impl From<[Tensor; 3]> for Outputs {
    fn from(three: [Tensor; 3]) -> Self {
        Self(Held::Three(three))
    }
}

impl From<Vec<Tensor>> for Outputs {
    fn from(many: Vec<Tensor>) -> Self {
        Self(Held::Many(many))
    }
}

impl From<Outputs> for Vec<Tensor> {
    fn from(outputs: Outputs) -> Self {
        outputs.into_iter().collect()
    }
}

impl Deref for Outputs {
    type Target = [Tensor];
    fn deref(&self) -> &[Tensor] {
        match &self.0 {
            Held::One(all) => all,
            Held::Two(all) => all,
            Held::Three(all) => all,
            Held::Many(all) => all,
        }
    }
}

impl DerefMut for Outputs {
    fn deref_mut(&mut self) -> &mut [Tensor] {
        match &mut self.0 {
            Held::One(all) => all,
            Held::Two(all) => all,
            Held::Three(all) => all,
            Held::Many(all) => all,
        }
    }
}

/// The outputs one by one.
impl IntoIterator for Outputs {
    type Item = Tensor;
    type IntoIter = IntoIter;
    fn into_iter(self) -> IntoIter {
        let [one, two, three] = match self.0 {
            Held::One([a]) => [Some(a), None, None],
            Held::Two([a, b]) => [Some(a), Some(b), None],
            Held::Three([a, b, c]) => [Some(a), Some(b), Some(c)],
            Held::Many(all) => {
                return IntoIter { few: [const { None }; 3].into_iter(), many: all.into_iter() };
            }
        };
        IntoIter { few: [one, two, three].into_iter(), many: Vec::new().into_iter() }
    }
}

/// What iterating over [`Outputs`] by value walks with.
#[derive(Debug)]
pub struct IntoIter {
    few: std::array::IntoIter<Option<Tensor>, 3>,
    many: std::vec::IntoIter<Tensor>,
}

impl Iterator for IntoIter {
    type Item = Tensor;
    fn next(&mut self) -> Option<Tensor> {
        self.few.next().flatten().or_else(|| self.many.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(i: usize) -> Tensor {
        Tensor::from_vec(vec![i as f32], &[1]).unwrap()
    }

    #[test]
    fn outputs_keep_their_order_however_many_there_are() {
        for n in 0..6 {
            let all: Vec<Tensor> = (0..n).map(numbered).collect();
            let outputs = match n {
                1 => numbered(0).into(),
                2 => [0, 1].map(numbered).into(),
                3 => [0, 1, 2].map(numbered).into(),
                _ => Outputs::from(all),
            };
            let found: Vec<_> = outputs.into_iter().map(|t| t.item().unwrap()).collect();
            assert_eq!(found, (0..n).map(|i| i as f64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn another_number_of_outputs_is_refused() {
        let error = Outputs::from([0, 1].map(numbered)).one().unwrap_err().to_string();
        assert_eq!(error, "op: expected 1 outputs, found 2");
        assert!(Outputs::from(numbered(0)).exactly::<2>().is_err());
    }
}
