use proptest::prelude::*;

use super::*;

fn complete(bytes: &[u8]) -> (Request, usize) {
    match parse(bytes) {
        Ok(Progress::Complete(request, size)) => (request, size),
        other => panic!("{other:?}"),
    }
}

/// As ch-remote sends it, in one piece.
const CREATE: &[u8] =
    b"PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n{}";

#[test]
fn requests_of_usual_clients_are_read() {
    let (request, size) = complete(CREATE);
    assert_eq!(
        (request.method, request.path.as_str(), request.body.as_slice()),
        (Method::Put, "/api/v1/vm.create", &b"{}"[..])
    );
    assert!(request.keep_alive);
    assert_eq!(size, CREATE.len());

    // Go's client, and curl's.
    let (request, _) = complete(b"GET http://localhost/api/v1/vm.info?x=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Go-http-client/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(
        (request.method, request.path.as_str(), request.keep_alive),
        (Method::Get, "/api/v1/vm.info", false)
    );
    let (request, _) = complete(b"DELETE / HTTP/1.0\r\n\r\n");
    assert_eq!((request.method, request.keep_alive), (Method::Other, false));
    let (request, _) = complete(b"GET http://localhost HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_eq!((request.path.as_str(), request.keep_alive), ("/", true));
}

#[test]
fn a_request_is_partial_until_its_last_byte() {
    for size in 0..CREATE.len() {
        assert_eq!(parse(&CREATE[..size]), Ok(Progress::Partial { wants_continue: false }), "{size}");
    }
}

#[test]
fn requests_may_follow_each_other() {
    let two = [CREATE, CREATE].concat();
    let (first, size) = complete(&two);
    assert_eq!(complete(&two[size..]).0, first);
}

#[test]
fn a_client_that_waits_is_told_to_go_on_once() {
    let head = b"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(parse(head), Ok(Progress::Partial { wants_continue: true }));
    let begun = [&head[..], b"he"].concat();
    assert_eq!(parse(&begun), Ok(Progress::Partial { wants_continue: false }));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let with = |header: &str| parse(format!("PUT / HTTP/1.1\r\n{header}\r\n\r\n").as_bytes());
    for (header, error) in [
        ("Content-Length: -1", BadRequest::Length),
        ("Content-Length: +1", BadRequest::Length),
        ("Content-Length: 1, 1", BadRequest::Length),
        ("Content-Length:", BadRequest::Length),
        ("Content-Length: 1\r\nContent-Length: 2", BadRequest::Length),
        ("Content-Length: 1048577", BadRequest::BodyTooLarge),
        ("Content-Length: 99999999999999999999999", BadRequest::BodyTooLarge),
        ("Transfer-Encoding: chunked", BadRequest::Chunked),
        ("Expect: miracles", BadRequest::Expectation),
        (&"A: b\r\n".repeat(65), BadRequest::HeadTooLarge),
        (&format!("A: {}", "b".repeat(MAX_HEAD)), BadRequest::HeadTooLarge),
    ] {
        assert_eq!(with(header), Err(error), "{header}");
    }
    assert_eq!(parse(b"\x16\x03\x01\x02\x00\x01\x00"), Err(BadRequest::Syntax));
    assert_eq!(parse(b"PRI * HTTP/2.0\r\n\r\n"), Err(BadRequest::Version));
    // A head without end is refused when it is too long, not waited for.
    assert_eq!(parse(&[b"GET /".to_vec(), vec![b'a'; MAX_HEAD]].concat()), Err(BadRequest::HeadTooLarge));
    assert_eq!(BadRequest::BodyTooLarge.status(), 413);
}

#[test]
fn responses_suit_ch_remote() {
    let bytes = Response::error(404, &["no".to_owned()]).to_bytes(true);
    let expected =
        "HTTP/1.1 404 \r\nServer: vmm\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n[\"no\"]";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    assert_eq!(
        Response::done().to_bytes(false),
        b"HTTP/1.1 204 \r\nServer: vmm\r\nConnection: close\r\n\r\n"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    /// Mutations of a good request are read, refused or waited for, and never give more than is there.
    #[test]
    fn mutations_stay_in_bounds(at in 0..CREATE.len(), byte: u8, cut in 0..=CREATE.len()) {
        let mut bytes = CREATE.to_vec();
        bytes[at] = byte;
        bytes.truncate(cut);
        if let Ok(Progress::Complete(request, size)) = parse(&bytes) {
            prop_assert!(size <= bytes.len() && request.body.len() <= size);
        }
    }

    /// However a request is cut into pieces, it comes out as it went in.
    #[test]
    fn pieces_do_not_matter(body in prop::collection::vec(any::<u8>(), 0..2000), cuts in prop::collection::vec(0..2200_usize, 0..6)) {
        let mut bytes = format!("PUT /x HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend(&body);
        for cut in cuts.into_iter().filter(|cut| *cut < bytes.len()) {
            let partial = matches!(parse(&bytes[..cut]), Ok(Progress::Partial { .. }));
            prop_assert!(partial);
        }
        let (request, size) = complete(&bytes);
        prop_assert_eq!((request.body, size), (body, bytes.len()));
    }
}
