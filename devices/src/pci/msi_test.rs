use proptest::prelude::*;

use super::*;
use crate::pci::{BarSet, ConfigSpace};
use crate::testing::{FakeBackend, FakeController};

struct Setup {
    msi: Msi,
    controller: Arc<FakeController>,
    backend: Arc<FakeBackend>,
}

fn setup(shape: MsiShape) -> Setup {
    let (controller, backend) = (FakeController::new(), FakeBackend::new());
    Setup { msi: Msi::new(shape, controller.clone(), backend.clone()), controller, backend }
}

impl Setup {
    fn update(&self, control: u16, address: u64, data: u16, mask: u32) {
        self.msi.update(&self.msi.shape().body(control, address, data, mask));
    }

    fn messages(&self) -> Vec<Option<(u64, u32)>> {
        let message = |v: &Arc<crate::testing::FakeVector>| *v.message.lock().unwrap();
        self.controller.alive().iter().map(|v| message(v).map(|m| (m.address, m.data))).collect()
    }
}

#[test]
fn the_four_forms_have_the_sizes_of_the_specification() {
    for (wide, maskable, size, pending) in [
        (false, false, 0x0a, None),
        (true, false, 0x0e, None),
        (false, true, 0x14, Some(0x10)),
        (true, true, 0x18, Some(0x14)),
    ] {
        let shape = MsiShape::new(4, wide, maskable);
        assert_eq!((shape.size(), shape.pending_offset()), (size, pending));
        assert_eq!(shape.capability().len(), usize::from(size) - 2);
        assert_eq!(shape.writable().len(), usize::from(size) - 2);
        let control = u16::from_le_bytes(shape.capability()[..2].try_into().unwrap());
        assert_eq!(MsiShape::from_control(control), shape);
    }
    assert_eq!(MsiShape::from_control(0xffff).count(), 32);
    assert_eq!([0, 1, 3, 32, 255].map(|n| MsiShape::new(n, true, true).count()), [1, 1, 4, 32, 32]);
    assert_eq!(MsiShape::new(32, false, true).writable()[10..14], [0xff; 4]);
    assert_eq!(MsiShape::new(2, false, true).writable()[10..14], [3, 0, 0, 0]);
}

#[test]
fn enabling_wires_the_allotted_vectors() {
    let s = setup(MsiShape::new(8, true, false));
    s.update(0x20, 0x1_fee0_1000, 0x4f, 0);
    assert!(s.controller.alive().is_empty());
    s.update(0x21, 0x1_fee0_1003, 0x4f, 0);
    let expected: Vec<_> = (0..4).map(|n| Some((0x1_fee0_1000, 0x4c + n))).collect();
    assert_eq!(s.messages(), expected);
    assert_eq!(s.backend.connected(), [0, 1, 2, 3]);
    s.update(0x01, 0xfee0_1000, 0x4f, 0);
    assert_eq!(s.messages(), [Some((0xfee0_1000, 0x4f)), None, None, None]);
    s.update(0x71, 0xfee0_1000, 0x40, 0);
    assert_eq!(s.backend.connected(), [0, 1, 2, 3, 4, 5, 6, 7], "never more than offered");
    s.update(0x70, 0xfee0_1000, 0x40, 0);
    assert!(s.controller.alive().is_empty() && s.backend.connected().is_empty());
    assert_eq!(*s.backend.disconnects.lock().unwrap(), 1);
}

#[test]
fn masked_vectors_collect_and_show_as_pending() {
    let s = setup(MsiShape::new(2, false, true));
    s.update(0x11, 0xfee0_0000, 0x30, 0b10);
    assert_eq!(s.backend.connected(), [0], "a vector never unmasked costs nothing");
    s.update(0x11, 0xfee0_0000, 0x30, 0b00);
    s.update(0x11, 0xfee0_0000, 0x30, 0b10);
    assert_eq!(s.messages(), [Some((0xfee0_0000, 0x30)), None]);
    s.backend.raise(0);
    s.backend.raise(1);
    assert_eq!(s.msi.pending(), 0b10);
    s.msi.reset();
    assert_eq!(s.msi.pending(), 0);
    assert!(s.controller.alive().is_empty());
}

#[test]
fn works_from_configuration_space() {
    let s = setup(MsiShape::new(1, true, true));
    let mut config = ConfigSpace::new(&Default::default(), BarSet::new());
    let shape = s.msi.shape();
    let at = config.add_capability(0x05, &shape.capability(), &shape.writable()).unwrap();
    config.write(at + 4, &[0xff; 4]);
    config.write(at + 0xc, &[0x55, 0]);
    config.write(at + 2, &[0xff; 2]);
    let mut body = [0; 0x16];
    config.read(at + 2, &mut body);
    s.msi.update(&body);
    assert_eq!(s.messages(), [Some((0xffff_fffc, 0x55))]);
}

proptest! {
    #[test]
    fn exactly_the_live_vectors_have_messages(
        control in 0u16..0x200,
        steps in prop::collection::vec((any::<u16>(), any::<u64>(), any::<u16>(), any::<u32>()), 1..12),
    ) {
        let shape = MsiShape::from_control(control);
        let s = setup(shape);
        for (control, address, data, mask) in steps {
            s.update(control, address, data, mask);
            let enabled = control & 1 != 0;
            let allotted = 1u16 << (control >> 4 & 7).min(shape.order);
            let mask = if shape.maskable { mask } else { 0 };
            let live = |v: &u16| enabled && *v < allotted && mask >> v & 1 == 0;
            let address = if shape.wide { address & !3 } else { address & 0xffff_fffc };
            let mut expected: Vec<_> = (0..shape.count()).filter(live)
                .map(|v| (address, u32::from(data / allotted * allotted + v))).collect();
            let mut messages: Vec<_> = s.messages().into_iter().flatten().collect();
            expected.sort_unstable();
            messages.sort_unstable();
            prop_assert_eq!(messages, expected);
            prop_assert!((0..shape.count()).filter(live).all(|v| s.backend.connected().contains(&v)));
        }
    }

    #[test]
    fn any_bytes_are_safe(control: u16, body in prop::collection::vec(any::<u8>(), 0..40)) {
        let s = setup(MsiShape::from_control(control));
        s.msi.update(&body);
        s.msi.reset();
        prop_assert!(s.controller.alive().is_empty());
    }
}
