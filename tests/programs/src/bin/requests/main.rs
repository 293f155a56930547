//! Requests to a device, and how long they take on the clock of who makes them.
//!
//! - `requests disk PATH read|write random|sequential BYTES DEPTH COUNT`: so many requests of so many bytes each, `DEPTH` of them
//!   under way at any time, past all caches.
//! - `requests serve PORT`: the other end of the next two, for as many of them as come one after another.
//! - `requests bulk ADDRESS PORT out|in MIB`: so much over one TCP connection, to or from the server.
//! - `requests packets ADDRESS PORT out|in BATCH COUNT`: so many UDP packets, each the smallest that Ethernet has, in batches that
//!   the receiver acknowledges with one. Batches of one are a packet there and one back.
//!
//! The last line is `requests: COUNT in NANOSECONDS`.
//!
//! # Unsafe
//!
//! System calls that rustix and std do not make: io_setup, io_submit and io_getevents with memory that outlives them, and a connect that
//! dissolves a connection.
#![expect(unsafe_code, reason = "system calls")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measuring program")]

mod disk;
mod net;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// So many, in this time.
struct Took {
    count: u64,
    time: Duration,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match took(&words) {
        Ok(Took { count, time }) => {
            println!("requests: {count} in {}", time.as_nanos());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("requests: {error}");
            ExitCode::FAILURE
        }
    }
}

fn took(words: &[&str]) -> io::Result<Took> {
    match *words {
        [
            "disk",
            path,
            direction @ ("read" | "write"),
            order @ ("random" | "sequential"),
            bytes,
            depth,
            count,
        ] => {
            let load = disk::Load {
                writes: direction == "write",
                random: order == "random",
                bytes: number(bytes)?,
                depth: number(depth)?,
                count: number(count)?,
            };
            disk::run(path, &load)
        }
        ["serve", port] => net::serve(number(port)?),
        ["bulk", address, port, direction @ ("out" | "in"), mib] => {
            net::bulk(address, number(port)?, direction == "out", number(mib)?)
        }
        ["packets", address, port, direction @ ("out" | "in"), batch, count] => {
            net::packets(address, number(port)?, direction == "out", number(batch)?, number(count)?)
        }
        _ => Err(io::Error::other("see the head of its source for what it takes")),
    }
}

fn number<N: std::str::FromStr>(word: &str) -> io::Result<N> {
    word.parse().map_err(|_| io::Error::other(format!("{word} is no number that will do")))
}
