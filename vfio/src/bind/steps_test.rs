use std::cell::{Cell, RefCell};
use std::io;

use super::*;

const NVME: Identity = Identity { vendor: 0x144d, device: 0xa808 };

/// A device and the kernel's half of sysfs, as pci-driver.c and dd.c behave. Whoever works on it can be killed before
/// any change.
struct Kernel {
    /// What the kernel would pick by itself.
    native: Option<&'static str>,
    /// Drivers that refuse the device.
    refusing: Vec<&'static str>,
    loaded: Vec<&'static str>,
    driver: RefCell<Option<String>>,
    driver_override: RefCell<Option<String>>,
    record: RefCell<Option<Record>>,
    /// Changes until the end.
    alive: Cell<usize>,
}

impl Kernel {
    fn new(driver: Option<&'static str>) -> Self {
        Self {
            native: driver,
            refusing: Vec::new(),
            loaded: driver.into_iter().chain([VFIO_PCI]).collect(),
            driver: RefCell::new(driver.map(str::to_owned)),
            driver_override: RefCell::default(),
            record: RefCell::default(),
            alive: Cell::new(usize::MAX),
        }
    }

    fn with_override(self, name: &str) -> Self {
        *self.driver_override.borrow_mut() = Some(name.to_owned());
        self
    }

    fn change(&self) -> Result<(), BindError> {
        let left = self.alive.get().checked_sub(1).ok_or_else(|| error(io::ErrorKind::Interrupted))?;
        self.alive.set(left);
        Ok(())
    }

    fn is_wanted_by(&self, driver: &str) -> bool {
        match self.driver_override.borrow().as_deref() {
            Some(only) => driver == only,
            None => self.native == Some(driver),
        }
    }

    fn try_bind(&self, driver: &str) -> Result<(), BindError> {
        if self.driver.borrow().is_some() {
            return Err(error(io::ErrorKind::ResourceBusy));
        }
        if !self.loaded.contains(&driver) || !self.is_wanted_by(driver) || self.refusing.contains(&driver) {
            return Err(error(io::ErrorKind::NotFound));
        }
        *self.driver.borrow_mut() = Some(driver.to_owned());
        Ok(())
    }

    /// Driver, override, and whether there is a record.
    fn state(&self) -> (Option<String>, Option<String>, bool) {
        (self.driver.borrow().clone(), self.driver_override.borrow().clone(), self.record.borrow().is_some())
    }
}

fn error(kind: io::ErrorKind) -> BindError {
    BindError::Write { path: "/sys".into(), source: kind.into() }
}

impl Slot for Kernel {
    fn driver(&self) -> Option<String> {
        self.driver.borrow().clone()
    }

    fn driver_override(&self) -> Result<Option<String>, BindError> {
        Ok(self.driver_override.borrow().clone())
    }

    fn set_override(&self, driver: Option<&str>) -> Result<(), BindError> {
        self.change()?;
        *self.driver_override.borrow_mut() = driver.map(str::to_owned);
        Ok(())
    }

    fn detach(&self, driver: &str) -> Result<(), BindError> {
        self.change()?;
        if self.driver().as_deref() != Some(driver) {
            return Err(error(io::ErrorKind::NotFound));
        }
        *self.driver.borrow_mut() = None;
        Ok(())
    }

    fn attach(&self, driver: &str) -> Result<(), BindError> {
        self.change()?;
        self.try_bind(driver)
    }

    fn probe(&self) -> Result<(), BindError> {
        self.change()?;
        // Says nothing of what comes of it.
        let _ = self.loaded.iter().any(|driver| self.try_bind(driver).is_ok());
        Ok(())
    }

    fn record(&self) -> Option<Record> {
        self.record.borrow().clone()
    }

    fn write_record(&self, record: &Record) -> Result<(), BindError> {
        self.change()?;
        *self.record.borrow_mut() = Some(record.clone());
        Ok(())
    }

    fn remove_record(&self) -> Result<(), BindError> {
        self.change()?;
        *self.record.borrow_mut() = None;
        Ok(())
    }
}

/// Devices as they come: with a driver, with one by override, with none.
fn devices() -> Vec<Kernel> {
    let stub = Kernel {
        native: Some("nvme"),
        loaded: vec!["nvme", "pci-stub", VFIO_PCI],
        ..Kernel::new(Some("pci-stub"))
    };
    vec![Kernel::new(Some("nvme")), Kernel::new(None), stub.with_override("pci-stub")]
}

