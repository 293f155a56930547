//! What flags and files are written in: one grammar, read into plain types.
//!
//! A flag's value ([`flag`]) and a TOML file ([`file`]) become the same [`Value`], and [`read()`] makes a type of it that
//! derives `Deserialize`. So these say the same, and have the same keys, values and messages:
//!
//! ```text
//! --disk root.qcow2,ro,serial=abc,rate.bytes=100M       [[disk]]
//!                                                       path = "root.qcow2"
//!                                                       ro = true
//!                                                       serial = "abc"
//!                                                       rate.bytes = "100M"
//! ```
//!
//! A group of options is a struct, documented on its fields, which help, man page and JSON schema are made from:
//!
//! ```text
//! /// A disk.
//! #[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
//! #[serde(deny_unknown_fields, rename_all = "kebab-case")]
//! pub(crate) struct Disk {
//!     /// Its image.
//!     #[schemars(extend("x-value" = "FILE"))]
//!     pub(crate) path: PathBuf,
//!     /// The guest cannot write to it.
//!     #[serde(default)]
//!     pub(crate) ro: bool,
//! }
//! ```
//!
//! In the value of a flag
//! - items are separated by commas: `key=value`, or `key` alone for one that is `true`;
//! - a first item without `=` is the value of the struct's **first field**. In a file a string or a number in place of the
//!   table is the same: `memory = "4G"`;
//! - `rate.bytes=1M` is the key `bytes` of the struct in the field `rate`, as in TOML;
//! - `[a,b]` is a list, and a single value a list of one;
//! - `"..."` around a value, or a backslash before a character, takes commas and brackets as they are. Inside quotes a
//!   backslash does the same;
//! - an enum is a word (`backend=iommufd`), a variant that holds something is `word=value`, a table of one key in TOML.
//!
//! A value is what its field makes of it: `cpus = 2` and `cpus = "2"` are the same. [`types`] has sizes, durations and
//! whatever else has a `FromStr`.
//!
//! Values are **layered**: what is typed lies over what the file has. In a struct each key is taken from the topmost layer
//! that has it, and the elements of lists follow each other, the file's first.
//!
//! All that cannot be read is reported at once, each with the flag or the line; the rest is read as if that had not been
//! there.

mod error;
pub(crate) mod file;
pub(crate) mod flag;
mod read;
pub(crate) mod schema;
pub(crate) mod types;

use std::fmt::{self, Display};
use std::rc::Rc;

pub(crate) use error::OptionError;
pub(crate) use read::{Reading, read};

/// Problems that are reported, of one file or command line.
const MOST: usize = 100;

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) form: Form,
    pub(crate) origin: Origin,
}

impl Value {
    /// Adds the elements of another list to this one.
    pub(crate) fn append(&mut self, other: Self) {
        if let (Form::List(list), Form::List(more)) = (&mut self.form, other.form) {
            list.extend(more);
        }
    }
}

/// What shape it has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    /// A key without a value.
    Bare,
    /// A word, a text, a number, `true` or `false`.
    Text(String),
    List(Vec<Value>),
    Table(Table),
}

/// Keys and their values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// The value of the first key that the type has, whatever it is called.
    pub(crate) word: Option<Box<Value>>,
    pub(crate) keys: Vec<(String, Value)>,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In a flag, such as `--disk`, of which this is all.
    Flag { flag: Rc<str>, text: Rc<str> },
    /// In a file, at this byte.
    File { file: Rc<SourceFile>, at: usize },
}

/// A file that values are from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SourceFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// Line and column of a byte, both from 1, columns in characters.
    pub(crate) fn find(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

impl Display for Origin {
    /// `--disk`, `vm.toml:3`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { flag, .. } => f.write_str(flag),
            Self::File { file, at } => write!(f, "{}:{}", file.name, file.find(*at).0),
        }
    }
}
