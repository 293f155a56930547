//! Shell patterns as `modules.alias` has them: `*`, `?` and `[...]`, after fnmatch(3) without flags.
//!
//! Linear in practice: only the last `*` is retried, which is enough since an earlier one matching more could
//! not make a later one match that did not before.

/// Whether `pattern` describes the whole of `text`.
#[must_use]
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            retry = Some((rest, text));
            pattern = rest;
            continue;
        }
        if pattern.is_empty() && text.is_empty() {
            return true;
        }
        if let [byte, after @ ..] = text
            && let Some(rest) = match_one(pattern, *byte)
        {
            (pattern, text) = (rest, after);
            continue;
        }
        let Some((after_star, [_, shorter @ ..])) = retry else { return false };
        retry = Some((after_star, shorter));
        (pattern, text) = (after_star, shorter);
    }
}

/// Matches one byte against the front of `pattern` and gives what follows there.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', body @ ..] => match class(body, byte) {
            Some((member, rest)) => member.then_some(rest),
            None => (byte == b'[').then_some(body),
        },
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Reads the class after a `[`: whether `byte` is in it, and what follows the `]`. `None` if it is never
/// closed.
fn class(body: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match body {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, body),
    };
    let (mut member, mut first) = (false, true);
    loop {
        rest = match rest {
            [b']', after @ ..] if !first => return Some((member != negated, after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                member |= (*low..=*high).contains(&byte);
                after
            }
            [single, after @ ..] => {
                member |= *single == byte;
                after
            }
            [] => return None,
        };
        first = false;
    }
}

#[cfg(test)]
#[path = "glob_test.rs"]
mod tests;
