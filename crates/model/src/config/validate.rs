//! Whether the numbers of a config fit together, before anything is built.
//!
//! What a part can only know once it is built (where an encoding acts, how long its table is) the builder checks.

use formwork_attention::Settings;
use formwork_module::Dropout;

use crate::{At, Error, Result};

use super::{BlockConfig, FeedForwardConfig, ModelConfig, MultiHeadConfig, file::known_schema};

/// The most numbers a parameter may have: 64-bit ones must fit the address space.
const MAX_NUMBERS: usize = isize::MAX as usize / 8;

impl ModelConfig {
    /// Refuses a config that no model can be built from; building does this first.
    ///
    /// # Errors
    /// The first field, or pair of fields, that does not fit, with the values and what to do.
    pub fn validate(&self) -> Result<()> {
        known_schema(u64::from(self.schema))?;
        for (name, size) in [("vocab", self.vocab), ("context", self.context), ("dim", self.dim)] {
            positive(name, size)?;
        }
        // The highest id is the mark of a target that does not count.
        if self.vocab > u32::MAX as usize {
            return Err(Error::invalid(
                "vocab",
                format_args!("at most {}, as ids have 32 bits", u32::MAX),
                self.vocab,
            ));
        }
        fits(["vocab", "dim"], self.vocab, self.dim)?;
        fits(["context", "dim"], self.context, self.dim)?;
        rate(self.embed.dropout).at("embed")?;
        deviation("std", self.init.std).at("init")?;
        deviation("position_std", self.init.position_std.unwrap_or(0.0)).at("init")?;
        if self.blocks.is_empty() {
            return Err(Error::invalid("blocks", "at least one layer", "none"));
        }
        self.blocks.iter().enumerate().try_for_each(|(i, block)| self.block(block).at(i).at("blocks"))
    }

    fn block(&self, block: &BlockConfig) -> Result<()> {
        let Some(parts) = block.residual() else { return Ok(()) };
        rate(parts.dropout)?;
        if let Some(attn) = block.multi_head() {
            self.multi_head(attn).at("attn")?;
        }
        match &parts.ffn {
            FeedForwardConfig::Mlp(config) => self.hidden(config.hidden, config.dropout).at("ffn"),
            FeedForwardConfig::Gated(config) => self.hidden(config.hidden, config.dropout).at("ffn"),
            FeedForwardConfig::Custom(_) => Ok(()),
        }
    }

    fn hidden(&self, hidden: usize, dropout: f64) -> Result<()> {
        rate(dropout)?;
        positive("hidden", hidden)?;
        fits(["hidden", "dim"], hidden, self.dim)
    }

    fn multi_head(&self, attn: &MultiHeadConfig) -> Result<()> {
        rate(attn.dropout)?;
        let (heads, kv_heads, head_dim) = (attn.heads, attn.kv_heads, attn.head_dim);
        let sizes = Settings { kv_heads, head_dim, ..Settings::new(self.dim, heads) }.sizes()?;
        if sizes.head_dim > MAX_HEAD_DIM {
            let expected = format!("at most {MAX_HEAD_DIM}, far above every model");
            return Err(Error::invalid("head_dim", expected, sizes.head_dim));
        }
        fits(["heads · head_dim", "dim"], sizes.heads * sizes.head_dim, self.dim)
    }
}

/// The widest head that is taken. Rotary positions keep a table of its frequencies, before any weight is looked at.
const MAX_HEAD_DIM: usize = 1 << 14;

fn positive(name: &str, size: usize) -> Result<()> {
    if size == 0 {
        return Err(Error::invalid(name, "at least 1", size));
    }
    Ok(())
}

fn fits(names: [&str; 2], rows: usize, columns: usize) -> Result<()> {
    if rows.checked_mul(columns).is_none_or(|numbers| numbers > MAX_NUMBERS) {
        let [a, b] = names;
        let expected = format!("a product of at most {MAX_NUMBERS}, what an address can reach");
        return Err(Error::invalid(format_args!("{a}, {b}"), expected, format_args!("{rows} · {columns}")));
    }
    Ok(())
}

fn rate(dropout: f64) -> Result<()> {
    Dropout::new(dropout).map(|_| ())
}

fn deviation(name: &str, std: f64) -> Result<()> {
    if !std.is_finite() || std < 0.0 {
        return Err(Error::invalid(name, "a standard deviation of 0 or more", std));
    }
    Ok(())
}
