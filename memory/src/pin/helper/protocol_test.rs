use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn requests_come_through(slot: u32, offset: u64, size: u64) {
        for request in [Request::Pin { slot, offset, size }, Request::Release] {
            prop_assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn replies_come_through(errno: i32, kind: u32, value: u32) {
        let lack = Reply::Unavailable(Lack { kind, value });
        for reply in [Reply::Ready, Reply::Done, Reply::Refused(errno), lack] {
            prop_assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
    }

    #[test]
    fn anything_else_is_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if bytes.len() != REQUEST_SIZE {
            prop_assert_eq!(Request::decode(&bytes), None);
        }
        if bytes.len() != REPLY_SIZE {
            prop_assert_eq!(Reply::decode(&bytes), None);
        }
        let _ = (Request::decode(&bytes), Reply::decode(&bytes));
    }
}

#[test]
fn reasons_come_through() {
    let source = || io::Error::from_raw_os_error(libc::EMFILE);
    let reasons = [
        TrialUnavailable::NoIoUring,
        TrialUnavailable::Disabled { level: 2 },
        TrialUnavailable::Forbidden,
        TrialUnavailable::NoSparseTable,
        TrialUnavailable::Refused { source: source() },
        TrialUnavailable::NoUdmabuf { source: source() },
        TrialUnavailable::OldUdmabuf,
    ];
    for reason in reasons {
        assert_eq!(Lack::new(&reason).reason().to_string(), reason.to_string());
    }
}
