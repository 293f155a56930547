//! Requests to a disk, by the kernel's own asynchronous I/O (`io_submit(2)`), which every guest kernel has.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::Took;

/// What O_DIRECT wants addresses to be multiples of.
const ALIGNMENT: usize = 4096;
/// Of `iocb.aio_lio_opcode`, in include/uapi/linux/aio_abi.h.
const PREAD: u16 = 0;
const PWRITE: u16 = 1;

/// What is asked of a disk.
pub(super) struct Load {
    pub(super) writes: bool,
    pub(super) random: bool,
    /// Of a request.
    pub(super) bytes: usize,
    /// Requests under way at any time.
    pub(super) depth: usize,
    pub(super) count: u64,
}

/// `struct iocb` of include/uapi/linux/aio_abi.h, on a little-endian machine.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    data: u64,
    key: u32,
    flags: u32,
    operation: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    event: u32,
}

/// `struct io_event` of the same.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Completion {
    data: u64,
    request: u64,
    result: i64,
    more: i64,
}

/// Does it, and gives the time from the first request to the last completion.
pub(super) fn run(path: &str, load: &Load) -> io::Result<Took> {
    let mut file =
        OpenOptions::new().read(true).write(load.writes).custom_flags(libc::O_DIRECT).open(path)?;
    let blocks = file.seek(SeekFrom::End(0))? / load.bytes as u64;
    if blocks == 0 || load.depth == 0 {
        return Err(io::Error::other(format!("{path} is smaller than a request, or none is to be made")));
    }
    let mut room = vec![0_u8; load.bytes * load.depth + ALIGNMENT];
    let start = room.as_ptr().align_offset(ALIGNMENT);
    let buffers = room.get_mut(start..).unwrap_or_default().as_mut_ptr() as u64;
    let queue = Queue::of(load.depth)?;
    let mut places = Places { blocks, next: 0, random: load.random.then(|| SplitMix64::seed_from_u64(1)) };
    let mut completions = vec![Completion::default(); load.depth];
    let mut request = |slot: u64| request(&file, load, places.next(), buffers, slot);

    let began = Instant::now();
    let (mut made, mut done) = (0, 0);
    while made < load.count.min(load.depth as u64) {
        queue.submit(&mut request(made))?;
        made += 1;
    }
    while done < load.count {
        for completion in queue.wait(&mut completions)? {
            if completion.result != load.bytes as i64 {
                return Err(io::Error::other(format!("a request ended with {}", completion.result)));
            }
            done += 1;
            if made < load.count {
                queue.submit(&mut request(completion.data))?;
                made += 1;
            }
        }
    }
    Ok(Took { count: done, time: began.elapsed() })
}

/// What has buffer `slot`, at block `place`.
fn request(file: &File, load: &Load, place: u64, buffers: u64, slot: u64) -> Request {
    Request {
        data: slot,
        operation: if load.writes { PWRITE } else { PREAD },
        descriptor: file.as_raw_fd().cast_unsigned(),
        buffer: buffers + slot * load.bytes as u64,
        bytes: load.bytes as u64,
        offset: (place * load.bytes as u64).cast_signed(),
        ..Request::default()
    }
}

/// Where requests go, in blocks.
struct Places {
    blocks: u64,
    next: u64,
    random: Option<SplitMix64>,
}

impl Places {
    fn next(&mut self) -> u64 {
        match &mut self.random {
            Some(random) => random.next_u64() % self.blocks,
            None => {
                let place = self.next;
                self.next = (place + 1) % self.blocks;
                place
            }
        }
    }
}

/// A context of asynchronous I/O, which ends with the process.
struct Queue(u64);

impl Queue {
    fn of(depth: usize) -> io::Result<Queue> {
        let mut context = 0_u64;
        // SAFETY: the kernel writes the context's number to a word of ours.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        if made == 0 { Ok(Queue(context)) } else { Err(io::Error::last_os_error()) }
    }

    fn submit(&self, request: &mut Request) -> io::Result<()> {
        let requests = [&raw mut *request];
        // SAFETY: it is read at once; the buffer it names outlives all that is under way, since `run` waits for it.
        let taken = unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, requests.as_ptr()) };
        match taken {
            1 => Ok(()),
            0 => Err(io::Error::other("the kernel takes no more requests")),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for at least one of what is under way.
    fn wait<'c>(&self, completions: &'c mut [Completion]) -> io::Result<&'c [Completion]> {
        let no_end = std::ptr::null::<libc::timespec>();
        // SAFETY: the kernel writes no more than so many of them.
        let came = unsafe {
            let (most, to) = (completions.len(), completions.as_mut_ptr());
            libc::syscall(libc::SYS_io_getevents, self.0, 1, most, to, no_end)
        };
        let came = usize::try_from(came).map_err(|_| io::Error::last_os_error())?;
        Ok(completions.get(..came).unwrap_or_default())
    }
}
