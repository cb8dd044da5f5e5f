//! RoPE settings in the metadata of GGUF, both ways.

use formwork_position::{
    FactorsScaling, LinearScaling, Llama3Scaling, Pairs, Ramp, RopeConfig, RopeScaling, YarnScaling,
};
use serde_json::Value;

use super::{THETA, theta};
use crate::{
    Error, Result,
    published::{
        Fields,
        field::{given, number, shown, text},
        own_size,
    },
};

/// The settings of a GGUF file; `context` is its context length.
pub(in super::super) fn read(
    metadata: &Fields,
    factors: Option<&[f32]>,
    head_dim: usize,
    context: usize,
) -> Result<RopeConfig> {
    let value = |key: &str, default: f64| {
        let key = format!("llama.rope.{key}");
        given(metadata, &key)
            .map_or(Ok(default), |value| number(&key, value, "a number of 0 or more", |x| x >= 0.0))
    };
    let base = match given(metadata, "llama.rope.freq_base") {
        Some(value) => theta("llama.rope.freq_base", value)?,
        None => THETA,
    };
    let plain = RopeConfig::new(base, Pairs::Interleaved);
    // 0 is none, here and in llama.cpp.
    let factor = Some(value("scaling.factor", value("scale_linear", 0.0)?)?).filter(|factor| *factor != 0.0);
    let factor = factor.unwrap_or(1.0);
    let (kind_key, attn_key) = ("llama.rope.scaling.type", "llama.rope.scaling.attn_factor");
    let kind = given(metadata, kind_key).map_or(Ok("linear"), |value| text(kind_key, value))?;
    if kind != "none" && factor < 1.0 {
        return Err(Error::invalid("llama.rope.scaling.factor", "a number of 1 or more", factor));
    }
    let attention = value("scaling.attn_factor", 1.0)?;
    if kind != "yarn" && attention != 1.0 {
        return Err(Error::invalid(attn_key, "1, as the scaling is not yarn", attention));
    }
    let scaling = match kind {
        "none" => None,
        "linear" => (factor != 1.0).then_some(RopeScaling::Linear(LinearScaling { factor })),
        "yarn" => {
            let original =
                own_size(metadata, "llama.rope.scaling.original_context_length")?.unwrap_or(context);
            let yarn = YarnScaling::new(factor, original);
            let beta_fast = value("scaling.yarn_beta_fast", yarn.beta_fast)?;
            let beta_slow = value("scaling.yarn_beta_slow", yarn.beta_slow)?;
            // What was converted from a folder says the factor itself; llama.cpp multiplies its own by another.
            let attention_factor = match (value("scaling.yarn_attn_factor", 1.0)?, attention) {
                (1.0, 1.0) => None,
                (1.0, times) => Some(snapped(times * paper_scale(factor))),
                (itself, _) => Some(itself),
            };
            let own = |name: &str| {
                let key = format!("formwork.rope.{name}");
                given(metadata, &key)
                    .map(|value| number(&key, value, "a number of 0 or more", |x| x >= 0.0))
                    .transpose()
            };
            let (mscale, mscale_all_dim) = (own("mscale")?, own("mscale_all_dim")?);
            let mut yarn = YarnScaling { beta_fast, beta_slow, mscale, mscale_all_dim, ..yarn };
            // The factor that the file says may be what these two come to, rounded.
            let both = RopeConfig { scaling: Some(RopeScaling::Yarn(yarn)), ..plain.clone() };
            let scale = both.spectrum(head_dim, 1)?.scale;
            yarn.attention_factor =
                attention_factor.filter(|factor| *factor as f32 != scale as f32 || mscale.is_none());
            Some(RopeScaling::Yarn(yarn))
        }
        other => {
            let error = Error::invalid(kind_key, "one of none, linear, yarn", shown(&other.into()));
            return Err(error);
        }
    };
    let Some(factors) = factors.filter(|factors| factors.iter().any(|factor| *factor != 1.0)) else {
        return Ok(RopeConfig { scaling, ..plain });
    };
    let factors: Vec<f64> = factors.iter().copied().map(f64::from).collect();
    check_factors(&factors, head_dim)?;
    if scaling.is_some() {
        let error =
            Error::invalid(kind_key, "none, as rope_freqs.weight scales already", shown(&kind.into()));
        return Err(error);
    }
    let scaling = match recognised(metadata, &plain, &factors, head_dim)? {
        Some(llama) => RopeScaling::Llama3(llama),
        None => RopeScaling::Factors(FactorsScaling { factors }),
    };
    Ok(RopeConfig { scaling: Some(scaling), ..plain })
}

fn check_factors(factors: &[f64], head_dim: usize) -> Result<()> {
    const NAME: &str = "rope_freqs.weight";
    if factors.len() != head_dim / 2 {
        let expected = format!("{} factors, half the head width {head_dim}", head_dim / 2);
        return Err(Error::invalid(NAME, expected, factors.len()));
    }
    match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
        Some(factor) => Err(Error::invalid(NAME, "factors above 0", factor)),
        None => Ok(()),
    }
}

/// YaRN's factor of cosines and sines, as the paper has it.
fn paper_scale(factor: f64) -> f64 {
    if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 }
}

