//! TOML: the same values, with a line and a column each.

use std::path::Path;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Form, MOST, OptionError, Origin, SourceFile, Table, Value};

/// Reads the text of a file. What is not TOML is reported, all of it.
pub(crate) fn parse(path: &Path, text: String) -> Result<Value, Vec<OptionError>> {
    let source = Source(Rc::new(SourceFile { name: path.display().to_string(), text }));
    let (table, errors) = DeTable::parse_recoverable(&source.0.text);
    if errors.is_empty() {
        return Ok(Value { origin: source.origin(0), form: source.table(table.get_ref()) });
    }
    let error = |error: &toml::de::Error| {
        OptionError::toml(&source.origin(error.span().map_or(0, |span| span.start)), error.message())
    };
    Err(errors.iter().take(MOST).map(error).collect())
}

struct Source(Rc<SourceFile>);

impl Source {
    fn origin(&self, at: usize) -> Origin {
        Origin::File { file: self.0.clone(), at }
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
