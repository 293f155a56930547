//! The API: what comes over a connection, request after request, to a process that has no machine yet.
//!
//! What would start one, or have the host looked at, is left out: paths in a body could name anything.

use vmm::api::http::{Progress, Request, Response, parse};
use vmm::api::{Manager, routes};

/// Calls that do something about the host.
const LEFT_OUT: [&str; 3] = ["vm.boot", "preflight", "vmm.shutdown"];
/// Requests of one connection.
const MOST: usize = 16;

pub(super) fn run(bytes: &[u8]) {
    let manager = Manager::new(None, cli::written::blank()).unwrap();
    let answer = routes::handler(manager);
    let mut left = bytes;
    for _ in 0..MOST {
        let (request, size) = match parse(left) {
            Ok(Progress::Complete(request, size)) => (request, size),
            // More never comes.
            Ok(Progress::Partial { .. }) => return,
            Err(bad) => {
                assert!((400..600).contains(&bad.status()));
                return;
            }
        };
        assert!(0 < size && size <= left.len() && request.body.len() < size);
        left = &left[size..];
        if !LEFT_OUT.iter().any(|call| request.path.ends_with(call)) {
            check(&answer(&request), &request);
        }
    }
}

fn check(response: &Response, request: &Request) {
    assert!((200..600).contains(&response.status), "{} is answered with {}", request.path, response.status);
    assert_eq!(response.status == 204, response.body.is_empty(), "{}", request.path);
    let bytes = response.to_bytes(request.keep_alive);
    assert!(bytes.ends_with(&response.body));
}
