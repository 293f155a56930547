//! The value of a flag: `root.qcow2,ro,rate.bytes=1M`.

use std::iter::Peekable;
use std::rc::Rc;
use std::str::Chars;

use super::error::{OptionError, SyntaxError};
use super::{Form, Origin, Table, Value};

/// Lists and tables in each other, at most.
const DEPTH: usize = 16;

/// The value of a flag whose type is a text, a number or the like: all of it.
pub(crate) fn text(flag: &str, text: &str) -> Value {
    let origin = Origin::Flag { flag: flag.into(), text: text.into() };
    Value { form: Form::Text(text.to_owned()), origin }
}

/// The value of a flag that has options: a word, `key=value`, `key`, separated by commas.
pub(crate) fn options(flag: &str, text: &str) -> Result<Value, OptionError> {
    let mut parser = Parser::new(flag, text);
    parser.options(None, DEPTH).map_err(|error| OptionError::syntax(&parser.origin, error))
}

/// The value of a flag that is a list: `a,b`.
pub(crate) fn list(flag: &str, text: &str) -> Result<Value, OptionError> {
    let mut parser = Parser::new(flag, text);
    parser.list(None, DEPTH).map_err(|error| OptionError::syntax(&parser.origin, error))
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    origin: Origin,
}

impl<'a> Parser<'a> {
    fn new(flag: &str, text: &'a str) -> Self {
        let origin = Origin::Flag { flag: Rc::from(flag), text: Rc::from(text) };
        Self { rest: text.chars().peekable(), origin }
    }

    fn value(&self, form: Form) -> Value {
        Value { form, origin: self.origin.clone() }
    }

    /// Items up to `close`, or to the end.
    fn options(&mut self, close: Option<char>, depth: usize) -> Result<Value, SyntaxError> {
        let mut table = Table::default();
        if close.is_some_and(|close| self.rest.next_if_eq(&close).is_some()) {
            return Ok(self.value(Form::Table(table)));
        }
        let mut first = true;
        loop {
            let quoted = matches!(self.rest.peek(), Some('"' | '[' | '{'));
            let key = if quoted { String::new() } else { self.word(&['=', ','], close)? };
            let value = if quoted {
                Some(self.one(close, depth)?)
            } else if self.rest.next_if_eq(&'=').is_some() {
                if key.is_empty() {
                    return Err(SyntaxError::NoKey);
                }
                Some(self.one(close, depth)?)
            } else {
                None
            };
            match value {
                Some(word) if key.is_empty() && first => table.word = Some(Box::new(word)),
                Some(_) if key.is_empty() => return Err(SyntaxError::NoKey),
                Some(value) => insert(&mut table, &key, value)?,
                None if first => table.word = Some(Box::new(self.value(Form::Text(key)))),
                None if key.is_empty() => return Err(SyntaxError::Empty),
                None => insert(&mut table, &key, self.value(Form::Bare))?,
            }
            first = false;
            if !self.more(close)? {
                break;
            }
        }
        // A word alone may be anything; a table can only be a table.
        match table.word.take() {
            Some(word) if table.keys.is_empty() => Ok(*word),
            word => {
                table.word = word;
                Ok(self.value(Form::Table(table)))
            }
        }
    }

    /// Values up to `close`, or to the end.
    fn list(&mut self, close: Option<char>, depth: usize) -> Result<Value, SyntaxError> {
        let mut values = Vec::new();
        if self.rest.next_if(|c| Some(*c) == close).is_some() {
            return Ok(self.value(Form::List(values)));
        }
        loop {
            values.push(self.one(close, depth)?);
            if !self.more(close)? {
                return Ok(self.value(Form::List(values)));
            }
        }
    }

    /// One value.
    fn one(&mut self, close: Option<char>, depth: usize) -> Result<Value, SyntaxError> {
        let inner = depth.checked_sub(1).ok_or(SyntaxError::TooDeep(DEPTH))?;
        if self.rest.next_if_eq(&'[').is_some() {
            self.list(Some(']'), inner)
        } else if self.rest.next_if_eq(&'{').is_some() {
            self.options(Some('}'), inner)
        } else if self.rest.next_if_eq(&'"').is_some() {
            self.quoted().map(|text| self.value(Form::Text(text)))
        } else {
            self.word(&[','], close).map(|text| self.value(Form::Text(text)))
        }
    }

    /// Whether another item follows; steps over what is between them, or over the end.
    fn more(&mut self, close: Option<char>) -> Result<bool, SyntaxError> {
        match (self.rest.next(), close) {
            (Some(','), _) => Ok(true),
            (None, None) => Ok(false),
            (Some(found), Some(close)) if found == close => Ok(false),
            (None, Some(close)) => Err(SyntaxError::Unclosed(close)),
            (Some(found), _) => Err(SyntaxError::After(found)),
        }
    }

    /// Characters up to one of `ends` or `close`, or to the end.
    fn word(&mut self, ends: &[char], close: Option<char>) -> Result<String, SyntaxError> {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| !ends.contains(c) && Some(*c) != close) {
            word.push(if c == '\\' { self.escaped()? } else { c });
        }
        Ok(word)
    }

    /// What is in quotes of which the first is behind us.
    fn quoted(&mut self) -> Result<String, SyntaxError> {
        let mut text = String::new();
        loop {
            match self.rest.next() {
                None => return Err(SyntaxError::Unclosed('"')),
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, SyntaxError> {
        self.rest.next().ok_or(SyntaxError::Backslash)
    }
}

/// Puts a value at a key, `rate.bytes` into the table `rate`.
fn insert(table: &mut Table, path: &str, value: Value) -> Result<(), SyntaxError> {
    let twice = || SyntaxError::Twice(path.to_owned());
    let mut table = table;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(SyntaxError::NoKey);
        }
        let there = table.keys.iter().position(|(key, _)| key == part);
        if parts.peek().is_none() {
            if there.is_some() {
                return Err(twice());
            }
            table.keys.push((part.to_owned(), value));
            return Ok(());
        }
        let index = there.unwrap_or_else(|| {
            let within = Value { form: Form::Table(Table::default()), origin: value.origin.clone() };
            table.keys.push((part.to_owned(), within));
            table.keys.len() - 1
        });
        match table.keys.get_mut(index) {
            Some((_, Value { form: Form::Table(within), .. })) => table = within,
            _ => return Err(twice()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "flag_test.rs"]
mod tests;
