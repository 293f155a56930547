//! All of the `vmm` binary: what is typed becomes a machine, what happens becomes words. Also `/init` of the guest that it
//! boots by default. Nobody but this crate prints.
//!
//! Exit codes: 0 the guest powered off, 1 the guest failed, 2 usage, 3 the host lacks something, 4 memory could not
//! be pinned, 5 internal, 6 the sandbox stopped it. A guest that writes `v` to the debug-exit port ends it with `(v << 1) | 1`. `vmm ctl` has its
//! own, in `ctl`.

mod args;
mod bind;
mod check;
mod config;
mod ctl;
mod default_kernel;
mod devices;
#[cfg(test)]
mod docs_test;
mod events;
mod files;
mod generated;
mod grammar;
mod init;
mod initramfs;
mod log;
#[cfg(test)]
mod packaging_test;
mod pin_helper;
mod pinning;
mod report;
mod run;
mod stderr;
mod top;
pub mod written;

use std::process::ExitCode;

use vmm::Problems;
use vmm::machine::signals;
use vmm::problem::Unexpected;

use args::{Cli, Command};

/// What the binary does.
pub fn main() -> ExitCode {
    if std::process::id() == 1 && std::env::args_os().next().is_some_and(|name| name == "/init") {
        init::main();
    }
    if let Some(code) = pin_helper::serve() {
        return code;
    }
    let cli = Cli::typed();
    let result = log::start(&cli).and_then(|()| {
        signals::outlive_file_limit().map_err(Unexpected::during("cannot catch signals"))?;
        obey(cli)
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(problems) => {
            report::problems(&problems);
            ExitCode::from(problems.exit_code())
        }
    }
}

/// Does what was typed; returns the exit code.
fn obey(cli: Cli) -> Result<u8, Problems> {
    match cli.command {
        Some(Command::Run(args)) => run::run(args, cli.api_socket),
        Some(Command::Check(args)) => check::check(&args),
        Some(Command::Ctl(args)) => ctl::ctl(&args),
        Some(Command::Memory(args)) => ctl::memory(&args),
        Some(Command::Top(args)) => top::top(&args),
        Some(Command::Bind(args)) => bind::bind(&args),
        Some(Command::Unbind(args)) => bind::unbind(&args),
        Some(Command::Devices(args)) => devices::devices(&args),
        Some(Command::Schema) => {
            report::print(&config::schema_text());
            Ok(0)
        }
        Some(Command::Completions { shell }) => generated::completions(shell),
        Some(Command::Man { directory }) => generated::man_pages(&directory),
        None => run::wait(cli.api_socket, cli.sandbox.as_deref(), cli.events.as_deref()),
    }
}
