//! What an op keeps for its backward, and nothing where no backward will come.

use std::ops::Deref;

use crate::{Owns, Tensor};

/// What an op keeps for its backward: detached tensors, freed as the reverse pass goes by. It derefs to a slice.
///
/// In inference there is no backward: then [`keep`](Saved::keep) drops what it is given, and an op that would compute
/// something for its backward alone asks [`wanted`](Saved::wanted) first.
///
/// ```
/// use formwork_tensor::{Saved, Tensor};
/// let x = Tensor::from_vec(vec![1.0f32], &[1])?;
/// let (mut saved, mut nothing) = (Saved::wanting(), Saved::nothing());
/// saved.keep([x.clone()]);
/// nothing.keep([x]);
/// assert_eq!((saved.len(), nothing.len(), nothing.wanted()), (1, 0, false));
/// # Ok::<(), formwork_tensor::Error>(())
/// ```
#[derive(Debug)]
pub struct Saved {
    tensors: Vec<Tensor>,
    wanted: bool,
}

impl Saved {
    /// For an op whose backward may run.
    pub fn wanting() -> Self {
        Self { tensors: Vec::new(), wanted: true }
    }

    /// For an op whose backward will never run.
    pub fn nothing() -> Self {
        Self { tensors: Vec::new(), wanted: false }
    }

    /// What an op on these inputs is asked to keep: something where one of them is tracked, or where the op owns
    /// parameters.
    pub fn of(inputs: &[&Tensor], owns: Owns) -> Self {
        let wanted = owns == Owns::Parameters || inputs.iter().any(|t| t.is_tracked());
        Self { tensors: Vec::new(), wanted }
    }

    /// Whether there may be a backward.
    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Keeps tensors, without their histories, behind those kept so far.
    pub fn keep(&mut self, tensors: impl IntoIterator<Item = Tensor>) {
        if self.wanted {
            // A saved tensor with a history would keep a second graph alive that nobody walks.
            self.tensors.extend(tensors.into_iter().map(Tensor::forgetting));
        }
    }
}

impl Deref for Saved {
    type Target = [Tensor];
    fn deref(&self) -> &[Tensor] {
        &self.tensors
    }
}
