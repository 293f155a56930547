//! The options of [`Config`] as flags, made from its fields; and what was typed, over what a file says, back to it.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint, value_parser};
use miette::Diagnostic;
use thiserror::Error;
use vmm::{Class, Problems};

use super::Config;
use crate::grammar::schema::{self, OptionDoc, Shape, usage};
use crate::grammar::{self, Form, OptionError, Origin, Reading, Table, Value, file, flag};

/// A file that is larger describes no machine.
const LARGEST: u64 = 1 << 20;
const CONFIG: &str = "config";

/// What is made of the type once, for every command that takes a machine.
static OPTIONS: LazyLock<Vec<OptionDoc>> = LazyLock::new(schema::options::<Config>);

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
        OPTIONS.iter().fold(command.arg(file), |command, option| command.arg(argument(option)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for MachineArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (mut flags, mut problems) = (Table::default(), Vec::new());
        for option in OPTIONS.iter() {
            let Some(texts) = matches.get_many::<String>(&option.name) else { continue };
            for text in texts {
                match (parse(option, text), &option.shape, flags.keys.last_mut()) {
                    (Err(error), ..) => problems.push(error),
                    // Typed again.
                    (Ok(value), Shape::List(_), Some((name, there))) if *name == option.name => {
                        there.append(value)
                    }
                    (Ok(value), ..) => flags.keys.push((option.name.clone(), value)),
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
fn parse(option: &OptionDoc, text: &str) -> Result<Value, OptionError> {
    let name = format!("--{}", option.name);
    match &option.shape {
        Shape::Switch | Shape::Text => Ok(flag::text(&name, text)),
        Shape::Group(_) | Shape::Choice(_) => flag::options(&name, text),
        Shape::List(item) => match **item {
            // Its commas separate the keys of one element.
            Shape::Group(_) | Shape::Choice(_) => {
                let element = flag::options(&name, text)?;
                Ok(Value { origin: element.origin.clone(), form: Form::List(vec![element]) })
            }
            _ => flag::list(&name, text),
        },
    }
}

/// The flag for an option.
fn argument(option: &OptionDoc) -> Arg {
    let argument = Arg::new(option.name.clone()).long(option.name.clone()).value_name(option.value.clone());
    let argument = match &option.shape {
        Shape::List(_) => argument.action(ArgAction::Append),
        _ => argument.action(ArgAction::Set),
    };
    let argument = match &option.shape {
        Shape::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true),
        _ => argument,
    };
    let argument = match option.value.as_str() {
        "FILE" | "PATH" => argument.value_hint(ValueHint::FilePath),
        _ => argument,
    };
    let short = option.text.split("\n\n").next().unwrap_or_default();
    argument.help(with_default(short, option)).long_help(with_keys(option))
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
