//! The reverse pass: which op made a tensor, and how gradients travel back.
//!
//! The order is the post-order of the graph read backwards, so it depends on the graph alone and needs no global counter.
//! The first contribution to a gradient is stored, later ones are added: nothing is zeroed.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use formwork_kernels::Write;

use crate::{Buffer, DType, Error, Kind, Op, Outputs, Pool, Result, Saved, Scalar, Shape, Tensor, dispatch};

/// Where a tensor came from.
#[derive(Clone)]
pub(crate) enum History {
    Op(Arc<Node>, usize),
    Leaf(Arc<dyn Leaf>),
    /// Input `i` of the node whose backward is replaying a part of the graph.
    Boundary(usize),
}

/// Something that gathers a gradient: a parameter, or a [`Variable`](crate::Variable).
pub trait Leaf: Send + Sync {
    /// Lends the row-major gradient once, and says how the contribution meets it.
    fn grad(&self, give: &mut dyn FnMut(Destination<'_>, Write));
}

/// A gradient to be written, row-major in its tensor's shape.
#[derive(Debug)]
#[non_exhaustive]
pub enum Destination<'a> {
    /// 32-bit numbers.
    F32(&'a mut [f32]),
    /// 64-bit numbers.
    F64(&'a mut [f64]),
}

struct Input {
    history: Option<History>,
    shape: Shape,
    dtype: DType,
}

pub(crate) struct Node {
    op: Box<dyn Op>,
    /// Taken by the reverse pass, so that memory is freed while it runs.
    saved: Mutex<Option<Saved>>,
    inputs: Vec<Input>,
    outputs: Vec<(Shape, DType)>,
    pool: Option<Pool>,
}

/// A long chain of nodes is taken apart in a loop: dropping it by recursion would run out of stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut chain: Vec<Input> = std::mem::take(&mut self.inputs);
        while let Some(input) = chain.pop() {
            if let Some(History::Op(node, _)) = input.history
                && let Some(mut node) = Arc::into_inner(node)
            {
                chain.append(&mut node.inputs);
            }
        }
    }
}

pub(crate) fn record(op: Box<dyn Op>, inputs: &[&Tensor], mut outputs: Outputs, saved: Saved) -> Outputs {
    let inputs = inputs
        .iter()
        .map(|t| Input { history: t.history.clone(), shape: *t.shape(), dtype: t.dtype() })
        .collect();
    let pool = outputs.first().and_then(|t| t.pool().cloned());
    let shapes = outputs.iter().map(|t| (*t.shape(), t.dtype())).collect();
    let node = Arc::new(Node { op, saved: Mutex::new(Some(saved)), inputs, outputs: shapes, pool });
    for (i, output) in outputs.iter_mut().enumerate() {
        output.history = Some(History::Op(node.clone(), i));
    }
    outputs
}

/// Where an op's backward sends the gradients of its inputs.
pub struct GradSink<'a> {
    op: &'static str,
    inputs: &'a [Input],
    slots: &'a mut dyn Slots,
}

