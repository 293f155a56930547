//! Why something that was written cannot be read: where, what was expected instead, and which key may have been meant.

use std::fmt::{self, Display};

use miette::Diagnostic;
use serde::de::{self, Expected, Unexpected};
use thiserror::Error;

use super::Origin;

/// A text that is not in the grammar of flags.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SyntaxError {
    #[error("`{0}` is missing at the end")]
    Unclosed(char),
    #[error("`{0}` follows where a value has ended")]
    After(char),
    #[error("there is nothing after the backslash")]
    Backslash,
    #[error("a value has no key")]
    NoKey,
    #[error("there is nothing between two commas, or after the last")]
    Empty,
    #[error("`{0}` is given twice")]
    Twice(String),
    #[error("lists and tables lie more than {0} deep in each other")]
    TooDeep(usize),
}

/// What is wrong, wherever it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    UnknownKey {
        key: String,
        known: Vec<&'static str>,
    },
    Missing(&'static str),
    UnknownWord {
        word: String,
        known: &'static [&'static str],
    },
    /// `found` is `None` if there is no value at all.
    Expected {
        found: Option<String>,
        expected: String,
    },
    /// By its name, and as a word alone.
    Twice(&'static str),
    /// A word that needs one.
    Valueless(String),
    Other(String),
}

/// A fault on its way out of `Deserialize`, which finds out where it is.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) fault: Fault,
    /// Path and origin, once known.
    pub(super) place: Option<(String, Origin)>,
}

impl Misfit {
    pub(super) fn expected(found: Option<&str>, expected: &str) -> Self {
        Fault::Expected { found: found.map(str::to_owned), expected: expected.to_owned() }.into()
    }

    /// It is here, unless it is further inside.
    pub(super) fn at(mut self, path: &str, origin: &Origin) -> Self {
        self.place.get_or_insert_with(|| (path.to_owned(), origin.clone()));
        self
    }
}

impl From<Fault> for Misfit {
    fn from(fault: Fault) -> Self {
        Self { fault, place: None }
    }
}

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.fault)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: Display>(message: T) -> Self {
        Fault::Other(message.to_string()).into()
    }

    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Self {
        Self::invalid_value(found, expected)
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => text.to_owned(),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Bool(value) => value.to_string(),
            other => other.to_string(),
        };
        Self::expected(Some(&found), &expected.to_string())
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Fault::UnknownWord { word: word.to_owned(), known }.into()
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Fault::UnknownKey { key: key.to_owned(), known: known.to_vec() }.into()
    }

    fn missing_field(key: &'static str) -> Self {
        Fault::Missing(key).into()
    }

    fn duplicate_field(key: &'static str) -> Self {
        Fault::Twice(key).into()
    }
}

/// Something that cannot be read, as it is reported.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what}")]
pub(crate) struct OptionError {
    what: String,
    remedy: Option<String>,
}

impl Diagnostic for OptionError {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.remedy.as_ref().map(|remedy| Box::new(remedy) as Box<dyn Display>)
    }
}

impl OptionError {
    /// A flag's value is not in the grammar.
    pub(super) fn syntax(origin: &Origin, error: SyntaxError) -> Self {
        let remedy = match error {
            SyntaxError::Twice(_) => "each key can have one value",
            SyntaxError::TooDeep(_) => "no option needs that",
            _ => {
                "items are `key=value` or `key`, separated by commas; a value that holds commas, quotes, brackets or \
                 backslashes goes in double quotes, which the shell must be kept from taking: 'path=\"a,b\"'"
            }
        };
        Self { what: format!("{}: {error}", Where(origin)), remedy: Some(remedy.to_owned()) }
    }

    /// A file is not TOML.
    pub(super) fn toml(origin: &Origin, message: &str) -> Self {
        let remedy = Some("https://toml.io tells how TOML is written".to_owned());
        Self { what: format!("{}: {message}", Where(origin)), remedy }
    }