/// A number that went through a quotient in f32, with 1 as 1.
fn snapped(x: f64) -> f64 {
    if (x - 1.0).abs() < 1e-6 { 1.0 } else { x }
}

/// The settings of LLaMA 3.1's scaling that give these factors, if any do.
fn recognised(
    metadata: &Fields,
    plain: &RopeConfig,
    factors: &[f64],
    head_dim: usize,
) -> Result<Option<Llama3Scaling>> {
    let own = |name: &str| {
        let key = format!("formwork.rope.{name}");
        given(metadata, &key).map(|value| number(&key, value, "a number above 0", |x| x > 0.0)).transpose()
    };
    let written = (
        own("factor")?,
        own("low_freq_factor")?,
        own("high_freq_factor")?,
        own_size(metadata, "formwork.rope.original_context")?,
    );
    let largest = factors.iter().copied().fold(1.0, f64::max);
    let published = |original_context| Llama3Scaling {
        factor: largest,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context,
    };
    let written = match written {
        (Some(factor), Some(low_freq_factor), Some(high_freq_factor), Some(original_context)) => {
            Some(Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context })
        }
        _ => None,
    };
    let gives = |llama: &Llama3Scaling| {
        let Ok(found) = factors_of(plain, RopeScaling::Llama3(*llama), head_dim) else { return false };
        // The files' factors were computed in f32, from frequencies in f32.
        found.iter().zip(factors).all(|(found, factor)| (found / factor - 1.0).abs() < 1e-5)
    };
    Ok(written.into_iter().chain([published(8192)]).find(gives))
}

/// What a scaling divides each pair's frequency by.
fn factors_of(plain: &RopeConfig, scaling: RopeScaling, head_dim: usize) -> Result<Vec<f64>> {
    let scaled = RopeConfig { scaling: Some(scaling), ..plain.clone() };
    let (from, to) = (plain.spectrum(head_dim, 1)?, scaled.spectrum(head_dim, 1)?);
    Ok(from.frequencies.iter().zip(&to.frequencies).map(|(from, to)| from / to).collect())
}

/// Writes the settings; gives the numbers of `rope_freqs.weight`, if there must be any.
pub(in super::super) fn write(
    rope: &RopeConfig,
    head_dim: usize,
    metadata: &mut Vec<(String, Value)>,
) -> Result<Option<Vec<f32>>> {
    let mut add = |key: &str, value: Value| metadata.push((key.to_owned(), value));
    add("llama.rope.freq_base", rope.theta.into());
    let plain = RopeConfig { scaling: None, ..rope.clone() };
    match &rope.scaling {
        None => Ok(None),
        Some(RopeScaling::Linear(LinearScaling { factor })) => {
            add("llama.rope.scaling.type", "linear".into());
            add("llama.rope.scaling.factor", (*factor).into());
            Ok(None)
        }
        Some(RopeScaling::Yarn(yarn)) => {
            if yarn.ramp == Ramp::Exact {
                let error =
                    Error::invalid("attn.position.scaling.ramp", "whole, as GGUF means yarn", "exact");
                return Err(error.hint("publish it as a folder"));
            }
            add("llama.rope.scaling.type", "yarn".into());
            add("llama.rope.scaling.factor", yarn.factor.into());
            add("llama.rope.scaling.original_context_length", yarn.original_context.into());
            let paper = YarnScaling::new(yarn.factor, yarn.original_context);
            if yarn.beta_fast != paper.beta_fast {
                add("llama.rope.scaling.yarn_beta_fast", yarn.beta_fast.into());
            }
            if yarn.beta_slow != paper.beta_slow {
                add("llama.rope.scaling.yarn_beta_slow", yarn.beta_slow.into());
            }
            for (key, value) in [("mscale", yarn.mscale), ("mscale_all_dim", yarn.mscale_all_dim)] {
                if let Some(value) = value {
                    add(&format!("formwork.rope.{key}"), value.into());
                }
            }
            let scale = rope.spectrum(head_dim, 1)?.scale;
            if yarn.attention_factor.is_some() || scale != paper_scale(yarn.factor) {
                add("llama.rope.scaling.yarn_attn_factor", scale.into());
                add("llama.rope.scaling.attn_factor", (scale / paper_scale(yarn.factor)).into());
            }
            Ok(None)
        }
        Some(RopeScaling::Llama3(llama)) => {
            add("formwork.rope.factor", llama.factor.into());
            add("formwork.rope.low_freq_factor", llama.low_freq_factor.into());
            add("formwork.rope.high_freq_factor", llama.high_freq_factor.into());
            add("formwork.rope.original_context", llama.original_context.into());
            let factors = factors_of(&plain, RopeScaling::Llama3(*llama), head_dim)?;
            Ok(Some(factors.into_iter().map(|factor| factor as f32).collect()))
        }
        Some(RopeScaling::Factors(FactorsScaling { factors })) => {
            Ok(Some(factors.iter().map(|factor| *factor as f32).collect()))
        }
        Some(RopeScaling::Dynamic(_)) => {
            let error = Error::invalid("attn.position.scaling", "a scaling that GGUF can say", "dynamic");
            Err(error.hint("publish it as a folder"))
        }
    }
}
