use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::testing::{FakeBackend, FakeController};

const LIVE: u16 = CONTROL_ENABLE;

struct Setup {
    msix: Msix,
    controller: Arc<FakeController>,
    backend: Arc<FakeBackend>,
}

fn setup(count: u16) -> Setup {
    let (controller, backend) = (FakeController::new(), FakeBackend::new());
    Setup { msix: Msix::new(count, controller.clone(), backend.clone()), controller, backend }
}

impl Setup {
    fn program(&self, vector: u64, address: u64, data: u32, masked: bool) {
        self.msix.table_write(vector * 16, &address.to_le_bytes());
        self.msix.table_write(vector * 16 + 8, &data.to_le_bytes());
        self.mask(vector, masked);
    }

    fn mask(&self, vector: u64, masked: bool) {
        self.msix.table_write(vector * 16 + 12, &u32::from(masked).to_le_bytes());
    }

    /// Messages of the vectors alive, in order of their first unmasking.
    fn messages(&self) -> Vec<Option<MsiMessage>> {
        self.controller.alive().iter().map(|vector| *vector.message.lock().unwrap()).collect()
    }

    fn table(&self, offset: u64, size: usize) -> Vec<u8> {
        let mut data = vec![0x5a; size];
        self.msix.table_read(offset, &mut data);
        data
    }

    fn pending(&self, offset: u64) -> u64 {
        let mut data = [0; 8];
        self.msix.pba_read(offset, &mut data);
        u64::from_le_bytes(data)
    }
}

fn message(address: u64, data: u32) -> Option<MsiMessage> {
    Some(MsiMessage { address, data })
}

