use devices::rate::{Limits, Rate};

use super::*;
use crate::config::Config;
use crate::grammar::{self, Form, Table, Value, flag};

/// What is typed after `--net`; and what cannot be read.
fn read(texts: &[&str]) -> (Vec<NetCard>, Vec<String>) {
    let values: Vec<Value> = texts.iter().map(|text| flag::options("--net", text).unwrap()).collect();
    let origin = flag::text("", "").origin;
    let keys = vec![("net".to_owned(), Value { form: Form::List(values), origin: origin.clone() })];
    let reading = grammar::read::<Config>(&[Value { form: Form::Table(Table { word: None, keys }), origin }]);
    (reading.value.net, reading.problems.iter().map(ToString::to_string).collect())
}

#[test]
fn cards_are_named_by_tap_or_descriptors() {
    let tap = NetCard { tap: Some("tap0".to_owned()), ..NetCard::default() };
    let mac = Some(Mac(MacAddress([2, 0, 0x5e, 0x10, 0, 1])));
    for (text, card) in [
        ("tap0", tap.clone()),
        ("tap=tap0,create", NetCard { create: true, ..tap.clone() }),
        ("tap0,mac=02:00:5e:10:00:01,mtu=9000", NetCard { mac, mtu: Some(9000), ..tap.clone() }),
        ("tap0,offloads=off,queues=4", NetCard { offloads: false, queues: Some(4), ..tap.clone() }),
        ("tap0,vhost", NetCard { vhost: Some(true), ..tap.clone() }),
        ("tap0,vhost=off", NetCard { vhost: Some(false), ..tap.clone() }),
        ("tap0,packed", NetCard { packed: true, ..tap.clone() }),
        ("tap0,rx-rate.ops=100", NetCard { rx_rate: RateLimits { ops: Some(100), ..none() }, ..tap }),
        ("fd=5", NetCard { fd: vec![5], ..NetCard::default() }),
        ("fd=[5,6]", NetCard { fd: vec![5, 6], ..NetCard::default() }),
    ] {
        assert_eq!(read(&[text]), (vec![card], vec![]), "{text}");
    }
}

fn none() -> RateLimits {
    RateLimits::default()
}

#[test]
fn a_card_with_limits_is_served_by_us() {
    let (cards, unread) = read(&["tap0,rx-rate.bytes=10M,tx-rate={ops=100,ops-burst=7}"]);
    assert_eq!(unread, [""; 0]);
    let spec = cards[0].spec(&mut Vec::new(), &mut Problems::default()).unwrap();
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let received = Limits { bytes: rate(10 << 20, 1 << 20), operations: None };
    let sent = Limits { bytes: None, operations: rate(100, 7) };
    assert_eq!(spec.server, NetServer::Us { packed: false, limits: NetLimits { received, sent } });
}

#[test]
fn what_cannot_be_read_is_reported() {
    for (text, said) in [
        ("tap0,mac=02:00", "--net `tap0,mac=02:00`: mac `02:00` is not the MAC address of a card"),
        (
            "tap0,mac=01:00:5e:00:00:01",
            "--net `tap0,mac=01:00:5e:00:00:01`: mac `01:00:5e:00:00:01` is not the MAC address of a card",
        ),
        ("tap0,mtu=70000", "--net `tap0,mtu=70000`: mtu `70000` is not a whole number from 0 to 65535"),
        ("tap0,bridge=br0", "--net `tap0,bridge=br0`: there is no key `bridge`"),
    ] {
        assert_eq!(read(&[text]), (vec![], vec![said.to_owned()]), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_reported() {
    for (text, said) in [
        ("mtu=1500", "--net does not say which tap"),
        ("tap0,fd=5", "--net tap=tap0 names a tap twice: by its descriptor as well"),
        ("tap0,vhost,packed", "--net tap0: `packed` does not go with `vhost`"),
        ("tap0,vhost,tx-rate.bytes=1M", "--net tap0: `tx-rate` does not go with `vhost`"),
        ("fd=900,queues=2", "--net fd=900 goes with neither `create` nor `queues`"),
        ("fd=[900,900]", "--net: file descriptor 900 is given twice"),
        ("fd=900", "file descriptor 900 is not a tap: it is not open"),
    ] {
        let (cards, unread) = read(&[text]);
        assert_eq!(unread, [""; 0]);
        let mut problems = Problems::default();
        assert!(cards[0].spec(&mut Vec::new(), &mut problems).is_none());
        assert_eq!(problems.exit_code(), 2);
        assert_eq!(problems.0.iter().map(|problem| problem.what.to_string()).collect::<Vec<_>>(), [said]);
    }
}

#[test]
fn a_daemon_serves_a_card_without_a_tap() {
    let mut problems = Problems::default();
    let served = |text: &str, problems: &mut Problems| {
        let (cards, unread) = read(&[text]);
        assert_eq!(unread, [""; 0]);
        assert!(cards[0].spec(&mut Vec::new(), problems).is_none());
        cards[0].served(problems)
    };
    let mac = Some(MacAddress([2, 0, 0x5e, 0x10, 0, 1]));
    let card = ServedNet { socket: "/s".into(), mac, mtu: Some(9000) };
    assert_eq!(served("vhost-user=/s,mac=02:00:5e:10:00:01,mtu=9000", &mut problems), Some(card));
    assert!(problems.0.is_empty(), "{problems:?}");
    for text in [
        "tap0,vhost-user=/s",
        "vhost-user=/s,queues=2",
        "vhost-user=/s,vhost",
        "vhost-user=/s,offloads=off",
        "vhost-user=/s,rx-rate.ops=1",
    ] {
        assert_eq!(served(text, &mut problems), None);
    }
    let said: Vec<String> = problems.0.iter().map(|problem| problem.what.to_string()).collect();
    assert_eq!(said, ["--net vhost-user=/s goes with `mac` and `mtu` alone"; 5]);
}
