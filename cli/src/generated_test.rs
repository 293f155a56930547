use super::*;

#[test]
fn every_command_has_a_page_with_its_flags() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(man_pages(directory.path()).unwrap(), 0);
    let mut pages: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    for page in ["vmm.1", "vmm-run.1", "vmm-check.1", "vmm-devices.1", "vmm-ctl.1", "vmm-ctl-power-button.1"]
    {
        assert!(pages.iter().any(|there| there == page), "{page} is not among {pages:?}");
    }
    let page = std::fs::read_to_string(directory.path().join("vmm-run.1")).unwrap();
    for text in [r"\fB\-\-pin\-deadline\fR", r"\fB\-\-vfio\fR", "backend=iommufd|container", "Exit codes: 0"]
    {
        assert!(page.contains(text), "{text}\n{page}");
    }
    let problems = man_pages(Path::new("/nonexistent")).unwrap_err();
    assert_eq!(problems.exit_code(), 2);
}

#[test]
fn shells_complete_commands_and_flags() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::documented(), "vmm", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert_eq!(report::printable(&script), script, "it is printed as it is");
        for word in ["pin-deadline", "power-button", "unbind", "memory"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}
