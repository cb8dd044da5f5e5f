//! Models to time: from a file, or a preset or config filled with random numbers, in the type that is asked for.
//!
//! How long a product takes does not depend on the numbers, as long as they are finite. So a matrix in blocks is filled
//! with copies of a few thousand blocks that were encoded once, and a model of any size is there as fast as memory can
//! be written, without 32-bit numbers beside it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use formwork::{
    At, Error, ModelConfig, Pool, Seed, Source, Transformer, Weight,
    kernels::{
        blocks::{self, Format},
        rng,
    },
    model::Outline,
    module::{Blocks, Given, Held, Init, Spec, held},
    presets,
    quant::{self, Quantised, Recipe, Role},
    recipes::{self, LoadOptions, Memory, StoredType, Weights},
};

use crate::{failure::Result, output::warn, subject};

/// The model that `name` stands for, its matrices in the type `weights`, or as they are.
pub(super) fn model(name: &str, weights: Option<StoredType>) -> Result<Transformer> {
    if has_weights(name) {
        return load(name, weights);
    }
    let config = subject::config(name)?;
    let source = Random::new(&config, weights.unwrap_or(StoredType::F32));
    fits(&config, &source)?;
    config.build(&source).map_err(|error| subject::located(name, &error))
}

/// Whether numbers stand under this name: not a preset, not a config by itself.
fn has_weights(name: &str) -> bool {
    let path = Path::new(name);
    let is_config = path.extension().is_some_and(|ending| ending == "json" || ending == "toml");
    let is_preset = presets::ALL.iter().any(|preset| preset.name == name);
    !is_preset && !is_config && path.exists()
}

fn load(name: &str, weights: Option<StoredType>) -> Result<Transformer> {
    let held_as = match weights {
        None => Weights::Usual,
        Some(StoredType::F32) => Weights::Dense,
        Some(StoredType::Format(_)) => Weights::Stored,
    };
    let load = |weights| recipes::load_as(name, &LoadOptions { weights, ..LoadOptions::default() });
    let mut loaded = load(held_as)?;
    if let Some(StoredType::Format(format)) = weights
        && main_type(&loaded.model) != format.name()
    {
        loaded = load(Weights::Dense)?;
        let recipe = Of::new(loaded.model.config(), format);
        quant::quantise(&mut loaded.model, &|path, shape| recipe.format(path, shape))?;
    }
    for note in &loaded.notes {
        warn(format_args!("{name}: {note}"));
    }
    Ok(loaded.model)
}

/// The type that most numbers of a model's matrices have in memory.
pub(super) fn main_type(model: &Transformer) -> &'static str {
    let mut counts: HashMap<&'static str, usize> = HashMap::new();
    for (_, held) in held(model) {
        if let [out, inp] = *held.shape() {
            *counts.entry(type_name(&held)).or_default() += out * inp;
        }
    }
    let most = counts.into_iter().max_by_key(|&(name, count)| (count, name));
    most.map_or("f32", |(name, _)| name)
}

/// Bytes that every written token reads: all that the model holds, but for tables that are only looked up.
pub(super) fn bytes_per_token(model: &Transformer) -> u64 {
    let is_read = |name: &str| match name {
        "embed.tokens.weight" => model.head.is_none(),
        name => !name.starts_with("embed.position."),
    };
    let bytes = |held: &Held| match held {
        Held::Blocks(blocks) => blocks.bytes().len() as u64,
        held => 4 * held.shape().iter().product::<usize>() as u64,
    };
    held(model).iter().filter(|(name, _)| is_read(name)).map(|(_, held)| bytes(held)).sum()
}

fn type_name(held: &Held) -> &'static str {
    match held {
        Held::Blocks(blocks) => blocks.format().name(),
        _ => "f32",
    }
}

/// Which format each parameter of a model gets, as `formwork convert` has it.
struct Of {
    recipe: Recipe,
    is_tied: bool,
}

impl Of {
    fn new(config: &ModelConfig, format: Format) -> Self {
        let is_tied = matches!(config.head, formwork::model::HeadConfig::Tied {});
        Self { recipe: Recipe::new(format), is_tied }
    }

    fn format(&self, path: &str, shape: [usize; 2]) -> Option<Format> {
        let role = match path {
            "embed.tokens.weight" if !self.is_tied => Role::Table,
            "embed.tokens.weight" | "head.weight" => Role::Head,
            path if path.starts_with("embed.") => Role::Positions,
            _ => Role::Matrix,
        };
        self.recipe.format(role, shape)
    }
}

/// Blocks by their format and the bits of the standard deviation.
type Samples = HashMap<(Format, u64), Arc<[u8]>>;

