//! From what was written to a type: a serde `Deserializer` of layered [`Value`]s, which is asked again without what
//! was wrong until nothing is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use super::error::{Fault, Misfit, OptionError};
use super::{Form, MOST, Origin, Value};

/// What was read.
pub(crate) struct Reading<T> {
    /// The type; what could not be read is as if it had not been written.
    pub(crate) value: T,
    /// What could not be read.
    pub(crate) problems: Vec<OptionError>,
    /// Where each value comes from, by its path: `memory.size`, `disk[0].path`.
    pub(crate) origins: BTreeMap<String, Origin>,
}

/// Reads `layers`, each over the one before.
pub(crate) fn read<T: DeserializeOwned + Default>(layers: &[Value]) -> Reading<T> {
    let notes = RefCell::<Notes>::default();
    let value = loop {
        notes.borrow_mut().origins.clear();
        let layers = layers.iter().collect();
        match T::deserialize(Reader { layers, path: String::new(), notes: &notes }) {
            Ok(value) => {
                let mut notes = notes.borrow_mut();
                if notes.bad.is_empty() || std::mem::replace(&mut notes.strict, true) {
                    break value;
                }
            }
            Err(misfit) => {
                if !notes.borrow_mut().pass_over(misfit) {
                    break T::default();
                }
            }
        }
    };
    let Notes { problems, origins, .. } = notes.into_inner();
    Reading { value, problems, origins }
}

/// What is found out on the way.
#[derive(Default)]
struct Notes {
    /// What cannot be read, and is passed over from then on.
    bad: BTreeSet<String>,
    /// Everything wrong is known: elements of lists that are not wholly right are passed over too.
    strict: bool,
    problems: Vec<OptionError>,
    origins: BTreeMap<String, Origin>,
}

impl Notes {
    /// Reports it, and has it passed over from now on, if that helps.
    fn pass_over(&mut self, misfit: Misfit) -> bool {
        let path = misfit.place.as_ref().map(|(path, _)| path.clone()).unwrap_or_default();
        // What is missing because it could not be read is no second problem.
        let follows = match misfit.fault {
            Fault::Missing(key) => self.bad.contains(&below(&path, key)),
            _ => false,
        };
        if !follows {
            self.problems.push(OptionError::new(misfit));
        }
        self.bad.insert(path) && self.problems.len() < MOST
    }

    /// Whether to leave this element of a list out: it cannot be read, or not all of it.
    fn leaves_out(&self, element: &str) -> bool {
        let inside = |bad: &String| bad.strip_prefix(element).is_some_and(|rest| rest.starts_with('.'));
        self.bad.contains(element) || self.strict && self.bad.iter().any(inside)
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// One place: what each layer has there, at least one.
#[derive(Clone)]
struct Reader<'a> {
    layers: Vec<&'a Value>,
    path: String,
    notes: &'a RefCell<Notes>,
}

/// What is written for `bool`s.
const TRUE: [&str; 3] = ["true", "on", "yes"];
const FALSE: [&str; 3] = ["false", "off", "no"];

impl<'a> Reader<'a> {
    fn top(&self) -> Option<&'a Value> {
        self.layers.last().copied()
    }

    /// Where the topmost layer is.
    fn locate(&self, misfit: Misfit) -> Misfit {
        match self.top() {
            Some(value) => misfit.at(&self.path, &value.origin),
            None => misfit,
        }
    }

