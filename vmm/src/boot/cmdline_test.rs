use super::*;

#[test]
fn as_long_as_the_limit_and_no_longer() {
    assert_eq!(check_cmdline("", 0), Ok(()));
    assert_eq!(check_cmdline(&"x".repeat(2047), 2047), Ok(()));
    assert_eq!(check_cmdline(&"x".repeat(2048), 2047), Err(CmdlineError::TooLong { len: 2048, limit: 2047 }));
}

#[test]
fn the_error_gives_length_limit_and_remedy() {
    let error = check_cmdline(&"x".repeat(2050), 2047).unwrap_err();
    assert_eq!(error.to_string(), "the kernel command line is 2050 bytes long, this kernel takes 2047");
    assert_eq!(error.help().unwrap().to_string(), "shorten it by 3 bytes");
}

#[test]
fn ascii_without_nul() {
    assert_eq!(check_cmdline("console=ttyS0 root=/dev/vda\n", 2047), Ok(()));
    assert_eq!(check_cmdline("a\0b", 9), Err(CmdlineError::NotAscii { character: '\0', at: 1 }));
    assert_eq!(check_cmdline("größe", 9), Err(CmdlineError::NotAscii { character: 'ö', at: 2 }));
}
