//! The lab itself: streams, statuses, files and terminals come through unharmed.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("lab/statuses and streams are the command's", host(), statuses),
        case("lab/8 MiB through a command come back whole", host(), bulk),
        case("lab/64 KiB pasted into a terminal come through", host(), paste),
        case("lab/files go there and come back", host(), files),
        case("lab/a command and its children can be killed", host(), killed),
        case("lab/a conversation", host(), conversation),
        case("lab/a terminal has its size", host(), terminal),
        case("lab/a guest's initramfs is one", host(), guest_initramfs),
    ]
}

fn statuses(ctx: &Ctx) -> TestResult {
    let output = ctx.run("echo out; echo err >&2; exit 7").expect_status(7)?;
    ensure!(output.stdout == "out\n", "standard output is {:?}", output.stdout);
    ensure!(output.stderr == "err\n", "standard error is {:?}", output.stderr);
    ctx.run("kill -TERM $$").expect_status(128 + 15)?;
    ctx.run("no-such-command").expect_status(127)?.stderr_contains("not found")?;
    ctx.run("echo $A").env("A", "b c").expect_success()?.stdout_contains("b c")?;
    Ok(())
}

fn bulk(ctx: &Ctx) -> TestResult {
    let bytes: Vec<u8> = (0..8_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    ctx.put("/tmp/bulk", &bytes)?;
    ensure!(ctx.get("/tmp/bulk")? == bytes, "the bytes came back changed");
    // A command that does not read its input must not keep others from theirs.
    let deaf = ctx.run("exec sleep 1000").start()?;
    deaf.send(vec![0; 200 << 10]);
    ctx.run("cat").stdin("heard").expect_success()?.stdout_contains("heard")?;
    deaf.kill()?;
    ctx.run("rm /tmp/bulk").expect_success()?;
    Ok(())
}

fn paste(ctx: &Ctx) -> TestResult {
    let mut shell =
        ctx.run("stty raw -echo; echo ready; exec head -c 65536 | sha256sum").on_terminal().start()?;
    shell.wait_for("ready")?;
    let line = "0123456789abcdef".repeat(4096);
    shell.send(&line);
    let output = shell.finish()?;
    ctx.put("/tmp/paste", line.as_bytes())?;
    let sum = ctx.run("sha256sum < /tmp/paste; rm /tmp/paste").expect_success()?;
    output.stdout_contains(sum.stdout.trim())?;
    Ok(())
}

fn files(ctx: &Ctx) -> TestResult {
    ctx.put("/tmp/a/b c/file", b"content")?;
    ctx.run("cat '/tmp/a/b c/file'").expect_success()?.stdout_contains("content")?;
    let here = std::env::temp_dir().join(format!("lab-{}", std::process::id()));
    let brought = ctx.host.get_directory("/tmp/a", &here);
    let content = std::fs::read(here.join("b c/file"));
    std::fs::remove_dir_all(&here)?;
    brought?;
    ensure!(content? == b"content", "the file came back changed");
    ctx.run("rm -r /tmp/a").expect_success()?;
    Ok(())
}

fn killed(ctx: &Ctx) -> TestResult {
    let mut sleeper = ctx.run("sleep 12345 & echo started; sleep 12345").start()?;
    sleeper.wait_for("started")?;
    let output = sleeper.kill()?;
    ensure!(output.status == 128 + 9, "it ended with status {}", output.status);
    // What a command leaves in the background does not keep it from ending, and does not stay.
    ctx.run("sleep 12345 & true").expect_success()?.within(30.0)?;
    ctx.run("ps | grep '[s]leep 12345'").expect_status(1)?;
    Ok(())
}

fn conversation(ctx: &Ctx) -> TestResult {
    let mut shell = ctx.run("while read line; do echo \"<$line>\"; done; echo over").start()?;
    shell.send("one\n");
    shell.wait_for("<one>")?;
    shell.send("two\n");
    shell.wait_for("<two>")?;
    shell.end_of_input();
    let output = shell.finish()?;
    output.stdout_contains("over")?;
    output.stdout_lacks("three")?;
    ensure!(output.line_with("two")? == "<two>", "the line is {:?}", output.line_with("two"));
    Ok(())
}

fn terminal(ctx: &Ctx) -> TestResult {
    ctx.run("stty size; test -t 0 && test -t 1 && test -t 2 && tty")
        .on_terminal()
        .expect_success()?
        .stdout_contains("24 80")?
        .stdout_contains("/dev/pts/")?;
    ctx.run("test -t 0").expect_status(1)?;
    Ok(())
}

fn guest_initramfs(ctx: &Ctx) -> TestResult {
    let initrd = GuestInitrd::with_script(ctx.artefacts, "poweroff -f")?.file("etc/issue", b"a guest\n")?;
    ctx.put("/tmp/guest.cpio", &initrd.build()?)?;
    let unpack = "mkdir /tmp/guest && cd /tmp/guest && cpio -i < ../guest.cpio 2>/dev/null";
    ctx.run(unpack).expect_success()?;
    ctx.run("cat /tmp/guest/etc/issue").expect_success()?.stdout_contains("a guest")?;
    ctx.run("tail -n 1 /tmp/guest/init").expect_success()?.stdout_contains("poweroff -f")?;
    ctx.run("chroot /tmp/guest /bin/sh -c 'ls /bin/mount'").expect_success()?;
    ctx.run("rm -r /tmp/guest /tmp/guest.cpio").expect_success()?;
    Ok(())
}
