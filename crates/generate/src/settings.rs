//! How to generate, as plain data: what the flags of a command line or a file of settings say.
//!
//! ```
//! use formwork_generate::Settings;
//! let settings = Settings { temperature: 0.8, top_k: Some(40), ..Settings::default() };
//! assert_eq!(settings.sampler()?.processors.len(), 2);
//!
//! let error = Settings { top_p: Some(1.5), ..Settings::default() }.sampler().unwrap_err();
//! assert_eq!(error.to_string(), "top_p: expected a share in (0, 1], found 1.5; leave it out to keep every token");
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{CacheType, Error, Precision, Result};
use serde::{Deserialize, Serialize};

use crate::{
    Allow, Ban, BanFirst, BanPhrases, Choice, FrequencyPenalty, MinP, MinTokens, NoRepeat, PresencePenalty,
    RepetitionPenalty, Request, Sampler, Temperature, TopK, TopP,
};

/// Every setting of the usual chain and of where a text ends. The default samples at temperature 1 from every token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Sharper below 1, flatter above; 0 is the limit: the likeliest token every time.
    pub temperature: f64,
    /// Draw from the so many likeliest tokens.
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that hold this share of the probability, in (0, 1].
    pub top_p: Option<f64>,
    /// Draw from tokens this many times as likely as the likeliest, in [0, 1].
    pub min_p: Option<f64>,
    /// A factor for tokens that the text has already, above 0; 1 is none.
    pub repetition_penalty: f64,
    /// Taken off the logit of tokens generated before; 0 is none.
    pub presence_penalty: f64,
    /// Taken off the logit of a token for each time that it was generated before; 0 is none.
    pub frequency_penalty: f64,
    /// So many tokens in a row never come twice.
    pub no_repeat_ngram: Option<usize>,
    /// Tokens never chosen.
    pub ban: Vec<u32>,
    /// Tokens never chosen right after a prompt.
    pub ban_first: Vec<u32>,
    /// Sequences of tokens never completed.
    pub ban_phrases: Vec<Vec<u32>>,
    /// The only tokens that may be chosen.
    pub allow: Option<Vec<u32>>,
    /// The same seed draws the same text.
    pub seed: u64,
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// No token of `end` before so many others.
    pub min_tokens: usize,
    /// Tokens that end a text.
    pub end: Vec<u32>,
    /// Strings that end a text.
    pub stop: Vec<String>,
    /// How keys and values are stored, for whoever makes the session: [`Session::cached_in`](crate::Session::cached_in).
    pub cache: CacheType,
    /// In which numbers products are computed; left out, [`precision`](Self::precision) says it.
    pub precision: Option<Precision>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram: None,
            ban: Vec::new(),
            ban_first: Vec::new(),
            ban_phrases: Vec::new(),
            allow: None,
            seed: 0,
            max_tokens: 128,
            min_tokens: 0,
            end: Vec::new(),
            stop: Vec::new(),
            cache: CacheType::F32,
            precision: None,
        }
    }
}

impl Settings {
    /// In which numbers products are computed, for whoever makes the session:
    /// [`Session::in_precision`](crate::Session::in_precision).
    ///
    /// Unless the field says otherwise it is [`Precision::Split`] where the likeliest token is wanted, which rounding
    /// activations to 8 bits may well change, and [`Precision::AsStored`] where tokens are drawn.
    pub fn precision(&self) -> Precision {
        let drawn = if self.temperature == 0.0 { Precision::Split } else { Precision::AsStored };
        self.precision.unwrap_or(drawn)
    }

    /// The chain: penalties, what is forbidden, temperature, top-k, top-p, min-p, then the choice; what changes nothing is
    /// left out.
    ///
    /// # Errors
    /// A number outside its range, with the field's name.
    pub fn sampler(&self) -> Result<Sampler> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::invalid("temperature", "a finite number of 0 or more", self.temperature));
        }
        let greedy = self.temperature == 0.0;
        let mut chain =
            Sampler::new(if greedy { Choice::Greedy } else { Choice::Sample { seed: self.seed } });
        if self.repetition_penalty != 1.0 {
            chain = chain.with(RepetitionPenalty::new(self.repetition_penalty)?);
        }
        if self.presence_penalty != 0.0 {
            chain = chain.with(PresencePenalty::new(self.presence_penalty)?);
        }
        if self.frequency_penalty != 0.0 {
            chain = chain.with(FrequencyPenalty::new(self.frequency_penalty)?);
        }
        if let Some(size) = self.no_repeat_ngram {
            chain = chain.with(NoRepeat::new(size)?);
        }
        if !self.ban_phrases.is_empty() {
            chain = chain.with(BanPhrases::new(&self.ban_phrases)?);
        }
        if self.min_tokens > 0 && !self.end.is_empty() {
            chain = chain.with(MinTokens::new(self.min_tokens, &self.end));
        }
        if let Some(ids) = &self.allow {
            chain = chain.with(Allow::new(ids)?);
        }
        if !self.ban.is_empty() {
            chain = chain.with(Ban::new(&self.ban));
        }
        if !self.ban_first.is_empty() {
            chain = chain.with(BanFirst::new(&self.ban_first));
        }
        if !(greedy || self.temperature == 1.0) {
            chain = chain.with(Temperature::new(self.temperature)?);
        }
        if let Some(k) = self.top_k {
            chain = chain.with(TopK::new(k)?);
        }
        if let Some(p) = self.top_p {
            chain = chain.with(TopP::new(p)?);
        }
        if let Some(p) = self.min_p {
            chain = chain.with(MinP::new(p)?);
        }
        Ok(chain)
    }

    /// The chain together with where a text ends.
    ///
    /// # Errors
    /// Those of [`sampler`](Self::sampler); an empty stop string.
    pub fn request(&self) -> Result<Request> {
        if let Some(at) = self.stop.iter().position(String::is_empty) {
            return Err(empty_stop(at));
        }
        let (end, stop) = (self.end.clone(), self.stop.clone());
        Ok(Request { sampler: self.sampler()?, max_tokens: self.max_tokens, end, stop })
    }
}

