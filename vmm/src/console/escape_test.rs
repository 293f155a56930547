use super::*;

fn filter(chunks: &[&[u8]]) -> (Vec<u8>, Vec<Key>) {
    let (mut escape, mut guest, mut keys) = (Escape::default(), Vec::new(), Vec::new());
    chunks.iter().for_each(|chunk| keys.extend(escape.filter(chunk, &mut guest)));
    (guest, keys)
}

#[test]
fn quit_is_found_across_reads() {
    assert_eq!(filter(&[b"ls\x01", b"xrest"]), (b"ls".to_vec(), vec![Key::Quit]));
}

#[test]
fn ctrl_a_itself_can_be_sent() {
    assert_eq!(filter(&[b"\x01a\x01\x01"]), (vec![CTRL_A, CTRL_A], vec![]));
}

#[test]
fn other_keys_after_ctrl_a_reach_the_guest() {
    assert_eq!(filter(&[b"\x01d"]), (vec![CTRL_A, b'd'], vec![]));
    assert_eq!(filter(&[b"\x01hq"]), (b"q".to_vec(), vec![Key::Help]));
}

#[test]
fn everything_else_passes_unchanged() {
    let all: Vec<u8> = (0..=255).filter(|byte| *byte != CTRL_A).collect();
    assert_eq!(filter(&[&all]), (all.clone(), vec![]));
}
