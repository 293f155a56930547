//! Values that are more than text: sizes, durations, and whatever else has a `FromStr`.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration as Time;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Bytes: `4096`, `512M`, `4G`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A time: `200us`, `500ms`, `30s`, `2m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Duration(pub(crate) Time);

/// CPUs of the host, in an order: `2-5,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) Vec<u32>);

/// What can be written as one word.
pub(crate) trait Word: FromStr {
    /// What it is, a colon, and how it is given: `a size: bytes, or a number with K, M, G or T, as in 512M`.
    const EXPECTED: &'static str;
}

/// `Deserialize` of a word.
pub(crate) fn word<'de, T: Word, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Reads<T>(PhantomData<T>);
    impl<T: Word> Visitor<'_> for Reads<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Reads(PhantomData))
}

/// Something that is not what it should be; the place where it is written says the rest.
#[derive(Debug, thiserror::Error)]
#[error("cannot be read")]
pub(crate) struct Unreadable;

impl FromStr for Size {
    type Err = Unreadable;

    /// Reads `512M`, `4G`, `4GiB`, `1048576`.
    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let (number, suffix) = digits(text).ok_or(Unreadable)?;
        let shift = match suffix.to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return Err(Unreadable),
        };
        number.checked_mul(1 << shift).map(Self).ok_or(Unreadable)
    }
}

impl Display for Size {
    /// As it can be read again: `4G`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(shift, _): &(u32, &str)| self.0 != 0 && self.0.trailing_zeros() >= *shift;
        let (shift, suffix) =
            [(40, "T"), (30, "G"), (20, "M"), (10, "K")].into_iter().find(fits).unwrap_or((0, ""));
        write!(f, "{}{suffix}", self.0 >> shift)
    }
}

impl Word for Size {
    const EXPECTED: &'static str = "a size: a number of bytes, or a number with K, M, G or T, as in 512M";
}

impl FromStr for Duration {
    type Err = Unreadable;

    /// Reads `200us`, `500ms`, `10s`, `2m`; seconds without a unit.
    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let (number, unit) = digits(text).ok_or(Unreadable)?;
        let us = match unit {
            "us" => 1,
            "ms" => 1000,
            "" | "s" => 1_000_000,
            "m" => 60_000_000,
            _ => return Err(Unreadable),
        };
        number.checked_mul(us).map(|us| Self(Time::from_micros(us))).ok_or(Unreadable)
    }
}

impl Display for Duration {
    /// As it can be read again: `30s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            us if us % 60_000_000 == 0 && us != 0 => write!(f, "{}m", us / 60_000_000),
            us if us % 1_000_000 == 0 => write!(f, "{}s", us / 1_000_000),
            us if us % 1000 == 0 => write!(f, "{}ms", us / 1000),
            us => write!(f, "{us}us"),
        }
    }
}

impl Word for Duration {
    const EXPECTED: &'static str = "a duration: a whole number with us, ms, s or m, as in 10s";
}

/// The most CPUs that Linux can have on x86 (CONFIG_NR_CPUS).
const MOST_CPUS: u32 = 8192;

impl FromStr for Cpus {
    type Err = Unreadable;

    /// Reads `2-5,8`, as the kernel writes lists of CPUs.
    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|cpu| *cpu < MOST_CPUS).ok_or(Unreadable);
        let mut cpus = Vec::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(Unreadable);
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl Display for Cpus {
    /// As it can be read again: `2-5,8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.0.chunk_by(|cpu, next| cpu + 1 == *next).map(|range| match range {
            [first, .., last] => format!("{first}-{last}"),
            other => other.iter().map(u32::to_string).collect(),
        });
        f.write_str(&ranges.collect::<Vec<_>>().join(","))
    }
}

impl Word for Cpus {
    const EXPECTED: &'static str = "a list of CPUs: numbers and ranges, as in 2-5,8";
}

fn digits(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// Derives `Deserialize`, `Serialize` and `JsonSchema` for types that are a [`Word`] and have `Display`; with what stands for
/// their value in help, and their schema.
macro_rules! words {
    ($($word:ty: $placeholder:literal $schema:tt;)*) => {$(
        impl<'de> ::serde::Deserialize<'de> for $word {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::grammar::types::word(deserializer)
            }
        }

        impl ::serde::Serialize for $word {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl ::schemars::JsonSchema for $word {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($word).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                let mut schema = ::schemars::json_schema!($schema);
                schema.insert("x-value".to_owned(), $placeholder.into());
                schema
            }
        }
    )*};
}

pub(crate) use words;

words! {
    Size: "SIZE" { "type": ["string", "integer"], "pattern": "^[0-9]+([KMGTkmgt]([iI]?[bB])?)?$", "minimum": 0 };
    Cpus: "LIST" { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$" };
    Duration: "DURATION" { "type": ["string", "integer"], "pattern": "^[0-9]+(us|ms|s|m)?$", "minimum": 0 };
}

#[cfg(test)]
#[path = "types_test.rs"]
mod tests;
