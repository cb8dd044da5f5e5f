//! AdamW over the flat memory of a run: one pass over parameters, gradients and moments.
//!
//! With `g` the scaled gradient and `k = 1, 2, …` the updates of a parameter so far:
//!
//! - `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`
//! - `p ← p (1 − lr · decay) − lr · m̂ / (√v̂ + eps)`, `m̂ = m / (1 − β₁ᵏ)`, `v̂ = v / (1 − β₂ᵏ)`
//!
//! Loshchilov & Hutter 2017, <https://arxiv.org/abs/1711.05101>. Which parameters decay, and by what factor their rate
//! differs, is a [`Group`] chosen by name and shape. A parameter that rightly got no gradient in a step (an expert that
//! nobody chose) is left as it is, its moments and its `k` too, as in PyTorch.
//!
//! ```
//! use formwork_module::{Init, Pass, Scope, Seed};
//! use formwork_train::{AdamW, AdamWConfig, Update, group_by_rank};
//!
//! let source = Seed::new(1);
//! let gain = Scope::root(&source).param("gain", &[3], Init::Constant(1.0))?;
//! let mut optimizer = AdamW::new(&[("gain".to_owned(), gain.clone())], AdamWConfig::default(), &group_by_rank)?;
//! let loss = Pass::train(1, 0).take(&gain)?.sum()?;
//! loss.backward()?;
//! drop(loss);
//! optimizer.update(Update { lr: 0.25, grad_scale: 1.0 })?;
//! assert_eq!(gain.value()?.to_vec::<f32>()?, [0.75; 3]); // the first step has length lr
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use formwork_kernels::adamw::{self, adamw};
use formwork_module::{DType, Error, Flat, Param, Pool, Result, Tensor};
use formwork_tensor::dispatch;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    moments::{Moment, Moments},
};

/// The numbers of AdamW. The default is that of the paper of Adam, without decay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// How much of the mean gradient is kept at each step.
    pub beta1: f64,
    /// How much of the mean squared gradient is kept at each step.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Decay per step, as a share of the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamWConfig {
    fn check(&self) -> Result<()> {
        let share = |what: &str, beta: f64| match (0.0..1.0).contains(&beta) {
            true => Ok(()),
            false => Err(Error::invalid(what, "a share in [0, 1)", beta)),
        };
        share("adamw.beta1", self.beta1)?;
        share("adamw.beta2", self.beta2)?;
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return Err(Error::invalid("adamw.eps", "a finite number above 0", self.eps));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err(Error::invalid(
                "adamw.weight_decay",
                "a finite number of at least 0",
                self.weight_decay,
            ));
        }
        Ok(())
    }
}

/// How a parameter differs from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Multiplies the config's decay: 0 for what must not decay.
    pub decay: f64,
    /// Multiplies the learning rate.
    pub lr_scale: f64,
}

/// The usual rule: matrices and tables decay, gains and biases do not.
pub fn group_by_rank(_: &str, param: &Param) -> Group {
    Group { decay: if param.shape().rank() >= 2 { 1.0 } else { 0.0 }, lr_scale: 1.0 }
}

/// What differs from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The learning rate.
    pub lr: f64,
    /// Every gradient is multiplied by this: for clipping, and for the mean over what was accumulated.
    pub grad_scale: f64,
}

/// AdamW with the memory of a run: parameters, gradients and moments.
pub struct AdamW {
    config: AdamWConfig,
    flat: Arc<Flat>,
    moments: Moments,
    /// In the order of the model.
    members: Vec<Member>,
    /// In the order of the memory, where a group stands in one piece.
    order: Vec<usize>,
    pool: Pool,
}

struct Member {
    name: String,
    param: Param,
    group: Group,
    range: Range<usize>,
    updates: u64,
}

/// Neighbours in memory that are treated alike.
struct Run {
    range: Range<usize>,
    group: Group,
    updates: u64,
}

impl Member {
    /// Whether this step changes it. The gradients of others are junk.
    fn is_active(&self) -> bool {
        self.param.is_trainable() && self.param.has_grad()
    }
}

