//! Rings alone, split and packed: a device that hands its queues out, so that what is done with them is done here, step by step.

use std::io;
use std::sync::{Arc, Mutex};

use std::io::{Read, Write};

use devices::virtio::{Activation, Active, Chain, DeviceType, Queue, RING_FEATURES, VirtioDevice};

use super::driver::Driver;
use crate::Input;

const PACKED: u64 = 1 << 34;
/// Sizes of the queues: one and two entries are where wrapping goes wrong.
const SIZES: [u16; 3] = [256, 2, 1];
/// Chains that are held, as those of requests in flight are.
const MOST_HELD: usize = 8;

/// A device that serves nothing by itself.
#[derive(Default)]
struct Bare(Arc<Mutex<Vec<Queue>>>);

impl VirtioDevice for Bare {
    fn kind(&self) -> DeviceType {
        DeviceType { id: 4, pci_class: 0x00_ff00 }
    }

    fn name(&self) -> String {
        "bare device".to_owned()
    }

    fn features(&self) -> u64 {
        RING_FEATURES | PACKED
    }

    fn queue_sizes(&self) -> Vec<u16> {
        SIZES.to_vec()
    }

    fn read_config(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        *self.0.lock().unwrap() = driver.queues;
        Ok(Box::new(Idle(self.0.clone())))
    }
}

struct Idle(Arc<Mutex<Vec<Queue>>>);

impl Active for Idle {
    fn stop_queue(&mut self, index: u16) {
        self.0.lock().unwrap().retain(|queue| queue.index() != index);
    }

    fn start_queue(&mut self, queue: Queue) -> io::Result<()> {
        self.0.lock().unwrap().push(queue);
        Ok(())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.lock().unwrap().clear();
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let device = Arc::new(Bare::default());
    let queues = device.0.clone();
    let mut held: Vec<(u16, Chain)> = Vec::new();
    let driver = Driver::new(device, &mut input).deaf(u64::MAX);
    driver.follow(&mut input, |input| serve(&mut queues.lock().unwrap(), &mut held, input));
}

/// What a device does with its queues.
fn serve(queues: &mut [Queue], held: &mut Vec<(u16, Chain)>, input: &mut Input) {
    let how = input.byte();
    for queue in queues {
        held.retain(|(index, chain)| {
            let keep = *index != queue.index() || how & 1 == 0;
            if !keep {
                let _ = queue.complete(chain, input.word().into());
            }
            keep
        });
        let _ = match how >> 1 & 3 {
            0 => queue.serve(|chain| Ok(use_up(chain))),
            1 => queue.serve_some(1, |chain| Ok(use_up(chain))),
            2 => queue.pop().map(|chain| held.extend(chain.map(|chain| (queue.index(), chain)))),
            _ => queue.disable_kicks().and_then(|()| queue.enable_kicks().map(drop)),
        };
        let _ = queue.notify();
        held.truncate(MOST_HELD);
    }
}

/// Reads what there is to read and writes all there is to write, in the ways that devices do.
fn use_up(chain: &Chain) -> u32 {
    let (readable, writable) = (chain.readable_bytes(), chain.writable_bytes());
    let mut reader = chain.reader();
    let first = reader.array::<16>();
    assert_eq!(first.is_some(), readable >= 16);
    let left = reader.remaining();
    let sliced: usize = reader.clone().slices(left).unwrap().iter().map(|slice| slice.len()).sum();
    assert_eq!(sliced as u64, left);
    let mut bytes = vec![0; left.min(0x1_0000) as usize];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(reader.remaining(), left - bytes.len() as u64);

    let mut writer = chain.writer();
    let some = vec![0x5a; writable.min(0x1_0000) as usize];
    writer.write_all(&some).unwrap();
    assert_eq!(u64::from(writer.written()), some.len() as u64);
    writer.written()
}