#[test]
fn a_device_goes_to_vfio_and_back() {
    for kernel in devices() {
        let (driver, driver_override, _) = kernel.state();
        assert_eq!(hand_over(&kernel, NVME).unwrap(), (driver.clone(), true));
        assert_eq!(kernel.state(), (Some(VFIO_PCI.into()), Some(VFIO_PCI.into()), true));
        // Again changes nothing, and still knows.
        assert_eq!(hand_over(&kernel, NVME).unwrap(), (driver.clone().or(Some(VFIO_PCI.into())), false));
        assert_eq!(give_back(&kernel, NVME).unwrap(), (driver.clone(), true));
        assert_eq!(kernel.state(), (driver.clone(), driver_override, false));
        if driver.is_some() {
            assert_eq!(give_back(&kernel, NVME).unwrap(), (driver, false));
        }
    }
}

#[test]
fn killed_at_any_step_either_way_leads_on() {
    type Way = fn(&Kernel) -> Result<(Option<String>, bool), BindError>;
    let there: Way = |kernel| hand_over(kernel, NVME);
    let back: Way = |kernel| give_back(kernel, NVME);
    let mut kills = 0;
    for index in 0..devices().len() {
        for (first, second) in [(there, None), (there, Some(back)), (there, Some(there))] {
            for survived in 0.. {
                let kernel = devices().swap_remove(index);
                let (driver, driver_override, _) = kernel.state();
                let whole = second.is_none_or(|_| first(&kernel).is_ok());
                assert!(whole);
                kernel.alive.set(survived);
                let ended = second.unwrap_or(first)(&kernel);
                kernel.alive.set(usize::MAX);
                // Forth, or at once back.
                if survived % 2 == 0 {
                    there(&kernel).unwrap();
                    assert_eq!(kernel.state(), (Some(VFIO_PCI.into()), Some(VFIO_PCI.into()), true));
                }
                back(&kernel).unwrap();
                assert_eq!(kernel.state(), (driver, driver_override, false), "killed after {survived}");
                if ended.is_ok() {
                    break;
                }
                kills += 1;
            }
        }
    }
    assert!(kills > 15, "{kills}");
}

#[test]
fn a_device_that_vfio_refuses_keeps_its_driver() {
    let kernel = Kernel { refusing: vec![VFIO_PCI], ..Kernel::new(Some("nvme")) };
    hand_over(&kernel, NVME).unwrap_err();
    assert_eq!(kernel.state(), (Some("nvme".into()), None, false));
}

#[test]
fn a_driver_that_is_gone_can_be_loaded_later() {
    let mut kernel = Kernel::new(Some("nvme"));
    hand_over(&kernel, NVME).unwrap();
    kernel.loaded = vec![VFIO_PCI];
    give_back(&kernel, NVME).unwrap_err();
    assert_eq!(kernel.state(), (None, None, true));
    kernel.loaded.push("nvme");
    assert_eq!(give_back(&kernel, NVME).unwrap(), (Some("nvme".into()), true));
    assert_eq!(kernel.state(), (Some("nvme".into()), None, false));
}

#[test]
fn without_a_record_whichever_driver_wants_it_has_it() {
    let kernel = Kernel { native: Some("nvme"), loaded: vec!["nvme", VFIO_PCI], ..Kernel::new(None) };
    *kernel.driver.borrow_mut() = Some(VFIO_PCI.into());
    let kernel = kernel.with_override(VFIO_PCI);
    assert_eq!(hand_over(&kernel, NVME).unwrap(), (Some(VFIO_PCI.into()), false));
    assert_eq!(give_back(&kernel, NVME).unwrap(), (Some("nvme".into()), true));
    assert_eq!(kernel.state(), (Some("nvme".into()), None, false));
}

#[test]
fn the_record_of_another_device_is_not_believed() {
    let kernel = Kernel::new(Some("nvme"));
    let other = Record { vendor: 0x8086, device: 1, driver: Some("e1000e".into()), driver_override: None };
    *kernel.record.borrow_mut() = Some(other.clone());
    assert_eq!(hand_over(&kernel, NVME).unwrap(), (Some("nvme".into()), true));
    assert_eq!(kernel.record().unwrap().driver.as_deref(), Some("nvme"));
    *kernel.record.borrow_mut() = Some(other);
    assert_eq!(give_back(&kernel, NVME).unwrap(), (Some("nvme".into()), true));
    assert_eq!(kernel.state(), (Some("nvme".into()), None, false));
}

#[test]
fn a_stale_record_yields_to_what_is() {
    let kernel =
        Kernel { loaded: vec!["other", VFIO_PCI], native: Some("other"), ..Kernel::new(Some("other")) };
    let stale = Record { vendor: 0x144d, device: 0xa808, driver: Some("nvme".into()), driver_override: None };
    *kernel.record.borrow_mut() = Some(stale);
    // An override of ours that was left is not what the device was meant for.
    let kernel = kernel.with_override(VFIO_PCI);
    assert_eq!(hand_over(&kernel, NVME).unwrap(), (Some("other".into()), true));
    assert_eq!(give_back(&kernel, NVME).unwrap(), (Some("other".into()), true));
    assert_eq!(kernel.state(), (Some("other".into()), None, false));
}
