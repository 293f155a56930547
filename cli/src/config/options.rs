//! The flags of a machine, and what their values look like: what [`schema`](crate::grammar::schema) finds in the fields of
//! [`Config`](super::Config), written down, since finding it would take every start longer than all else that is done about flags.

/// What is made of the value of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// True or false; true if nothing is said.
    Switch,
    /// All of it is one value.
    Text,
    /// Keys and values, or words.
    Keys,
    /// Values with commas between them. May be repeated.
    List,
    /// Keys and values of one of several. May be repeated.
    ListOfKeys,
}

/// All flags, in the order of the fields. A test compares them, and says what is to be written here.
pub(crate) const OPTIONS: &[(&str, Look)] = &[
    ("kernel", Look::Text),
    ("initrd", Look::Text),
    ("cmdline", Look::Text),
    ("memory", Look::Text),
    ("hugepages", Look::Text),
    ("cpus", Look::Text),
    ("numa", Look::ListOfKeys),
    ("cpu-affinity", Look::Text),
    ("cpu-realtime", Look::Text),
    ("halt-poll", Look::Text),
    ("housekeeping-cpus", Look::Text),
    ("vfio", Look::ListOfKeys),
    ("iommufd", Look::Keys),
    ("pcie-ports", Look::Text),
    ("disk", Look::ListOfKeys),
    ("pmem", Look::ListOfKeys),
    ("net", Look::ListOfKeys),
    ("fs", Look::ListOfKeys),
    ("rng", Look::Switch),
    ("on-panic", Look::Text),
    ("watchdog", Look::Text),
    ("on-reboot", Look::Text),
    ("on-exit", Look::Text),
    ("vsock", Look::Keys),
    ("console", Look::ListOfKeys),
    ("hotplug-memory", Look::Keys),
    ("balloon", Look::Keys),
    ("prefault", Look::Text),
    ("pin-verify", Look::Text),
    ("pin-deadline", Look::Text),
    ("pin-root-help", Look::List),
    ("report", Look::Text),
    ("metrics", Look::Text),
    ("events", Look::Keys),
    ("api-socket", Look::Text),
    ("sandbox", Look::Keys),
    ("grace", Look::Text),
    ("debug-exit", Look::Switch),
];

#[cfg(test)]
#[path = "options_test.rs"]
mod tests;