#[test]
fn starts_masked_and_off() {
    let s = setup(3);
    assert_eq!(s.msix.control(), 2);
    assert_eq!(s.table(0, 16), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(s.table(0x30, 4), [0; 4], "past the end");
    assert_eq!(s.table(u64::MAX, 4), [0; 4]);
    assert_eq!((s.msix.table_size(), s.msix.pba_size()), (48, 8));
    assert!(s.controller.alive().is_empty());
}

#[test]
fn the_capability_points_at_table_and_pending_bits() {
    let s = setup(2048);
    let (table, pba) = (BarOffset { bar: 4, offset: 0x2000 }, BarOffset { bar: 4, offset: 0xa000 });
    assert_eq!(s.msix.capability(table, pba), [0xff, 0x07, 0x04, 0x20, 0, 0, 0x04, 0xa0, 0, 0]);
    assert_eq!((s.msix.table_size(), s.msix.pba_size()), (0x8000, 0x100));
}

#[test]
fn a_vector_is_wired_when_it_is_first_live() {
    let s = setup(8);
    s.program(3, 0xfee0_1000, 0x41, false);
    assert!(s.controller.alive().is_empty(), "not enabled");
    s.msix.set_control(LIVE | CONTROL_FUNCTION_MASK);
    assert!(s.controller.alive().is_empty(), "function masked");
    s.msix.set_control(LIVE);
    assert_eq!(s.backend.connected(), [3]);
    assert_eq!(s.messages(), [message(0xfee0_1000, 0x41)]);
    s.program(5, 0xfee0_2000, 0x42, false);
    assert_eq!(s.backend.connected(), [3, 5]);
}

#[test]
fn masking_silences_and_unmasking_restores() {
    let s = setup(2);
    s.msix.set_control(LIVE);
    s.program(0, 0xfee0_0000, 1, false);
    s.mask(0, true);
    assert_eq!(s.messages(), [None]);
    s.program(0, 0xfee0_0000, 2, true);
    assert_eq!(s.messages(), [None], "changed while masked");
    s.mask(0, false);
    assert_eq!(s.messages(), [message(0xfee0_0000, 2)]);
    s.msix.set_control(LIVE | CONTROL_FUNCTION_MASK);
    assert_eq!(s.messages(), [None]);
    s.msix.set_control(LIVE);
    assert_eq!(s.messages(), [message(0xfee0_0000, 2)]);
    assert_eq!(*s.backend.disconnects.lock().unwrap(), 0);
}

#[test]
fn a_live_message_follows_the_table() {
    let s = setup(1);
    s.msix.set_control(LIVE);
    s.program(0, 0xfee0_0000, 1, false);
    s.msix.table_write(8, &7u32.to_le_bytes());
    assert_eq!(s.messages(), [message(0xfee0_0000, 7)]);
    let changes = *s.controller.alive()[0].changes.lock().unwrap();
    s.msix.table_write(0, &0x1_fee0_3003u64.to_le_bytes());
    assert_eq!(s.messages(), [message(0x1_fee0_3000, 7)]);
    assert_eq!(*s.controller.alive()[0].changes.lock().unwrap(), changes + 1, "a qword is one change");
    s.msix.table_write(8, &7u32.to_le_bytes());
    assert_eq!(*s.controller.alive()[0].changes.lock().unwrap(), changes + 1, "nothing changed");
}

#[test]
fn turning_off_gives_everything_back_and_keeps_the_table() {
    let s = setup(4);
    s.msix.set_control(LIVE);
    s.program(0, 0xfee0_0000, 1, false);
    s.msix.set_control(0);
    assert!(s.controller.alive().is_empty() && s.backend.connected().is_empty());
    assert_eq!(*s.backend.disconnects.lock().unwrap(), 1);
    s.msix.set_control(LIVE);
    assert_eq!(s.messages(), [message(0xfee0_0000, 1)]);
    s.msix.reset();
    assert!(s.controller.alive().is_empty() && s.backend.connected().is_empty());
    assert_eq!(s.msix.control(), 3);
    s.msix.set_control(LIVE);
    assert!(s.controller.alive().is_empty(), "reset masked the table");
}

#[test]
fn vectors_that_become_live_together_are_set_up_together() {
    let s = setup(2048);
    for vector in 0..2048 {
        s.program(vector, 0xfee0_0000, vector as u32, false);
    }
    s.msix.set_control(LIVE);
    assert_eq!(s.controller.updates.load(Ordering::Relaxed), 1);
    assert_eq!(*s.backend.calls.lock().unwrap(), [(0..2048).collect::<Vec<u16>>()]);
    assert!(s.messages().into_iter().eq((0..2048).map(|data| message(0xfee0_0000, data))));
    s.msix.set_control(LIVE | CONTROL_FUNCTION_MASK);
    s.msix.set_control(LIVE);
    assert_eq!((s.controller.updates.load(Ordering::Relaxed), s.backend.calls.lock().unwrap().len()), (3, 1));
}

#[test]
fn one_that_fails_does_not_take_the_others_with_it() {
    let s = setup(8);
    for vector in 0..8 {
        s.program(vector, 0xfee0_0000, vector as u32, false);
    }
    *s.backend.refused.lock().unwrap() = Some(5);
    s.msix.set_control(LIVE);
    assert_eq!(s.backend.connected(), [0, 1, 2, 3, 4, 6, 7]);
    assert_eq!(s.messages().len(), 7);
    *s.backend.refused.lock().unwrap() = None;
    s.mask(5, true);
    s.mask(5, false);
    assert_eq!(s.backend.connected(), [0, 1, 2, 3, 4, 5, 6, 7]);

    let s = setup(4);
    s.msix.set_control(LIVE);
    (0..4).for_each(|vector| s.program(vector, 0xfee0_0000, vector as u32, false));
    s.msix.set_control(LIVE | CONTROL_FUNCTION_MASK);
    s.controller.alive()[1].refusing.store(true, Ordering::Relaxed);
    s.msix.set_control(LIVE);
    let expected: Vec<_> = (0..4).map(|data| message(0xfee0_0000, data).filter(|_| data != 1)).collect();
    assert_eq!(s.messages(), expected);
}

#[test]
fn a_vector_whose_first_message_fails_is_wired_when_the_next_works() {
    let s = setup(1);
    s.msix.set_control(LIVE);
    s.controller.refusing.store(true, Ordering::Relaxed);
    s.program(0, 0xfee0_0000, 1, false);
    assert!(s.controller.alive().is_empty() && s.backend.connected().is_empty());
    s.controller.refusing.store(false, Ordering::Relaxed);
    s.mask(0, true);
    s.mask(0, false);
    assert_eq!((s.messages(), s.backend.connected()), (vec![message(0xfee0_0000, 1)], vec![0]));
}

#[test]
fn what_was_turned_on_is_turned_off_once_and_nothing_else() {
    let s = setup(4);
    s.msix.set_control(CONTROL_FUNCTION_MASK);
    s.msix.set_control(0);
    assert_eq!((s.backend.enables.load(Ordering::Relaxed), *s.backend.disconnects.lock().unwrap()), (0, 0));
    s.msix.set_control(CONTROL_ENABLE | CONTROL_FUNCTION_MASK);
    s.msix.set_control(LIVE);
    assert_eq!(s.backend.enables.load(Ordering::Relaxed), 1, "on before a vector is unmasked");
    s.msix.set_control(0);
    s.msix.reset();
    assert_eq!(*s.backend.disconnects.lock().unwrap(), 1);
}

#[test]
fn dropping_disconnects() {
    let s = setup(1);
    s.msix.set_control(LIVE);
    s.program(0, 0xfee0_0000, 1, false);
    drop(s.msix);
    assert!(s.controller.alive().is_empty() && s.backend.connected().is_empty());
}

#[test]
fn pending_while_masked_and_raised() {
    let s = setup(70);
    s.msix.set_control(LIVE);
    for vector in [1, 69] {
        s.program(vector, 0xfee0_0000, 1, false);
        s.backend.raise(vector as u16);
    }
    assert_eq!((s.pending(0), s.pending(8)), (0, 0), "live vectors are not pending");
    s.mask(1, true);
    s.mask(69, true);
    assert_eq!((s.pending(0), s.pending(8), s.pending(16)), (1 << 1, 1 << 5, 0));
    let mut byte = [0xff];
    s.msix.pba_read(8, &mut byte);
    assert_eq!(byte, [0x3f], "vector 69 by itself, none past it");
    s.msix.pba_read(u64::MAX / 8 + 1, &mut byte);
    assert_eq!(byte, [0]);
    byte = [0xff];
    s.msix.pba_read(0, &mut byte);
    assert_eq!(byte, [0xff], "what was never unmasked is pending where it would be raised");
    s.mask(0, false);
    s.msix.pba_read(0, &mut byte);
    assert_eq!(byte, [0xfe]);
    s.mask(1, false);
    assert_eq!(s.pending(0), 0);
    s.msix.set_control(0);
    assert_eq!(s.pending(8), 0);
}

#[test]
fn partial_and_stray_accesses() {
    let s = setup(2);
    s.program(0, 0xfee0_1000, 0x1122_3344, true);
    assert_eq!(s.table(9, 1), [0x33]);
    assert_eq!(s.table(10, 2), [0x22, 0x11]);
    assert_eq!(s.table(4, 8), [0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11]);
    for (offset, size) in [(8, 1), (8, 2), (9, 4), (10, 4), (8, 3), (8, 6), (0, 16)] {
        s.msix.table_write(offset, &vec![0xee; size]);
    }
    s.msix.table_write(32, &[0xee; 8]);
    s.msix.table_write(u64::MAX - 3, &[0xee; 4]);
    assert_eq!(s.table(8, 4), [0x44, 0x33, 0x22, 0x11]);
    assert_eq!(s.table(16, 12), [0; 12]);
    // A qword may straddle two entries; reserved bits stay zero.
    s.msix.table_write(12, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0x20, 0xe0, 0xfe]);
    assert_eq!(s.table(12, 8), [0, 0, 0, 0, 0xfc, 0x20, 0xe0, 0xfe]);
}