/// Random parameters, matrices in blocks where that is asked for.
struct Random {
    seed: Seed,
    of: Option<Of>,
    pool: Pool,
    /// Encoded once.
    samples: Mutex<Samples>,
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    fn new(config: &ModelConfig, weights: StoredType) -> Self {
        let of = match weights {
            StoredType::F32 => None,
            StoredType::Format(format) => Some(Of::new(config, format)),
        };
        let pool = Pool::new();
        Self { seed: Seed::new(1).pool(pool.clone()), of, pool, samples: Mutex::default() }
    }

    fn format(&self, path: &str, shape: &[usize]) -> Option<Format> {
        let [out, inp] = *shape else { return None };
        self.of.as_ref()?.format(path, [out, inp])
    }

    /// Blocks of normal numbers.
    fn sample(&self, format: Format, std: f64) -> formwork::Result<Arc<[u8]>> {
        /// A prime number of the largest blocks, so that the rows of a matrix are not all alike.
        const NUMBERS: usize = 509 * 256;
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = samples.get(&(format, std.to_bits())) {
            return Ok(sample.clone());
        }
        let mut numbers = vec![0.0_f32; NUMBERS];
        rng::fill_normal(1, std, &mut numbers);
        let mut bytes = vec![0; NUMBERS / format.block() * format.block_bytes()];
        blocks::encode(format, &numbers, &mut bytes);
        let sample: Arc<[u8]> = bytes.into();
        samples.insert((format, std.to_bits()), sample.clone());
        Ok(sample)
    }
}

impl Source for Random {
    fn param(&self, path: &str, spec: &Spec) -> formwork::Result<Given> {
        self.seed.param(path, spec)
    }

    fn weight(&self, path: &str, spec: &Spec) -> formwork::Result<Option<Arc<dyn Weight>>> {
        let (Some(format), &[out, inp]) = (self.format(path, &spec.shape), &*spec.shape) else {
            return Ok(None);
        };
        let std = match spec.init {
            Init::Normal { std } => std,
            _ => 0.02,
        };
        let row = format
            .row_bytes(inp)
            .ok_or_else(|| Error::missing(format_args!("whole blocks of {format}")))
            .at(path)?;
        let sample = self.sample(format, std)?;
        let mut bytes = Vec::with_capacity(out * row);
        while bytes.len() < out * row {
            bytes.extend_from_slice(&sample[..sample.len().min(out * row - bytes.len())]);
        }
        let weight = Quantised::new(Blocks::new(path, [out, inp], format, bytes)?).pool(self.pool.clone());
        Ok(Some(Arc::new(weight)))
    }
}

/// Refuses a model that memory cannot hold, before any is taken.
fn fits(config: &ModelConfig, source: &Random) -> Result<()> {
    let outline = Outline::of(&formwork::Builder::new(config.clone()))?;
    let bytes = outline.lines.iter().map(|line| {
        let numbers = line.shape.len() as u64;
        match source.format(&line.name, &line.shape) {
            Some(format) => numbers / format.block() as u64 * format.block_bytes() as u64,
            None => 4 * numbers,
        }
    });
    let hint = "choose a smaller model, or fewer bits with --weights";
    Ok(Memory::Available.holds(bytes.sum(), "weights", hint)?)
}

#[cfg(test)]
mod tests {
    use formwork::{Pass, Positions, TokenModel};

    use super::*;

    fn tiny() -> ModelConfig {
        let mut config = presets::smollm2_135m();
        (config.vocab, config.context, config.dim) = (97, 31, 576);
        config.blocks.truncate(1);
        config
    }

    #[test]
    fn random_blocks_have_the_type_and_give_finite_logits() {
        let check = |weights: &str, expected: &str, head: &str| {
            let config = tiny();
            let model =
                config.build(&Random::new(&config, weights.parse().expect("a type"))).expect("a small model");
            assert_eq!(main_type(&model), expected);
            assert_eq!(type_name(&held(&model)[0].1), head);
            let ids = ndarray::array![[3u32, 1, 4]];
            let logits = model.logits(ids.view(), Positions::Last, &mut Pass::infer()).expect("legal tokens");
            let logits = logits.to_vec::<f32>().expect("f32");
            assert!(
                logits.iter().all(|x| x.is_finite()) && logits.iter().any(|x| *x != logits[0]),
                "{logits:?}"
            );
        };
        check("f32", "f32", "f32");
        check("bf16", "bf16", "bf16");
        check("q8_0", "q8_0", "q8_0");
        // 576 numbers are no whole number of blocks of 256, so the head is not in 6 bits.
        check("q4_0", "q4_0", "q8_0");
    }

    #[test]
    fn a_token_reads_what_is_multiplied_and_no_table() {
        let bytes = |untied: bool| {
            let mut config = tiny();
            if untied {
                config.head = formwork::model::HeadConfig::Untied {};
            }
            bytes_per_token(&config.build(&Random::new(&config, StoredType::F32)).expect("a small model"))
        };
        assert_eq!(bytes(true), bytes(false));
        assert_eq!(bytes(false), 4 * (97 * 576 + 576 * (2 * 576 + 2 * 192 + 3 * 1536) + 3 * 576));
    }
}
