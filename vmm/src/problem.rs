//! What is wrong, for a person: every problem at once, each with its causes, its remedy and its exit code.

use std::fmt;

use miette::Diagnostic;

use crate::shortage;

/// What kind of problem it is. Its number is the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The guest failed: crashed, or the machine under it did.
    Guest = 1,
    /// What was asked for makes no sense.
    Usage = 2,
    /// The host lacks something.
    Host = 3,
    /// Guest memory could not be pinned.
    Memory = 4,
    /// A defect of ours.
    Internal = 5,
}

/// One problem.
pub struct Problem {
    /// Its kind.
    pub class: Class,
    /// What, why, and what to do.
    pub what: Box<dyn Diagnostic + Send + Sync>,
}

impl Problem {
    /// Makes one. What is due to a shortage has class and remedy of that.
    pub fn new(class: Class, what: impl Diagnostic + Send + Sync + 'static) -> Self {
        let (class, what) = shortage::explain(class, what);
        Self { class, what }
    }

    /// For use in `map_err`.
    pub fn of<E: Diagnostic + Send + Sync + 'static>(class: Class) -> impl Fn(E) -> Problems {
        move |what| Problems(vec![Self::new(class, what)])
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.class, self.what)
    }
}

/// All that is wrong. Never empty when it is an error.
#[derive(Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, class: Class, what: impl Diagnostic + Send + Sync + 'static) {
        self.0.push(Problem::new(class, what));
    }

    /// Keeps the value, or the problem.
    pub fn keep<T, E: Diagnostic + Send + Sync + 'static>(
        &mut self,
        class: Class,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|what| self.add(class, what)).ok()
    }

    /// The exit code: what the user typed comes before what the host lacks.
    pub fn exit_code(&self) -> u8 {
        self.0.iter().map(|problem| problem.class as u8).min().unwrap_or(Class::Internal as u8)
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "{problem:?}"))
    }
}

/// An error without a remedy of its own, said to be ours.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{what}")]
#[diagnostic(help("this should not happen: please report it, with the output of `vmm run -vv` and `dmesg`"))]
pub struct Unexpected {
    /// What was being done.
    pub what: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Unexpected {
    /// For use in `map_err`.
    pub fn during<E: std::error::Error + Send + Sync + 'static>(
        what: &'static str,
    ) -> impl Fn(E) -> Problems {
        move |error| Problem::of(Class::Internal)(Self { what, source: Box::new(error) })
    }
}
