use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// Asks a server that answers with these bytes, whatever it is asked; gives what it was asked as well.
fn ask(answer: &'static [u8]) -> (Result<Answer, ClientError>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n{}") && stream.read(&mut byte).unwrap() > 0 {
            request.push(byte[0]);
        }
        stream.write_all(answer).unwrap();
        String::from_utf8(request).unwrap()
    });
    let result = Client::new(&path, None).put("/x", b"{}");
    (result, server.join().unwrap())
}

#[test]
fn a_request_goes_out_whole_and_the_answer_comes_back() {
    let (result, request) = ask(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n[]");
    assert_eq!(result.unwrap().body, b"[]");
    assert_eq!(
        request,
        "PUT /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    );
    assert_eq!(ask(b"HTTP/1.1 204 No Content\r\n\r\n").0.unwrap(), Answer::default());
}

#[test]
fn a_refusal_has_causes_and_a_remedy() {
    let (result, _) = ask(b"HTTP/1.1 500 \r\n\r\n[\"it failed\",\"because\",\"of that\",\"help: do this\"]");
    let error = result.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), causes(&error)),
        ("it failed", vec!["because".to_owned(), "of that".to_owned()])
    );
    assert_eq!(error.help().unwrap().to_string(), "do this");
    let (result, _) = ask(b"HTTP/1.1 503 \r\n\r\n<html>");
    assert_eq!(result.unwrap_err().to_string(), "the machine answered with status 503");
}

#[test]
fn what_is_no_machine_is_said_to_be_none() {
    for bytes in [&b"SSH-2.0-x\r\n"[..], b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nabc", b"HTTP/1.1 200"] {
        assert!(matches!(ask(bytes).0, Err(ClientError::NotHttp { .. })));
    }
    assert!(matches!(ask(b"").0, Err(ClientError::Lost { .. })));
    let nowhere = Client::new(Path::new("/nowhere.sock"), None);
    assert!(matches!(nowhere.get("/x"), Err(ClientError::Unreachable { .. })));
}