#[test]
fn a_failing_vector_stays_silent_and_recovers() {
    let s = setup(2);
    s.msix.set_control(LIVE);
    s.controller.exhausted.store(true, Ordering::Relaxed);
    s.program(0, 0xfee0_0000, 1, false);
    s.controller.exhausted.store(false, Ordering::Relaxed);
    s.backend.refusing.store(true, Ordering::Relaxed);
    s.program(1, 0xfee0_0000, 1, false);
    assert!(s.controller.alive().is_empty());
    s.backend.refusing.store(false, Ordering::Relaxed);
    s.mask(0, true);
    s.mask(0, false);
    assert_eq!(s.backend.connected(), [0]);
    s.controller.alive()[0].refusing.store(true, Ordering::Relaxed);
    s.msix.table_write(8, &9u32.to_le_bytes());
    assert_eq!(s.messages(), [None], "neither the new message nor the old one");
    s.controller.alive()[0].refusing.store(false, Ordering::Relaxed);
    s.mask(0, true);
    s.mask(0, false);
    assert_eq!(s.messages(), [message(0xfee0_0000, 9)]);
}

#[test]
fn the_count_stays_in_bounds() {
    assert_eq!(setup(0).msix.count(), 1);
    assert_eq!(setup(u16::MAX).msix.count(), MAX_VECTORS);
}

