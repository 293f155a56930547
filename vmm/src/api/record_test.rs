use std::time::Duration;

use super::*;

struct Nobody;

impl Observer for Nobody {
    fn notify(&self, _: &Event) {}
}

#[test]
fn progress_is_there_while_memory_is_pinned_for_a_start_or_a_device() {
    let record = Arc::new(StartRecord::default());
    let recorder = Recorder {
        record: record.clone(),
        spec: MachineSpec::for_api(),
        next: Arc::new(Nobody),
        starting: Box::new(|| {}),
    };
    let progress = Progress {
        step: Step::Pinning,
        done: 1 << 30,
        total: 4 << 30,
        retries: 2,
        elapsed: Duration::from_millis(1500),
    };
    let json = json!({
        "step": "pinning", "done": 1_u64 << 30, "total": 4_u64 << 30, "retries": 2, "ms": 1500.0
    });
    recorder.notify(&Event::Pinning(&progress));
    assert_eq!(record.progress(), Some(json.clone()));
    recorder.notify(&Event::Plugging(None));
    assert_eq!(record.progress(), None);
    recorder.notify(&Event::Plugging(Some(&progress)));
    assert_eq!(record.progress(), Some(json));
    recorder.notify(&Event::Plugging(None));
    assert_eq!(record.progress(), None);
}
