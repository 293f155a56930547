//! Answers as tables for people.

use serde_json::Value;

use ::memory::bytes::Bytes;

use super::client::Answer;

/// As it came.
pub(crate) fn text(answer: &Answer) -> String {
    match answer.text() {
        text if text.is_empty() || text.ends_with('\n') => text,
        text => text + "\n",
    }
}

/// `vmm 0.1.0, process 4711`
pub(crate) fn ping(answer: &Answer) -> String {
    let body = json(answer);
    format!("{}, process {}\n", word(&body, "build_version"), word(&body, "pid"))
}

pub(crate) fn state(answer: &Answer) -> String {
    word(&json(answer), "state") + "\n"
}

/// What is in the way of a start, each problem as `vmm check` has it.
pub(crate) fn preflight(answer: &Answer) -> String {
    let body = json(answer);
    let problems = body.get("problems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut text = String::new();
    for problem in problems {
        let mut lines = problem.as_array().into_iter().flatten().map(plain);
        text.push_str(&format!("problem: {}\n", lines.next().unwrap_or_default()));
        lines.for_each(|line| text.push_str(&format!("   {line}\n")));
    }
    if problems.is_empty() { "ready\n".to_owned() } else { text }
}

/// Where an added device is.
pub(crate) fn added(answer: &Answer) -> String {
    if answer.body.is_empty() {
        return "added; the guest has it when it boots\n".to_owned();
    }
    let body = json(answer);
    format!("{} is {} in the guest\n", word(&body, "id"), word(&body, "bdf"))
}

pub(crate) fn info(answer: &Answer) -> String {
    let body = json(answer);
    let at = |path: &str| body.pointer(path).map(plain).unwrap_or_default();
    let memory = body.pointer("/memory_actual_size").and_then(Value::as_u64).unwrap_or(0);
    let serial = [at("/config/serial/mode"), at("/config/serial/file")].join(" ");
    let mut rows: Vec<Vec<String>> = [
        ("state", at("/state")),
        ("vCPUs", at("/config/cpus/boot_vcpus")),
        ("memory", Bytes(memory).to_string()),
        ("kernel", at("/config/payload/kernel")),
        ("initramfs", at("/config/payload/initramfs")),
        ("cmdline", at("/config/payload/cmdline")),
        ("serial", serial.trim().to_owned()),
        ("balloon", balloon(&body)),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| vec![name.to_owned(), value])
    .collect();
    let devices = body.pointer("/config/devices").and_then(Value::as_array);
    for device in devices.into_iter().flatten() {
        let id = word(device, "id");
        let path = word(device, "path");
        let host = path.rsplit('/').next().unwrap_or_default();
        let guest = body.get("device_tree").and_then(|tree| tree.get(&id)).map(|node| word(node, "pci_bdf"));
        let place = guest.map(|guest| format!(", {guest} in the guest")).unwrap_or_default();
        rows.push(vec!["device".to_owned(), format!("{id}: {host}{place}")]);
    }
    rows.extend(plugged(&body));
    table(&rows)
}

/// `64 MiB of 128 MiB; the guest has 40 MiB available of 480 MiB`
fn balloon(body: &Value) -> String {
    let bytes = |path: &str| body.pointer(path).and_then(Value::as_u64).map(Bytes);
    let (Some(actual), Some(target)) = (bytes("/balloon/actual"), bytes("/balloon/target")) else {
        return String::new();
    };
    let guest = |name: &str| bytes(&format!("/balloon/statistics/guest/{name}"));
    let of_guest = guest("available_bytes").zip(guest("total_bytes"));
    let guest = of_guest.map(|(free, all)| format!("; the guest has {free} available of {all}"));
    format!("{actual} of {target}{}", guest.unwrap_or_default())
}

/// A row for each virtio device that can be taken out: those have names.
fn plugged(body: &Value) -> Vec<Vec<String>> {
    let list = |list: &str, what: &str| {
        let devices = body.pointer(&format!("/config/{list}"));
        let devices = devices.map(|it| it.as_array().cloned().unwrap_or_else(|| vec![it.clone()]));
        let row = |device: &Value| {
            let id = device.get("id")?.as_str()?;
            let guest = body.get("device_tree").and_then(|tree| tree.get(id));
            let place =
                guest.map(|node| format!(", {} in the guest", word(node, "pci_bdf"))).unwrap_or_default();
            Some(vec!["device".to_owned(), format!("{id}: {}{place}", word(device, what))])
        };
        devices.iter().flatten().filter_map(row).collect::<Vec<_>>()
    };
    [("disks", "path"), ("net", "tap"), ("fs", "tag"), ("vsock", "socket")]
        .into_iter()
        .flat_map(|(devices, what)| list(devices, what))
        .collect()
}

/// A table for each kind of part: a row for each part, a column for what it counts.
pub(crate) fn counters(answer: &Answer) -> String {
    let body = json(answer);
    let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
    for (part, counters) in body.as_object().into_iter().flatten() {
        let Some(counters) = counters.as_object() else { continue };
        let head: Vec<String> = std::iter::once(String::new()).chain(counters.keys().cloned()).collect();
        let row = std::iter::once(part.clone()).chain(counters.values().map(plain)).collect();
        match tables.iter_mut().find(|rows| rows.first() == Some(&head)) {
            Some(rows) => rows.push(row),
            None => tables.push(vec![head, row]),
        }
    }
    tables.iter().map(|rows| table(rows)).collect::<Vec<_>>().join("\n")
}

/// A row for each phase: name, milliseconds, and GiB/s where memory was moved.
pub(crate) fn phases(answer: &Answer) -> String {
    let body = json(answer);
    let mut rows = vec![["phase", "ms", "GiB/s"].map(str::to_owned).to_vec()];
    for phase in body.as_array().into_iter().flatten() {
        let ms = phase.get("ms").and_then(Value::as_f64).unwrap_or(0.0);
        let rate =
            phase.get("bytes").and_then(Value::as_f64).map(|bytes| bytes / f64::from(1 << 30) / (ms / 1e3));
        let rate = rate.map(|rate| format!("{rate:.2}")).unwrap_or_default();
        rows.push(vec![word(phase, "phase"), format!("{ms:.2}"), rate]);
    }
    table(&rows)
}

/// What was pinned and what it took, or why it failed. All of it is in `--json`.
pub(crate) fn pin_report(answer: &Answer) -> String {
    let body = json(answer);
    let mut rows = vec![vec!["outcome".to_owned(), word(&body, "outcome")]];
    for part in ["pinned", "failed"] {
        let fields = body.get(part).and_then(Value::as_object);
        for (name, value) in fields.into_iter().flatten() {
            if !value.is_object()
                && !value.is_null()
                && value.as_array().is_none_or(|list| list.iter().all(Value::is_string))
            {
                rows.push(vec![name.replace('_', " "), plain(value)]);
            }
        }
    }
    table(&rows)
}

pub(super) fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

pub(crate) fn word(value: &Value, name: &str) -> String {
    value.get(name).map(plain).unwrap_or_default()
}

/// A value without JSON's marks.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Columns as wide as they need to be, two spaces between them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[path = "show_test.rs"]
mod tests;
