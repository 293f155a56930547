//! The `vmm` binary. What it does is in the library beside it, which can be tested and fuzzed.

fn main() -> std::process::ExitCode {
    cli::main()
}
