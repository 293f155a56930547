//! Loads the modules of the archive, in the order its builder has worked out.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rustix::io::Errno;
use rustix::system::finit_module;

use super::summary::Report;
use super::system::{System, text};
use crate::initramfs::{MODULES_DIR, NOTES_FILE, ORDER_FILE, modules::module_name};

/// The file is compressed and the kernel is to decompress it (`MODULE_INIT_COMPRESSED_FILE` of
/// linux/module.h).
const COMPRESSED_FILE: i32 = 4;

/// Loads them and says so, with a problem for each cause of one not loading.
pub(super) fn load(system: &System, report: &mut Report<'_>) {
    let dir = system.path(MODULES_DIR);
    let order = text(&dir.join(ORDER_FILE)).unwrap_or_default();
    let mut loaded = Vec::new();
    let mut refused: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in order.lines() {
        match load_one(&dir.join(file)) {
            // Present already: built in, or loaded by the kernel itself.
            Ok(()) | Err(Errno::EXIST) => loaded.push(module_name(file)),
            Err(error) => refused.entry(explain(file, error)).or_default().push(file),
        }
    }
    if !loaded.is_empty() {
        report.say(&format!("modules {} loaded: {}", loaded.len(), loaded.join(" ")));
    }
    for (why, files) in refused {
        report.problem(&format!("cannot load {}: {why}", files.join(" ")));
    }
    for note in text(&dir.join(NOTES_FILE)).unwrap_or_default().lines() {
        report.say(&format!("note: {note}"));
    }
}

fn load_one(path: &Path) -> Result<(), Errno> {
    let file = File::open(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let flags = if is_compressed(path) { COMPRESSED_FILE } else { 0 };
    finit_module(&file, c"", flags)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension != "ko")
}

/// Why a module was refused, with what to do where the number alone would mislead.
fn explain(file: &str, error: Errno) -> String {
    match error {
        Errno::NOSYS => "this kernel loads no modules".to_owned(),
        // Before 5.17 the flag is invalid; after it, a kernel may lack support or the right decompressor.
        Errno::OPNOTSUPP | Errno::INVAL if is_compressed(Path::new(file)) => format!(
            "this kernel cannot decompress it ({error}); it needs CONFIG_MODULE_DECOMPRESS (5.17 and later) \
             for this format, an uncompressed module, or an --initrd with the driver"
        ),
        Errno::NOEXEC => format!("it is not a module of this kernel ({error})"),
        Errno::NOENT => format!("it needs a symbol that no loaded module has ({error})"),
        error => error.to_string(),
    }
}

#[cfg(test)]
#[path = "modules_test.rs"]
mod tests;