#[derive(Clone, Debug)]
enum Op {
    Control(u16),
    Write(u64, Vec<u8>),
    Reset,
}

fn any_op() -> impl Strategy<Value = Op> {
    let dword = prop_oneof![Just(0u32), Just(1), any::<u32>()];
    let data = (dword.clone(), dword, 0usize..3).prop_map(|(a, b, kind)| match kind {
        0 => a.to_le_bytes().to_vec(),
        1 => [a.to_le_bytes(), b.to_le_bytes()].concat(),
        _ => a.to_le_bytes()[..(a % 4) as usize].to_vec(),
    });
    prop_oneof![
        3 => (0u16..4).prop_map(|bits| Op::Control(bits << 14)),
        20 => (prop_oneof![(0u64..24).prop_map(|d| d * 4), 0u64..100], data).prop_map(|(o, d)| Op::Write(o, d)),
        1 => Just(Op::Reset),
    ]
}

/// The specification, in the plainest form: five entries of four registers.
struct Model {
    control: u16,
    table: [[u32; 4]; 5],
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Control(value) => self.control = *value,
            Op::Reset => *self = Self::new(),
            Op::Write(offset, data) if offset % 4 == 0 && matches!(data.len(), 4 | 8) => {
                for (i, value) in data.chunks(4).enumerate() {
                    let register = *offset as usize / 4 + i;
                    if let Some(entry) = self.table.get_mut(register / 4) {
                        let mask = [!3, !0, !0, 1][register % 4];
                        entry[register % 4] = u32::from_le_bytes(value.try_into().unwrap()) & mask;
                    }
                }
            }
            Op::Write(..) => {}
        }
    }

    fn new() -> Self {
        Self { control: 0, table: [[0, 0, 0, 1]; 5] }
    }

    fn live(&self, vector: usize) -> Option<MsiMessage> {
        let entry = self.table[vector];
        let live = self.control & 0xc000 == 0x8000 && entry[3] & 1 == 0;
        live.then(|| MsiMessage { address: u64::from(entry[1]) << 32 | u64::from(entry[0]), data: entry[2] })
    }
}

proptest! {
    #[test]
    fn behaves_like_the_model(ops in prop::collection::vec(any_op(), 0..80)) {
        let s = setup(5);
        let mut model = Model::new();
        // Vectors in the order of their first unmasking, which is the order the controller made them in.
        let mut order: Vec<usize> = Vec::new();
        for op in &ops {
            match op {
                Op::Control(value) => s.msix.set_control(*value),
                Op::Write(offset, data) => s.msix.table_write(*offset, data),
                Op::Reset => s.msix.reset(),
            }
            model.apply(op);
            if model.control & CONTROL_ENABLE == 0 {
                order.clear();
            }
            order.extend((0..5).filter(|v| model.live(*v).is_some() && !order.contains(v)).collect::<Vec<_>>());
            let expected: Vec<_> = order.iter().map(|vector| model.live(*vector)).collect();
            prop_assert_eq!(s.messages(), expected);
            let mut connected: Vec<u16> = order.iter().map(|vector| *vector as u16).collect();
            connected.sort_unstable();
            prop_assert_eq!(s.backend.connected(), connected);
            let table: Vec<u8> = model.table.iter().flatten().flat_map(|r| r.to_le_bytes()).collect();
            prop_assert_eq!(s.table(0, 80), table);
            let raised: Vec<_> = order.iter().filter(|vector| *vector % 2 == 0).collect();
            for vector in &raised {
                s.backend.raise(**vector as u16);
            }
            let pending = raised.iter().filter(|vector| model.live(***vector).is_none());
            prop_assert_eq!(s.pending(0), pending.fold(0, |bits, vector| bits | 1 << **vector));
        }
    }
}
