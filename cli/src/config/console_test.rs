use super::*;
use crate::config::Config;
use crate::grammar::{self, Form, Table, Value, flag};

fn read(text: &str) -> (Option<PortSpec>, Vec<String>) {
    let list = Value {
        form: Form::List(vec![flag::options("--console", text).unwrap()]),
        origin: flag::text("", "").origin,
    };
    let keys = vec![("console".to_owned(), list)];
    let origin = flag::text("", "").origin;
    let reading = grammar::read::<Config>(&[Value { form: Form::Table(Table { word: None, keys }), origin }]);
    assert!(reading.problems.is_empty());
    let mut problems = Problems::default();
    let spec = reading.value.console.first().and_then(|port| port.spec(&mut problems));
    (spec, problems.0.iter().map(|problem| problem.what.to_string()).collect())
}

#[test]
fn a_port_leads_to_one_place() {
    let spec = |name: Option<&str>, to| Some(PortSpec { name: name.map(str::to_owned), to });
    assert_eq!(read("/run/x").0, spec(None, PortTarget::Socket("/run/x".into())));
    assert_eq!(read("pty=/run/x").0, spec(None, PortTarget::Pty("/run/x".into())));
    assert_eq!(read("name=agent.0,file=/x").0, spec(Some("agent.0"), PortTarget::File("/x".into())));
    assert_eq!(read("name=a"), (None, vec!["--console leads to 0 places".to_owned()]));
    assert_eq!(read("/x,pty=/y,file=/z"), (None, vec!["--console leads to 3 places".to_owned()]));
}
