//! The `vmm` commands that README.md and docs/ tell people to type, taken from their text and run in a host one after another.
//! That all of them parse is a unit test of `cli`.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![case(
        "docs/the commands that they show can be run",
        HostSpec::default().one_cpu().unbound(),
        run_all,
    )]
}

const OPERATING: &str = include_str!("../../../docs/operating.md");
/// In the order in which they are read.
const PAGES: [(&str, &str); 9] = [
    ("README.md", include_str!("../../../README.md")),
    ("quick-starts.md", include_str!("../../../docs/quick-starts.md")),
    ("operating.md", OPERATING),
    ("devices/blk.md", include_str!("../../../docs/devices/blk.md")),
    ("devices/fs.md", include_str!("../../../docs/devices/fs.md")),
    ("devices/net.md", include_str!("../../../docs/devices/net.md")),
    ("devices/pvpanic.md", include_str!("../../../docs/devices/pvpanic.md")),
    ("devices/vhost-user.md", include_str!("../../../docs/devices/vhost-user.md")),
    ("devices/vsock.md", include_str!("../../../docs/devices/vsock.md")),
];

/// What this host has in the place of what the docs name.
const HERE: [(&str, &str); 3] =
    [("0000:01:00.0", NVME), ("0000:04:00.0", NVME), ("--memory 8G", "--memory 256M")];

/// What is not run, and why.
// The reason is for the reader.
const NOT_HERE: [(&str, &str); 6] = [
    ("vmm ctl ", "it asks a machine that runs: cases of api/ and topology/"),
    ("vmm top", "likewise"),
    ("vmm memory ", "likewise: cases of pinning/"),
    ("0000:01:10.0", "a virtual function: cases of virtual functions"),
    ("0000:01:00.1", "a device of two functions: cases of topology/"),
    (" [", "it is a synopsis"),
];

/// The commands of a page as a shell takes them, those of several lines in one.
fn commands(page: &str) -> Vec<String> {
    let page = page.replace("\\\n", " ");
    page.lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with("vmm "))
        .map(str::to_owned)
        .collect()
}

/// The machine that the docs show as a file.
fn machine() -> String {
    let lines = OPERATING.lines().skip_while(|line| !line.starts_with("    memory = "));
    let lines = lines.map_while(|line| if line.is_empty() { Some("") } else { line.strip_prefix("    ") });
    lines.collect::<Vec<_>>().join("\n")
}

fn run_all(ctx: &Ctx) -> TestResult {
    ctx.run("mkdir -p /tmp/docs").expect_success()?;
    ctx.put("/tmp/docs/vm.toml", machine().as_bytes())?;
    let mut run = 0;
    for (name, page) in PAGES {
        for command in commands(page) {
            if NOT_HERE.iter().any(|(text, _)| command.contains(text)) {
                continue;
            }
            let typed = here(&command);
            let output = ctx.run(&format!("cd /tmp/docs && {typed}")).deadline(60).output()?;
            ensure!(
                output.status == 0,
                "{name}: `{command}`, here `{typed}`, ended with status {}",
                output.status
            );
            run += 1;
        }
    }
    // What is left of a page that was written anew shows here.
    ensure!(run > 25, "only {run} commands were run");
    let made =
        "test -s /usr/share/bash-completion/completions/vmm && test -s /usr/local/share/man/man1/vmm-run.1";
    ctx.run(made).expect_success()?;
    ctx.run(&format!("vmm unbind {NVME}; rm -r /tmp/docs /usr/share /usr/local")).expect_success()?;
    Ok(())
}

/// A command with what this host has. A machine is not started, but described as it would be; what needs a device finds it
/// bound, and directories are there that a distribution has.
fn here(command: &str) -> String {
    let mut command =
        HERE.iter().fold(command.replace(" ...", ""), |text, (there, here)| text.replace(there, here));
    if command.starts_with("vmm run ") && !command.contains("--dry-run") {
        command = command.replacen("vmm run ", "vmm run --dry-run ", 1);
    }
    if command.starts_with("vmm check") && command.contains("--vfio") || command.starts_with("vmm unbind") {
        command = format!("vmm bind {NVME} && {command}");
    }
    for directory in [
        "/usr/share/bash-completion/completions",
        "/usr/share/zsh/vendor-completions",
        "/usr/share/fish/vendor_completions.d",
        "/usr/local/share/man/man1",
    ] {
        if command.contains(directory) {
            command = format!("mkdir -p {directory} && {command}");
        }
    }
    command
}
