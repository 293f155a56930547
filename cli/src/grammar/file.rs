//! TOML: the same values, with a line and a column each.

use std::path::Path;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Form, OptionError, Origin, Table, Value};

/// Reads the text of a file. What is not TOML is reported, all of it.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Value, Vec<OptionError>> {
    let places = Places { name: path.display().to_string().into(), text };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(Value { origin: places.origin(0), form: places.table(table.get_ref()) });
    }
    let error = |error: &toml::de::Error| {
        let (line, column) = places.find(error.span().map_or(0, |span| span.start));
        OptionError::toml(&places.name, line, column, error.message())
    };
    Err(errors.iter().map(error).collect())
}

struct Places<'a> {
    name: Rc<str>,
    text: &'a str,
}

impl Places<'_> {
    /// Line and column of a byte.
    fn find(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    fn origin(&self, at: usize) -> Origin {
        let (line, column) = self.find(at);
        Origin::File { name: self.name.clone(), line, column }
    }

    fn table(&self, table: &DeTable) -> Form {
        // A value is where its key is.
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue>)| {
            let key: &Spanned<std::borrow::Cow<str>> = key;
            (key.get_ref().to_string(), self.value(value.get_ref(), key.span().start))
        };
        Form::Table(Table { word: None, keys: table.iter().map(entry).collect() })
    }

    fn value(&self, value: &DeValue, at: usize) -> Value {
        let form = match value {
            DeValue::String(text) => Form::Text(text.to_string()),
            DeValue::Integer(number) => Form::Text(integer(number)),
            DeValue::Float(number) => Form::Text(number.as_str().to_owned()),
            DeValue::Boolean(value) => Form::Text(value.to_string()),
            DeValue::Datetime(time) => Form::Text(time.to_string()),
            DeValue::Array(array) => {
                Form::List(array.iter().map(|item| self.value(item.get_ref(), item.span().start)).collect())
            }
            DeValue::Table(table) => self.table(table),
        };
        Value { form, origin: self.origin(at) }
    }
}

/// In decimal, however it is written.
fn integer(number: &toml::de::DeInteger) -> String {
    let decimal = i128::from_str_radix(number.as_str(), number.radix());
    decimal.map_or_else(|_| number.as_str().to_owned(), |decimal| decimal.to_string())
}

#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
