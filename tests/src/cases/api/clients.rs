//! Clients of all kinds: Cloud Hypervisor's own, as it talks, and hostile ones.

use super::{READY, SOCKET, ctl, machine, shell};
use crate::host::HostSpec;
use crate::suite::{Case, Ctx, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = || HostSpec::default().one_cpu();
    vec![
        case("api/ch-remote's requests are answered as it expects", host(), ch_remote),
        case("api/hostile clients stop neither the guest nor others", host(), hostile),
    ]
}

/// A request as ch-remote writes it (api_client of Cloud Hypervisor v52): these headers, in this order.
fn request(method: &str, call: &str, body: Option<&str>) -> String {
    let length = body.map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
    let body = body.unwrap_or_default();
    format!("{method} /api/v1/{call} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n{length}\r\n{body}")
}

/// Sends bytes, and gives all that comes back until the connection ends or the client has what it waits for.
fn send(ctx: &Ctx, bytes: &[u8]) -> TestResult<String> {
    Ok(ctx.run(&format!("/init unix {SOCKET}")).stdin(bytes).expect_success()?.stdout)
}

fn ch_remote(ctx: &Ctx) -> TestResult {
    shell(ctx)?;
    let mut guest = ctx.run(&machine("2>&1")).deadline(240).start()?;
    guest.wait_for(READY)?;
    for (method, call, body, status, answer) in [
        ("GET", "vmm.ping", None, 200, "\"version\":\""),
        ("GET", "vm.info", None, 200, "\"state\":\"Running\""),
        ("GET", "vm.counters", None, 200, "{\"vcpu0\":{"),
        ("PUT", "vm.pause", None, 204, ""),
        ("GET", "vm.info", None, 200, "\"state\":\"Paused\""),
        ("PUT", "vm.resume", None, 204, ""),
        ("PUT", "vm.resume", None, 500, "[\"the machine is running\",\"help: pause it first\"]"),
        ("PUT", "vm.create", Some("{\"payload\":{\"kernel\":\"/k\"}}"), 500, "created already"),
        (
            "PUT",
            "vm.add-device",
            Some("{\"path\":\"/sys/bus/pci/devices/0000:00:01.0\",\"id\":\"d\"}"),
            501,
            "--pcie-ports",
        ),
        ("PUT", "vm.remove-device", Some("{\"id\":\"none\"}"), 404, "no device is called `none`"),
        (
            "PUT",
            "vm.resize",
            Some("{\"desired_vcpus\":200}"),
            501,
            "desired_vcpus cannot be 200, the machine has ",
        ),
        ("PUT", "vm.coredump", Some("{\"destination_url\":\"file:///x\"}"), 500, "the machine is running"),
        ("GET", "vm.pause", None, 400, "this takes the method PUT"),
        ("GET", "vm.nothing", None, 404, "there is no /api/v1/vm.nothing"),
        ("PUT", "vm.reboot", None, 204, ""),
    ] {
        let response = send(ctx, request(method, call, body).as_bytes())?;
        // ch-remote reads a number up to the end of the line.
        let line = response.lines().next().unwrap_or_default();
        let number = line.strip_prefix("HTTP/1.1 ").map(str::trim);
        ensure!(number == Some(status.to_string().as_str()), "{method} {call}: {line:?}, not {status}");
        let (head, content) = response.split_once("\r\n\r\n").unwrap_or_default();
        ensure!(content.contains(answer), "{method} {call}: {content}");
        let length = format!("Content-Length: {}", content.len());
        let sized = if status == 204 { content.is_empty() } else { head.lines().any(|line| line == length) };
        ensure!(sized, "{method} {call}: the answer's length is not told: {head}");
    }
    guest.wait_for(READY)?;
    send(ctx, request("PUT", "vmm.shutdown", None).as_bytes())?;
    guest.finish()?.stdout_contains("vmm: stopped by request")?;
    Ok(())
}

fn hostile(ctx: &Ctx) -> TestResult {
    shell(ctx)?;
    let mut guest = ctx.run(&machine("")).deadline(300).start()?;
    guest.wait_for(READY)?;
    let mut alive = |what: &str| -> TestResult {
        guest.send(format!("echo alive after {what}\n"));
        guest.wait_for(&format!("alive after {what}"))?;
        ctl(ctx, "info")?.stdout_contains("Running")?;
        Ok(())
    };
    let mut flood = ctx.run(&format!("/init flood {SOCKET} 1000")).deadline(240).start()?;
    flood.wait_for("1000 held")?;
    alive("a flood")?;
    // While they are held, and when they are gone.
    flood.end_of_input();
    flood.finish()?;
    alive("the end of the flood")?;

    // Half a request, held open.
    let half = ctx.run(&format!("/init unix {SOCKET}")).start()?;
    half.send("PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{\"pay");
    alive("half a request")?;
    half.kill()?;

    let oversized = format!("PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 1 << 30);
    let endless = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let smuggled = "PUT / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc";
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let deep = request("PUT", "vm.create", Some(&deep));
    for (what, bytes, status) in [
        ("an oversized body", oversized.as_bytes(), "413"),
        ("an endless head", endless.as_bytes(), "431"),
        ("two lengths", smuggled.as_bytes(), "400"),
        ("no HTTP", b"\x16\x03\x01\x00\xff\r\n\r\n", "400"),
        ("deep nesting", deep.as_bytes(), "400"),
    ] {
        let response = send(ctx, bytes)?;
        ensure!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {response:?}");
        alive(what)?;
    }
    // A client that pipelines and does not read.
    let deaf = ctx.run(&format!("/init unix {SOCKET} | sleep 1000")).start()?;
    deaf.send(request("GET", "vmm.ping", None).repeat(2000));
    alive("a deaf client")?;
    deaf.kill()?;
    ctl(ctx, "shutdown-vmm")?;
    guest.finish()?;
    Ok(())
}
