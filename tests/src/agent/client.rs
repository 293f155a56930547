//! Clients of Unix sockets, for cases: a well-behaved one that carries bytes to and fro, and one that only holds
//! connections. Busybox has neither.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

/// Runs `unix PATH` or `flood PATH COUNT`; `None` when it is neither.
pub(super) fn run(arguments: &[String]) -> Option<io::Result<()>> {
    match arguments {
        [what, path] if what == "unix" => Some(carry(path)),
        [what, path, count] if what == "flood" => {
            Some(count.parse().map_err(io::Error::other).and_then(|count| flood(path, count)))
        }
        _ => None,
    }
}

/// Standard input to the socket, the socket to standard output, until both have ended.
fn carry(path: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    let mut sending = stream.try_clone()?;
    let sender = thread::spawn(move || {
        let sent = io::copy(&mut io::stdin(), &mut sending);
        // The other side may be gone.
        let _ = sending.shutdown(Shutdown::Write);
        sent
    });
    match io::copy(&mut stream, &mut io::stdout()) {
        // It was closed without all being read that was sent. Nothing of an answer is lost by that.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        copied => drop(copied?),
    }
    io::stdout().flush()?;
    // Who does not read any more need not be written to.
    if sender.is_finished() {
        let _ = sender.join();
    }
    Ok(())
}

/// Opens connections that begin a request and never end it, and holds them until standard input ends.
fn flood(path: &str, count: usize) -> io::Result<()> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = UnixStream::connect(path)?;
        // One that was closed again to make room cannot be written to.
        let _ = stream.write_all(b"GET /api/v1/vm.info HTTP/1.1\r\n");
        held.push(stream);
    }
    println!("{count} held");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
