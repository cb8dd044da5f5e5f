//! The commands: one file each, one line each in the table here.

mod bench;
mod bench_machine;
mod bench_random;
mod bench_train;
mod chat;
mod convert;
mod describe;
mod diff;
mod generate;
mod logits;
mod perplexity;
mod presets;
mod tokenize;

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};

use crate::{
    failure::{Failure, Result},
    output::{Output, Style},
};

/// A command: its name, how its arguments and help are defined, and what it does.
struct Entry {
    name: &'static str,
    define: fn(Command) -> Command,
    run: fn(&ArgMatches, &mut Output) -> Result<()>,
}

/// Every command, in the order of `--help`.
const COMMANDS: &[Entry] = &[
    Entry { name: "presets", define: presets::define, run: presets::run },
    Entry { name: "describe", define: describe::define, run: describe::run },
    Entry { name: "diff", define: diff::define, run: diff::run },
    Entry { name: "tokenize", define: tokenize::define, run: tokenize::run },
    Entry { name: "logits", define: logits::define, run: logits::run },
    Entry { name: "generate", define: generate::define, run: generate::run },
    Entry { name: "chat", define: chat::define, run: chat::run },
    Entry { name: "perplexity", define: perplexity::define, run: perplexity::run },
    Entry { name: "convert", define: convert::define, run: convert::run },
    Entry { name: "bench", define: bench::define, run: bench::run },
    Entry { name: "bench-train", define: bench_train::define, run: bench_train::run },
];

const ABOUT: &str = "Looks at transformer models, runs them, and converts them";

const EXAMPLES: &str = "\
Each command has its own help with an example: formwork generate --help

Results go to stdout, progress and errors to stderr.
FORMWORK_KERNELS=avx2 (or scalar, avx512, avx512dot) holds the arithmetic to an instruction set; the widest is the default.
Exit code: 0 done, 1 failed, 2 the command line makes no sense.";

/// Runs the command that the arguments name.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>, out: &mut Output) -> Result<()> {
    let matches = match formwork().try_get_matches_from(args) {
        Ok(matches) => matches,
        // Help is a result; all else that clap has to say is a mistake in the command line.
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return out.line(error.render().to_string().trim_end());
        }
        Err(error) => return Err(error.into()),
    };
    formwork::kernels::isa::from_env().map_err(Failure::usage)?;
    let (name, matches) = matches.subcommand().expect("clap asks for a command");
    let entry =
        COMMANDS.iter().find(|entry| entry.name == name).expect("clap knows the commands of this table");
    (entry.run)(matches, out)
}

fn formwork() -> Command {
    Command::new("formwork")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands(COMMANDS.iter().map(|entry| (entry.define)(Command::new(entry.name))))
}

/// The option `--model`.
fn model_arg() -> Arg {
    Arg::new("model")
        .long("model")
        .value_name("MODEL")
        .required(true)
        .help("A published model's folder, a GGUF file, or the folder of a checkpoint or run of this project")
}

/// The flag `--json`.
fn json_flag(what: &'static str) -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(what)
}

/// Whether `--json` is given.
fn style(matches: &ArgMatches) -> Style {
    if matches.get_flag("json") { Style::Json } else { Style::Text }
}

/// The text of an argument that clap makes sure is there.
fn text<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).expect("a required argument")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_defined_without_contradiction() {
        formwork().debug_assert();
    }

    #[test]
    fn every_command_documents_itself_with_an_example() {
        for command in formwork().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("formwork "), "{help}");
            assert!(help.contains("Example"), "{help}");
        }
    }
}
