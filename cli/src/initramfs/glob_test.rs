use super::matches;

#[test]
fn module_aliases_match_as_modprobe_matches_them() {
    let nvme = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
    for (pattern, expected) in [
        ("pci:v*d*sv*sd*bc01sc08i02*", true),
        ("pci:v00001B36d00000010sv*sd*bc*sc*i*", true),
        ("pci:v00001B36d00000011sv*sd*bc*sc*i*", false),
        ("pci:v*d*sv*sd*bc01sc06i01*", false),
        ("pci:v*d*sv*sd*bc01sc08i0", false),
        ("virtio:d*v*", false),
        ("*", true),
        ("", false),
    ] {
        assert_eq!(matches(pattern, nvme), expected, "{pattern}");
    }
}

#[test]
fn every_kind_of_pattern() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("*", "", true),
        ("**a**", "a", true),
        ("?", "", false),
        ("a?c", "abc", true),
        ("a[0-9]c", "a5c", true),
        ("a[0-9]c", "axc", false),
        ("a[!0-9]c", "axc", true),
        ("a[^x]c", "axc", false),
        ("d[0-2]*dc", "d1xxdc", true),
        ("[]]", "]", true),
        ("[]-]", "-", true),
        ("[a-]", "-", true),
        ("a[bc", "a[bc", true),
        ("a[bc", "ab", false),
        ("*ab*abc", "ababab_ababc", true),
        ("*:[bs]vnD[Ee]ll:*", "dmi:svnDEll:x", true),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn a_pattern_of_many_stars_ends_soon() {
    assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
    assert!(!matches(&format!("{}b", "*a".repeat(200)), &"a".repeat(20_000)));
}
