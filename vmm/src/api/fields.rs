//! Reading a JSON object field by field. Whatever is left in it at the end, and says anything, is refused by name: a
//! machine that is not what was asked for must not start.

use std::path::PathBuf;

use serde_json::{Map, Value};

/// An object that is being read.
pub(super) struct Fields<'a> {
    /// Where it is, for messages: `devices[0]`; empty at the top.
    path: String,
    fields: Map<String, Value>,
    refused: &'a mut Vec<String>,
}

impl<'a> Fields<'a> {
    /// The object `value` at `path`; anything else is refused, and reads as empty.
    pub(super) fn of(path: impl Into<String>, value: Value, refused: &'a mut Vec<String>) -> Self {
        let path = path.into();
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => {
                let place = if path.is_empty() { "the request's body" } else { path.as_str() };
                refused.push(format!("{place} must be an object, not {}", kind(&other)));
                Map::new()
            }
        };
        Self { path, fields, refused }
    }

    /// A field; `null` is as good as none.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// A whole number that is not negative.
    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        self.typed(name, "a whole number", |value| value.as_u64())
    }

    /// True or false.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.typed(name, "true or false", |value| value.as_bool())
    }

    /// Text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.typed(name, "text", |value| value.as_str().map(str::to_owned))
    }

    /// A path.
    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// A list.
    pub(super) fn list(&mut self, name: &str) -> Vec<Value> {
        self.typed(name, "a list", |value| value.as_array().cloned()).unwrap_or_default()
    }

    /// An object, read by `read`.
    pub(super) fn object<R>(&mut self, name: &str, read: impl FnOnce(&mut Fields) -> R) -> Option<R> {
        let value = self.value(name)?;
        let mut inner = Fields::of(self.name(name), value, self.refused);
        let result = read(&mut inner);
        inner.finish();
        Some(result)
    }

    /// A field that may be there, but only with this value: it is what is done anyway.
    pub(super) fn only(&mut self, name: &str, value: impl Into<Value>) {
        let expected = value.into();
        if self.value(name).is_some_and(|value| value != expected) {
            let name = self.name(name);
            self.refused.push(format!("`{name}` can only be {expected}"));
        }
    }

    /// Refuses a field for a reason.
    pub(super) fn refuse(&mut self, name: &str, why: &str) {
        let name = self.name(name);
        self.refused.push(format!("`{name}` {why}"));
    }

    /// Refuses what has not been read, unless it says nothing.
    pub(super) fn finish(self) {
        for (name, value) in &self.fields {
            if !says_nothing(value) {
                let name = join(&self.path, name);
                self.refused.push(format!("`{name}` is not supported"));
            }
        }
    }

    /// A field's whole name.
    pub(super) fn name(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Where to put what is wrong with something inside.
    pub(super) fn refused(&mut self) -> &mut Vec<String> {
        self.refused
    }

    fn typed<R>(&mut self, name: &str, wanted: &str, read: impl FnOnce(&Value) -> Option<R>) -> Option<R> {
        let value = self.value(name)?;
        let result = read(&value);
        if result.is_none() {
            self.refuse(name, &format!("must be {wanted}, not {}", kind(&value)));
        }
        result
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Whether leaving it out would mean the same.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "this number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
