//! What can be said to `vmm top`.

use std::path::PathBuf;

use clap::Args;

const TOP_HELP: &str = "\
On a terminal the page is shown anew until q or Ctrl-C; elsewhere, and with --once, it is printed once, after an interval.

Exit codes: 0 done, 2 usage, 3 no machine is there to be shown.";

#[derive(Debug, Args)]
#[command(after_help = TOP_HELP)]
pub(crate) struct TopArgs {
    /// A machine's socket, as `--api-socket` was given it. May be repeated. Without it, those in /run/vmm.
    #[arg(long = "socket", short, value_name = "PATH")]
    pub(crate) sockets: Vec<PathBuf>,
    /// Print a page, and no more.
    #[arg(long)]
    pub(crate) once: bool,
    /// How long it is counted for: 500ms, 1s, 1m.
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub(crate) interval: String,
}
