//! Debian version numbers and package names, newest last.

use std::cmp::Ordering;

/// Compares as dpkg compares upstream versions: digits as numbers, letters before other characters, `~` before everything.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        let (a, b) = (split_text(&mut left), split_text(&mut right));
        let text = (0..=a.len().max(b.len()))
            .map(|i| weight(a.get(i)).cmp(&weight(b.get(i))))
            .find(|order| order.is_ne());
        if let Some(order) = text {
            return order;
        }
        let (a, b) = (split_number(&mut left), split_number(&mut right));
        let order = a.len().cmp(&b.len()).then(a.cmp(b));
        if order.is_ne() || (left.is_empty() && right.is_empty()) {
            return order;
        }
    }
}

fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    }
}

fn split_text<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    split(rest, |byte| byte.is_ascii_digit())
}

/// The digits at the start, without leading zeros.
fn split_number<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let digits = split(rest, |byte| !byte.is_ascii_digit());
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

fn split<'a>(rest: &mut &'a [u8], ends: impl Fn(&u8) -> bool) -> &'a [u8] {
    let at = rest.iter().position(ends).unwrap_or(rest.len());
    let (head, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
    *rest = tail;
    head
}

#[cfg(test)]
#[path = "version_test.rs"]
mod tests;
