//! The options of [`Config`] as flags; and what was typed, over what a file says, back to it.
//!
//! Reading needs their names and what their values look like ([`OPTIONS`]). All else that is known of them is in the types: [`documented`]
//! adds it where people see it.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint, value_parser};
use miette::Diagnostic;
use thiserror::Error;
use vmm::{Class, Problems};

use super::Config;
use super::options::{Look, OPTIONS};
use crate::grammar::schema::{self, OptionDoc, Shape, usage};
use crate::grammar::{self, Form, OptionError, Origin, Reading, Table, Value, file, flag};

/// A file that is larger describes no machine.
const LARGEST: u64 = 1 << 20;
const CONFIG: &str = "config";

/// A machine as it was typed.
#[derive(Clone, Debug)]
pub(crate) struct MachineArgs {
    /// The file under the flags.
    pub(crate) file: Option<PathBuf>,
    flags: Table,
    problems: Vec<OptionError>,
}

/// A file that cannot be used.
#[derive(Debug, Error, Diagnostic)]
enum FileError {
    #[error("cannot read --config {}", path.display())]
    #[diagnostic(help("give a TOML file with the flags of `vmm run` as keys"))]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("--config {} is larger than 1 MiB", .0.display())]
    #[diagnostic(help("give a TOML file with the flags of `vmm run` as keys"))]
    TooLarge(PathBuf),
}

impl MachineArgs {
    /// Whether nothing was said of a machine.
    pub(crate) fn is_default(&self) -> bool {
        self.file.is_none() && self.flags.keys.is_empty() && self.problems.is_empty()
    }

    /// What it means; what cannot be read is reported, and is as if it had not been written.
    pub(crate) fn read(&self, problems: &mut Problems) -> Reading<Config> {
        let mut layers = Vec::new();
        if let Some(path) = &self.file
            && let Some(text) = problems.keep(Class::Usage, read_file(path))
        {
            match file::parse(path, text) {
                Ok(value) => layers.push(value),
                Err(errors) => errors.into_iter().for_each(|error| problems.add(Class::Usage, error)),
            }
        }
        let origin = Origin::Flag { flag: "".into(), text: "".into() };
        layers.push(Value { form: Form::Table(self.flags.clone()), origin });
        let mut reading = grammar::read(&layers);
        let unread = self.problems.iter().cloned().chain(std::mem::take(&mut reading.problems));
        unread.for_each(|error| problems.add(Class::Usage, error));
        reading
    }
}

fn read_file(path: &PathBuf) -> Result<String, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.clone(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let read = std::io::Read::read_to_string(&mut std::io::Read::take(file, LARGEST + 1), &mut text);
    if read.map_err(unreadable)? as u64 > LARGEST {
        return Err(FileError::TooLarge(path.clone()));
    }
    Ok(text)
}

impl Args for MachineArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_hint(ValueHint::FilePath)
            .value_parser(value_parser!(PathBuf))
            .help("Read the machine from a TOML file, whose keys are these flags. What is typed goes over it; what may be repeated is added to it");
        command.arg(file).args(OPTIONS.iter().map(|(name, look)| argument(name, *look)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for MachineArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (mut flags, mut problems) = (Table::default(), Vec::new());
        for &(option, look) in OPTIONS {
            let Some(texts) = matches.get_many::<String>(option) else { continue };
            for text in texts {
                match (parse(option, look, text), look, flags.keys.last_mut()) {
                    (Err(error), ..) => problems.push(error),
                    // Typed again.
                    (Ok(value), Look::List | Look::ListOfKeys, Some((name, there))) if name == option => {
                        there.append(value)
                    }
                    (Ok(value), ..) => flags.keys.push((option.to_owned(), value)),
                }
            }
        }
        Ok(Self { file: matches.get_one(CONFIG).cloned(), flags, problems })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The value of a flag.
fn parse(option: &str, look: Look, text: &str) -> Result<Value, OptionError> {
    let name = format!("--{option}");
    match look {
        Look::Switch | Look::Text => Ok(flag::text(&name, text)),
        Look::Keys => flag::options(&name, text),
        Look::List => flag::list(&name, text),
        // Its commas separate the keys of one element.
        Look::ListOfKeys => {
            let element = flag::options(&name, text)?;
            Ok(Value { origin: element.origin.clone(), form: Form::List(vec![element]) })
        }
    }
}

/// The flag for an option.
fn argument(name: &'static str, look: Look) -> Arg {
    let argument = Arg::new(name).long(name);
    match look {
        Look::Switch => argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true),
        Look::Text | Look::Keys => argument.action(ArgAction::Set),
        Look::List | Look::ListOfKeys => argument.action(ArgAction::Append),
    }
}

/// A command that takes a machine, with all that is known of its flags.
pub(crate) fn documented(command: Command) -> Command {
    let options = schema::options::<Config>();
    command.mut_args(|argument| {
        match options.iter().find(|option| argument.get_id() == option.name.as_str()) {
            Some(option) => document(argument, option),
            None => argument,
        }
    })
}

fn document(argument: Arg, option: &OptionDoc) -> Arg {
    let argument = match option.value.as_str() {
        "FILE" | "PATH" => argument.value_hint(ValueHint::FilePath),
        _ => argument,
    };
    let short = option.text.split("\n\n").next().unwrap_or_default();
    argument.value_name(option.value.clone()).help(with_default(short, option)).long_help(with_keys(option))
}

fn with_default(text: &str, option: &OptionDoc) -> String {
    let text = text.trim_end_matches('.');
    option.default.as_ref().map_or_else(|| text.to_owned(), |default| format!("{text} [default: {default}]"))
}

/// All that is known of an option: with the keys of a group, a line each.
fn with_keys(option: &OptionDoc) -> String {
    let mut text = with_default(&option.text, option);
    let group = match &option.shape {
        Shape::List(item) => item,
        shape => shape,
    };
    if let Shape::Group(keys) | Shape::Choice(keys) = group {
        text.push('\n');
        describe(keys, "", &mut text);
    }
    text
}

fn describe(keys: &[OptionDoc], prefix: &str, text: &mut String) {
    for key in keys {
        match &key.shape {
            Shape::Group(inner) => describe(inner, &format!("{prefix}{}.", key.name), text),
            _ => {
                let what = with_default(&key.text.replace("\n\n", " "), key);
                *text += &format!("\n  {prefix}{}: {what}", usage(key));
            }
        }
    }
}

#[cfg(test)]
#[path = "args_test.rs"]
mod tests;
