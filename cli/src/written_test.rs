use super::*;

/// Without where values are from.
fn values(printed: &str) -> Vec<&str> {
    printed.lines().map(|line| line.split("  # ").next().unwrap()).collect()
}

#[test]
fn a_file_and_words_that_say_the_same_come_to_the_same_which_can_be_read_again() {
    let file = of_file("memory = \"1G\"\nvfio = [\"0000:01:00.0\"]\n").unwrap();
    let words = of_words(&["--memory", "1G", "--vfio", "0000:01:00.0"]).unwrap();
    assert_eq!(values(&file), values(&words));
    assert_eq!(values(&of_file(&file).unwrap()), values(&file));
}

#[test]
fn what_cannot_be_read_is_none() {
    assert_eq!(of_file("memory = \"much\""), None);
    assert_eq!(of_file("[["), None);
    assert_eq!(of_words(&["--memory", "much"]), None);
    assert_eq!(of_words(&["--config", "/dev/null"]), None, "no file is opened");
}
