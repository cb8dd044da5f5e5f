//! What a module is, and how its parameters are visited.

use std::{fmt::Debug, sync::Arc};

use crate::{At, Blocks, Param, Pass, Result, Stored, Tensor, Weight};

/// A part of a model: it computes, and it shows what it holds.
pub trait Module: Debug + Send + Sync {
    /// The output for `x`; most modules keep the leading axes and change the last.
    ///
    /// # Errors
    /// A shape or a setting that does not fit; the parent adds the path.
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor>;

    /// Shows every parameter once, under its own name, in the order in which they were built.
    fn visit(&self, v: &mut dyn Visit);

    /// As [`visit`](Module::visit), handing out the weights themselves, so that they can be replaced in place.
    ///
    /// # Errors
    /// Those of the visitor, and a part that a living tensor still holds.
    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()>;
}

/// Receives a walk over the parameters of a module.
pub trait Visit {
    /// A child named `name` begins.
    fn enter(&mut self, name: &str);
    /// The child ends.
    fn leave(&mut self);
    /// A parameter of the current child.
    fn param(&mut self, name: &str, param: &Param);
    /// A matrix of the current child that is held in blocks and does not learn.
    fn blocks(&mut self, name: &str, blocks: &Blocks);
}

/// Receives a walk over the parameters and weights of a module, and may replace the weights.
pub trait VisitMut {
    /// A child named `name` begins.
    fn enter(&mut self, name: &str);
    /// The child ends.
    fn leave(&mut self);
    /// A parameter that is no matrix of a linear layer: a gain, a bias, a position table.
    ///
    /// # Errors
    /// Whatever the visitor refuses.
    fn param(&mut self, name: &str, param: &mut Param) -> Result<()>;
    /// A weight; assigning to it replaces it: `*weight = Arc::new(Adapter::around(weight.clone()))`.
    ///
    /// # Errors
    /// Whatever the visitor refuses.
    fn weight(&mut self, name: &str, weight: &mut Arc<dyn Weight>) -> Result<()>;
}

/// Writes `visit` and `visit_mut` of a [`Module`] from the names of the fields that are modules, in building order.
///
/// The field's name is the child's name. See the [crate example](crate).
#[macro_export]
macro_rules! children {
    ($($field:ident),* $(,)?) => {
        fn visit(&self, v: &mut dyn $crate::Visit) {
            $(
                v.enter(stringify!($field));
                self.$field.visit(v);
                v.leave();
            )*
            let _ = v;
        }
        fn visit_mut(&mut self, v: &mut dyn $crate::VisitMut) -> $crate::Result<()> {
            $(
                v.enter(stringify!($field));
                $crate::At::at(self.$field.visit_mut(v), stringify!($field))?;
                v.leave();
            )*
            let _ = v;
            Ok(())
        }
    };
}

/// The dotted path during a walk.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn to(&self, name: &str) -> String {
        let mut path = self.0.join(".");
        if !path.is_empty() {
            path.push('.');
        }
        path + name
    }
}

/// Numbers that a module holds under a name.
#[derive(Clone, Debug)]
pub enum Held {
    /// A parameter, which may learn.
    Param(Param),
    /// A matrix in blocks, which does not.
    Blocks(Blocks),
}

impl Held {
    /// The lengths of its axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Held::Param(param) => param.shape(),
            Held::Blocks(blocks) => blocks.shape_ref(),
        }
    }

    /// The type in which a file held it.
    pub fn stored(&self) -> Stored {
        match self {
            Held::Param(param) => param.stored(),
            Held::Blocks(blocks) => Stored::Blocks(blocks.format()),
        }
    }
}

/// Every parameter with its full name, in building order. Matrices in blocks are not among them; [`held`] has both.
pub fn params<M: Module + ?Sized>(module: &M) -> Vec<(String, Param)> {
    let only = |(name, held)| match held {
        Held::Param(param) => Some((name, param)),
        Held::Blocks(_) => None,
    };
    held(module).into_iter().filter_map(only).collect()
}

/// Everything that a module holds with its full name, in building order: what a file of it would contain.
pub fn held<M: Module + ?Sized>(module: &M) -> Vec<(String, Held)> {
    struct List(Path, Vec<(String, Held)>);
    impl Visit for List {
        fn enter(&mut self, name: &str) {
            self.0.0.push(name.to_owned());
        }
        fn leave(&mut self) {
            self.0.0.pop();
        }
        fn param(&mut self, name: &str, param: &Param) {
            self.1.push((self.0.to(name), Held::Param(param.clone())));
        }
        fn blocks(&mut self, name: &str, blocks: &Blocks) {
            self.1.push((self.0.to(name), Held::Blocks(blocks.clone())));
        }
    }
    let mut list = List(Path::default(), Vec::new());
    module.visit(&mut list);
    list.1
}

/// What [`weights_mut`] calls with a weight and its full name; assigning to the weight replaces it.
pub type Replace<'f> = dyn FnMut(&str, &mut Arc<dyn Weight>) -> Result<()> + 'f;

/// Calls `f` with the full name of every weight, which it may replace.
///
/// # Errors
/// Those of `f`, with the weight's path.
pub fn weights_mut<M: Module + ?Sized>(module: &mut M, f: &mut Replace<'_>) -> Result<()> {
    struct Each<'a>(Path, &'a mut Replace<'a>);
    impl VisitMut for Each<'_> {
        fn enter(&mut self, name: &str) {
            self.0.0.push(name.to_owned());
        }
        fn leave(&mut self) {
            self.0.0.pop();
        }
        fn param(&mut self, _: &str, _: &mut Param) -> Result<()> {
            Ok(())
        }
        fn weight(&mut self, name: &str, weight: &mut Arc<dyn Weight>) -> Result<()> {
            (self.1)(&self.0.to(name), weight).at(name)
        }
    }
    module.visit_mut(&mut Each(Path::default(), f))
}
