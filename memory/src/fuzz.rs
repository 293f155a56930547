//! Input for parsers that take anything: arbitrary bytes, and real files (testdata/, from a lab host) with something wrong.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What breaks arithmetic.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "4095",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "0xffffffffffffffff",
    ">100000",
    "",
];

/// Enough to be sure, in a second or so.
pub(crate) fn thoroughly() -> ProptestConfig {
    // Miri takes a thousand times as long, and says more of few.
    let cases = if cfg!(miri) { 2 } else { 10_000 };
    ProptestConfig { cases, max_shrink_iters: 2_000, failure_persistence: None, ..Default::default() }
}

/// Bytes that `real` resembles more or less.
pub(crate) fn hostile(real: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let damaged = vec(damage(), 1..8)
        .prop_map(|damages| damages.into_iter().fold(real.to_vec(), |bytes, damage| damage.apply(bytes)));
    prop_oneof![4 => damaged, 1 => vec(any::<u8>(), 0..128)]
}

/// The same as it is read.
pub(crate) fn hostile_text(real: &'static str) -> impl Strategy<Value = String> {
    hostile(real.as_bytes()).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Cut(Index, Index),
    Insert(Index, Vec<u8>),
    Number(Index, &'static str),
    RepeatLine(Index, usize),
    Truncate(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (at(), at()).prop_map(|(from, to)| Damage::Cut(from, to)),
        (at(), vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at(), select(&NUMBERS[..])).prop_map(|(at, number)| Damage::Number(at, number)),
        (at(), select(&NUMBERS[..])).prop_map(|(at, number)| Damage::Number(at, number)),
        (at(), 2..40usize).prop_map(|(at, times)| Damage::RepeatLine(at, times)),
        at().prop_map(Damage::Truncate),
    ]
}

impl Damage {
    fn apply(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len();
        if length == 0 {
            return bytes;
        }
        match self {
            Self::Byte(at, byte) => bytes[at.index(length)] = byte,
            Self::Cut(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                bytes.drain(from.min(to)..from.max(to).min(from.min(to) + 200));
            }
            Self::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more);
            }
            Self::Number(at, number) => {
                let from = at.index(length);
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                if let Some(start) = bytes[from..].iter().position(is_digit).map(|start| from + start) {
                    let end = bytes[start..].iter().position(|byte| !is_digit(byte));
                    bytes.splice(start..end.map_or(length, |end| start + end), number.bytes());
                }
            }
            Self::RepeatLine(at, times) => {
                let at = at.index(length);
                let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |it| it + 1);
                let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(length, |it| at + it + 1);
                // Lines that were repeated before are not repeated as many times again.
                let line = bytes[start..end].repeat(times.min(1 + 4096 / length));
                bytes.splice(start..end, line);
            }
            Self::Truncate(at) => bytes.truncate(at.index(length)),
        }
        bytes
    }
}
