//! What guests do with the devices they are given, checked byte by byte.
//!
//! - `exercise disk PATH MIB`: fills the beginning of a disk block by block in random order, writes some of the blocks
//!   again, and reads all of them in another order; without caches, from several threads.
//! - `exercise serve PORT MIB [COUNT]` and `exercise connect ADDRESS PORT MIB [COUNT [FILE]]`: send each other so much at the
//!   same time, over so many connections at once; again and again until there is a file, if one is named. Port 0 is one that
//!   is free, which is told.
//!
//! What is written and sent can be computed from its place, so nothing has to be remembered to check it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a test program")]

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// What is written, read, sent and compared in one go.
const BLOCK: usize = 32 << 10;
/// What O_DIRECT wants addresses to be multiples of.
const ALIGNMENT: usize = 4096;
const THREADS: usize = 4;
/// Every so many blocks are written twice.
const TWICE: usize = 4;
/// How long a link may take to come up.
const LINK_UP: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["disk", path, mib] => blocks(mib).and_then(|blocks| disk(path, blocks)),
        ["serve", port, mib] => serve(port, mib, "1"),
        ["serve", port, mib, count] => serve(port, mib, count),
        ["connect", address, port, mib] => connect(address, port, mib, "1", None),
        ["connect", address, port, mib, count] => connect(address, port, mib, count, None),
        ["connect", address, port, mib, count, file] => connect(address, port, mib, count, Some(file)),
        _ => Err(io::Error::other(
            "exercise disk PATH MIB | serve PORT MIB [COUNT] | connect ADDRESS PORT MIB [COUNT [FILE]]",
        )),
    };
    match done {
        Ok(what) => {
            println!("exercised: {what}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("exercise: {error}");
            ExitCode::FAILURE
        }
    }
}

fn blocks(mib: &str) -> io::Result<usize> {
    let mib: usize = mib.parse().map_err(io::Error::other)?;
    Ok((mib << 20) / BLOCK)
}

/// What belongs into a block.
fn fill(buffer: &mut [u8], stream: u64, block: usize) {
    SplitMix64::seed_from_u64(stream << 48 ^ block as u64).fill_bytes(buffer);
}

fn check(buffer: &[u8], stream: u64, block: usize) -> io::Result<()> {
    let mut expected = vec![0; buffer.len()];
    fill(&mut expected, stream, block);
    // Byte by byte only what differs: where every instruction is emulated that is dear.
    if buffer == expected {
        return Ok(());
    }
    let at = buffer.iter().zip(&expected).position(|(is, should)| is != should);
    Err(io::Error::other(format!("block {block} differs from byte {} on", at.unwrap_or_default())))
}

/// All numbers below `count`, in an order of their own for each seed.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut random = SplitMix64::seed_from_u64(seed);
    let mut all: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        all.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    all
}

fn disk(path: &str, count: usize) -> io::Result<String> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
    let is_written_again = |block: usize| block.is_multiple_of(TWICE);
    let first = shuffled(count, 1);
    in_parallel(&first, |block, buffer| {
        fill(buffer, 1, block);
        file.write_all_at(buffer, (block * BLOCK) as u64)
    })?;
    let again: Vec<usize> = shuffled(count, 2).into_iter().filter(|block| is_written_again(*block)).collect();
    in_parallel(&again, |block, buffer| {
        fill(buffer, 2, block);
        file.write_all_at(buffer, (block * BLOCK) as u64)
    })?;
    file.sync_all()?;
    in_parallel(&shuffled(count, 3), |block, buffer| {
        file.read_exact_at(buffer, (block * BLOCK) as u64)?;
        check(buffer, if is_written_again(block) { 2 } else { 1 }, block)
    })?;
    Ok(format!("{} writes and {count} reads of {BLOCK} bytes on {path}", count + again.len()))
}

