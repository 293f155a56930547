//! The device matrix, docs/devices/matrix.md: with which options of which devices the cases of a whole run had machines.
//!
//! Options are those of docs/config.schema.json, uses are read off the command lines of cases that passed. What was plugged in
//! over the API is not in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::promises;

const SCHEMA: &str = include_str!("../../../docs/config.schema.json");
const MATRIX: &str = include_str!("../../../docs/devices/matrix.md");
/// Exit code of a machine that was refused for what was asked.
const REFUSED: i32 = 2;
/// Cases that a row names.
const NAMED: usize = 3;

const HEAD: &str = "# Device matrix

Each option of each device, and cases of [the lab](../lab.md) that had machines with it and passed, the first three by name. It is written by a whole
run of `cargo lab test` and not by hand; a run that shows another one fails, and says where the new one is. What the devices did there is in
[the table of devices](README.md). Options whose row has no case are held by unit tests alone, or by cases that are run by themselves (`long/`).

| option | cases |
|---|---|
";

/// Which cases used an option, by flag and key, as in `--disk direct`. A flag without keys stands by itself.
#[derive(Debug, Default)]
pub(super) struct Uses(BTreeMap<String, BTreeSet<&'static str>>);

impl Uses {
    /// A case has passed that used these.
    pub(super) fn add(&mut self, case: &'static str, options: BTreeSet<String>) {
        for option in options {
            self.0.entry(option).or_default().insert(case);
        }
    }

    /// Those of another part of the run.
    pub(super) fn merge(&mut self, other: Uses) {
        for (option, cases) in other.0 {
            self.0.entry(option).or_default().extend(cases);
        }
    }

    /// The matrix, as its file is to be.
    pub(super) fn matrix(&self) -> String {
        let row = |option: String| {
            let cases = self.0.get(&option).map(|cases| cases.iter().take(NAMED)).into_iter().flatten();
            let cases: Vec<String> = cases.map(|case| format!("`{case}`")).collect();
            format!("| `{option}` | {} |\n", cases.join(", "))
        };
        HEAD.to_owned() + &devices().iter().flat_map(Device::options).map(row).collect::<String>()
    }
}

/// Whether the file is this matrix.
pub(super) fn is_in_docs(matrix: &str) -> bool {
    MATRIX == matrix
}

/// The options of devices that a command line has `vmm run` make a machine with. With this exit status, or none yet.
pub(super) fn used(command: &str, status: Option<i32>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let words: Vec<&str> = command.split_whitespace().collect();
    let runs = words.windows(2).any(|pair| matches!(pair, ["vmm" | "-v" | "-vv", "run"]));
    if !runs || words.contains(&"--dry-run") || status == Some(REFUSED) {
        return used;
    }
    let devices = devices();
    for (at, word) in words.iter().enumerate() {
        let Some(device) = devices.iter().find(|device| device.flag == *word) else { continue };
        let value = words.get(at + 1).copied().unwrap_or_default();
        used.extend(device.used(value.trim_matches(['"', '\'', ';', '&', ')'])));
    }
    used
}

/// A device that can be asked for.
struct Device {
    flag: String,
    /// Its keys, those of inner tables behind a dot. None: it has no keys.
    keys: Vec<String>,
    /// The key that a word alone is for.
    word: Option<String>,
}

/// All that have a row in the table of devices.
fn devices() -> Vec<Device> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap_or_default();
    let shown: BTreeSet<&str> = promises::devices().collect();
    let properties = properties(&schema).into_iter().flatten();
    let device = |(name, schema): (&String, &Value)| {
        let mut keys = Vec::new();
        collect_keys("", schema, &mut keys);
        Device { flag: format!("--{name}"), keys, word: word(schema) }
    };
    properties.map(device).filter(|device| shown.contains(device.flag.as_str())).collect()
}

impl Device {
    fn options(&self) -> Vec<String> {
        match self.keys.is_empty() {
            true => vec![self.flag.clone()],
            false => self.keys.iter().map(|key| format!("{} {key}", self.flag)).collect(),
        }
    }

    /// The options that a flag's value uses.
    fn used(&self, value: &str) -> Vec<String> {
        if self.keys.is_empty() {
            return self.options();
        }
        let mut used = Vec::new();
        for item in items(value) {
            let (key, inner) = item.split_once('=').unwrap_or((item, ""));
            match inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                Some(inner) => used.extend(
                    items(inner)
                        .into_iter()
                        .map(|item| format!("{key}.{}", item.split_once('=').map_or(item, |(key, _)| key))),
                ),
                None => used.push(key.to_owned()),
            }
        }
        let known = |key: String| Some(key).filter(|key| self.keys.contains(key)).or(self.word.clone());
        used.into_iter().filter_map(known).map(|key| format!("{} {key}", self.flag)).collect()
    }
}

/// What commas separate, outside of braces and brackets.
fn items(value: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let outside = |character: char| {
        depth += i32::from(matches!(character, '{' | '[')) - i32::from(matches!(character, '}' | ']'));
        character == ',' && depth == 0
    };
    value.split(outside).filter(|item| !item.is_empty()).collect()
}

fn collect_keys(prefix: &str, schema: &Value, keys: &mut Vec<String>) {
    for (name, inner) in properties(schema).into_iter().flatten() {
        let before = keys.len();
        collect_keys(&format!("{prefix}{name}."), inner, keys);
        if keys.len() == before {
            keys.push(format!("{prefix}{name}"));
        }
    }
}

/// The key that a word alone is for: the one that is described as the word is.
fn word(schema: &Value) -> Option<String> {
    let said: Vec<&Value> = alternatives(schema).filter_map(|word| word.get("description")).collect();
    let described = |(_, schema): &(&String, &Value)| said.contains(&&schema["description"]);
    properties(schema)?.iter().find(described).map(|(name, _)| name.clone())
}

/// What can be said in place of an object, and what that is one of.
fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    choices(schema).flat_map(|inner| std::iter::once(inner).chain(choices(inner)))
}

fn choices(schema: &Value) -> impl Iterator<Item = &Value> {
    schema.get("anyOf").and_then(Value::as_array).into_iter().flatten()
}

/// The properties of an object, which may be one of several things that can be said, or what a list is of.
fn properties(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    if let Some(properties) = schema.get("properties") {
        return properties.as_object();
    }
    choices(schema).chain(schema.get("items")).find_map(properties)
}

#[cfg(test)]
#[path = "matrix_test.rs"]
mod tests;
