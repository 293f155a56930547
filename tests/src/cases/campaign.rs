//! The pinning campaign in small; `cargo lab bench pin` is the whole of it.

use crate::bench;
use crate::host::HostSpec;
use crate::suite::{Case, Ctx, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().mostly_cma();
    vec![case("campaign/others fail where pages are held, we do not", host(), held)]
}

fn held(ctx: &Ctx) -> TestResult {
    for program in ["hold", "populate_and_map"] {
        ctx.program(program)?;
    }
    let complaints = bench::smoke(ctx.host);
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}
