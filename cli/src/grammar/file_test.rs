use super::*;

#[test]
fn all_that_is_not_toml_is_reported_with_its_place() {
    let text = "a = 1\nb = \n\u{e9}\u{e9} = 'x\nc = 2\nc = 3\n";
    let said: Vec<String> = parse(Path::new("/etc/vm.toml"), text.to_owned())
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(said.len() > 1, "{said:?}");
    assert!(said.iter().all(|error| error.starts_with("/etc/vm.toml:")), "{said:?}");
    assert!(said.iter().any(|error| error.starts_with("/etc/vm.toml:5:1: duplicate key")), "{said:?}");
}

#[test]
fn columns_count_characters() {
    let text = "'é' = { 'ü' = 1, x = 2 }\r\n";
    let value = parse(Path::new("f"), text.to_owned()).unwrap();
    let Form::Table(Table { keys, .. }) = value.form else { panic!() };
    let [(_, Value { form: Form::Table(inner), .. })] = keys.as_slice() else { panic!() };
    let columns: Vec<usize> = inner
        .keys
        .iter()
        .map(|(_, value)| match &value.origin {
            Origin::File { file, at } => file.find(*at).1,
            _ => 0,
        })
        .collect();
    assert_eq!(columns, [9, 18]);
}

#[test]
fn numbers_are_decimal() {
    let value =
        parse(Path::new("f"), "a = [0x10, 1_000, -5, +7, 0b11, 0o17, 99999999999999999999]".to_owned())
            .unwrap();
    let Form::Table(Table { keys, .. }) = value.form else { panic!() };
    let [(_, Value { form: Form::List(list), .. })] = keys.as_slice() else { panic!() };
    let texts: Vec<&Form> = list.iter().map(|value| &value.form).collect();
    let expected = ["16", "1000", "-5", "7", "3", "15", "99999999999999999999"];
    assert_eq!(texts, expected.map(|text| Form::Text(text.to_owned())).iter().collect::<Vec<_>>());
}

#[test]
fn a_file_full_of_nonsense_is_refused_quickly() {
    for text in ["a=1\n".repeat(100_000), "[".repeat(1 << 20), "x = [".repeat(100_000), "= ".repeat(1 << 19)]
    {
        assert!((1..=MOST).contains(&parse(Path::new("f"), text).unwrap_err().len()));
    }
}
