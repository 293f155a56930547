//! What options there are, from the types themselves: for help, man pages and the JSON schema.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

/// A flag, or a key of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OptionDoc {
    pub(crate) name: String,
    /// The first paragraph says what it is.
    pub(crate) text: String,
    /// What stands for its value in help.
    pub(crate) value: String,
    pub(crate) shape: Shape,
    /// Its value when it is left out, if that is worth saying.
    pub(crate) default: Option<String>,
}

/// What its value looks like.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// True or false.
    Switch,
    /// All of it is one value.
    Text,
    /// Keys and values.
    Group(Vec<OptionDoc>),
    /// One of these words, of which some have a value.
    Choice(Vec<OptionDoc>),
    /// Several of these.
    List(Box<Shape>),
}

/// The options that `T` has, in the order of its fields.
pub(crate) fn options<T: JsonSchema>() -> Vec<OptionDoc> {
    properties(&tidy(inlined::<T>()))
}

/// The JSON schema of a file.
pub(crate) fn json<T: JsonSchema>() -> Json {
    let mut schema = tidy(inlined::<T>());
    for property in
        schema.get_mut("properties").and_then(Json::as_object_mut).into_iter().flat_map(Map::values_mut)
    {
        short_forms(property);
    }
    schema
}

fn inlined<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Without `null`, which is what cannot be written, and with texts as they read best.
fn tidy(schema: Json) -> Json {
    match schema {
        Json::Object(mut object) => {
            if object.get("default").is_some_and(Json::is_null) {
                object.remove("default");
            }
            if let Some(Json::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Json::Array(any)) = object.get_mut("anyOf") {
                any.retain(|schema| *schema != json!({ "type": "null" }));
                if let [Json::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            if let Some(Json::Array(values)) = object.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(Json::String(text)) = object.get_mut("description") {
                *text = paragraphs(text);
            }
            Json::Object(object.into_iter().map(|(key, value)| (key, tidy(value))).collect())
        }
        Json::Array(array) => Json::Array(array.into_iter().map(tidy).collect()),
        other => other,
    }
}

/// Lines joined, paragraphs and items of lists kept apart.
fn paragraphs(text: &str) -> String {
    let mut joined = String::new();
    for line in text.lines() {
        if line.is_empty() {
            joined += "\n\n";
        } else {
            if !joined.is_empty() && !joined.ends_with('\n') {
                joined.push(' ');
            }
            joined += line;
        }
    }
    joined
}

/// Lets a group be given as the value of its first key, and a list as its only element, as the grammar does.
fn short_forms(property: &mut Json) {
    let short = if let Some(element) = property.get_mut("items") {
        short_forms(element);
        Some(element.clone())
    } else {
        let keys = property.get("properties").and_then(Json::as_object);
        keys.and_then(|keys| keys.values().next()).cloned()
    };
    let Some(short) = short else { return };
    let description = property.get("description").cloned();
    let long = property.take();
    *property = json!({ "anyOf": [short, long] });
    if let (Some(description), Some(property)) = (description, property.as_object_mut()) {
        property.insert("description".to_owned(), description);
    }
}

fn properties(schema: &Json) -> Vec<OptionDoc> {
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flatten().map(|(name, schema)| option(name, schema)).collect()
}

fn option(name: &str, schema: &Json) -> OptionDoc {
    let text = schema.get("description").and_then(Json::as_str).unwrap_or_default().to_owned();
    let shape = shape(schema);
    let default = match schema.get("default") {
        Some(Json::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Json::Number(number)) => Some(number.to_string()),
        Some(Json::Bool(true)) => Some("true".to_owned()),
        _ => None,
    };
    OptionDoc { name: name.to_owned(), text, value: placeholder(schema, &shape), shape, default }
}

fn shape(schema: &Json) -> Shape {
    let is = |name: &str| schema.get("type").is_some_and(|kind| kind == name);
    let choices = schema.get("oneOf").and_then(Json::as_array);
    if is("boolean") {
        Shape::Switch
    } else if is("array") {
        Shape::List(Box::new(schema.get("items").map_or(Shape::Text, shape)))
    } else if schema.get("properties").is_some() {
        Shape::Group(properties(schema))
    } else if let Some(choices) = choices
        && choices.iter().any(|choice| choice.get("properties").is_some())
    {
        Shape::Choice(choices.iter().flat_map(words).collect())
    } else {
        Shape::Text
    }
}

/// The words that a choice of an enum is, with what they hold.
fn words(choice: &Json) -> Vec<OptionDoc> {
    let text = choice.get("description").and_then(Json::as_str).unwrap_or_default();
    let word = |name: &str| OptionDoc {
        name: name.to_owned(),
        text: text.to_owned(),
        value: String::new(),
        shape: Shape::Switch,
        default: None,
    };
    match (choice.get("const").and_then(Json::as_str), choice.get("enum").and_then(Json::as_array)) {
        (Some(name), _) => vec![word(name)],
        (None, Some(names)) => names.iter().filter_map(Json::as_str).map(word).collect(),
        (None, None) => {
            let value = choice.get("x-value").and_then(Json::as_str).map(str::to_owned);
            let held = |held: OptionDoc| {
                let value = value.clone().unwrap_or(held.value);
                OptionDoc { text: text.to_owned(), value, ..held }
            };
            properties(choice).into_iter().map(held).collect()
        }
    }
}

fn placeholder(schema: &Json, shape: &Shape) -> String {
    let said = schema.get("x-value").and_then(Json::as_str);
    if let Some(said) = said {
        return said.to_owned();
    }
    match shape {
        Shape::Switch => "BOOLEAN".to_owned(),
        Shape::List(_) => match schema.get("items").map(option_value) {
            Some((value, Shape::Group(_) | Shape::Choice(_))) => value,
            Some((value, _)) => format!("{value},..."),
            None => "VALUE,...".to_owned(),
        },
        Shape::Choice(words) => words.iter().map(usage).collect::<Vec<_>>().join("|"),
        Shape::Group(keys) => {
            let first = keys.first().map(|key| key.value.as_str()).unwrap_or_default();
            format!("{first}[,KEY=VALUE]...")
        }
        Shape::Text => {
            let choices = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten().flat_map(words);
            let names =
                schema.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
            let all: Vec<String> = choices.map(|word| word.name).chain(names.map(str::to_owned)).collect();
            match schema.get("type").and_then(Json::as_str) {
                _ if !all.is_empty() => all.join("|"),
                Some("integer") => "N".to_owned(),
                _ => "TEXT".to_owned(),
            }
        }
    }
}

fn option_value(schema: &Json) -> (String, Shape) {
    let shape = shape(schema);
    (placeholder(schema, &shape), shape)
}

/// How a key is written: `ro`, `size=SIZE`.
pub(crate) fn usage(key: &OptionDoc) -> String {
    match (&key.shape, &key.default) {
        (Shape::Switch, None) => key.name.clone(),
        (Shape::Group(_), _) => format!("{}.KEY=VALUE", key.name),
        _ => format!("{}={}", key.name, key.value),
    }
}

#[cfg(test)]
#[path = "schema_test.rs"]
mod tests;
