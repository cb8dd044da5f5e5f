//! RoPE settings in `config.json`, both ways.

use formwork_position::{
    DynamicScaling, LinearScaling, Llama3Scaling, Pairs, Ramp, RopeConfig, RopeScaling, YarnScaling,
};
use serde_json::{Value, json};

use super::{THETA, theta};
use crate::{
    At, Error, Result,
    published::{
        Fields,
        field::{MAX_SIZE, flag, given, number, shown, size, text},
        noted, shortened,
    },
};

const ORIGINAL: &str = "original_max_position_embeddings";

/// The settings and the model's context, `context` being `max_position_embeddings`.
pub(in super::super) fn read(
    fields: &Fields,
    context: usize,
    notes: &mut Vec<String>,
) -> Result<(RopeConfig, usize)> {
    let table = |name: &'static str| match given(fields, name) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok((!map.is_empty()).then_some((name, map))),
        Some(other) => Err(Error::invalid(name, "an object", shown(other))),
    };
    let (name, settings) = match (table("rope_scaling")?, table("rope_parameters")?) {
        (Some(old), Some(new)) => {
            if old.1 != new.1 {
                noted(notes, || {
                    "config.json: rope_scaling counts, rope_parameters says something else".to_owned()
                });
            }
            old
        }
        (old, new) => match old.or(new) {
            Some(table) => table,
            None => ("rope_parameters", &Fields::new()),
        },
    };
    let theta = match (given(settings, "rope_theta"), given(fields, "rope_theta")) {
        (Some(inner), outer) => {
            if outer.is_some_and(|outer| outer.as_f64() != inner.as_f64()) {
                noted(notes, || {
                    format!("config.json: {name}.rope_theta counts, rope_theta says something else")
                });
            }
            theta("rope_theta", inner).at(name)?
        }
        (None, Some(outer)) => theta("rope_theta", outer)?,
        (None, None) => THETA,
    };
    let mut settings = Settings { name, settings, outer: fields, used: vec!["rope_theta"] };
    let (scaling, context) = settings.scaling(context).at(name)?;
    settings.note_the_rest(notes)?;
    Ok((RopeConfig { scaling, ..RopeConfig::new(theta, Pairs::Halves) }, context))
}

/// The fields of one table, and which of them were looked at.
struct Settings<'a> {
    name: &'static str,
    settings: &'a Fields,
    /// The file around it.
    outer: &'a Fields,
    used: Vec<&'static str>,
}

impl<'a> Settings<'a> {
    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.used.push(name);
        given(self.settings, name)
    }

    fn positive(&mut self, name: &'static str) -> Result<Option<f64>> {
        self.get(name).map(|value| number(name, value, "a number above 0", |x| x > 0.0)).transpose()
    }

    fn required(&mut self, name: &'static str) -> Result<f64> {
        self.positive(name)?.ok_or_else(|| Error::missing(format_args!("the field {name}")))
    }

    fn factor(&mut self) -> Result<f64> {
        let value = self.get("factor").ok_or_else(|| Error::missing("the field factor"))?;
        number("factor", value, "a number of 1 or more", |x| x >= 1.0)
    }

    /// The context of the training before. Beside the table it counts more than in it, as in the reference.
    fn original(&mut self, context: usize) -> Result<usize> {
        let inner = self.get(ORIGINAL);
        let found = given(self.outer, ORIGINAL).or(inner);
        found.map_or(Ok(context), |value| size(ORIGINAL, value, MAX_SIZE))
    }

    /// The scaling, and the model's context.
    fn scaling(&mut self, context: usize) -> Result<(Option<RopeScaling>, usize)> {
        const KINDS: &str = "one of default, linear, dynamic, yarn, llama3";
        let (new, old) = (self.get("rope_type"), self.get("type"));
        let (name, kind) = match (new, old) {
            (Some(kind), _) => ("rope_type", kind),
            (None, Some(kind)) => ("type", kind),
            (None, None) => ("rope_type", &Value::from("default")),
        };
        if let Some(part) = self.get("partial_rotary_factor").filter(|part| part.as_f64() != Some(1.0)) {
            let error = Error::invalid("partial_rotary_factor", 1, shown(part));
            return Err(error.hint("LLaMA turns whole heads"));
        }
        let mut reach = context;
        let scaling = match text(name, kind)? {
            "default" => None,
            "linear" => Some(RopeScaling::Linear(LinearScaling { factor: self.factor()? })),
            "dynamic" => {
                let factor = self.factor()?;
                reach = reach_of(factor, context);
                Some(RopeScaling::Dynamic(DynamicScaling { factor, original_context: context }))
            }
            "yarn" => Some(RopeScaling::Yarn(self.yarn(context)?)),
            "llama3" => Some(RopeScaling::Llama3(self.llama3(context)?)),
            _ => return Err(Error::invalid(name, KINDS, shown(kind))),
        };
        Ok((scaling, reach))
    }

    /// Notes the fields that nothing has read; refuses tables in the table, which are of models whose layers differ.
    fn note_the_rest(&self, notes: &mut Vec<String>) -> Result<()> {
        for (name, value) in self.settings.iter().filter(|(name, _)| !self.used.contains(&name.as_str())) {
            if value.is_object() {
                let error = Error::invalid(shortened(name), "a number or a name", shown(value)).at(self.name);
                return Err(error.hint("settings that differ between layers are not supported"));
            }
            let table = self.name;
            noted(notes, || format!("config.json: field {table}.{} is not known; ignored", shortened(name)));
        }
        Ok(())
    }

    fn yarn(&mut self, context: usize) -> Result<YarnScaling> {
        let original_context = self.original(context)?;
        // A factor of null is what the two contexts say.
        let is_null = self.settings.get("factor").is_some_and(Value::is_null);
        let factor = match is_null {
            true => (context as f64 / original_context as f64).max(1.0),
            false => self.factor()?,
        };
        self.used.push("factor");
        // 0 is no setting to the reference implementation.
        let mut beta = |name, default| {
            let found = self.get(name).filter(|value| value.as_f64() != Some(0.0));
            found.map_or(Ok(default), |value| number(name, value, "a number above 0", |x| x > 0.0))
        };
        let plain = YarnScaling::new(factor, original_context);
        let (beta_fast, beta_slow) =
            (beta("beta_fast", plain.beta_fast)?, beta("beta_slow", plain.beta_slow)?);
        if beta_fast < beta_slow {
            return Err(Error::invalid(
                "beta_fast",
                format_args!("at least beta_slow {beta_slow}"),
                beta_fast,
            ));
        }
        let mut scale = |name| {
            let found = self.get(name);
            found.map(|value| number(name, value, "a number of 0 or more", |x| x >= 0.0)).transpose()
        };
        let (mscale, mscale_all_dim) = (scale("mscale")?, scale("mscale_all_dim")?);
        let attention_factor = self.positive("attention_factor")?;
        let is_whole = self.get("truncate").map_or(Ok(true), |value| flag("truncate", value))?;
        let ramp = if is_whole { Ramp::Whole } else { Ramp::Exact };
        Ok(YarnScaling { beta_fast, beta_slow, attention_factor, mscale, mscale_all_dim, ramp, ..plain })
    }

    fn llama3(&mut self, context: usize) -> Result<Llama3Scaling> {
        let (factor, original_context) = (self.factor()?, self.original(context)?);
        let low_freq_factor = self.required("low_freq_factor")?;
        let high_freq_factor = self.required("high_freq_factor")?;
        if high_freq_factor <= low_freq_factor {
            let expected = format!("above low_freq_factor {low_freq_factor}");
            return Err(Error::invalid("high_freq_factor", expected, high_freq_factor));
        }
        Ok(Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context })
    }
}

