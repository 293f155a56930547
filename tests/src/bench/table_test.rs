use super::*;

const TABLE: Table = Table::new(1, &[("name", 6), ("ms", 5), ("of", 3)]);

#[test]
fn words_are_set_to_the_left_and_figures_to_the_right() {
    assert_eq!(TABLE.head(), "name       ms   of");
    let row = ["idle", "12.5", "8"].map(str::to_owned);
    assert_eq!(TABLE.row(row), "idle     12.5    8");
}

#[test]
fn json_is_written_where_no_directory_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b.json");
    write_json(&path, &[1, 2]).unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "[\n  1,\n  2\n]\n");
}
