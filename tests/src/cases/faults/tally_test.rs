use super::*;

#[test]
fn a_table_counts_and_says_what_was_lost() {
    let mut tally = Tally::default();
    assert!(tally.verdict().is_err());
    tally.add("files", vec![Ok(Survival::Refused), Ok(Survival::WentOn)], &[Survival::Refused]);
    assert_eq!(tally.verdict(), Ok(()));
    tally.add("kills", vec![Ok(Survival::WentOn), Err("at 3: status 5".to_owned())], &[Survival::Killed]);
    assert_eq!(
        tally.verdict(),
        Err("kills, at 3: status 5\nkills: no try was Killed, so this was not tested\n".to_owned())
    );
    let table = tally.to_string();
    assert!(table.contains("| files | 2 | 1 | 1 | 0 | 0 |\n"), "{table}");
    assert!(table.contains("| kills | 2 | 1 | 0 | 0 | 1 |\n| all | 4 | 2 | 1 | 0 | 1 |\n"), "{table}");
}