trait Slots {
    fn give(&mut self, to: &History, of: &Input, f: &mut dyn FnMut(Destination<'_>, Write));
    /// Takes a whole row-major gradient as the first contribution, without copying it; `false` where it cannot.
    fn take(&mut self, to: &History, grad: &Tensor) -> bool;
}

impl GradSink<'_> {
    /// Whether input `i` needs a gradient; where it does not, computing one is a waste.
    pub fn wants(&self, i: usize) -> bool {
        self.inputs.get(i).is_some_and(|input| input.history.is_some())
    }

    /// The shape of input `i`, so that an op need not save a tensor for its shape alone.
    ///
    /// # Errors
    /// An input that does not exist.
    pub fn shape(&self, i: usize) -> Result<Shape> {
        Ok(self.input(i)?.shape)
    }

    fn input(&self, i: usize) -> Result<&Input> {
        let found = self.inputs.get(i);
        found.ok_or_else(|| {
            Error::invalid(
                self.op,
                format_args!("one of {} inputs", self.inputs.len()),
                format_args!("input {i}"),
            )
        })
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The gradient of output `i`, which an op with one output always has.
    ///
    /// # Errors
    /// No gradient there.
    pub fn grad<'t>(&self, grads: &[Option<&'t Tensor>], i: usize) -> Result<&'t Tensor> {
        let grad = grads.get(i).copied().flatten();
        grad.ok_or_else(|| Error::missing(format_args!("the gradient of output {i} of {}", self.op)))
    }

    /// Lends the destination of input `i`'s gradient, row-major, if one is wanted.
    ///
    /// With [`Write::Store`] it holds junk, so every element must be written.
    ///
    /// # Errors
    /// Another type of numbers than the input's, an input that does not exist, or a leaf that lends no memory of
    /// the input's size.
    pub fn give<T: Scalar>(&mut self, i: usize, f: impl FnOnce(&mut [T], Write)) -> Result<()> {
        self.input(i)?;
        let input = &self.inputs[i];
        let Some(history) = &input.history else { return Ok(()) };
        if input.dtype != T::DTYPE {
            return Err(Kind::DType { op: self.op, expected: input.dtype, found: T::DTYPE }.into());
        }
        let mut once = Some(f);
        self.slots.give(history, input, &mut |destination, write| {
            let fits = T::slice(destination).filter(|slice| slice.len() == input.shape.len());
            if let Some((slice, f)) = fits.and_then(|slice| Some((slice, once.take()?))) {
                f(slice, write);
            }
        });
        match once {
            None => Ok(()),
            // Or the gradient would be lost without a word.
            Some(_) => {
                Err(Error::missing(format_args!("memory for a gradient {} of {}", input.shape, T::DTYPE)))
            }
        }
    }

    /// Adds a whole tensor of input `i`'s shape to its gradient.
    ///
    /// As the first contribution to the output of another op it is shared, not copied, so an op that computes a gradient
    /// beside others hands it over at no cost; whoever still holds it keeps its numbers.
    ///
    /// # Errors
    /// Another shape or type of numbers than the input's.
    pub fn add(&mut self, i: usize, grad: &Tensor) -> Result<()> {
        let shape = self.shape(i)?;
        if *grad.shape() != shape {
            return Err(Error::shape(self.op, format_args!("a gradient {shape}"), grad.shape()));
        }
        let Some(history) = &self.inputs[i].history else { return Ok(()) };
        let grad = grad.compact()?;
        if grad.dtype() == self.inputs[i].dtype && self.slots.take(history, &grad) {
            return Ok(());
        }
        dispatch!(grad.dtype(), T => {
            let grad = grad.slice::<T>()?;
            self.give::<T>(i, |to, write| put(to, grad, write))
        })
    }

    /// `tensor` as input `i` of a part of the graph that is about to be replayed: its gradients arrive here.
    ///
    /// With [`replay`](Self::replay), what an op needs that keeps its inputs alone and computes the rest again in its
    /// backward.
    pub fn boundary(&self, i: usize, tensor: &Tensor) -> Tensor {
        let mut tensor = tensor.detached();
        tensor.history = self.wants(i).then_some(History::Boundary(i));
        tensor
    }

    /// Runs the reverse pass of a replayed part, from `(output, gradient)` pairs, straight into this sink:
    /// adding up elsewhere first would change bits.
    ///
    /// # Errors
    /// Those of the ops' backward.
    pub fn replay(&mut self, roots: &[(&Tensor, &Tensor)]) -> Result<()> {
        reverse(roots, Some(self))
    }
}

impl fmt::Debug for GradSink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GradSink({}, {} inputs)", self.op, self.inputs.len())
    }
}

fn put<T: Scalar>(to: &mut [T], from: &[T], write: Write) {
    crate::ops::map(to, write, from, |v| v);
}

struct Walk<'a, 'b> {
    /// The gradients of each node's outputs so far; others may hold one of them as well.
    slots: HashMap<*const Node, Vec<Option<Tensor>>>,
    outer: Option<&'a mut GradSink<'b>>,
}

