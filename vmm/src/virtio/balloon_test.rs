use super::*;
use crate::problem::Problem;

#[test]
fn sizes_are_whole_pages_that_the_machine_has() {
    assert_eq!(check_size(0, 8192), Ok(()));
    assert_eq!(check_size(8192, 8192), Ok(()));
    assert_eq!(check_size(4095, 8192), Err(BalloonError::Unaligned(4095)));
    assert_eq!(check_size(12288, 8192), Err(BalloonError::TooLarge { size: 12288, memory: 8192 }));
    assert_eq!(check_size(u64::MAX, 8192), Err(BalloonError::TooLarge { size: u64::MAX, memory: 8192 }));
}

#[test]
fn a_device_that_pins_memory_is_named() {
    let problem = Problem::new(Class::Usage, BalloonError::BesideVfio(vec!["0000:01:00.0".parse().unwrap()]));
    assert_eq!(
        problem.what.to_string(),
        "a balloon and a passed-through device (0000:01:00.0) cannot be had together"
    );
    assert!(problem.what.help().unwrap().to_string().contains("leave out --balloon or --vfio"));
}