impl AdamW {
    /// Moves named parameters into the memory of a run; a parameter given twice is taken once.
    ///
    /// # Errors
    /// A setting out of range (it is named), no parameter, one without numbers, or two types of numbers.
    pub fn new(
        params: &[(String, Param)],
        config: AdamWConfig,
        rule: &dyn Fn(&str, &Param) -> Group,
    ) -> Result<Self> {
        config.check()?;
        let mut members: Vec<Member> = Vec::with_capacity(params.len());
        for (name, param) in params {
            if param.shape().is_empty() || members.iter().any(|m| m.param.is(param)) {
                continue;
            }
            let group = rule(name, param);
            if [group.decay, group.lr_scale].iter().any(|v| !(v.is_finite() && *v >= 0.0)) {
                let expected = "finite factors of at least 0";
                return Err(Error::invalid("optimiser group", expected, format_args!("{group:?}")).at(name));
            }
            members.push(Member { name: name.clone(), param: param.clone(), group, range: 0..0, updates: 0 });
        }
        let mut groups: Vec<Group> = Vec::new();
        let ranks: Vec<usize> = members
            .iter()
            .map(|m| {
                groups.iter().position(|g| *g == m.group).unwrap_or_else(|| {
                    groups.push(m.group);
                    groups.len() - 1
                })
            })
            .collect();
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|&i| ranks[i]); // stable, so that a group keeps the model's order
        let mut end = 0;
        for &i in &order {
            let start = end;
            end += members[i].param.shape().len();
            members[i].range = start..end;
        }
        let ordered: Vec<Param> = order.iter().map(|&i| members[i].param.clone()).collect();
        let pool = match ordered.first() {
            Some(param) => param.value()?.pool().cloned().unwrap_or_default(),
            None => Pool::new(),
        };
        let flat = Flat::gather(&ordered, Some(&pool))?;
        // The parameters' own memory is free now, in sizes that no activation has: the pool need not keep it.
        pool.trim();
        let moments = Moments::zeros(flat.len(), flat.dtype(), &pool);
        Ok(Self { config, flat, moments, members, order, pool })
    }

    /// The pool of the run: parameters, moments and all that is computed from them.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How many numbers are trained.
    pub fn len(&self) -> usize {
        self.flat.len()
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.flat.is_empty()
    }

    /// The type of the numbers.
    pub fn dtype(&self) -> DType {
        self.flat.dtype()
    }

    /// Forgets every gradient, and what modules had excused.
    pub fn clear_grads(&self) {
        self.members.iter().for_each(|m| m.param.clear_grad());
    }

    /// Parameters that learn, got no gradient, and were not [skipped](formwork_module::Pass::skip) by their module.
    pub fn without_grad(&self) -> impl Iterator<Item = &str> {
        let lacks = |m: &&Member| m.param.is_trainable() && !m.param.has_grad() && !m.param.is_excused();
        self.members.iter().filter(lacks).map(|m| m.name.as_str())
    }

    /// The Euclidean length of all gradients together.
    ///
    /// # Errors
    /// Memory that a tensor still reads.
    pub fn grad_norm(&self) -> Result<f64> {
        let runs = self.runs();
        let square: f64 = dispatch!(self.dtype(), T => self.flat.update::<T, _>(|_, grads| {
            runs.iter().map(|run| adamw::sum_of_squares(&grads[run.range.clone()])).sum()
        }))?;
        Ok(square.sqrt())
    }

    /// The first parameter, in the order of the model, whose gradient is not finite.
    ///
    /// # Errors
    /// Memory that a tensor still reads.
    pub fn first_non_finite(&self) -> Result<Option<&str>> {
        // Asked for before the gradients are lent: a parameter looks under the same lock.
        let active: Vec<&Member> = self.members.iter().filter(|m| m.is_active()).collect();
        dispatch!(self.dtype(), T => self.flat.update::<T, _>(|_, grads| {
            let broken = |m: &&Member| !adamw::sum_of_squares(&grads[m.range.clone()]).is_finite();
            active.into_iter().find(broken).map(|m| m.name.as_str())
        }))
    }

    /// One step of all parameters that got a gradient.
    ///
    /// # Errors
    /// Memory that a tensor still reads; nothing has changed then.
    pub fn update(&mut self, update: Update) -> Result<()> {
        let (runs, config) = (self.runs(), self.config);
        let (flat, moments) = (&self.flat, &mut self.moments);
        dispatch!(flat.dtype(), T => flat.update::<T, _>(|values, grads| -> Result<()> {
            let all = moments.write::<T>()?;
            for run in runs {
                let rule = adamw::AdamW {
                    lr: update.lr * run.group.lr_scale,
                    beta1: config.beta1,
                    beta2: config.beta2,
                    eps: config.eps,
                    weight_decay: config.weight_decay * run.group.decay,
                    step: run.updates + 1,
                    grad_scale: update.grad_scale,
                };
                let range = run.range;
                let moments = adamw::Moments { m: &mut all.m[range.clone()], v: &mut all.v[range.clone()] };
                adamw(&rule, &mut values[range.clone()], &grads[range], moments);
            }
            Ok(())
        })?)?;
        self.members.iter_mut().filter(|m| m.is_active()).for_each(|m| m.updates += 1);
        Ok(())
    }

    /// The moments under their names.
    ///
    /// # Errors
    /// None for moments in host memory.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let names = Moment::ALL.iter().flat_map(|&which| self.members.iter().map(move |m| (which, m)));
        names
            .map(|(which, m)| {
                Ok((moment_name(which, m), self.moments.view(which, m.range.start, m.param.shape())?))
            })
            .collect()
    }

    /// How often each parameter has been changed.
    pub fn updates(&self) -> BTreeMap<String, u64> {
        self.members.iter().map(|m| (m.name.clone(), m.updates)).collect()
    }

    /// Takes back what [`tensors`](Self::tensors) and [`updates`](Self::updates) gave, or changes nothing.
    ///
    /// # Errors
    /// A moment or a count that is missing, too much, or of another shape or type.
    pub fn restore(&mut self, state: &State, updates: &BTreeMap<String, u64>) -> Result<()> {
        let known = |name: &str| self.members.iter().any(|m| m.name == name);
        if let Some(name) = updates.keys().find(|name| !known(name)) {
            return Err(unused(name));
        }
        let names: Vec<_> = Moment::ALL
            .iter()
            .flat_map(|&which| self.members.iter().map(move |m| moment_name(which, m)))
            .collect();
        if let Some((name, _)) = state.tensors.iter().find(|(name, _)| !names.contains(name)) {
            return Err(unused(name));
        }
        let counts = self.members.iter().map(|m| {
            let count = updates.get(&m.name).copied();
            count.ok_or_else(|| {
                Error::missing(format_args!("the count of updates of {} in the training state", m.name))
            })
        });
        let counts = counts.collect::<Result<Vec<_>>>()?;
        let places = Moment::ALL.iter().flat_map(|&which| self.members.iter().map(move |m| (which, m)));
        let places: Vec<_> = places.zip(&names).collect();
        let tensor =
            |m: &Member, name: &str| state.tensor(name, m.param.shape(), self.flat.dtype())?.compact();
        // All of them are looked at before the first is taken.
        let tensors = places.iter().map(|((_, m), name)| tensor(m, name)).collect::<Result<Vec<_>>>()?;
        for (((which, m), _), tensor) in places.iter().zip(&tensors) {
            dispatch!(tensor.dtype(), T => {
                self.moments.write_one::<T>(*which)?[m.range.clone()].copy_from_slice(tensor.slice::<T>()?);
            });
        }
        self.members.iter_mut().zip(counts).for_each(|(m, count)| m.updates = count);
        Ok(())
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for m in self.order.iter().map(|&i| &self.members[i]).filter(|m| m.is_active()) {
            match runs.last_mut() {
                Some(run)
                    if run.range.end == m.range.start && run.group == m.group && run.updates == m.updates =>
                {
                    run.range.end = m.range.end;
                }
                _ => runs.push(Run { range: m.range.clone(), group: m.group, updates: m.updates }),
            }
        }
        runs
    }
}

fn moment_name(which: Moment, member: &Member) -> String {
    format!("{}.{}", which.prefix(), member.name)
}

fn unused(name: &str) -> Error {
    Error::invalid("training state", "only what this trainer holds", format_args!("`{name}`"))
        .hint("the state belongs to another model, or to a run that trained other parameters")
}

impl fmt::Debug for AdamW {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdamW({} parameters, {:?}, {:?})", self.members.len(), self.flat, self.config)
    }
}