/// Does something to every block, with an aligned buffer, on several threads.
fn in_parallel(blocks: &[usize], work: impl Fn(usize, &mut [u8]) -> io::Result<()> + Sync) -> io::Result<()> {
    let share = blocks.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let workers: Vec<_> = blocks
            .chunks(share)
            .map(|blocks| {
                scope.spawn(|| {
                    let mut room = vec![0; BLOCK + ALIGNMENT];
                    let start = room.as_ptr().align_offset(ALIGNMENT);
                    let buffer = room.get_mut(start..start + BLOCK).unwrap_or_default();
                    blocks.iter().try_for_each(|block| work(*block, buffer))
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })
}

fn serve(port: &str, mib: &str, count: &str) -> io::Result<String> {
    let listener = TcpListener::bind(("0.0.0.0", port.parse().map_err(io::Error::other)?))?;
    println!("listening on {}", listener.local_addr()?.port());
    over_connections(mib, count, None, |_| {
        let (mut stream, _) = listener.accept()?;
        // Which of the connections it is.
        let mut number = [0; 8];
        stream.read_exact(&mut number)?;
        let number = u64::from_le_bytes(number);
        Ok((stream, (number * 2, number * 2 + 1)))
    })
}

fn connect(address: &str, port: &str, mib: &str, count: &str, until: Option<&str>) -> io::Result<String> {
    let began = Instant::now();
    let place = format!("{address}:{port}");
    over_connections(mib, count, until, |number| {
        let mut stream = loop {
            match TcpStream::connect(&place) {
                Ok(stream) => break stream,
                Err(error) if began.elapsed() > LINK_UP => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        };
        stream.write_all(&number.to_le_bytes())?;
        Ok((stream, (number * 2 + 1, number * 2)))
    })
}

/// What is sent over a connection, and what is received.
type Streams = (u64, u64);

/// Exchanges data over as many connections at once, each made by `open`.
fn over_connections(
    mib: &str,
    count: &str,
    until: Option<&str>,
    open: impl Fn(u64) -> io::Result<(TcpStream, Streams)> + Sync,
) -> io::Result<String> {
    let count: usize = count.parse().map_err(io::Error::other)?;
    let blocks = blocks(mib)? / count.max(1);
    let one = |number| {
        let (stream, streams) = open(number)?;
        exchange(stream, blocks, streams, until.map(Path::new))
    };
    thread::scope(|scope| {
        let one = &one;
        let all: Vec<_> = (0..count as u64).map(|number| scope.spawn(move || one(number))).collect();
        all.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a connection panicked")))
        })
    })?;
    Ok(format!("{} MiB each way over {count} connections", (blocks * count * BLOCK) >> 20))
}

/// What who connects, and sends the odd streams, says after an exchange: that there is another, or that this was the last.
const AGAIN: u8 = b'+';
const OVER: u8 = b'.';

/// Exchanges streams once, or until there is a file.
fn exchange(mut stream: TcpStream, count: usize, streams: Streams, until: Option<&Path>) -> io::Result<()> {
    let connects = streams.0 % 2 == 1;
    loop {
        exchange_once(&mut stream, count, streams)?;
        let mut next = if until.is_none_or(Path::exists) { [OVER] } else { [AGAIN] };
        match connects {
            true => stream.write_all(&next)?,
            false => stream.read_exact(&mut next)?,
        }
        if next == [OVER] {
            break;
        }
    }
    // Who connects may be gone the next moment with what is not sent yet: it waits until the other has all, and closes.
    match connects && stream.read(&mut [0])? > 0 {
        true => Err(io::Error::other("more came than was to come")),
        false => Ok(()),
    }
}

/// Sends one stream and receives another, at the same time.
fn exchange_once(stream: &mut TcpStream, count: usize, (own, other): Streams) -> io::Result<()> {
    let mut sending = stream.try_clone()?;
    let sender = thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; BLOCK];
        (0..count).try_for_each(|block| {
            fill(&mut buffer, own, block);
            sending.write_all(&buffer)
        })
    });
    let mut buffer = vec![0; BLOCK];
    for block in 0..count {
        stream.read_exact(&mut buffer)?;
        check(&buffer, other, block)?;
    }
    sender.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked")))
}
