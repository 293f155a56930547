use std::time::Duration;

use super::*;

const FULL: &str = "\
INFO: seed corpus: files: 11 min: 621b max: 32849b total: 69779b rss: 29Mb
#12	INITED cov: 1623 ft: 2631 corp: 11/52Kb exec/s: 0 rss: 30Mb
#1024	NEW    cov: 1770 ft: 2935 corp: 27/126Kb lim: 16384 exec/s: 341 rss: 32Mb L: 4121/16384 MS: 1 ShuffleBytes-
#5023	DONE   cov: 1771 ft: 2972 corp: 29/135Kb lim: 16384 exec/s: 502 rss: 32Mb
###### Recommended dictionary. ######
stat::number_of_executed_units: 5023
stat::average_exec_per_sec:     502
";
/// Of a process that was killed.
const CUT: &str = "\
#12	INITED cov: 1623 ft: 2631 corp: 11/52Kb exec/s: 0 rss: 30Mb
#700	REDUCE cov: 1800 ft: 2641 corp: 12/53Kb lim: 16384 exec/s: 0 rss: 31Mb L: 370/16384 MS: 1 EraseBytes-
";

#[test]
fn jobs_are_taken_together() {
    let outcome = Outcome {
        logs: vec![FULL.to_owned(), CUT.to_owned(), String::new()],
        took: Duration::from_secs(10),
        corpus: 29,
        findings: vec!["/f/crash-1".into()],
    };
    let row = Row::of("qcow2", outcome);
    assert_eq!(row.cells(), ["qcow2", "5723", "572", "1800", "29", "10", "1"]);
    let told = row.told();
    assert_eq!(told.len(), 1);
    assert!(told[0].ends_with("cargo lab fuzz qcow2 --input /f/crash-1"), "{told:?}");
}
