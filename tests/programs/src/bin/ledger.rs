//! Shows whether what a disk said was durable is there after its machine was killed.
//!
//! - `ledger write NAME PATH BLOCKS`: writes one block after the other, round and round, each with its turn; tells after each
//!   flush which turn of NAME is durable.
//! - `ledger check PATH BLOCKS TURN`: every block holds its last turn up to TURN, or a later one.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a test program")]

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

const BLOCK: usize = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["write", name, path, blocks] => number(blocks).and_then(|blocks| write(name, path, blocks)),
        ["check", path, blocks, turn] => {
            number(blocks).and_then(|blocks| number(turn).and_then(|turn| check(path, blocks, turn)))
        }
        _ => Err(io::Error::other("ledger write NAME PATH BLOCKS | check PATH BLOCKS TURN")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ledger: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

/// Blocks that follow each other lie far apart, so that each is written by itself.
fn place(turn: u64, blocks: u64) -> u64 {
    turn % blocks * 7919 % blocks * BLOCK as u64
}

/// Turns start at 1; a block that was never written has 0.
fn write(name: &str, path: &str, blocks: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    for turn in 1_u64.. {
        let content = turn.to_le_bytes().repeat(BLOCK / 8);
        file.write_all_at(&content, place(turn, blocks))?;
        file.sync_data()?;
        println!("{name} durable {turn} .");
    }
    Ok(())
}

fn check(path: &str, blocks: u64, last: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).open(path)?;
    let mut content = [0; BLOCK];
    for turn in last.saturating_sub(blocks - 1).max(1)..=last {
        file.read_exact_at(&mut content, place(turn, blocks))?;
        let words = content.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        // The block may be of this turn or of the next for it, which was under way.
        if let Some(wrong) = words.clone().find(|word| *word < turn || (*word - turn) % blocks != 0) {
            return Err(io::Error::other(format!("a block of turn {turn} holds {wrong}")));
        }
    }
    println!("{path} checked up to turn {last} .");
    Ok(())
}
