//! How many files the process may have open: each interrupt vector of a device takes one, up to 2048 a device.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit, which is low for the sake of programs that call `select`, to the hard one.
pub(super) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(before = ?current, now = ?maximum, "limit on open files raised"),
        Err(error) => tracing::debug!(%error, "limit on open files stays as it is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_becomes_what_it_may_be() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit { current: Some(256), maximum: before.maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