/// An empty string would end every text before it begins.
pub(crate) fn empty_stop(at: usize) -> Error {
    Error::invalid(format_args!("stop.{at}"), "a text", "an empty one")
        .hint("leave it out to stop at nothing")
}

#[cfg(test)]
mod tests {
    use formwork_module::config;

    use super::*;

    #[test]
    fn the_chain_has_its_documented_order() {
        let all = Settings {
            temperature: 0.7,
            top_k: Some(5),
            top_p: Some(0.9),
            min_p: Some(0.1),
            repetition_penalty: 1.2,
            presence_penalty: 0.3,
            frequency_penalty: 0.4,
            no_repeat_ngram: Some(3),
            ban: vec![3],
            ban_first: vec![1],
            ban_phrases: vec![vec![1, 2]],
            allow: Some(vec![1, 2]),
            min_tokens: 2,
            end: vec![0],
            seed: 9,
            ..Settings::default()
        };
        let chain = all.sampler().unwrap();
        let names: Vec<_> = chain.processors.iter().map(|p| format!("{p:?}")).collect();
        let order = "Repetition Presence Frequency NoRepeat BanPhrases MinTokens Allow Ban BanFirst Temperature \
                     TopK TopP MinP";
        assert_eq!(names.len(), order.split(' ').count());
        assert!(
            names.iter().zip(order.split(' ')).all(|(name, expected)| name.starts_with(expected)),
            "{names:?}"
        );
        assert_eq!(chain.choice, Choice::Sample { seed: 9 });
    }

    #[test]
    fn what_changes_nothing_is_left_out() {
        assert!(Settings::default().sampler().unwrap().processors.is_empty());
        let greedy = Settings { temperature: 0.0, ..Settings::default() }.sampler().unwrap();
        assert!(greedy.processors.is_empty() && greedy.choice == Choice::Greedy);
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let check = |change: &dyn Fn(&mut Settings), field: &str| {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.request().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{field}: expected ")), "{error}");
        };
        check(&|s| s.temperature = -1.0, "temperature");
        check(&|s| s.temperature = f64::NAN, "temperature");
        check(&|s| s.top_k = Some(0), "top_k");
        check(&|s| s.top_p = Some(0.0), "top_p");
        check(&|s| s.min_p = Some(2.0), "min_p");
        check(&|s| s.repetition_penalty = 0.0, "repetition_penalty");
        check(&|s| s.presence_penalty = f64::INFINITY, "presence_penalty");
        check(&|s| s.frequency_penalty = f64::NAN, "frequency_penalty");
        check(&|s| s.no_repeat_ngram = Some(0), "no_repeat_ngram");
        check(&|s| s.ban_phrases = vec![vec![1], vec![]], "ban_phrases.1");
        check(&|s| s.allow = Some(vec![]), "allow");
        check(&|s| s.stop = vec!["a".into(), String::new()], "stop.1");
    }

    #[test]
    fn the_likeliest_token_is_that_of_the_exact_activations_unless_told_otherwise() {
        let of =
            |temperature, precision| Settings { temperature, precision, ..Settings::default() }.precision();
        assert_eq!([of(0.0, None), of(1.0, None)], [Precision::Split, Precision::AsStored]);
        let told = Some(Precision::Full);
        assert_eq!([of(0.0, told), of(1.0, told)], [Precision::Full; 2]);
    }

    #[test]
    fn settings_are_read_as_they_are_written_and_unknown_fields_refused() {
        let (stop, cache, precision) = (vec!["\n".into()], CacheType::Q8_0, Some(Precision::AsStored));
        let settings = Settings { top_p: Some(0.9), stop, cache, precision, ..Settings::default() };
        let json = serde_json::to_value(&settings).unwrap();
        assert_eq!((&json["cache"], &json["precision"]), (&"q8_0".into(), &"as_stored".into()));
        assert_eq!(config::read::<Settings>(json).unwrap(), settings);
        let few = config::read::<Settings>(serde_json::json!({"top_k": 7})).unwrap();
        assert_eq!(few, Settings { top_k: Some(7), ..Settings::default() });
        let error = config::read::<Settings>(serde_json::json!({"topk": 7})).unwrap_err().to_string();
        assert!(
            error.starts_with("topk: expected one of the fields") && error.ends_with("did you mean `top_k`?"),
            "{error}"
        );
        let error = config::read::<Settings>(serde_json::json!({"cache": "bf8"})).unwrap_err().to_string();
        assert_eq!(error, "cache: expected one of f32, bf16, q8_0, found `bf8`; did you mean `bf16`?");
    }
}
