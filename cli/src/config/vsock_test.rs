use super::*;
use crate::config::Config;
use crate::grammar::{self, Form, Table, Value, flag};

/// What is typed after `--vsock`.
fn read(text: &str) -> Option<Vsock> {
    let origin = flag::text("", "").origin;
    let keys = vec![("vsock".to_owned(), flag::options("--vsock", text).unwrap())];
    let reading = grammar::read::<Config>(&[Value { form: Form::Table(Table { word: None, keys }), origin }]);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    reading.value.vsock
}

fn spec(text: &str) -> Result<VsockSpec, String> {
    let mut problems = Problems::default();
    let spec = read(text).and_then(|vsock| vsock.spec(&mut problems));
    spec.ok_or_else(|| problems.0.first().map(|problem| problem.what.to_string()).unwrap_or_default())
}

#[test]
fn a_vsock_is_a_unix_socket_or_the_kernel_s() {
    let bridge = VsockServer::Bridge("/run/vm.vsock".into());
    assert_eq!(spec("/run/vm.vsock"), Ok(VsockSpec { cid: 3, server: bridge.clone() }));
    assert_eq!(spec("socket=/run/vm.vsock,cid=7"), Ok(VsockSpec { cid: 7, server: bridge }));
    assert_eq!(spec("cid=7,vhost"), Ok(VsockSpec { cid: 7, server: VsockServer::Kernel }));
    assert_eq!(spec("cid=7").unwrap_err(), "--vsock does not say what it leads to on the host");
    assert_eq!(spec("/s,vhost").unwrap_err(), "--vsock socket=/s does not go with `vhost`");
}
