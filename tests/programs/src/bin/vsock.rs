//! Talks over vsock, in a guest and on its host, with every byte checked.
//!
//! - `vsock echo PLACE CONNECTIONS`: takes so many connections at `PLACE` and sends back what comes, each until its end.
//! - `vsock talk PLACE CONNECTIONS KIB`: makes so many connections to `PLACE`, sends KiB over each and compares what comes back.
//! - `vsock idle PLACE CONNECTIONS`: makes so many connections to the host's end of a bridge; some say nonsense and are to be
//!   sent away, others nothing until they are.
//!
//! A place is `vsock:PORT`, where `talk` is to the host, `vsock:CID:PORT` for a port of a guest whose kernel serves it, `unix:PATH` on the
//! host, or `bridge:PATH:PORT` for a port of the guest.
//!
//! # Unsafe
//! Sockets of the family AF_VSOCK are made and named with libc.
#![expect(unsafe_code, reason = "AF_VSOCK")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a test program")]

use std::io::{self, Read, Write};
use std::mem::size_of;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::thread;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const PORTION: usize = 32 << 10;
const PORTIONS_A_MIB: u64 = (1 << 20) / PORTION as u64;
const HOST: u32 = 2;
/// SO_VM_SOCKETS_CONNECT_TIMEOUT (linux/vm_sockets.h), and how long that is to be.
const CONNECT_TIMEOUT: libc::c_int = 6;
const CONNECT_SECONDS: libc::time_t = 60;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["echo", place, count] => number(count).and_then(|count| echo(place, count)),
        ["talk", place, count, kib] => {
            number(count).and_then(|count| number(kib).and_then(|kib| talk(place, count, kib)))
        }
        ["idle", place, count] => number(count).and_then(|count| idle(place, count)),
        _ => Err(io::Error::other("vsock echo | idle PLACE CONNECTIONS, vsock talk PLACE CONNECTIONS KIB")),
    };
    match done {
        Ok(what) => {
            println!("vsock: {what}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vsock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> io::Result<u32> {
    text.parse().map_err(io::Error::other)
}

/// A socket that listens or is connected, of either family: reading, writing and ending it is the same.
fn open(place: &str, listens: bool) -> io::Result<OwnedFd> {
    match place.split_once(':') {
        Some(("unix", path)) if listens => Ok(UnixListener::bind(path)?.into()),
        Some(("unix", path)) => Ok(UnixStream::connect(path)?.into()),
        Some(("vsock", place)) => match place.split_once(':') {
            Some((cid, port)) => vsock(number(cid)?, number(port)?, listens),
            None => vsock(HOST, number(place)?, listens),
        },
        Some(("bridge", rest)) if !listens => {
            let (path, port) = rest.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
            let mut stream = UnixStream::connect(path)?;
            stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
            let mut said = Vec::new();
            while said.last() != Some(&b'\n') {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                said.extend(byte);
            }
            match said.starts_with(b"OK ") {
                true => Ok(stream.into()),
                false => Err(io::Error::other("the bridge does not say OK")),
            }
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn vsock(cid: u32, port: u32, listens: bool) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // Linux gives up after 2 s, which a busy machine may take.
    let patience = libc::timeval { tv_sec: CONNECT_SECONDS, tv_usec: 0 };
    let length = size_of::<libc::timeval>() as libc::socklen_t;
    // SAFETY: `patience` is of the length that is given, and lives through the call.
    let set = unsafe {
        libc::setsockopt(fd, libc::AF_VSOCK, CONNECT_TIMEOUT, (&raw const patience).cast(), length)
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a socket address of zeros is one.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_port = port;
    address.svm_cid = if listens { libc::VMADDR_CID_ANY } else { cid };
    let length = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    let at = (&raw const address).cast();
    // SAFETY: `address` is of the length that is given, and lives through the calls.
    let done = unsafe {
        match listens {
            true => libc::bind(fd, at, length) == 0 && libc::listen(fd, 128) == 0,
            false => libc::connect(fd, at, length) == 0,
        }
    };
    if done { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

fn accept(listener: &OwnedFd) -> io::Result<UnixStream> {
    // SAFETY: the address of who connects is not asked for.
    let fd = unsafe { libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

fn echo(place: &str, count: u32) -> io::Result<String> {
    let listener = open(place, true)?;
    println!("listening at {place}");
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let mut stream = accept(&listener)?;
            Ok(thread::spawn(move || -> io::Result<u64> {
                let sent = io::copy(&mut stream.try_clone()?, &mut stream)?;
                stream.shutdown(Shutdown::Write)?;
                Ok(sent)
            }))
        })
        .collect::<io::Result<_>>()?;
    let bytes = together(threads)?;
    Ok(format!("echoed {bytes} bytes over {count} connections"))
}

fn talk(place: &str, count: u32, kib: u32) -> io::Result<String> {
    let portions = (u64::from(kib) << 10).div_ceil(PORTION as u64);
    let threads: Vec<_> = (0..count)
        .map(|seed| {
            let mut stream = UnixStream::from(open(place, false)?);
            Ok(thread::spawn(move || -> io::Result<u64> {
                let mut sending = stream.try_clone()?;
                let sender = thread::spawn(move || -> io::Result<()> {
                    let (mut random, mut bytes) = (SplitMix64::seed_from_u64(seed.into()), vec![0; PORTION]);
                    for _ in 0..portions {
                        random.fill_bytes(&mut bytes);
                        sending.write_all(&bytes)?;
                    }
                    sending.shutdown(Shutdown::Write)
                });
                let mut random = SplitMix64::seed_from_u64(seed.into());
                let (mut expected, mut bytes) = (vec![0; PORTION], vec![0; PORTION]);
                for portion in 0..portions {
                    random.fill_bytes(&mut expected);
                    stream.read_exact(&mut bytes)?;
                    if bytes != expected {
                        return Err(io::Error::other(format!("portion {portion} differs")));
                    }
                    // One of them tells that it goes on.
                    if seed == 0 && (portion + 1) % PORTIONS_A_MIB == 0 {
                        println!("MiB of the first: {}", (portion + 1) / PORTIONS_A_MIB);
                    }
                }
                if stream.read(&mut bytes)? != 0 {
                    return Err(io::Error::other("more comes back than was sent"));
                }
                sender.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
                Ok(portions * PORTION as u64)
            }))
        })
        .collect::<io::Result<_>>()?;
    let bytes = together(threads)?;
    Ok(format!("{bytes} bytes there and back over {count} connections"))
}

fn idle(place: &str, count: u32) -> io::Result<String> {
    let mut silent = Vec::new();
    for one in 0..count {
        let mut stream = UnixStream::from(open(place, false)?);
        match one % 3 {
            0 => silent.push(stream),
            1 => {
                stream.write_all(b"CONN")?;
                silent.push(stream);
            }
            _ => {
                stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
                at_end(stream)?;
            }
        }
    }
    println!("idle");
    silent.into_iter().try_for_each(at_end)?;
    Ok(format!("{count} clients were sent away"))
}

/// Waits until the other side has left, without a word.
fn at_end(mut stream: UnixStream) -> io::Result<()> {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        // It left without having read everything.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Ok(_) => Err(io::Error::other("there is an answer")),
        Err(error) => Err(error),
    }
}

/// The sum of what threads came to.
fn together(threads: Vec<thread::JoinHandle<io::Result<u64>>>) -> io::Result<u64> {
    let ended = |thread: thread::JoinHandle<io::Result<u64>>| {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    };
    threads.into_iter().map(ended).sum()
}
