//! Building: a source and a path.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fmt::Display,
    rc::Rc,
    sync::Arc,
};

use crate::{At, Error, Init, Param, Result, Shape, Source, Spec, Weight, source::path_key};

/// A place in the module tree under construction. Children extend the path; parameters are asked of the source.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    source: &'a dyn Source,
    path: String,
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    slots: Cell<usize>,
    built: RefCell<Vec<String>>,
    /// The same, to look a name up.
    names: RefCell<HashSet<String>>,
}

impl Shared {
    fn note(&self, path: &str) {
        self.built.borrow_mut().push(path.to_owned());
        self.names.borrow_mut().insert(path.to_owned());
    }
}

/// A place in a model that needs a name of its own at run time: a cache slot, a tap, a stream of dropout masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The path, such as `blocks.3.attn`.
    pub path: Arc<str>,
    /// A number per path, the same in every build: the key of random streams.
    pub key: u64,
    /// A running number in building order: the slot in a cache.
    pub slot: usize,
}

impl<'a> Scope<'a> {
    /// The root of a tree whose parameters come from `source`.
    pub fn root(source: &'a dyn Source) -> Self {
        Self { source, path: String::new(), shared: Rc::default() }
    }

    /// The path of this place, empty at the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The place under this one.
    #[must_use]
    pub fn child(&self, name: impl Display) -> Self {
        Self { path: self.join(name), ..self.clone() }
    }

    fn join(&self, name: impl Display) -> String {
        match self.path.is_empty() {
            true => name.to_string(),
            false => format!("{}.{name}", self.path),
        }
    }

    /// An error of building here, with this place's path.
    pub fn locate(&self, error: Error) -> Error {
        match self.path.is_empty() {
            true => error,
            false => error.at(&self.path),
        }
    }

    /// A parameter of this place.
    ///
    /// # Errors
    /// A shape beyond six axes, a name built twice, or what the source refuses, with the path.
    pub fn param(&self, name: &str, dims: &[usize], init: Init) -> Result<Param> {
        let (path, spec) = self.wanted(name, dims, init)?;
        let given = self.source.param(&path, &spec).at(&path)?;
        if let Some(value) = &given.value
            && **value.shape() != *dims
        {
            return Err(Error::shape("source", spec.shape, value.shape()).at(&path));
        }
        self.shared.note(&path);
        Ok(Param::new(path, spec.shape, init, given.stored, given.value))
    }

    /// A matrix `[out, in]` of this place, in whatever layout the source holds it.
    ///
    /// # Errors
    /// Those of [`param`](Scope::param).
    pub fn weight(&self, name: &str, [out, inp]: [usize; 2], init: Init) -> Result<Arc<dyn Weight>> {
        let (path, spec) = self.wanted(name, &[out, inp], init)?;
        let Some(weight) = self.source.weight(&path, &spec).at(&path)? else {
            return Ok(Arc::new(self.param(name, &[out, inp], init)?));
        };
        if weight.shape() != [out, inp] {
            let found = format!("{:?}", weight.shape());
            return Err(Error::shape("source", spec.shape, found).at(&path));
        }
        self.shared.note(&path);
        Ok(weight)
    }

    fn wanted(&self, name: &str, dims: &[usize], init: Init) -> Result<(String, Spec)> {
        let path = self.join(name);
        let spec = Spec { shape: Shape::new(dims).at(&path)?, init };
        match self.shared.names.borrow().contains(&path) {
            true => Err(Error::invalid("parameter", "a name of its own", &path)
                .hint("give each child a different name")),
            false => Ok((path, spec)),
        }
    }

    /// An identity for this place; each call takes the next cache slot.
    pub fn site(&self) -> Site {
        let slot = self.shared.slots.get();
        self.shared.slots.set(slot + 1);
        Site { path: self.path.as_str().into(), key: path_key(&self.path), slot }
    }

    /// The paths of all parameters built so far under the same root, in order.
    pub fn built(&self) -> Vec<String> {
        self.shared.built.borrow().clone()
    }
}