/// How far dynamic scaling is meant to reach.
fn reach_of(factor: f64, original: usize) -> usize {
    ((factor * original as f64) as usize).clamp(original, MAX_SIZE.max(original))
}

/// Writes the settings as transformers 5 does; gives `max_position_embeddings`.
pub(in super::super) fn write(rope: &RopeConfig, context: usize, fields: &mut Fields) -> Result<usize> {
    if rope.pairs == Pairs::Interleaved {
        let error = Error::invalid("attn.position.pairs", "halves, as config.json means them", "interleaved");
        return Err(error.hint("load the model with its pairs in halves, published::with_pairs"));
    }
    let mut original = context;
    let mut settings = match &rope.scaling {
        None => json!({"rope_type": "default"}),
        Some(RopeScaling::Linear(LinearScaling { factor })) => {
            json!({"rope_type": "linear", "factor": factor})
        }
        Some(RopeScaling::Dynamic(DynamicScaling { factor, original_context })) => {
            original = *original_context;
            let reach = reach_of(*factor, original);
            if context != reach {
                let expected = format!("{reach}, as far as a factor of {factor} reaches from {original}");
                return Err(Error::invalid("context", expected, context));
            }
            json!({"rope_type": "dynamic", "factor": factor})
        }
        Some(RopeScaling::Yarn(yarn)) => yarn_json(yarn),
        Some(RopeScaling::Llama3(llama)) => json!({
            "rope_type": "llama3", "factor": llama.factor, "low_freq_factor": llama.low_freq_factor,
            "high_freq_factor": llama.high_freq_factor,
            ORIGINAL: llama.original_context,
        }),
        Some(RopeScaling::Factors(_)) => {
            let expected = "a scaling that config.json can say";
            let error = Error::invalid("attn.position.scaling", expected, "factors of unknown origin");
            return Err(error.hint("keep the model in GGUF, or in formwork's own layout"));
        }
    };
    settings["rope_theta"] = rope.theta.into();
    fields.insert("rope_parameters".to_owned(), settings);
    Ok(original)
}

fn yarn_json(yarn: &YarnScaling) -> Value {
    let plain = YarnScaling::new(yarn.factor, yarn.original_context);
    let mut settings = json!({
        "rope_type": "yarn", "factor": yarn.factor, ORIGINAL: yarn.original_context,
    });
    let optional = [
        ("beta_fast", Some(yarn.beta_fast).filter(|beta| *beta != plain.beta_fast)),
        ("beta_slow", Some(yarn.beta_slow).filter(|beta| *beta != plain.beta_slow)),
        ("attention_factor", yarn.attention_factor),
        ("mscale", yarn.mscale),
        ("mscale_all_dim", yarn.mscale_all_dim),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            settings[name] = value.into();
        }
    }
    if yarn.ramp == Ramp::Exact {
        settings["truncate"] = false.into();
    }
    settings
}
