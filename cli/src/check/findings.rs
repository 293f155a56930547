//! What a check finds, one after another: printed at once for people, or kept and printed as JSON in the end.

use std::fmt::Display;

use miette::Diagnostic;
use serde_json::{Value, json};
use vmm::Class;

use crate::report;

/// Name and version of the JSON. Fields are added, never changed, or it is.
const SCHEMA: &str = "vmm-check/1";

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// A start fails for it, with this exit code.
    Problem(Class),
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What it is about, for programs.
    about: &'static str,
    text: String,
    causes: Vec<String>,
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(about: &'static str, text: impl Display) -> Self {
        Self { level: Level::Ok, about, text: text.to_string(), causes: Vec::new(), remedy: None }
    }

    /// Something that is amiss, and what to do about it.
    pub(super) fn amiss(level: Level, about: &'static str, text: impl Display, remedy: impl Display) -> Self {
        Self { level, remedy: Some(remedy.to_string()), ..Self::ok(about, text) }
    }

    /// An error, with all that it knows.
    pub(super) fn of(level: Level, about: &'static str, what: &dyn Diagnostic) -> Self {
        let remedy = what.help().map(|help| help.to_string());
        Self { level, about, text: what.to_string(), causes: report::causes(what), remedy }
    }

    /// With why.
    pub(super) fn because(mut self, cause: &str) -> Self {
        self.causes.push(cause.to_owned());
        self
    }

    fn label(&self) -> &'static str {
        match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem(_) => "problem",
        }
    }

    /// As it is printed.
    pub(super) fn line(&self) -> String {
        report::lines(self.label(), &self.text, &self.causes, self.remedy.as_deref())
    }

    fn json(&self) -> Value {
        json!({ "level": self.label(), "about": self.about, "text": self.text, "causes": self.causes, "remedy": self.remedy })
    }
}

/// All findings of a check.
pub(super) struct Findings {
    json: bool,
    found: Vec<Finding>,
}

impl Findings {
    /// None yet. As JSON they are printed in the end.
    pub(super) fn new(json: bool) -> Self {
        Self { json, found: Vec::new() }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if !self.json {
            report::print(&finding.line());
        }
        self.found.push(finding);
    }

    pub(super) fn ok(&mut self, about: &'static str, text: impl Display) {
        self.add(Finding::ok(about, text));
    }

    pub(super) fn problem(&mut self, class: Class, about: &'static str, what: &dyn Diagnostic) {
        self.add(Finding::of(Level::Problem(class), about, what));
    }

    /// Keeps the value, or tells of the problem.
    pub(super) fn keep<T, E: Diagnostic>(
        &mut self,
        class: Class,
        about: &'static str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.problem(class, about, &error)).ok()
    }

    /// Says what it comes to; returns the exit code.
    pub(super) fn end(self) -> u8 {
        let text = if self.json { format!("{:#}\n", self.all()) } else { self.sum() + "\n" };
        report::print(&text);
        self.code()
    }

    /// Of several problems the lowest class counts.
    fn code(&self) -> u8 {
        let class = |finding: &Finding| match finding.level {
            Level::Problem(class) => Some(class as u8),
            _ => None,
        };
        self.found.iter().filter_map(class).min().unwrap_or(0)
    }

    /// `1 problem, 2 warnings`
    pub(super) fn sum(&self) -> String {
        let count = |label: &str| match self.found.iter().filter(|finding| finding.label() == label).count() {
            0 => None,
            1 => Some(format!("1 {label}")),
            count => Some(format!("{count} {label}s")),
        };
        let problems = count("problem").unwrap_or_else(|| "ready".to_owned());
        std::iter::once(problems).chain(count("warning")).collect::<Vec<_>>().join(", ")
    }

    fn all(&self) -> Value {
        let found: Vec<Value> = self.found.iter().map(Finding::json).collect();
        json!({ "schema": SCHEMA, "ready": self.code() == 0, "exit_code": self.code(), "findings": found })
    }
}

#[cfg(test)]
#[path = "findings_test.rs"]
mod tests;
