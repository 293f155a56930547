//! MSI-X tables and MSI capabilities, and vectors that the host cannot always connect.

use std::sync::Arc;

use devices::pci::{Msi, MsiShape, Msix};

use crate::Input;
use crate::fakes::{Backend, controller};

/// So many actions make one input.
const MOST_STEPS: usize = 300;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (msix_vectors, msi_vectors) = (Arc::<Backend>::default(), Arc::<Backend>::default());
    let msix = Msix::new(input.pick(&[1, 2, 3, 33, 64, 65, 2048]), controller(), msix_vectors.clone());
    let shape = MsiShape::from_control(input.word());
    let msi = Msi::new(shape, controller(), msi_vectors.clone());
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 10 {
            0..3 => msix.table_write(place(&mut input), &input.access(8)),
            3 => msix.set_control(input.word()),
            4 => {
                let mut data = input.access(8);
                msix.table_read(place(&mut input), &mut data);
                msix.pba_read(place(&mut input), &mut data);
            }
            5 => msix.reset(),
            6 => {
                let size = usize::from(shape.size()).saturating_sub(2);
                let mut body = input.bytes(size).to_vec();
                body.resize(size, 0);
                msi.update(&body);
                let _ = msi.pending();
            }
            7 => msi.reset(),
            8 => {
                let refusing = input.flag();
                msix_vectors.refuse(refusing);
                msi_vectors.refuse(refusing);
            }
            _ => {
                let vector = input.word();
                msix_vectors.raise(vector);
                msi_vectors.raise(vector);
            }
        }
    }
    msix.reset();
    msi.reset();
    assert!(msix_vectors.is_idle() && msi_vectors.is_idle(), "a vector is connected after a reset");
}

/// In a table, mostly.
fn place(input: &mut Input) -> u64 {
    let place = u64::from(input.word());
    match input.byte() & 3 {
        0 => input.qword(),
        1 => place & 0x7f,
        2 => place & 0x7ffc,
        _ => place,
    }
}
