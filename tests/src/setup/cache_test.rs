use super::*;

fn empty() -> (tempfile::TempDir, Cache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache { root: directory.path().to_owned() };
    (directory, cache)
}

#[test]
fn the_newest_artefact_of_the_same_inputs_is_found() {
    let (_directory, cache) = empty();
    let old_key = key(&[b"one", b"recipe"]);
    let new_key = key(&[b"another", b"recipe"]);
    for (key, version) in [(&old_key, "7.10-1"), (&new_key, "7.9-1"), (&new_key, "7.10-1")] {
        cache.stage(&cache.place("kernel", key, version), |_| Ok(())).unwrap();
    }
    assert_eq!(cache.find("kernel", &new_key), Some(cache.place("kernel", &new_key, "7.10-1")));
    assert_eq!(cache.find("disk", &new_key), None);
    assert_eq!(cache.find("kernel", &key(&[b"a third"])), None);
}

#[test]
fn an_artefact_that_was_not_finished_is_not_there() {
    let (_directory, cache) = empty();
    let place = cache.place("kernel", "k", "1");
    let interrupted = cache.stage(&place, |part| {
        fs::write(part.join("half"), b"").unwrap();
        Err(SetupError::NoHome)
    });
    assert!(interrupted.is_err());
    assert_eq!(cache.find("kernel", "k"), None);
    cache.stage(&place, |_| Ok(())).unwrap();
    assert!(!place.join("half").exists());
}

#[test]
fn tidying_leaves_what_is_in_use_and_what_other_checkouts_use() {
    let (_directory, cache) = empty();
    let places =
        [("a", "1"), ("a", "2"), ("b", "1")].map(|(key, version)| cache.place("kernel", key, version));
    for place in &places {
        cache.stage(place, |_| Ok(())).unwrap();
    }
    cache.tidy(&[&places[1]]);
    assert_eq!(places.each_ref().map(|place| place.exists()), [false, true, true]);
}

#[test]
fn inputs_do_not_run_into_each_other() {
    assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
}
