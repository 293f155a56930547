//! CMA areas in the device tree (Documentation/devicetree/bindings/reserved-memory; kernel/dma/contiguous.c,
//! `rmem_cma_setup`): nodes below `/reserved-memory` that are `reusable` pools. Only those at a fixed address tell where
//! they lie; others are found in the kernel log.

use std::fs;
use std::path::Path;

use super::CmaArea;
use crate::{PAGE_SIZE, text};

/// Nodes that are looked at (MAX_RESERVED_REGIONS is 64).
const MAX_NODES: usize = 1024;
/// Longer than any property that is looked at, in bytes.
const MAX_PROPERTY: u64 = 1 << 16;
/// What a pool is compatible with.
const POOL: &[u8] = b"shared-dma-pool";

/// The areas at fixed addresses. `cmdline` is the kernel's: `cma=` overrules the tree's default area.
///
/// # Errors
/// Why they cannot be told, for people.
pub(super) fn areas(root: &Path, cmdline: &str) -> Result<Vec<CmaArea>, String> {
    let parent = root.join("reserved-memory");
    let entries = fs::read_dir(&parent).map_err(|_| "none".to_owned())?;
    let cells = |name| cell(property(&parent, name)?.as_slice()).filter(|cells| matches!(cells, 1 | 2));
    let (Some(address), Some(size)) = (cells("#address-cells"), cells("#size-cells")) else {
        return Err("it is not understood".to_owned());
    };
    let overruled = cmdline.split_whitespace().any(|word| word.starts_with("cma="));
    let mut areas: Vec<CmaArea> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .take(MAX_NODES)
        .filter(|entry| is_pool(&entry.path(), overruled))
        .filter_map(|entry| {
            let ranges = vec![first_range(&property(&entry.path(), "reg")?, address, size)?];
            Some(CmaArea { name: entry.file_name().to_string_lossy().into_owned(), ranges })
        })
        .collect();
    areas.sort_unstable_by_key(|area| area.ranges.first().map(|range| range.start));
    Ok(areas)
}

fn is_pool(node: &Path, overruled: bool) -> bool {
    let has = |name| node.join(name).exists();
    let lists = |name, value: &[u8]| {
        property(node, name).is_some_and(|list| list.split(|byte| *byte == 0).any(|it| it == value))
    };
    let available = !has("status") || lists("status", b"okay") || lists("status", b"ok");
    let skipped = overruled && has("linux,cma-default");
    available && has("reusable") && !has("no-map") && !skipped && lists("compatible", POOL)
}

fn property(node: &Path, name: &str) -> Option<Vec<u8>> {
    text::bytes(&node.join(name), MAX_PROPERTY).ok()
}

/// The frames of the first entry of `reg`, which is all that the kernel takes of it. Cells are big-endian.
fn first_range(reg: &[u8], address_cells: u64, size_cells: u64) -> Option<std::ops::Range<u64>> {
    let (start, rest) = number(reg, address_cells)?;
    let (size, _) = number(rest, size_cells)?;
    let end = start.checked_add(size)?;
    let aligned = size > 0 && start.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE);
    aligned.then_some(start / PAGE_SIZE..end / PAGE_SIZE)
}

fn number(bytes: &[u8], cells: u64) -> Option<(u64, &[u8])> {
    (0..cells).try_fold((0u64, bytes), |(high, bytes), _| {
        let (first, rest) = bytes.split_first_chunk()?;
        Some((high << 32 | u64::from(u32::from_be_bytes(*first)), rest))
    })
}

fn cell(bytes: &[u8]) -> Option<u64> {
    Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
#[path = "device_tree_test.rs"]
mod tests;
