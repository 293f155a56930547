//! A QEMU that is new enough. Debian 12's own, 7.2, loses a nested guest's timer interrupt now and then, which stops it.

use std::process::Command;

use super::apt::Apt;
use super::{SetupError, packages};
use crate::tool;

/// Known to be good.
const OLDEST: u32 = 10;
const PACKAGE: &str = "qemu-system-x86";

/// Installs it from the backports where that is possible.
pub(super) fn ensure(apt: &mut Apt) -> Result<(), SetupError> {
    if new_enough()? {
        return Ok(());
    }
    if packages::can_install() {
        apt.install_backport(PACKAGE)?;
    }
    if new_enough()? {
        return Ok(());
    }
    let missing = vec![format!("QEMU {OLDEST} or newer")];
    Err(SetupError::Missing { missing, packages: vec![PACKAGE.to_owned()] })
}

fn new_enough() -> Result<bool, SetupError> {
    let text = tool::capture(Command::new("qemu-system-x86_64").arg("--version"))?;
    Ok(major(&text).is_some_and(|major| major >= OLDEST))
}

/// From `QEMU emulator version 10.0.2 (Debian ...)`.
fn major(text: &str) -> Option<u32> {
    text.split_once("version ")?.1.split('.').next()?.parse().ok()
}

#[cfg(test)]
#[path = "qemu_test.rs"]
mod tests;