impl Slots for Walk<'_, '_> {
    fn give(&mut self, to: &History, of: &Input, f: &mut dyn FnMut(Destination<'_>, Write)) {
        match to {
            History::Leaf(leaf) => leaf.grad(f),
            History::Boundary(i) => {
                let outer = self.outer.as_mut().expect("a boundary is only made inside a replay");
                let input = &outer.inputs[*i];
                let history = input.history.as_ref().expect("a boundary is only made for a wanted input");
                outer.slots.give(history, input, f);
            }
            History::Op(node, output) => {
                let slots = self.slots.entry(Arc::as_ptr(node)).or_default();
                slots.resize_with(node.outputs.len(), || None);
                let slot = &mut slots[*output];
                let write = if slot.is_some() { Write::Add } else { Write::Store };
                dispatch!(of.dtype, T => {
                    let grad = match slot.take() {
                        None => Tensor::from_buffer(Buffer::<T>::new(of.shape.len(), node.pool.as_ref()), &of.shape),
                        Some(grad) => owned::<T>(grad, node.pool.as_ref()),
                    };
                    // Nothing is lent where this fails, which the sink reports.
                    let Ok(mut grad) = grad else { return };
                    if let Ok(Some(numbers)) = grad.unique_mut::<T>() {
                        f(T::destination(numbers), write);
                    }
                    *slot = Some(grad);
                });
            }
        }
    }

    fn take(&mut self, to: &History, grad: &Tensor) -> bool {
        match to {
            History::Leaf(_) => false,
            History::Boundary(i) => {
                let outer = self.outer.as_mut().expect("a boundary is only made inside a replay");
                let history =
                    outer.inputs[*i].history.as_ref().expect("a boundary is only made for a wanted input");
                outer.slots.take(history, grad)
            }
            History::Op(node, output) => {
                let slots = self.slots.entry(Arc::as_ptr(node)).or_default();
                slots.resize_with(node.outputs.len(), || None);
                let free = slots[*output].is_none();
                if free {
                    slots[*output] = Some(grad.detached());
                }
                free
            }
        }
    }
}

/// The gradient, in memory that nobody else holds.
fn owned<T: Scalar>(mut grad: Tensor, pool: Option<&Pool>) -> Result<Tensor> {
    if grad.unique_mut::<T>()?.is_some() {
        return Ok(grad);
    }
    let mut copy = Buffer::<T>::new(grad.len(), pool);
    put(&mut copy, grad.slice::<T>()?, Write::Store);
    Tensor::from_buffer(copy, grad.shape())
}

/// Walks back from `(output, gradient)` pairs; gradients for boundaries go to `outer`.
pub(crate) fn reverse(roots: &[(&Tensor, &Tensor)], outer: Option<&mut GradSink<'_>>) -> Result<()> {
    let mut walk = Walk { slots: HashMap::new(), outer };
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for (output, _) in roots {
        if let Some(History::Op(node, _)) = &output.history {
            post_order(node, &mut seen, &mut order);
        }
    }
    // Refused before anything is written: half a pass would leave gradients that nobody can tell from whole ones.
    for node in &order {
        if node.saved.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Err(spent(node));
        }
    }
    for (output, grad) in roots {
        if output.is_tracked() {
            let root =
                Input { history: output.history.clone(), shape: *output.shape(), dtype: output.dtype() };
            GradSink { op: "backward", inputs: &[root], slots: &mut walk }.add(0, grad)?;
        }
    }
    while let Some(node) = order.pop() {
        let Some(grads) = walk.slots.remove(&Arc::as_ptr(&node)) else { continue };
        let grads: Vec<_> = grads.iter().map(Option::as_ref).collect();
        let saved = node.saved.lock().unwrap_or_else(PoisonError::into_inner).take();
        let saved = saved.ok_or_else(|| spent(&node))?;
        let mut sink = GradSink { op: node.op.name(), inputs: &node.inputs, slots: &mut walk };
        node.op.backward(&saved, &grads, &mut sink)?;
    }
    Ok(())
}

fn spent(node: &Node) -> Error {
    Error::missing(format_args!("the saved tensors of {}", node.op.name()))
        .hint("backward ran before on this graph and freed them; compute the loss again")
}

/// Appends to `order` every node under `root` not seen before, each after all that it depends on.
fn post_order(root: &Arc<Node>, seen: &mut HashSet<*const Node>, order: &mut Vec<Arc<Node>>) {
    if !seen.insert(Arc::as_ptr(root)) {
        return;
    }
    let mut stack = vec![(root.clone(), 0)];
    while let Some((node, next)) = stack.pop() {
        let Some(input) = node.inputs.get(next) else {
            order.push(node);
            continue;
        };
        let deeper = match &input.history {
            Some(History::Op(inner, _)) if seen.insert(Arc::as_ptr(inner)) => Some((inner.clone(), 0)),
            _ => None,
        };
        stack.push((node, next + 1));
        stack.extend(deeper);
    }
}
