//! The machine that all flags, files and defaults come to, as a file that `--config` takes: each value with where it is from.

use std::collections::BTreeMap;
use std::fmt::Write;

use toml::{Table, Value};

use super::Config;
use crate::grammar::Origin;

/// What is true of a machine without having been said.
pub(crate) struct Found<'a> {
    pub(crate) key: &'a str,
    /// `None` if no file can say it.
    pub(crate) value: Option<String>,
    pub(crate) why: &'a str,
}

/// Writes it down. Of `found` is what nobody has said, and what there is a value for on this host.
pub(crate) fn text(
    config: &Config,
    origins: &BTreeMap<String, Origin>,
    found: &[Found],
) -> Result<String, toml::ser::Error> {
    let table = Table::try_from(config)?;
    let mut text = String::new();
    for found in found.iter().filter(|found| !table.contains_key(found.key)) {
        match &found.value {
            Some(value) => line(&mut text, found.key, &Value::from(value.as_str()), found.why),
            None => text += &format!("# {}: {}\n", found.key, found.why),
        }
    }
    Printer { origins, text: &mut text }.table("", &table);
    Ok(text)
}

struct Printer<'a> {
    origins: &'a BTreeMap<String, Origin>,
    text: &'a mut String,
}

impl Printer<'_> {
    /// What `path` holds: values, then tables, since what follows the head of a table belongs to it.
    fn table(&mut self, path: &str, table: &Table) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let (tables, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| has_head(value));
        for (key, value) in values {
            let why = self.why(&below(key), value);
            line(self.text, key, value, &why);
        }
        for (key, value) in tables {
            let path = below(key);
            let head = plain(&path);
            match value {
                Value::Table(table) => {
                    let _ = writeln!(self.text, "\n[{head}]");
                    self.table(&path, table);
                }
                Value::Array(tables) => {
                    for (index, table) in tables.iter().filter_map(Value::as_table).enumerate() {
                        let _ = writeln!(self.text, "\n[[{head}]]");
                        self.table(&format!("{path}[{index}]"), table);
                    }
                }
                _ => {}
            }
        }
    }

    /// Where a value is from; those of a list may be from several places.
    fn why(&self, path: &str, value: &Value) -> String {
        let count = value.as_array().map_or(0, Vec::len);
        let elements = (0..count).map(|index| format!("{path}[{index}]"));
        let origins = elements.chain([path.to_owned()]).filter_map(|path| self.origins.get(&path));
        let mut names: Vec<String> = Vec::new();
        for name in origins.map(Origin::to_string) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() { "default".to_owned() } else { names.join(", ") }
    }
}

fn line(text: &mut String, key: &str, value: &Value, why: &str) {
    let _ = writeln!(text, "{key} = {value}  # {why}");
}

fn has_head(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(array) => !array.is_empty() && array.iter().all(Value::is_table),
        _ => false,
    }
}

/// A path without the indices of lists: in TOML a head is within the last element before it.
fn plain(path: &str) -> String {
    path.split('.').map(|part| part.split('[').next().unwrap_or_default()).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
#[path = "effective_test.rs"]
mod tests;