    fn text(&self, expected: &dyn de::Expected) -> Result<&'a str, Misfit> {
        let found = match self.top().map(|value| &value.form) {
            Some(Form::Text(text)) => return Ok(text),
            Some(Form::List(_)) => Some("a list"),
            Some(Form::Table(_)) => Some("a table"),
            Some(Form::Bare) | None => None,
        };
        Err(match found {
            Some(found) => Fault::Other(format!("expected {expected}, found {found}")).into(),
            None => Misfit::expected(None, &expected.to_string()),
        })
    }

    /// Reads a number.
    fn number<T: std::str::FromStr>(&self, least: impl ToString, most: impl ToString) -> Result<T, Misfit> {
        let expected = format!("a whole number from {} to {}", least.to_string(), most.to_string());
        let text = self.text(&expected.as_str())?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| plain);
        number.ok_or_else(|| Misfit::expected(Some(text), &expected))
    }

    fn inside(&self, path: String, layers: Vec<&'a Value>) -> Self {
        Self { layers, path, notes: self.notes }
    }

    /// The keys of all layers with their values, in the order in which they are first written. Keys that are not
    /// `known` are reported and left out.
    fn entries(&self, known: &'static [&'static str]) -> Result<Vec<(&'static str, Self)>, Misfit> {
        let mut entries: Vec<(&'static str, Self)> = Vec::new();
        let mut add = |key: &'static str, value| match entries.iter_mut().find(|(there, _)| *there == key) {
            Some((_, reader)) => reader.layers.push(value),
            None => entries.push((key, self.inside(below(&self.path, key), vec![value]))),
        };
        for layer in &self.layers {
            let (word, keys) = match &layer.form {
                Form::Table(table) => (table.word.as_deref(), table.keys.as_slice()),
                Form::Text(_) => (Some(*layer), Default::default()),
                Form::Bare => return Err(Misfit::expected(None, "its keys").at(&self.path, &layer.origin)),
                Form::List(_) => {
                    let fault = Fault::Other("a list is not expected here".to_owned());
                    return Err(Misfit::from(fault).at(&self.path, &layer.origin));
                }
            };
            if let Some((word, first)) = word.zip(known.first()) {
                if keys.iter().any(|(key, _)| key == first) {
                    return Err(<Misfit as de::Error>::duplicate_field(first).at(&self.path, &layer.origin));
                }
                add(first, word);
            }
            for (key, value) in keys {
                match known.iter().find(|known| *known == key) {
                    Some(key) => add(key, value),
                    None => self.unknown(key, known, value),
                }
            }
        }
        let notes = self.notes.borrow();
        entries.retain(|(_, reader)| !notes.bad.contains(&reader.path));
        Ok(entries)
    }

    fn unknown(&self, key: &str, known: &'static [&'static str], value: &Value) {
        let mut notes = self.notes.borrow_mut();
        // With its place in memory: a key that two layers have is wrong in both.
        let fresh =
            notes.problems.len() < MOST && notes.bad.insert(format!("{}@{value:p}", below(&self.path, key)));
        if fresh {
            let fault = Fault::UnknownKey { key: key.to_owned(), known: known.to_vec() };
            notes.problems.push(OptionError::new(Misfit::from(fault).at(&self.path, &value.origin)));
        }
    }

    /// The elements of all layers.
    fn elements(&self) -> Vec<Self> {
        let mut values = Vec::new();
        for layer in &self.layers {
            match &layer.form {
                Form::List(list) => values.extend(list),
                _ => values.push(layer),
            }
        }
        let paths =
            values.into_iter().enumerate().map(|(index, value)| (format!("{}[{index}]", self.path), value));
        let elements = paths.map(|(path, value)| self.inside(path, vec![value]));
        let notes = self.notes.borrow();
        elements.filter(|reader| !notes.leaves_out(&reader.path)).collect()
    }

    /// Hands this place to a type.
    fn hand<'de, T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        if let Some(value) = self.top() {
            self.notes.borrow_mut().origins.insert(self.path.clone(), value.origin.clone());
        }
        let here = self.clone();
        seed.deserialize(self).map_err(|misfit| here.locate(misfit))
    }
}

/// Reads numbers of these types.
macro_rules! numbers {
    ($($deserialize:ident $visit:ident $number:ty),*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            visitor.$visit(self.number(<$number>::MIN, <$number>::MAX)?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Misfit;

    numbers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let text = self.text(&visitor)?;
        visitor.visit_str(text)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let Some(Form::Bare) = self.top().map(|value| &value.form) {
            return visitor.visit_bool(true);
        }
        match self.text(&"true or false")? {
            yes if TRUE.contains(&yes) => visitor.visit_bool(true),
            no if FALSE.contains(&no) => visitor.visit_bool(false),
            other => Err(Misfit::expected(Some(other), "true or false: true or false, or the key alone")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_seq(Elements(self.elements().into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_map(Entries { rest: self.entries(fields)?.into_iter(), value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.top().map(|value| &value.form) {
            Some(Form::Table(table)) => match (table.word.as_ref(), table.keys.as_slice()) {
                (None, [(word, value)]) => {
                    let content = Some(self.inside(below(&self.path, word), vec![value]));
                    visitor.visit_enum(Choice { word, content })
                }
                _ => Err(Fault::Other(format!("one of {} is expected", variants.join(", "))).into()),
            },
            _ => visitor.visit_enum(Choice { word: self.text(&"a word")?, content: None }),
        }
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// What a list holds.
struct Elements<'a>(std::vec::IntoIter<Reader<'a>>);

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        self.0.next().map(|element| element.hand(seed)).transpose()
    }
}

/// What a struct holds.
struct Entries<'a> {
    rest: std::vec::IntoIter<(&'static str, Reader<'a>)>,
    value: Option<Reader<'a>>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some(value) = self.value.take() else { return Err(de::Error::custom("a value without a key")) };
        value.hand(seed)
    }
}

/// A variant, and what it holds.
struct Choice<'a> {
    word: &'a str,
    content: Option<Reader<'a>>,
}

impl<'de> de::EnumAccess<'de> for Choice<'_> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        let variant: de::value::StrDeserializer<Misfit> = self.word.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Choice<'_> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Fault::Other(format!("`{}` takes no value", self.word)).into()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        match self.content {
            Some(content) => content.hand(seed),
            None => Err(Fault::Valueless(self.word.to_owned()).into()),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Misfit> {
        Err(Fault::Other(format!("`{}` has several values, which nothing can be", self.word)).into())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.content {
            Some(content) => de::Deserializer::deserialize_struct(content, "", fields, visitor),
            None => Err(Fault::Valueless(self.word.to_owned()).into()),
        }
    }
}

#[cfg(test)]
#[path = "read_test.rs"]
mod tests;
