use super::*;

#[test]
fn the_sources_are_the_systems_own_suites_and_the_backports_of_its_mirror() {
    let targets = "m:/debian bookworm\nm:/debian bookworm\nm:/debian bookworm-updates\n\
                   s:/security bookworm-security\nx:/other stable\n";
    let line = |site: &str| format!("deb [signed-by={KEYRING}] {site} main\n");
    assert_eq!(
        source_lines(targets, "bookworm"),
        [
            line("m:/debian bookworm"),
            line("m:/debian bookworm-updates"),
            line("s:/security bookworm-security"),
            line("m:/debian bookworm-backports"),
            line("m:/debian trixie-backports"),
        ]
    );
    assert!(source_lines("x:/other noble\n", "bookworm").is_empty());
}

#[test]
fn backports_that_the_system_has_are_not_named_twice() {
    let targets = "m:/debian trixie\nm:/debian trixie-backports\n";
    assert_eq!(source_lines(targets, "trixie").len(), 2);
}

#[test]
fn another_release_is_at_the_systems_own_mirror() {
    let targets = "s:/security bookworm-security\nm:/debian bookworm\n";
    let expected = format!("deb [signed-by={KEYRING}] m:/debian trixie main\n");
    assert_eq!(source_line(targets, "bookworm", "trixie"), Some(expected));
    assert_eq!(source_line("x:/other noble\n", "bookworm", "trixie"), None);
}
