use super::*;
use crate::grammar::{self, file};

#[test]
fn an_empty_file_is_what_nobody_has_said() {
    let empty = file::parse(std::path::Path::new("f"), String::new()).unwrap();
    let reading = grammar::read::<Config>(&[empty]);
    assert!(reading.problems.is_empty() && reading.origins.is_empty());
    assert_eq!(format!("{:?}", reading.value), format!("{:?}", Config::default()));
}

#[test]
fn the_schema_in_docs_is_that_of_the_types() {
    let kept = include_str!("../../../docs/config.schema.json");
    assert!(kept == schema_text(), "cargo run -- schema > docs/config.schema.json");
}