    pub(super) fn new(misfit: Misfit) -> Self {
        let Misfit { fault, place } = misfit;
        let Some((path, origin)) = place else {
            return Self { what: fault.about(None), remedy: fault.remedy("") };
        };
        let last = path.rsplit('.').next().unwrap_or_default();
        let key = last.split('[').next().unwrap_or_default();
        let what = match &origin {
            // All there is to the flag.
            Origin::Flag { flag, text } if fault.is_about(text) => fault.about(Some(flag)),
            Origin::Flag { flag, .. } if flag.strip_prefix("--") == Some(key) || key.is_empty() => {
                format!("{}: {}", Where(&origin), fault.about(None))
            }
            Origin::File { .. } if key.is_empty() => format!("{}: {}", Where(&origin), fault.about(None)),
            _ => format!("{}: {}", Where(&origin), fault.about(Some(key))),
        };
        Self { what, remedy: fault.remedy(key) }
    }
}

impl Fault {
    /// Whether this text is what is wrong.
    fn is_about(&self, text: &str) -> bool {
        match self {
            Self::Expected { found, .. } => found.as_deref() == Some(text),
            Self::UnknownWord { word, .. } => word == text,
            _ => false,
        }
    }

    /// In words, of the value that is called so.
    fn about(&self, name: Option<&str>) -> String {
        let value = |text: &str| name.map_or_else(|| format!("`{text}`"), |name| format!("{name} `{text}`"));
        match self {
            Self::UnknownKey { key, .. } => format!("there is no key `{key}`"),
            Self::Missing(key) => format!("`{key}` is missing"),
            Self::UnknownWord { word, .. } => name.map_or_else(
                || format!("`{word}` is none of the values"),
                |name| format!("{name} cannot be `{word}`"),
            ),
            Self::Expected { found: Some(found), expected } => {
                format!("{} is not {}", value(found), split(expected).0)
            }
            Self::Expected { found: None, .. } => format!("`{}` has no value", name.unwrap_or_default()),
            Self::Twice(key) => format!("`{key}` is given twice"),
            Self::Valueless(word) => format!("`{word}` has no value"),
            Self::Other(message) => name.map_or_else(|| message.clone(), |name| format!("{name}: {message}")),
        }
    }

    /// What to do, about the value of `key`.
    fn remedy(&self, key: &str) -> Option<String> {
        match self {
            Self::UnknownKey { key, known } => Some(suggest(key, known, "keys")),
            Self::Missing(key) => Some(format!("give it as in {key}=...")),
            Self::Twice(_) => Some("each key can have one value".to_owned()),
            Self::Valueless(word) => Some(format!("give it as in {word}=...")),
            Self::UnknownWord { word, known } => Some(suggest(word, known, "values")),
            Self::Expected { found: None, expected } => {
                Some(format!("give {}: {key}=...", split(expected).0))
            }
            Self::Expected { expected, .. } => {
                let (what, how) = split(expected);
                Some(format!("give {}", how.unwrap_or(what)))
            }
            Self::Other(_) => Some("see `vmm run --help`".to_owned()),
        }
    }
}

/// What is expected, and how to give it: types say both in one, with a colon between.
fn split(expected: &str) -> (&str, Option<&str>) {
    expected.split_once(": ").map_or((expected, None), |(what, how)| (what, Some(how)))
}

/// The nearest of what is known, if any is near, and all of it.
pub(super) fn suggest(word: &str, known: &[&str], what: &str) -> String {
    let distance = |known: &&&str| strsim::damerau_levenshtein(word, known);
    let near =
        known.iter().min_by_key(distance).filter(|known| distance(known) <= 1 + known.chars().count() / 3);
    let list = match known.split_last() {
        None => return format!("there are no {what}"),
        Some((only, [])) => format!("the only one of its {what} is {only}"),
        Some((last, rest)) => format!("its {what} are {} and {last}", rest.join(", ")),
    };
    near.map_or_else(|| list.clone(), |near| format!("did you mean `{near}`? {list}"))
}

/// Names the place: `--disk `a,b``, or `vm.toml:3:1`.
struct Where<'a>(&'a Origin);

impl Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::Flag { flag, text } => write!(f, "{flag} `{text}`"),
            Origin::File { file, at } => {
                let (line, column) = file.find(*at);
                write!(f, "{}:{line}:{column}", file.name)
            }
        }
    }
}
