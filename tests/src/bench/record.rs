//! What all benches end with: a JSON file and a picture of it, what is not as promised, and the exit status.

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::plot::{self, Plotted};
use super::table;
use crate::cli::BenchOptions;
use crate::files::FileError;
use crate::product;

/// The JSON file: `schema` is `vmm-bench-NAME/1`.
#[derive(Serialize)]
struct Record<'a, T> {
    schema: String,
    seconds: u64,
    #[serde(flatten)]
    measured: &'a T,
    /// What is not as promised.
    complaints: &'a [String],
}

/// Writes what the bench `name` has `measured` since `started`, and says what is wrong with it; `count` says how much there was of it.
pub(super) fn conclude(
    name: &str,
    options: &BenchOptions,
    started: Instant,
    count: &str,
    measured: &(impl Serialize + Plotted),
    complaints: &[String],
) -> Result<ExitCode, FileError> {
    let own = || product::target().join(format!("bench/{name}.json"));
    let path = options.json.clone().unwrap_or_else(own);
    let seconds = started.elapsed().as_secs();
    println!("\n{count}, {seconds} s: {}", path.display());
    complaints.iter().for_each(|complaint| println!("not as promised: {complaint}"));
    let schema = format!("vmm-bench-{name}/1");
    table::write_json(&path, &Record { schema, seconds, measured, complaints })?;
    plot::write(&path.with_extension("svg"), name, &measured.plot())?;
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
