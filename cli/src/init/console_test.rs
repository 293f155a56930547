use super::*;

#[test]
fn lines_are_read_until_the_end_of_input() {
    let mut input: &[u8] = b" lspci \r\n\n\xff\nlast";
    let lines: Vec<_> = std::iter::from_fn(|| read_line(&mut input)).collect();
    assert_eq!(lines, ["lspci", "", "\u{fffd}", "last"]);
}

#[test]
fn a_line_without_end_is_cut() {
    let endless = vec![b'x'; 10_000];
    assert_eq!(read_line(&mut endless.as_slice()).unwrap().len(), 4096);
}
