use super::*;

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("no door")]
#[diagnostic(help("build one"))]
struct Inner(#[source] std::io::Error);

fn found() -> Findings {
    let mut findings = Findings::new(true);
    let error = Inner(std::io::Error::from_raw_os_error(libc::ENOENT));
    findings.ok("house", "it stands");
    findings.problem(Class::Memory, "house", &error);
    assert_eq!(findings.keep(Class::Host, "house", Err::<(), _>(error)), None);
    findings.add(Finding::amiss(Level::Warning, "roof", "it leaks", "mend it").because("hail"));
    findings
}

#[test]
fn an_error_is_told_as_everywhere_else() {
    let error = Inner(std::io::Error::from_raw_os_error(libc::ENOENT));
    assert_eq!(Finding::of(Level::Problem(Class::Host), "x", &error).line(), report::text("problem", &error));
    assert_eq!(
        Finding::amiss(Level::Warning, "roof", "it leaks", "mend it\nsoon").because("hail").line(),
        "warning: it leaks\n  cause: hail\n   help: mend it\n         soon\n"
    );
}

#[test]
fn the_sum_and_the_exit_code() {
    let findings = found();
    assert_eq!((findings.sum().as_str(), findings.code()), ("2 problems, 1 warning", 3));
    assert_eq!(Findings::new(false).sum(), "ready");
}

#[test]
fn json_has_all_of_it() {
    let json = found().all();
    assert_eq!(
        (&json["schema"], &json["ready"], &json["exit_code"]),
        (&SCHEMA.into(), &false.into(), &3.into())
    );
    assert_eq!(
        json["findings"][0],
        json!({ "level": "ok", "about": "house", "text": "it stands", "causes": [], "remedy": null })
    );
    assert_eq!(json["findings"][1]["causes"][0], "No such file or directory (os error 2)");
    assert_eq!(json["findings"][3]["remedy"], "mend it");
}
