//! The settings of generation: what the command line says, over what the model's folder says.

use clap::{Arg, ArgAction, ArgMatches, builder::PossibleValuesParser, value_parser};
use formwork::{
    generate::Settings,
    module::{CacheType, Precision},
};

use crate::failure::{Failure, Result};

/// The flags that choose how tokens are drawn. One of them is enough for the model's own choice not to count.
const SAMPLING: [&str; 6] = ["greedy", "temperature", "top-k", "top-p", "min-p", "repetition-penalty"];

/// The flags.
pub(crate) fn args() -> Vec<Arg> {
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("X")
            .value_parser(value_parser!(f64))
            .allow_negative_numbers(true)
            .help(help)
    };
    vec![
        Arg::new("max-tokens")
            .long("max-tokens")
            .value_name("N")
            .value_parser(value_parser!(usize))
            .help("The most new tokens of a text [default: 128; 512 of an answer in a chat]"),
        Arg::new("greedy")
            .long("greedy")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["temperature", "top-k", "top-p", "min-p"])
            .help("The likeliest token every time"),
        number("temperature", "Sharper below 1, flatter above; 0 is greedy"),
        Arg::new("top-k")
            .long("top-k")
            .value_name("K")
            .value_parser(value_parser!(usize))
            .help("Draw from the K likeliest tokens"),
        number("top-p", "Draw from the likeliest tokens that hold this share of the probability"),
        number("min-p", "Draw from tokens at least this many times as likely as the likeliest"),
        number("repetition-penalty", "A factor against tokens that the text has already; 1 is none"),
        Arg::new("seed")
            .long("seed")
            .value_name("S")
            .value_parser(value_parser!(u64))
            .help("The same seed draws the same text [default: 0]"),
        Arg::new("stop")
            .long("stop")
            .value_name("TEXT")
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .help("End before this text; may be given several times"),
        Arg::new("ignore-eos")
            .long("ignore-eos")
            .action(ArgAction::SetTrue)
            .help("Go on past a token that ends a text"),
        cache_arg(),
        precision_arg("split where temperature is 0, else as_stored"),
    ]
}

/// The option `--cache-type`.
pub(crate) fn cache_arg() -> Arg {
    Arg::new("cache-type")
        .long("cache-type")
        .value_name("TYPE")
        .value_parser(PossibleValuesParser::new(CacheType::ALL.map(CacheType::name)))
        .help(
            "How keys and values are stored: bf16 takes half the memory, q8_0 about a quarter [default: f32]",
        )
}

/// What `--cache-type` says.
pub(crate) fn cache_type(matches: &ArgMatches) -> Option<CacheType> {
    matches.get_one::<String>("cache-type").and_then(|word| CacheType::from_name(word))
}

/// The option `--precision`.
pub(crate) fn precision_arg(default: &str) -> Arg {
    Arg::new("precision")
        .long("precision")
        .value_name("HOW")
        .value_parser(PossibleValuesParser::new(Precision::ALL.map(Precision::name)))
        .help(format!(
            "How activations meet stored weights: as_stored rounds them to 8 bits (or bf16), split to 16, full not at \
             all, which is slow; bf16 rounds f32 weights too [default: {default}]"
        ))
}

/// What `--precision` says.
pub(crate) fn precision(matches: &ArgMatches) -> Option<Precision> {
    matches.get_one::<String>("precision").and_then(|word| Precision::from_name(word))
}

/// Refuses flags that make no sense whatever the model, so that this is said before a large one is loaded.
pub(crate) fn check(matches: &ArgMatches) -> Result<()> {
    read(matches, &Settings::default()).request().map(|_| ()).map_err(Failure::usage)
}

/// The settings for a model whose own are `own`.
pub(crate) fn read(matches: &ArgMatches, own: &Settings) -> Settings {
    let mut settings = own.clone();
    let given = |name: &str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
    if SAMPLING.iter().any(|name| given(name)) {
        let Settings { seed, max_tokens, end, stop, cache, precision, .. } = settings;
        settings = Settings { seed, max_tokens, end, stop, cache, precision, ..Settings::default() };
    }
    if matches.get_flag("greedy") {
        settings.temperature = 0.0;
    }
    let number = |name: &str| matches.get_one::<f64>(name).copied();
    settings.temperature = number("temperature").unwrap_or(settings.temperature);
    settings.top_k = matches.get_one("top-k").copied().or(settings.top_k);
    settings.top_p = number("top-p").or(settings.top_p);
    settings.min_p = number("min-p").or(settings.min_p);
    settings.repetition_penalty = number("repetition-penalty").unwrap_or(settings.repetition_penalty);
    settings.seed = matches.get_one("seed").copied().unwrap_or(settings.seed);
    settings.max_tokens = matches.get_one("max-tokens").copied().unwrap_or(settings.max_tokens);
    settings.stop.extend(matches.get_many::<String>("stop").into_iter().flatten().cloned());
    settings.cache = cache_type(matches).unwrap_or(settings.cache);
    settings.precision = precision(matches).or(settings.precision);
    if matches.get_flag("ignore-eos") {
        settings.end.clear();
    }
    settings
}
