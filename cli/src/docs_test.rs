//! What README.md and docs/ tell people to type is what vmm takes, and every flag is told of.

use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use vmm::Problems;

use crate::args::{Cli, Command};
use crate::config::Config;
use crate::grammar::{self, file};

/// An operator's files: name and text.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut paths: Vec<PathBuf> = vec![root.join("README.md")];
    let mut directories = vec![root.join("docs")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

/// The indented blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in page.lines() {
        match (line.strip_prefix("    "), line.is_empty()) {
            (Some(code), _) => *blocks.last_mut().unwrap() += &format!("{code}\n"),
            (None, true) => *blocks.last_mut().unwrap() += "\n",
            (None, false) => blocks.push(String::new()),
        }
    }
    blocks
        .iter()
        .map(|block| block.trim_start_matches('\n').to_owned())
        .filter(|block| !block.is_empty())
        .collect()
}

/// The commands in a block that call vmm, from its name on.
fn commands(block: &str) -> Vec<String> {
    let block = block.replace("\\\n", " ");
    let lines = block.lines().map(str::trim_start).filter_map(|line| {
        let quoted = line.strip_prefix("su alice -c 'exec ").and_then(|rest| rest.split('\'').next());
        let line = quoted.or(line.strip_prefix("numactl --cpunodebind=1 --membind=1 ")).unwrap_or(line);
        line.starts_with("vmm ").then(|| line.to_owned())
    });
    lines.collect()
}

/// The words of a command, as a shell has them; up to a comment or a redirection.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut quote = None;
    for c in command.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('#' | '|' | ';', None) if word.is_empty() => break,
            ('<' | '>', None) if word.bytes().all(|byte| byte.is_ascii_digit()) => {
                word.clear();
                break;
            }
            (' ', None) => words.push(std::mem::take(&mut word)),
            (c, _) => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty() && word != "..." && word != "&");
    words.iter().map(|word| word.replace("$BDF", "0000:01:00.0")).collect()
}

/// What is wrong with a command.
fn wrong(command: &str) -> Option<String> {
    let cli = match Cli::try_parse_from(words(command)) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return None;
        }
        Err(error) => return Some(error.to_string()),
    };
    let mut machine = match cli.command? {
        Command::Run(args) => args.machine,
        Command::Check(args) => args.machine,
        _ => return None,
    };
    machine.file = None;
    let mut problems = Problems::default();
    machine.read(&mut problems);
    problems.0.first().map(|problem| problem.what.to_string())
}

#[test]
fn every_command_in_the_docs_is_taken() {
    let mut count = 0;
    for (name, page) in pages() {
        for command in blocks(&page).iter().flat_map(|block| commands(block)) {
            // A synopsis.
            if command.contains(" [") {
                continue;
            }
            count += 1;
            assert_eq!(wrong(&command), None, "{name}: {command}");
        }
    }
    assert!(count > 15, "only {count} commands");
}

#[test]
fn commands_in_the_text_have_no_stale_flags() {
    let mut count = 0;
    for (name, page) in pages() {
        let spans = page.split('`').skip(1).step_by(2);
        for span in spans.filter(|span| span.starts_with("vmm ") && !span.contains(['[', '\n'])) {
            count += 1;
            let Err(error) = Cli::try_parse_from(words(span)) else { continue };
            // They need not be whole.
            let stale = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand);
            assert!(!stale, "{name}: {span}: {error}");
        }
    }
    assert!(count > 25, "only {count} commands");
}

#[test]
fn every_flag_is_in_the_table_of_flags_and_every_flag_there_is_one() {
    let operating = include_str!("../../docs/operating.md");
    let table = operating.split("### Flags\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let flags: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `--")?.split('`').next()).collect();
    let command = Cli::documented();
    let run = command.find_subcommand("run").unwrap();
    for name in run.get_arguments().filter_map(|argument| argument.get_long()) {
        let there = flags.iter().any(|flag| flag.split([' ', '=']).next() == Some(name));
        assert!(there, "--{name} is not in docs/operating.md");
    }
    for flag in flags {
        let stale = Cli::try_parse_from(words(&format!("vmm run --{flag}")))
            .is_err_and(|error| error.kind() == ErrorKind::UnknownArgument);
        assert!(!stale, "--{flag} is no flag");
    }
}

#[test]
fn every_file_in_the_docs_is_read() {
    let mut count = 0;
    for (name, page) in pages() {
        let is_machine = |block: &&String| block.starts_with("memory = ");
        for block in blocks(&page).iter().filter(is_machine) {
            count += 1;
            let value = file::parse(Path::new(&name), block.clone()).unwrap();
            let problems = grammar::read::<Config>(&[value]).problems;
            assert!(problems.is_empty(), "{name}: {problems:?}");
        }
    }
    assert!(count > 0);
}

#[test]
fn commands_are_found_as_a_shell_would() {
    let block = "su alice -c 'exec vmm run --vfio fd=5' 5<>$CDEV\nvmm run \\\n    --cmdline \"a b\" ... < /dev/null\nls\n";
    let found: Vec<Vec<String>> = commands(block).iter().map(|command| words(command)).collect();
    assert_eq!(found, [vec!["vmm", "run", "--vfio", "fd=5"], vec!["vmm", "run", "--cmdline", "a b"]]);
    assert!(wrong("vmm run --memry 1G").is_some() && wrong("vmm run --memory lots").is_some());
}
