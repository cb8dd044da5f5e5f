//! Modules one after another: `y = mₗ₋₁(.. m₁(m₀(x)))`. Their names are their places: `0`, `1`, ...

use crate::{At, Module, Pass, Result, Tensor, Visit, VisitMut};

/// Modules, each of which takes what the one before gave.
#[derive(Debug, Default)]
pub struct Sequence(pub Vec<Box<dyn Module>>);

impl Sequence {
    /// `count` modules from a function of their place; it names its scope itself, by `scope.child(i)`.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn new<M: Module + 'static>(count: usize, build: impl Fn(usize) -> Result<M>) -> Result<Self> {
        let modules = (0..count).map(|i| Ok(Box::new(build(i)?) as Box<dyn Module>));
        Ok(Self(modules.collect::<Result<_>>()?))
    }
}

impl Module for Sequence {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, module) in self.0.iter().enumerate() {
            pass.check_cancelled().at(i)?;
            x = module.forward(&x, pass).at(i)?;
        }
        Ok(x)
    }

    fn visit(&self, v: &mut dyn Visit) {
        for (i, module) in self.0.iter().enumerate() {
            v.enter(&i.to_string());
            module.visit(v);
            v.leave();
        }
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        for (i, module) in self.0.iter_mut().enumerate() {
            v.enter(&i.to_string());
            module.visit_mut(v).at(i)?;
            v.leave();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Linear, Scope, Seed, params};

    #[test]
    fn modules_run_in_order_and_are_named_by_their_place() {
        let source = Seed::new(1);
        let scope = Scope::root(&source);
        let layers = Sequence::new(3, |i| Linear::new(&scope.child(i), [5, 7, 2][i], [3, 5, 7][i])).unwrap();
        let names: Vec<_> = params(&layers).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, scope.built());
        let x = Tensor::from_vec(vec![0.5f32; 6], &[2, 3]).unwrap();
        let y = layers.forward(&x, &mut Pass::infer()).unwrap();
        assert_eq!(**y.shape(), [2, 2]);
        let wide = Tensor::from_vec(vec![0.5f32; 8], &[2, 4]).unwrap();
        assert!(layers.forward(&wide, &mut Pass::infer()).unwrap_err().to_string().starts_with("0: linear"));
    }
}
