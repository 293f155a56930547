//! Which kernel a guest boots when none is named, and which release a kernel image is of.
//!
//! The choice is a pure function of the running release and a listing of `/boot`. The release inside a
//! bzImage is where `Documentation/arch/x86/boot.rst` of the kernel says (`kernel_version`).

use std::cmp::Ordering;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

const PREFIXES: [&str; 2] = ["vmlinuz-", "vmlinux-"];
/// What package managers and administrators append to a kernel that is not meant to be booted any more.
const LEFTOVERS: [&str; 6] = [".old", ".bak", ".orig", "~", ".dpkg-new", ".dpkg-tmp"];

/// A kernel found in the boot directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DefaultKernel {
    /// The image.
    pub(crate) path: PathBuf,
    /// Its release, as in `/lib/modules/RELEASE`.
    pub(crate) release: String,
}

/// Why there is no default kernel.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum NoKernel {
    /// The boot directory could not be listed.
    #[error("cannot look for a kernel in {}", dir.display())]
    #[diagnostic(help("name a kernel with --kernel FILE (a bzImage, or an ELF vmlinux)"))]
    Unreadable {
        /// The boot directory.
        dir: PathBuf,
        /// What listing it said.
        #[source]
        source: io::Error,
    },
    /// It has no kernel.
    #[error("no kernel in {}: neither vmlinuz-{release} nor any other vmlinuz-* or vmlinux-*", dir.display())]
    #[diagnostic(help(
        "name a kernel with --kernel FILE (a bzImage, or an ELF vmlinux), or install one: \
                       apt install linux-image-cloud-amd64"
    ))]
    None {
        /// The boot directory.
        dir: PathBuf,
        /// The running kernel's release.
        release: String,
    },
}

/// Finds the running system's kernel in `/boot`, or else the newest one there.
///
/// # Errors
/// [`NoKernel`].
pub(crate) fn find() -> Result<DefaultKernel, NoKernel> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    find_in(Path::new("/boot"), &release)
}

fn find_in(dir: &Path, release: &str) -> Result<DefaultKernel, NoKernel> {
    let unreadable = |source| NoKernel::Unreadable { dir: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        names.extend(entry.map_err(unreadable)?.file_name().into_string());
    }
    let name = choose(release, names.iter().map(String::as_str))
        .ok_or_else(|| NoKernel::None { dir: dir.to_owned(), release: release.to_owned() })?;
    let release = release_in_name(name).unwrap_or_default().to_owned();
    Ok(DefaultKernel { path: dir.join(name), release })
}

/// The kernel of the running release, else the newest; a compressed image goes before an ELF of the same
/// release.
fn choose<'a>(running: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rank = |(name, release): &(&'a str, &'a str)| (*release == running, name.starts_with("vmlinuz-"));
    names
        .filter_map(|name| Some((name, release_in_name(name)?)))
        .max_by(|a, b| {
            let ((a_running, a_image), (b_running, b_image)) = (rank(a), rank(b));
            a_running.cmp(&b_running).then(compare_releases(a.1, b.1)).then(a_image.cmp(&b_image))
        })
        .map(|(name, _)| name)
}

/// The release a kernel's file name ends in: `6.12.9-amd64` of `vmlinuz-6.12.9-amd64`.
fn release_in_name(name: &str) -> Option<&str> {
    let release = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let leftover = LEFTOVERS.iter().any(|suffix| release.ends_with(suffix));
    (!leftover && !release.is_empty()).then_some(release)
}

/// Orders kernel releases: runs of digits as numbers, the rest as text, a release candidate before its
/// release.
fn compare_releases(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.replace("-rc", "~rc"), b.replace("-rc", "~rc"));
    let (mut a, mut b) = (a.as_str(), b.as_str());
    loop {
        let ((text_a, rest_a), (text_b, rest_b)) =
            (split(a, |c| !c.is_ascii_digit()), split(b, |c| !c.is_ascii_digit()));
        let ((number_a, after_a), (number_b, after_b)) =
            (split(rest_a, |c| c.is_ascii_digit()), split(rest_b, |c| c.is_ascii_digit()));
        let (number_a, number_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
        let step =
            text_order(text_a, text_b).then(number_a.len().cmp(&number_b.len())).then(number_a.cmp(number_b));
        if step != Ordering::Equal || (after_a.is_empty() && after_b.is_empty()) {
            return step;
        }
        (a, b) = (after_a, after_b);
    }
}

fn split(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}

/// Text order with `~` before everything, even before the end.
fn text_order(a: &str, b: &str) -> Ordering {
    let weight = |c: char| if c == '~' { 0 } else { u32::from(c) + 2 };
    let weights = |text: &'_ str| text.chars().map(weight).chain([1]).collect::<Vec<_>>();
    weights(a).cmp(&weights(b))
}

/// The release of the kernel at `path`: what a bzImage says of itself, else what its file name ends in.
///
/// `None` for a kernel that tells neither, or cannot be read.
#[must_use]
pub(crate) fn release_of(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(64 << 10).read_to_end(&mut head).ok()?;
    let named = || path.file_name()?.to_str().and_then(release_in_name).map(str::to_owned);
    release_in_image(&head).or_else(named)
}

/// The first word of the version string in a bzImage's setup code.
fn release_in_image(head: &[u8]) -> Option<String> {
    if head.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let offset = usize::from(u16::from_le_bytes(head.get(0x20e..0x210)?.try_into().ok()?));
    if offset == 0 {
        return None;
    }
    let version = head.get(offset.checked_add(0x200)?..)?;
    let word = version.split(|byte| *byte == 0 || *byte == b' ').next()?;
    // It names a directory under /lib/modules, so it must be one plain component.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+-~".contains(byte);
    let fit = (1..=64).contains(&word.len()) && word.iter().all(plain) && !word.starts_with(b".");
    fit.then(|| String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
#[path = "default_kernel_test.rs"]
mod tests;
