use std::sync::{Arc, Mutex};

use super::*;

/// Remembers what is signalled, as VFIO does.
#[derive(Default)]
struct FakeIrqs {
    trigger: Mutex<Option<RawFd>>,
    refusing: bool,
}

impl SetIrqs for Arc<FakeIrqs> {
    fn count(&self) -> u32 {
        1
    }

    fn resizable(&self) -> bool {
        false
    }

    fn set(&self, start: u32, triggers: &[RawFd]) -> io::Result<()> {
        assert_eq!((start, triggers.len()), (0, 1));
        *self.trigger.lock().unwrap() = Some(triggers[0]);
        if self.refusing { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
    }

    fn disable(&self) -> io::Result<()> {
        *self.trigger.lock().unwrap() = None;
        Ok(())
    }

    fn owner(&self) -> String {
        "0000:01:00.0".into()
    }
}

#[test]
fn it_is_signalled_while_it_lives() {
    let irqs = Arc::new(FakeIrqs::default());
    let address = "0000:01:00.0".parse().unwrap();
    let notice = Notice::new(irqs.clone(), address, Subject::Request).unwrap();
    assert_eq!(*irqs.trigger.lock().unwrap(), Some(notice.as_raw_fd()));
    assert_eq!(notice.arrived(), None);
    notice.eventfd.write(1).unwrap();
    assert_eq!(notice.arrived().unwrap().to_string(), "the host wants 0000:01:00.0 back");
    assert_eq!(notice.arrived(), None);
    drop(notice);
    assert_eq!(*irqs.trigger.lock().unwrap(), None);
}

#[test]
fn one_that_the_host_refuses_is_none() {
    let address = "0000:01:00.0".parse().unwrap();
    let irqs = Arc::new(FakeIrqs { refusing: true, ..Default::default() });
    assert!(Notice::new(irqs, address, Subject::Failure(ErrorCounts::default())).is_err());
}

#[test]
fn each_loss_says_what_to_do() {
    let address = "0000:01:00.0".parse().unwrap();
    let failed = |errors: &[&str]| DeviceLoss::Failed {
        address,
        errors: errors.iter().map(|error| (*error).to_owned()).collect(),
    };
    assert_eq!(failed(&[]).to_string(), "0000:01:00.0 reported an uncorrectable error");
    assert_eq!(
        failed(&["DLP (fatal)", "TLP (non-fatal)"]).to_string(),
        "0000:01:00.0 reported an uncorrectable error: DLP (fatal), TLP (non-fatal)"
    );
    for loss in [failed(&[]), DeviceLoss::Wanted(address)] {
        let help = loss.help().unwrap().to_string();
        assert!(loss.to_string().contains("0000:01:00.0") && help.contains("guest was stopped"));
    }
}
