use super::*;

#[test]
fn what_is_asked_for_is_done_in_order_by_one_thread() {
    let aside = Aside::start("aside").unwrap();
    let name = || thread::current().name().map(str::to_owned);
    assert_eq!(aside.ask(name), Some(Some("aside".to_owned())));
    let log = Arc::new(Mutex::new(Vec::new()));
    let ids: Vec<_> = (0..8)
        .map(|number| {
            let log = log.clone();
            aside.ask(move || {
                log.lock().unwrap().push(number);
                thread::current().id()
            })
        })
        .collect();
    assert_eq!(*log.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1] && pair[0].is_some()));
}
