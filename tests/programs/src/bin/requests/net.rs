//! Requests to a network card: a stream of bytes, and packets as small as there are.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::{Took, number};

/// What is written and read in one go.
const BLOCK: usize = 64 << 10;
/// Of the payload: with the headers of UDP, IP and Ethernet and its checksum, 64 bytes.
const PACKET: usize = 18;
/// Connections of a stream, one after another: TCP settles on a pace for each, and these differ.
const CONNECTIONS: u64 = 2;
/// How long a link may take to come up.
const LINK_UP: Duration = Duration::from_secs(60);
/// A packet that has not come by then is lost.
const LOST: Duration = Duration::from_secs(60);

/// Serves clients one after another, for good. What each wants is the line that it sends first. One that goes away, as with its guest,
/// does not keep others from theirs.
pub(super) fn serve(port: u16) -> io::Result<Took> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    socket.set_read_timeout(Some(LOST))?;
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(LOST))?;
        stream.set_write_timeout(Some(LOST))?;
        if let Err(error) = serve_one(stream, &socket) {
            eprintln!("a client is not served: {error}");
            // Nor are its packets taken for those of the next.
            socket.set_nonblocking(true)?;
            while socket.recv(&mut [0; PACKET]).is_ok() {}
            socket.set_nonblocking(false)?;
        }
        // Whoever comes next may send packets again.
        disconnect(&socket)?;
    }
}

fn serve_one(mut stream: TcpStream, socket: &UdpSocket) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut line)?;
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["bulk", "out", mib] => {
            take(&mut reader, number(mib)?)?;
            stream.write_all(b".")
        }
        ["bulk", "in", mib] => give(&mut stream, number(mib)?),
        ["packets", direction, batch, count] => {
            // Its first packet says where it is.
            let (_, client) = socket.recv_from(&mut [0; PACKET])?;
            socket.connect(client)?;
            socket.send(&[0])?;
            exchange(socket, direction == "in", number(batch)?, number(count)?)
        }
        _ => Err(io::Error::other(format!("a client wants {line:?}"))),
    }
}

/// A stream out of here, or in.
pub(super) fn bulk(address: &str, port: u16, out: bool, mib: u64) -> io::Result<Took> {
    let each = mib / CONNECTIONS;
    let direction = if out { "out" } else { "in" };
    let mut time = Duration::ZERO;
    for _ in 0..CONNECTIONS {
        let mut stream = connect(address, port)?;
        stream.write_all(format!("bulk {direction} {each}\n").as_bytes())?;
        let began = Instant::now();
        if out {
            give(&mut stream, each)?;
            stream.read_exact(&mut [0])?;
        } else {
            take(&mut stream, each)?;
        }
        time += began.elapsed();
    }
    Ok(Took { count: each * CONNECTIONS, time })
}

/// Packets out of here, or in.
pub(super) fn packets(address: &str, port: u16, out: bool, batch: u64, count: u64) -> io::Result<Took> {
    let mut stream = connect(address, port)?;
    let direction = if out { "out" } else { "in" };
    stream.write_all(format!("packets {direction} {batch} {count}\n").as_bytes())?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((address, port))?;
    socket.set_read_timeout(Some(LOST))?;
    socket.send(&[0])?;
    socket.recv(&mut [0; PACKET])?;
    let began = Instant::now();
    exchange(&socket, out, batch, count)?;
    Ok(Took { count, time: began.elapsed() })
}

fn connect(address: &str, port: u16) -> io::Result<TcpStream> {
    let began = Instant::now();
    loop {
        match TcpStream::connect((address, port)) {
            Err(_) if began.elapsed() < LINK_UP => std::thread::sleep(Duration::from_millis(50)),
            connected => return connected,
        }
    }
}

fn give(stream: &mut impl Write, mib: u64) -> io::Result<()> {
    let block = vec![0x5a; BLOCK];
    (0..(mib << 20) / BLOCK as u64).try_for_each(|_| stream.write_all(&block))
}

fn take(stream: &mut impl Read, mib: u64) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut left = mib << 20;
    while left > 0 {
        let came = stream.read(&mut block)?;
        if came == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(came as u64);
    }
    Ok(())
}

/// Sends `count` packets, waiting after each batch until the other end has it; or is that other end.
fn exchange(socket: &UdpSocket, sends: bool, batch: u64, count: u64) -> io::Result<()> {
    let mut packet = [0x5a; PACKET];
    for _ in 0..count / batch.max(1) {
        if sends {
            for _ in 0..batch {
                socket.send(&packet)?;
            }
            socket.recv(&mut packet)?;
        } else {
            for _ in 0..batch {
                socket.recv(&mut packet)?;
            }
            socket.send(&packet)?;
        }
    }
    Ok(())
}

/// Takes packets of anyone again, see connect(2).
fn disconnect(socket: &UdpSocket) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let size = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: the kernel reads an address of this size, which is there.
    match unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
